"""What vLLM's errors say: why an engine did not start, and which errors are about a single request.

In: what vLLM raised, and the log of the engine's processes, in which the first real error stands where the engine only
points to it. Out: one line, with what to do about it where that is known.
"""

from __future__ import annotations

import re
from pathlib import Path

_ERROR = re.compile(r"\b((?:[A-Za-z_]+\.)*[A-Z]\w*(?:Error|Exception|Interrupt))(?:: (.+))?$")
# vLLM's errors that only point to another one.
_HOLLOW = ("See root cause above", "See stack trace", "Engine core initialization failed", "EngineCore encountered")
_ADVICE = (
    (
        re.compile(r"KV cache|cache blocks", re.IGNORECASE),
        "give it more memory (backbone.gpu_memory_utilization, or backbone.engine.kv_cache_memory_bytes in bytes), or "
        "lower backbone.max_model_len",
    ),
    (
        re.compile(r"attention heads|divisible by|tp_size", re.IGNORECASE),
        "choose another backbone.tensor_parallel_size: it must divide the model's heads and columns, of FP8 weights in "
        "whole blocks",
    ),
    (
        re.compile(r"out of memory|Free memory|Available memory", re.IGNORECASE),
        "spread it over more GPUs (backbone.tensor_parallel_size), quantize it, or lower "
        "backbone.gpu_memory_utilization",
    ),
    (re.compile(r"max_model_len|max_position_embeddings"), "lower backbone.max_model_len"),
)


def cause(error: BaseException, log: Path) -> str:
    """Say why an engine did not start, in a line, with what to do about it where that is known."""
    found = ""
    if any(hollow in str(error) for hollow in _HOLLOW):
        code = ""
        with log.open("r", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                match = _ERROR.search(line)
                if match and not any(hollow in line for hollow in _HOLLOW):
                    # An assertion says nothing itself: the line of code above it does.
                    found = f"{match[1].rsplit('.', 1)[-1]}: {(match[2] or code).strip()}".removesuffix(": ")
                    break
                code = line if line.strip(" ^~\n") else code
    if not found and callable(told := getattr(error, "errors", None)):  # pydantic's: one entry for each wrong value
        first = told()[0]
        found = ": ".join([*(str(part) for part in first["loc"][:1]), first["msg"].removeprefix("Value error, ")])
    found = found or f"{type(error).__name__}: {first_line(error)}"
    advice = next((text for pattern, text in _ADVICE if pattern.search(found)), None)
    return f"{found.rstrip('.')}. Try this: {advice}." if advice else found


def refusals() -> tuple[type[Exception], ...]:
    """Return what vLLM raises for a request that it cannot serve: a ValueError once, an error of its own since."""
    from vllm import exceptions

    return ValueError, TypeError, getattr(exceptions, "VLLMClientError", ValueError)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

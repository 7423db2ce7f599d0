"""One instance of an engine, from the start of its processes to their end; an engine that is rebuilt has had several.

In: an `EngineSpec` and GPUs. Out: an `AsyncLLM`, or a `ConfigError` that gives the cause, found in the processes' log
where vLLM itself only says that something failed. All of it blocks and runs in threads.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import logging
import logging.config
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.backbones.engine.arguments import complete, typed
from metamem.backbones.engine.environment import environment, variables
from metamem.backbones.engine.errors import cause
from metamem.backbones.engine.processes import Process, below, expect_kills, kill, remove, shared_memory
from metamem.backbones.engine.renderer import Renderer
from metamem.backbones.engine.spec import EngineSpec
from metamem.core.errors import ConfigError, UserError


class Abandoned(UserError):
    """The engine was stopped before it had started."""


class Instance:
    """An engine's processes, started once and ended once.

    `llm` is there after `begin`. `log` is what the processes write. `stopped` says that it was ended on purpose,
    `can_sleep` that it can give its memory up without ending. `fingerprint` says what runs where.
    """

    def __init__(self, spec: EngineSpec, device_ids: Sequence[int] | None, renderer: Renderer | None) -> None:
        self.spec = spec
        self.device_ids = device_ids
        self.renderer = renderer
        self.llm: Any = None
        self.stopped = False
        self.can_sleep = False
        self.fingerprint: dict[str, Any] = {}
        handle, name = tempfile.mkstemp(prefix=f"metamem-engine-{os.getpid()}-", suffix=".log")
        os.close(handle)
        self.log = Path(name)
        self._before: frozenset[Process] | None = None
        self._processes: frozenset[Process] = frozenset()
        self._shared: set[Path] = set()
        self._ended = threading.Event()

    def begin(self) -> None:
        """Start the processes and wait until they are ready; only one engine at a time may be in here.

        Raises `ConfigError` with the cause, `Abandoned` when `end` was called meanwhile.
        """
        self._end_at_exit()
        # The processes read their logging from a file, whose name reaches them by the environment.
        settings = self.log.with_suffix(".json")
        own_logging = not os.environ.get("VLLM_LOGGING_CONFIG_PATH")
        settings.write_text(json.dumps(_logging(self.log)), encoding="utf-8")
        try:
            with environment({"VLLM_LOGGING_CONFIG_PATH": str(settings)} if own_logging else {}):
                self.llm = self._start(own_logging)
        except Exception as error:
            # Processes that never became an engine are known only as what was not there before.
            self._kill()
            settings.unlink(missing_ok=True)
            if self._ended.is_set():
                raise Abandoned(f"the engine of {self.spec.model} was stopped while it started") from error
            if isinstance(error, UserError):
                raise
            raise ConfigError(
                f"the engine of {self.spec.model} does not start: {cause(error, self.log)}\nIts log: {self.log}"
            ) from error
        settings.unlink(missing_ok=True)
        assert self._before is not None
        self._processes = below() - self._before
        self._shared = shared_memory(self._processes)  # of the dead it cannot be learned any more
        if self._ended.is_set():
            self.end()
            raise Abandoned(f"the engine of {self.spec.model} was stopped while it started")

    def end(self) -> None:
        """End the processes. May be called while they start, and again."""
        self._ended.set()
        atexit.unregister(self.end)
        self.log.with_suffix(".json").unlink(missing_ok=True)
        llm, self.llm = self.llm, None
        self._shared |= shared_memory(self._processes)
        if llm is not None:
            llm.shutdown(timeout=0)
        self._kill()
        remove(self._shared)

    def forget(self) -> None:
        """Remove the log."""
        self.log.unlink(missing_ok=True)

    def tail(self, lines: int = 40) -> str:
        """Return the end of the log, or that many lines around the first error among its last hundred."""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - 65536))
            text = stream.read().decode("utf-8", "replace")
        last = text.splitlines()[-100:]
        error = next((i for i, line in enumerate(last) if line.startswith(("ERROR ", "CRITICAL "))), len(last))
        begin = max(0, min(error - 5, len(last) - lines))
        return "\n".join(last[begin : begin + lines])

    def _start(self, own_logging: bool) -> Any:
        if own_logging:  # this process's share of the log
            logging.config.dictConfig(_logging(self.log))
        from vllm import AsyncEngineArgs
        from vllm import __version__ as version
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        cpu = bool(current_platform.is_cpu())
        if self.renderer is None:
            self.renderer = Renderer(load_tokenizer(self.spec))
        # On a CPU a sleeping engine never wakes.
        self.can_sleep = bool(self.spec.arguments.get("enable_sleep_mode")) and not cpu
        parts = self.spec.arguments.get("tensor_parallel_size", 1)
        self.fingerprint = {"vllm": version, "device": current_platform.device_type, "tensor_parallel_size": parts}
        arguments = complete(self.spec, self.device_ids, self.renderer.thinks, cpu)
        os.environ.update(variables(self.spec, self.log, cpu))
        expect_kills()
        self._before = below()
        if self._ended.is_set():
            raise Abandoned("stopped")
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**typed(arguments, AsyncEngineArgs)))

    def _end_at_exit(self) -> None:
        # What is registered last goes first. vLLM has its engines ended by a finalizer, which takes its time; all
        # finalizers go together, where the first of the process was made.
        weakref.finalize(self, bool)
        atexit.register(self.end)

    def _kill(self) -> None:
        if self._processes:
            kill(self._processes)
        elif self._before is not None:
            kill(below() - self._before)


def load_tokenizer(spec: EngineSpec) -> Any:
    """Return the model's tokenizer as vLLM itself would load it."""
    from vllm.tokenizers import get_tokenizer

    given = spec.arguments
    return get_tokenizer(
        given.get("tokenizer") or spec.model,
        tokenizer_mode=given.get("tokenizer_mode", "auto"),
        trust_remote_code=given.get("trust_remote_code", False),
        revision=given.get("tokenizer_revision") or given.get("revision"),
    )


def _logging(log: Path) -> dict[str, Any]:
    form = "%(levelname)s %(asctime)s [%(process)d %(filename)s:%(lineno)d] %(message)s"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": form}},
        "handlers": {"log": {"class": "logging.FileHandler", "formatter": "line", "filename": str(log), "delay": True}},
        "loggers": {"vllm": {"handlers": ["log"], "level": "INFO", "propagate": False}},
    }


@atexit.register
def _leave() -> None:
    """Leave the process without going through all that vLLM and torch made; called last.

    The interpreter's last searches for garbage take seconds there. Without them some libraries complain at the very end
    about objects that were not freed, which nobody needs to read; by then all that is of use has been printed.
    """
    if "vllm" in sys.modules:
        gc.freeze()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or a reader that left
                stream.flush()
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)

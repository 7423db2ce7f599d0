"""Running train.py and eval.py as a user does, in a process of their own, or in this one, whose engines they share."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from tests.forked import ROOT, Forked, environment
from tests.server import Server

# A training of a few steps that many calls of a server are in flight of.
TRAINING = (
    "backbone.max_concurrency=7",
    "optimizer.batch_size=8",
    "optimizer.attempts=3",
    "split.validation=0.15",
)


def served(server: Server, data: Path, outputs: Path, *more: str) -> list[str]:
    """Arguments for a run over a file of prepared questions with the models of a local server."""
    return [
        "dataset=prepared",
        f"dataset.path={data}",
        "backbone=openai",
        f"backbone.base_url={server.url}",
        "backbone.model=test-model",
        "backbone.identity=test-weights",
        f"outputs={outputs}",
        *more,
    ]


def start(program: str, *arguments: str, **more: str) -> Forked:
    """Start `train`, `eval` or another of the programs and return at once."""
    return Forked(ROOT / "experiments" / f"{program}.py", list(arguments), environment(**more))


def start_afresh(program: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start a program in an interpreter of its own, as a user does, and return at once."""
    command = [sys.executable, str(ROOT / "experiments" / f"{program}.py"), *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment(**more),
    )


def run(program: str, *arguments: str, code: int = 0, afresh: bool = False, **more: str) -> str:
    """Run a program to its end, expect its exit code, and return what it printed."""
    process = (start_afresh if afresh else start)(program, *arguments, **more)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == code, f"exit code {process.returncode}, expected {code}:\n{printed}"
    return printed


def run_killed(
    program: str, given: Callable[[Server], list[str]], reply: Callable[[dict[str, Any]], str], points: Sequence[int]
) -> int:
    """Run a program to its end with the arguments that are given for a server, killed when the server has delivered
    so many replies; return how often it was killed. The last time is an interpreter of its own.
    """
    left, kills = sorted(points), 0
    current: list[Forked] = []
    lock = threading.Lock()

    def kill(count: int) -> None:
        with lock:
            if left and count >= left[0] and current:
                left.pop(0)
                current.pop().send_signal(signal.SIGKILL)

    with Server(reply, keep_calls=False, on_delivered=kill) as server:
        for _ in range(4 * len(points)):
            if not left:
                break
            process = start(program, *given(server))
            with lock:
                current[:] = [process]
            printed, _ = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, printed
            kills += 1
        run(program, *given(server), afresh=True)
    return kills


def run_here(program: str, *arguments: str, code: int = 0, **more: str) -> str:
    """Run `train` or `eval` in this process, expect its exit code, and return what it printed.

    It takes a tenth of the time of a process of its own, and an engine that it starts stays in this process's pool for
    whoever wants the same one next.
    """
    from metamem.cli.main import run_program

    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, environment(**more), clear=True),
        mock.patch.object(sys, "argv", [str(ROOT / "experiments" / f"{program}.py")]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        found = run_program(program, arguments)
    assert found == code, f"exit code {found}, expected {code}:\n{printed.getvalue()}"
    return printed.getvalue()


def only_run(outputs: Path, name: str = "train") -> Path:
    """The one run directory under outputs/<name>."""
    (found,) = [p.parent for p in (outputs / name).glob("*/manifest.json") if not p.parent.is_symlink()]
    return found


def result_of(directory: Path) -> dict[str, Any]:
    """A run's result.json."""
    return dict(json.loads((directory / "result.json").read_text(encoding="utf-8")))


def journal_keys(outputs: Path) -> list[str]:
    """The key of every reply in every segment of every journal below `outputs`."""
    keys = []
    for segment in sorted(outputs.glob("*/journal/*/*.jsonl")):
        for line in segment.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and line.startswith(b'{"key"'):
                keys.append(json.loads(line)["key"])
    return keys


def state(directory: Path) -> dict[str, str]:
    """What must not depend on interruptions or concurrency: checkpoints, attempts, verdicts, metrics and steps, as
    text.
    """
    names = ["attempts.jsonl", "verdicts.jsonl", "metrics.jsonl", "steps.jsonl"]
    files = [directory / n for n in names] + sorted((directory / "checkpoints").glob("*.json"))
    return {str(p.relative_to(directory)): p.read_text(encoding="utf-8") for p in files}

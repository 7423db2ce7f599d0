"""train.py and eval.py with the tiny model in a real engine, as a user starts them: whole, killed, continued, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import programs

psutil = pytest.importorskip("psutil", reason="comes with vLLM")

LEFT = 5.0  # seconds after which no process may be left


def arguments(model: Path, outputs: Path, *more: str) -> list[str]:
    """Both roles by the tiny model, on the sample data: about 500 replies in all."""
    roles = ["backbone=tiny", "backbone@judge=tiny", f"backbone.path={model}", f"judge.path={model}"]
    return [
        *roles,
        "optimizer.epochs=2",
        "optimizer.batch_size=21",
        "optimizer.attempts=3",
        f"outputs={outputs}",
        *more,
    ]


def start(program: str, *given: str) -> subprocess.Popen[str]:
    """A program in a session of its own, so that whatever it leaves behind is found."""
    command = [sys.executable, str(programs.ROOT / "experiments" / f"{program}.py"), *given]
    environment = programs.environment()
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def finish(process: subprocess.Popen[str], code: int) -> str:
    """Wait for a program's end, expect its code, and that nothing of it is left; returns what it printed."""
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == code, f"exit code {process.returncode}, expected {code}:\n{printed}"
    wait(lambda: not alive(process.pid), LEFT, "processes are left after the end")
    return printed


def alive(session: int) -> list[str]:
    """The command lines of a session's processes that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def most_at_once(process: subprocess.Popen[str], name: str) -> int:
    """How many processes of that name there were at once, until the program ends."""
    most = 0
    while process.poll() is None:
        most = max(most, sum(name in command for command in alive(process.pid)))
        time.sleep(0.3)
    return most


def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def replies(outputs: Path) -> int:
    return len(programs.journal_keys(outputs))


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a training run that nothing interrupted."""
    outputs = tmp_path_factory.mktemp("whole")
    process = start("train", *arguments(model, outputs))
    assert most_at_once(process, "EngineCore") == 1, "one engine plays both roles"
    printed = finish(process, 0)
    assert "leaked" not in printed
    assert "Traceback" not in printed
    return outputs


def test_a_training_run_by_one_engine_for_both_roles(whole: Path) -> None:
    result = programs.result_of(programs.only_run(whole))
    assert result["roles"]["policy"] == result["roles"]["judge"] == "tiny"
    assert result["calls"]["policy"]["delivered"] > 250
    assert result["calls"]["judge"].get("failed", 0) == 0


def test_an_evaluation_of_what_was_trained_by_two_workers(whole: Path, model: Path) -> None:
    given = arguments(model, whole, f"meta_memory={programs.only_run(whole)}", "evaluation.attempts=2")
    given = [g for g in given if not g.startswith("optimizer.")]
    given += ["evaluation.temperature=0.7", "backbone.tensor_parallel_size=2", "judge.tensor_parallel_size=2"]
    process = start("eval", *given)
    assert most_at_once(process, "Worker") == 2
    finish(process, 0)
    result = programs.result_of(programs.only_run(whole, "eval"))
    assert result["kind"] == "eval"
    assert result["calls"]["policy"].get("failed", 0) == 0


def test_evidence_is_left_out_where_a_prompt_does_not_fit_and_counted(model: Path, tmp_path: Path) -> None:
    given = arguments(model, tmp_path, "backbone.on_overflow=drop_evidence", "backbone.max_model_len=1200")
    given = [g for g in given if not g.startswith("optimizer.")] + ["part=validation", "evaluator=[token_f1]"]
    printed = finish(start("eval", *given), 0)
    assert "least relevant pieces of its evidence are left out" in printed.replace("\n", " ")
    calls = programs.result_of(programs.only_run(tmp_path, "eval"))["calls"]["policy"]
    assert calls["evidence_dropped"] > 0
    assert calls.get("failed", 0) == 0


def test_a_run_that_is_interrupted_and_killed_and_continued_equals_a_whole_one(
    whole: Path, model: Path, tmp_path: Path
) -> None:
    given = arguments(model, tmp_path)
    enough = replies(whole)
    for stop, share, code in ((signal.SIGINT, 0.3, 130), (signal.SIGKILL, 0.6, -signal.SIGKILL)):
        process = start("train", *given)
        while replies(tmp_path) <= share * enough:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(stop)
        wait(lambda process=process: not alive(process.pid), LEFT, "processes are left")  # type: ignore[misc]
        finish(process, code)
    finish(start("train", *given), 0)
    assert programs.state(programs.only_run(tmp_path)) == programs.state(programs.only_run(whole))
    keys = programs.journal_keys(tmp_path)
    assert len(keys) == len(set(keys)), "a reply was asked for twice"


def test_a_run_that_is_ended_while_its_engine_starts_leaves_nothing(model: Path, tmp_path: Path) -> None:
    process = start("train", *arguments(model, tmp_path))
    wait(lambda: any("spawn" in c or "EngineCore" in c for c in alive(process.pid)), 200, "no engine was started")
    process.send_signal(signal.SIGTERM)
    wait(lambda: not alive(process.pid), LEFT, "processes are left")
    printed = finish(process, 143)
    assert "the same command continues" in printed

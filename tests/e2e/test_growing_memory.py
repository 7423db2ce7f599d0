"""A memory whose units change later ones: in a sweep, grown, killed and continued."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests import programs

CHOSEN = ["memory=amem", "embedder=hashing", "dataset.limit=2", "split=all", "part=all"]


@pytest.mark.slow
def test_in_a_sweep_and_grown_killed_and_continued_a_memory_is_the_same_and_paid_once(
    tmp_path: Path,
) -> None:
    swept, killed = tmp_path / "swept", tmp_path / "killed"
    programs.run_here("eval", "-m", *CHOSEN, f"outputs={swept}", "memory.neighbours=1,3")
    found = [programs.result_of(p.parent) for p in (swept / "eval").glob("*/result.json") if not p.parent.is_symlink()]
    assert len(found) == 2
    assert all(r["memory"]["built"] == 1 and r["memory"]["costs"]["evolve"]["calls"] > 10 for r in found)
    assert all(r["retrieval"]["costs"]["query"]["calls"] == 2 for r in found), "it brings its retriever"
    keys = programs.journal_keys(swept)
    assert len(keys) == len(set(keys)), "a turn's note is the same whatever it meets"

    # Grown by two sessions at a time, a streamed memory is what it is when it is written at once.
    slowly = [*CHOSEN, "memory.neighbours=3", "memory.sessions=2", "backbone@builder=simulated", "builder.latency=0.03"]
    process = programs.start("eval", *slowly, f"outputs={killed}")
    deadline = time.monotonic() + 120
    while len(rows(killed)) < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    programs.run("eval", *slowly, f"outputs={killed}")
    keys = programs.journal_keys(killed)
    assert len(keys) == len(set(keys)), "nothing is asked again"
    assert max(units(killed), key=len) in units(swept)


def rows(outputs: Path) -> list[str]:
    """The whole lines of the journal so far."""
    return [line for file in outputs.glob("*/journal/**/*.jsonl") for line in file.read_text().split("\n")[:-1]]


def units(outputs: Path) -> list[str]:
    """The units of each bank."""
    return [file.read_text() for file in outputs.rglob("units.jsonl")]

"""The ledger of test reads: who looked at which test part, and when.

In: every evaluation on a test part. Out: `outputs/test_reads.jsonl`, a line each. A test part that is read again and
again, to choose among variants, is no test any more; the ledger makes that visible, across experiments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metamem.core.files import append_lines, read_rows

FILE = "test_reads.jsonl"


@dataclass(frozen=True)
class TestPart:
    """One test part: the data set's name, the hash of the split, and what read it (run's id → its directory)."""

    dataset: str
    split: str
    runs: dict[str, str]
    reads: int


def record_read(outputs: Path, *, dataset: str, split: str, run: str, directory: Path, systems: Sequence[str]) -> int:
    """Note that a run read its test part with these systems, and return how many runs have read that part by now.

    `split` is the split's hash, `run` the run's id. A run that is continued or started over reads once more and still
    counts as one run.
    """
    row = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": dataset,
        "split": split,
        "run": run,
        "directory": str(directory),
        "systems": list(systems),
    }
    path = outputs / FILE
    append_lines(path, [row])
    return len({r["run"] for r in read_rows(path) if r["split"] == split and r["dataset"] == dataset})


def test_parts(outputs: Path) -> list[TestPart]:
    """Every test part that was read, the most read first."""
    path = outputs / FILE
    found: dict[tuple[str, str], list[Any]] = {}
    for row in read_rows(path) if path.exists() else ():
        found.setdefault((row["dataset"], row["split"]), []).append(row)
    parts = [TestPart(*key, {r["run"]: r["directory"] for r in rows}, len(rows)) for key, rows in found.items()]
    return sorted(parts, key=lambda p: (-p.reads, p.dataset, p.split))

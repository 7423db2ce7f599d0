"""Shared fixtures: real benchmark data where it is present, and a clean environment for programs that are started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from metamem.cli.composing import composing_once
from metamem.core.registry import load_components

ROOT = Path(__file__).resolve().parents[1]
# The programs are started over and over: what is compiled is kept, whatever the machine's own setting.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Small models gain nothing by threads, which wait for each other by turning where others want the core.
os.environ["OMP_NUM_THREADS"] = "1"
# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("metamem", deadline=None, max_examples=40)
settings.load_profile("metamem")
# Tests build components by their names, some at import.
load_components()
SHARED = ROOT.parent / "shared" / "data"
_GIVES_WAY = 5


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give way to the tests of engines, which follow one another in one process and end last: the first other test of a
    process lowers its priority for good.
    """
    if "PYTEST_XDIST_WORKER" in os.environ and not item.get_closest_marker("engine") and os.nice(0) < _GIVES_WAY:
        os.nice(_GIVES_WAY)


@pytest.fixture
def shared() -> Path:
    """The folder of real benchmark data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the real benchmark data, which is not part of the project")
    return SHARED


@pytest.fixture(scope="module")
def composed_once() -> Iterator[None]:
    """Configs of the same choices are put together once for a module's tests, as for a command's jobs."""
    with composing_once():
        yield


@pytest.fixture(scope="session")
def prepared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for `dataset=prepared`: the sample questions with the turns of their conversation as memories, 12 each."""
    sample = json.loads((ROOT / "metamem" / "datasets" / "data" / "sample.json").read_text(encoding="utf-8"))
    records = []
    for record in sample:
        turns = [
            (date, turn)
            for date, session in zip(record["haystack_dates"], record["haystack_sessions"], strict=True)
            for turn in session
        ]
        kept = [t for t in turns if t[1].get("has_answer")]
        kept += [t for t in turns if not t[1].get("has_answer")][: 12 - len(kept)]
        records.append(
            {
                "question_id": record["question_id"],
                "question": record["question"],
                "question_type": record["question_type"],
                "question_date": record["question_date"],
                "answer": record["answer"],
                "memories": [f"{date} {turn['role']}: {turn['content']}" for date, turn in kept],
            }
        )
    path = tmp_path_factory.mktemp("prepared") / "questions.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path

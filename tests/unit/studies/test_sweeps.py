"""A sweep's progress, and what an experiment sweeps over."""

from __future__ import annotations

from typing import Any

import pytest

from metamem.cli.arguments import study_params
from metamem.cli.hydra_bridge import presets
from metamem.cli.sweeps import count_jobs, progress
from metamem.core.registry import REGISTRY, load_studies


def job(status: str, began: float = 0.0) -> dict[str, Any]:
    return {"status": status, "began": began}


@pytest.mark.parametrize(
    ("rows", "total", "line"),
    [
        ([], 4, "sweep: 0 of 4 jobs done"),
        ([job("done"), job("running")], 4, "sweep: 1 of 4 jobs done, 1 running, about 30 s left"),
        ([job("done"), job("failed")], 3, "sweep: 1 of 3 jobs done, 1 failed, about 5.0 s left"),
        ([job("done")], None, "sweep: 1 jobs done"),
        ([job("done"), job("done")], 2, "sweep: 2 of 2 jobs done"),
    ],
)
def test_progress_counts_jobs_and_tells_the_time_left(rows: list[dict[str, Any]], total: int | None, line: str) -> None:
    assert progress(rows, total, 10.0) == line


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["a=1,2", "b=x,y,z"], 6),
        (["a=1,2", "a=1"], 1),
        (["a=[1,2]"], 1),
        (["a=range(0,4)"], 4),
        ([], 1),
        (["hydra/sweeper=other", "a=1,2"], None),
    ],
)
def test_jobs_are_counted_as_the_basic_sweeper_makes_them(overrides: list[str], count: int | None) -> None:
    assert count_jobs(overrides) == count


def test_every_study_has_an_experiment_that_sweeps() -> None:
    load_studies()
    for name in REGISTRY.names("study"):
        assert name in presets("experiment")
        assert study_params([f"experiment={name}"]), name
    assert study_params(["experiment=quick"]) is None
    assert study_params(["experiment=[nano,training_steps]"]) == {"seed": "42,43,44"}
    assert study_params(["experiment=[data_scale, nano]"]) == study_params(["experiment=data_scale"])
    assert study_params(["experiment=[nano]"]) is None
    assert study_params(["experiment=../../conf/train"]) is None

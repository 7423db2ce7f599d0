"""Jobs that differ in seed or fold only are one setting, and its spread is part of every interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metamem.statistics.pairs import accuracy
from metamem.studies.settings import settings
from tests import made_run


def job(number: int, *overrides: str) -> dict[str, Any]:
    return {"number": number, "overrides": list(overrides), "runs": [f"run{number}"], "status": "done"}


def test_seeds_and_folds_repeat_a_setting_and_name_none() -> None:
    jobs = [
        job(0, "memory=a", "seed=1", "split.fold=0"),
        job(1, "memory=a", "seed=2", "split.fold=1"),
        job(2, "memory=b", "seed=1"),
        job(3, "memory=b", "seed=1", "evidence.budget=5"),
    ]
    found = settings(jobs)
    assert [s.label for s in found] == ["memory=a", "memory=b", "memory=b evidence.budget=5"]
    assert [[str(r) for r in s.runs] for s in found] == [["run0", "run1"], ["run2"], ["run3"]]
    assert [s.label for s in settings(jobs[:3])] == ["a", "b"], "one option is named by its value"
    assert [s.label for s in settings(jobs[:2])] == ["default"]


def test_seeds_that_disagree_widen_the_interval_and_do_not_count_as_more_questions(tmp_path: Path) -> None:
    runs = [str(made_run.write(tmp_path / str(seed), questions=60, seed=seed)) for seed in (1, 2, 3)]
    one = settings([{**job(0, "seed=1"), "runs": runs[:1]}])[0]
    same = settings([{**job(n, f"seed={n}"), "runs": [run]} for n, run in enumerate(runs)])[0]
    alone, alike = (accuracy(s.with_and_without()[1]) for s in (one, same))  # type: ignore[arg-type]
    assert alone["questions"] == alike["questions"] == 60
    assert alike["high"] - alike["low"] >= 0.98 * (alone["high"] - alone["low"]), "three times the same is once"
    log = Path(runs[2]) / "verdicts.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace('"correct": true', '"correct": false'), encoding="utf-8")
    apart = accuracy(same.with_and_without()[1])  # type: ignore[arg-type]
    assert apart["accuracy"] < alike["accuracy"]
    assert apart["high"] - apart["low"] > 1.5 * (alike["high"] - alike["low"])

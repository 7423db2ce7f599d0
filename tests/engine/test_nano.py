"""`nano` learns for real: in the engine, from its own attempts and verdicts, and only with its trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.engine.pool import EnginePool
from metamem.backbones.engine.weights import find_weights
from metamem.backbones.nano import FOLDER
from tests import programs

pytestmark = pytest.mark.slow
OPTIONS = ("experiment=nano", "train_questions=40", "evaluator=[llm_judge,exact_match]", "reward=llm_judge", "seed=1")


def learn(outputs: Path, *more: str) -> Path:
    programs.run_here("train", *OPTIONS, f"outputs={outputs}", *more)
    return programs.only_run(outputs)


def gain(run: Path) -> float:
    """Accuracy by exact match with the last meta-memory less that without one, from -1 to 1."""
    figures = programs.result_of(run)["figures"]["exact_match"]
    labels = {label.split()[0]: label for label in figures}
    without, last = (figures[labels[name]]["overall"]["accuracy"] for name in ("without", "last"))
    return float(last - without)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def learned(pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(tmp_path_factory.mktemp("nano"))


def test_the_guidelines_it_writes_make_it_answer_better(learned: Path) -> None:
    assert gain(learned) >= 0.2


def test_its_attempts_disagree(learned: Path) -> None:
    (first,) = (row for row in rows(learned / "metrics.jsonl") if row["step"] == 1)
    assert first["teaches"] >= 3


def test_its_verdicts_are_those_of_exact_match(learned: Path) -> None:
    held: dict[str, dict[str, Any]] = {}
    for verdict in rows(learned / "verdicts.jsonl"):
        held.setdefault(verdict["attempt_id"], {})[verdict["evaluator"]] = verdict["correct"]
    both = [v for v in held.values() if len(v) == 2]
    assert len(both) > 200
    assert sum(v["llm_judge"] == v["exact_match"] for v in both) >= 0.97 * len(both)
    paths = programs.result_of(learned)["verdicts"]["llm_judge"]
    assert paths["word"] >= 0.99 * sum(paths.values())


def test_its_replies_stand_in_the_journal_under_its_weights(learned: Path) -> None:
    weights = find_weights(str(FOLDER), None).identity["weights"]
    journal = learned.parent / "journal"
    assert any(weights in f.read_text(encoding="utf-8") for f in journal.rglob("*") if f.is_file())
    assert "random weights" not in programs.result_of(learned)["stamps"]


@pytest.mark.usefixtures("pool")
def test_with_random_weights_the_gain_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(programs.ROOT / "experiments" / "nano"))
    from evaluate import random_checkpoint

    folder = random_checkpoint(tmp_path / "random")
    few = ["train_questions=10", "evaluator.llm_judge.max_tokens=8"]
    run = learn(tmp_path / "out", f"backbone.path={folder}", *few)
    assert abs(gain(run)) <= 0.05
    assert "random weights" in programs.result_of(run)["stamps"]

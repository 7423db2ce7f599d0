"""`nano` runs the whole method for real: in the engine, from its own attempts and verdicts, with its own weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.engine.weights import find_weights
from metamem.backbones.nano import FOLDER
from tests import programs

pytestmark = pytest.mark.slow
OPTIONS = ("experiment=nano", "dataset.size=240", "train_questions=40", "seed=1")


def learn(outputs: Path, *more: str) -> tuple[Path, str]:
    printed = programs.run("train", *OPTIONS, f"outputs={outputs}", *more)
    return programs.only_run(outputs, "nano"), printed


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(tmp_path_factory.mktemp("nano"))[0]


def test_its_attempts_disagree(learned: Path) -> None:
    steps = [row for row in rows(learned / "metrics.jsonl") if row["step"] == 1]
    assert steps[0]["teaches"] >= 3


def test_its_replies_stand_in_the_journal_under_its_weights(learned: Path) -> None:
    weights = find_weights(str(FOLDER), None).identity["weights"]
    journal = learned.parent / "journal"
    assert any(weights in f.read_text(encoding="utf-8") for f in journal.rglob("*") if f.is_file())
    assert "random weights" not in programs.result_of(learned)["stamps"]

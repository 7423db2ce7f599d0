"""`experiments/nano`: the small model's training continues where it was left, and its examples are what they say."""

from __future__ import annotations

import json
import random
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from metamem.datasets.world.vocabulary import NUMBERS, POOLS, UNKNOWN
from metamem.replies.reasoning import split_reasoning
from tests import programs

FOLDER = programs.ROOT / "experiments" / "nano"


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import roles

    return roles


def train(folder: Path, *more: str, afresh: bool = False) -> dict[str, Any]:
    """Two buffers, of which one part does at least one; the last line of the log."""
    small = ["--hidden", "32", "--layers", "2", "--mlp", "32", "--threads", "1", "--every", "1", "--seed", "3"]
    command = [sys.executable, str(FOLDER / "train.py"), "--folder", str(folder), "--buffers", "2", *small, *more]
    if afresh:
        subprocess.run(command, check=True, capture_output=True, env=programs.environment())
    else:
        with mock.patch.object(sys, "argv", command[1:]), mock.patch.object(sys, "path", [str(FOLDER), *sys.path]):
            runpy.run_path(command[1], run_name="__main__")
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return dict(json.loads(lines[-1]))


@pytest.mark.slow
def test_a_training_in_two_parts_is_the_training_in_one(tmp_path: Path) -> None:
    import torch

    whole = train(tmp_path / "whole")
    assert train(tmp_path / "parts", "--minutes", "0.00001")["buffer"] == 1
    parts = train(tmp_path / "parts", "--minutes", "0.00001", afresh=True)
    assert [parts[k] for k in ("buffer", "step", "loss")] == [whole[k] for k in ("buffer", "step", "loss")]
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True)["model"] for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_to_be_answered_is_right_for_the_guidelines_in_the_prompt(roles: Any, seed: int) -> None:
    rng = random.Random(seed)
    case, lines = roles.one_case(rng, roles.PRACTICE)
    guided = roles.reply(rng, case, [roles.need(case)], lines)
    assert split_reasoning(guided)[0] == case.right
    told = {split_reasoning(roles.reply(random.Random(i), case, [], lines))[0] for i in range(40)}
    assert case.right in told
    assert case.easy or len(told) > 1, "without the guideline it is tempted"


def test_no_example_holds_a_word_of_other_parts_than_training(roles: Any) -> None:
    train_pool, *others = POOLS.values()
    foreign = {w for pool in others for w in (*pool.names, *pool.things)} - {*train_pool.names, *train_pool.things}
    for name, role in roles.ROLES.items():
        rng = random.Random(f"words/{name}")
        for _ in range(50):
            example = role(rng)
            text = " ".join([example.prompt, example.reply, *(part for pair in example.more for part in pair)])
            assert not foreign & set(text.split()), name
    assert UNKNOWN not in foreign and not foreign & set(NUMBERS)

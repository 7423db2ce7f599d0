"""Two engines in one run: side by side, and in turns where one at a time holds memory; the replies are the same."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

import metamem
from metamem.backbones.engine.engine import Engine
from metamem.backbones.engine.pool import shared_pool
from metamem.programs import train as training
from tests import programs
from tests.engine.conftest import engine_processes


def trained(model: Path, outputs: Path, placement: str) -> dict[str, Any]:
    """The result of two steps by two engines: policy and reflector on one, the judge on another."""
    given = [
        f"outputs={outputs}",
        "backbone=tiny",
        "backbone@judge=tiny",
        f"backbone.path={model}",
        f"judge.path={model}",
        "judge.dtype=bfloat16",
        f"placement={placement}",
        "evaluator.llm_judge.max_tokens=32",
        "optimizer.batch_size=12",
        "optimizer.epochs=1",
        "optimizer.attempts=2",
        "optimizer.filter=false",
        "dataset.limit=24",
        "split=all",
    ]
    return metamem.run("train", given)


@pytest.fixture(scope="module")
def side_by_side(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run whose engines are alive together."""
    outputs = tmp_path_factory.mktemp("disjoint")
    result = trained(model, outputs, "disjoint")
    assert result["steps"] == 2
    assert "self-judged" not in result["stamps"], "two models"
    assert min(result["calls"][role]["delivered"] for role in ("policy", "judge", "reflector")) > 0
    return outputs


def test_two_engines_of_one_run_live_side_by_side(side_by_side: Path) -> None:
    assert [engine.running for engine in shared_pool()._engines.values()] == [True, True]


def test_in_turns_one_engine_is_awake_a_batch_changes_twice_and_the_replies_are_the_same(
    side_by_side: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, changes, awake = shared_pool(), [0], []
    asked, kept = Engine._asked, training.keep_step

    async def watched(self: Engine, *arguments: Any) -> Any:
        awake.append(sum(engine.running for engine in pool._engines.values()))
        return await asked(self, *arguments)

    def counted(*arguments: Any) -> None:
        changes.append(pool.switches)
        kept(*arguments)

    monkeypatch.setattr(Engine, "_asked", watched)
    monkeypatch.setattr(training, "keep_step", counted)
    trained(model, tmp_path, "turns")
    assert set(awake) == {1}
    in_each = [after - before for before, after in itertools.pairwise(changes)]
    assert in_each == [0, 2, 2], "nothing before the first batch, then to the judge and back"
    assert programs.state(programs.only_run(tmp_path)) == programs.state(programs.only_run(side_by_side))


def test_the_engines_of_the_pool_end_with_it(side_by_side: Path) -> None:
    before = engine_processes()
    asyncio.run(shared_pool().close())
    assert not shared_pool()._engines
    assert len(engine_processes()) < len(before)

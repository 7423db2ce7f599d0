"""Two engines in one run: side by side, and in turns where one at a time holds memory; the replies are the same."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.engine.engine import Engine
from metamem.backbones.engine.pool import EnginePool, shared_pool
from metamem.programs import train as training
from tests import programs
from tests.engine.conftest import engine_processes


def roles(model: Path, outputs: Path) -> list[str]:
    """Policy and reflector on one engine, the judge on another."""
    both = ["backbone=tiny", "backbone@judge=tiny", f"backbone.path={model}", f"judge.path={model}"]
    return [*both, "judge.dtype=bfloat16", "evaluator.llm_judge.max_tokens=32", f"outputs={outputs}"]


def trained(model: Path, outputs: Path, placement: str) -> dict[str, Any]:
    """The result of one step by two engines."""
    steps = ["optimizer.batch_size=12", "optimizer.epochs=1", "optimizer.attempts=2", "optimizer.filter=false"]
    data = ["dataset.limit=12", "split=all"]
    programs.run_here("train", *roles(model, outputs), *steps, *data, f"placement={placement}")
    return programs.result_of(programs.only_run(outputs))


def living(model: Path) -> list[bool]:
    """For each of the pool's engines of the tiny model whether it runs."""
    return [engine.running for engine in shared_pool()._engines.values() if engine.spec.model == str(model)]


@pytest.fixture(scope="module")
def side_by_side(pool: EnginePool, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run whose engines are alive together."""
    outputs = tmp_path_factory.mktemp("disjoint")
    result = trained(model, outputs, "disjoint")
    assert result["steps"] == 1
    assert "self-judged" not in result["stamps"], "two models"
    assert min(result["calls"][role]["delivered"] for role in ("policy", "judge", "reflector")) > 0
    return outputs


def test_two_engines_of_one_run_live_side_by_side(side_by_side: Path, model: Path) -> None:
    assert living(model) == [True, True]


def test_an_evaluation_of_what_was_trained_finds_both_engines(side_by_side: Path, model: Path) -> None:
    before = engine_processes()
    given = [f"meta_memory={programs.only_run(side_by_side)}", "evaluation.attempts=2", "evaluation.temperature=0.7"]
    given += ["dataset.limit=12", "split=all", "part=all", "allow_seen=true"]
    printed = programs.run_here("eval", *roles(model, side_by_side), *given)
    assert "random weights" in printed
    result = programs.result_of(programs.only_run(side_by_side, "eval"))
    assert result["kind"] == "eval"
    assert min(result["calls"][role]["delivered"] for role in ("policy", "judge")) > 0
    assert not any(calls.get("failed") for calls in result["calls"].values())
    assert engine_processes() == before


def test_in_turns_one_engine_is_awake_a_batch_changes_twice_and_the_replies_are_the_same(
    side_by_side: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, awake = [shared_pool().switches], []
    asked, kept = Engine._ask, training.keep_step

    async def watched(self: Engine, *arguments: Any) -> Any:
        awake.append(sum(living(model)))
        return await asked(self, *arguments)

    def counted(*arguments: Any) -> None:
        changes.append(shared_pool().switches)
        kept(*arguments)

    monkeypatch.setattr(Engine, "_ask", watched)
    monkeypatch.setattr(training, "keep_step", counted)
    trained(model, tmp_path, "turns")
    assert set(awake) == {1}
    in_each = [after - before for before, after in itertools.pairwise(changes)]
    assert in_each == [0, 2], "nothing before the first batch, then to the judge and back"
    assert programs.state(programs.only_run(tmp_path)) == programs.state(programs.only_run(side_by_side))


def test_the_engines_of_the_pool_end_with_it(side_by_side: Path) -> None:
    before = engine_processes()
    asyncio.run(shared_pool().close())
    assert not shared_pool()._engines
    assert len(engine_processes()) < len(before)

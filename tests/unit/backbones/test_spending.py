"""A cap on tokens and dollars: counted over all runs of a name, kept by every process; nothing delivered is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import metamem
from metamem.backbones.caller import JournaledCaller
from metamem.backbones.journal import Journal
from metamem.backbones.spending import Budget, BudgetOptions, Prices, Purse
from metamem.core.calls import Generation, Request, Usage
from metamem.core.errors import BudgetReachedError
from metamem.programs.continuing import rest_of
from metamem.programs.plan import Plan, PlannedStage
from tests import programs
from tests.unit.backbones.test_caller import Scripted, ask


class Costly(Scripted):
    """Each sample takes ten tokens of prompt and five of reply."""

    async def generate(self, request: Request) -> list[Generation]:
        return [Generation(g.text, usage=Usage(10, 5)) for g in await super().generate(request)]


def test_what_every_run_of_a_name_took_counts_and_the_first_call_beyond_is_not_made(tmp_path: Path) -> None:
    now, backbone, prices = [0.0], Costly(max_samples=1), Prices(1.0, 2.0)

    def caller(run: str, **limits: float) -> JournaledCaller:
        budget = Budget(tmp_path / "e", BudgetOptions(**limits), lambda: now[0])  # type: ignore[arg-type]
        return JournaledCaller(backbone, Journal(tmp_path, "e", run), "policy", purse=Purse("policy", prices, budget))

    asyncio.run(caller("first")(ask(3)))  # no limit: 3 × 15 tokens at 20 millionths of a dollar
    ours = caller("second", tokens=75)
    asyncio.run(ours(ask(1, first=3)))
    # Another process goes on meanwhile; what it wrote is seen a second later.
    asyncio.run(caller("third")(ask(1, first=4)))
    now[0] += 1
    with pytest.raises(
        BudgetReachedError, match=r"budget.tokens=75 is reached: the runs of e took 75 tokens \(\$0.00\)"
    ):
        asyncio.run(ours(ask(1, first=5)))
    assert len(backbone.requests) == 5, "the call beyond was made"
    assert asyncio.run(ours(ask(4)))[3].reused, "what is in the journal costs nothing"
    with pytest.raises(BudgetReachedError, match=r"budget\.usd=0\.0001 is reached"):
        asyncio.run(caller("fourth", usd=0.0001)(ask(1, first=6)))
    asyncio.run(caller("fifth", usd=0.000101)(ask(1, first=6)))


def test_what_the_rest_takes_is_the_plan_less_what_is_there_at_the_mean_so_far() -> None:
    plan = Plan(
        (PlannedStage("test", "policy", 100, None, 9000, 1000), PlannedStage("test", "judge", 100, None, 400, 100))
    )
    stopped = BudgetReachedError("", {"policy": 60}, {"policy": (50.0, 0.01)})
    # 40 × 50 tokens at a cent each; the judge was not asked yet: 100 of 5 tokens as planned.
    assert rest_of(plan, stopped) == "the rest takes about 140 replies and 2,500 tokens ($0.40)"


@pytest.mark.slow
def test_a_run_at_its_cap_keeps_what_was_delivered_and_ends_as_any_other_with_a_larger_one(tmp_path: Path) -> None:
    small = ["optimizer.epochs=1", "optimizer.attempts=2"]
    whole = metamem.run("train", [*small, f"outputs={tmp_path / 'whole'}"])
    with pytest.raises(BudgetReachedError, match="the rest takes about"):
        metamem.run("train", [*small, "budget.tokens=60000", f"outputs={tmp_path / 'capped'}"])
    paid = programs.journal_keys(tmp_path / "capped")
    ended = metamem.run("train", [*small, "budget.tokens=60000000", f"outputs={tmp_path / 'capped'}"])
    assert ended["figures"] == whole["figures"]
    keys = programs.journal_keys(tmp_path / "capped")
    assert len(keys) == len(set(keys)) and set(paid) < set(keys)


@pytest.mark.slow
def test_a_sweep_at_its_cap_begins_no_further_job_and_says_so_once(tmp_path: Path) -> None:
    given = ["-m", "seed=1,2,3", "optimizer.epochs=1", "optimizer.attempts=2", "budget.tokens=60000"]
    printed = programs.run_here("train", *given, f"outputs={tmp_path}", code=143)
    assert printed.count("budget.tokens=60,000 is reached") == 1 and "the same command" in printed
    assert programs.only_run(tmp_path), "of the first job alone"

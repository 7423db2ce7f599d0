"""Shared parts of memory building: batches across tasks, and accounts."""

from __future__ import annotations

import asyncio
import threading

from metamem.core.banks import Cost, MemoryBank, Unread
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.registry import build, load_components
from metamem.memory.batching import Batcher
from metamem.pipeline.accounts import Account, notes, recall_notes
from metamem.prompts.templates import Prompts
from metamem.retrieval.metrics import kept_recall

load_components()
PROMPTS: Prompts = build("prompts", {"name": "default"})


# --- batches ----------------------------------------------------------------------------------------------------------


def test_what_many_tasks_want_is_worked_on_together_and_each_gets_its_own() -> None:
    batches: list[list[int]] = []

    def work(items: list[int]) -> list[int]:
        assert threading.current_thread() is not threading.main_thread()
        batches.append(items)
        return [i * i for i in items]

    async def main() -> list[list[int]]:
        batcher = Batcher(work, limit=8)
        return list(await asyncio.gather(*(batcher([i, i + 100]) for i in range(20)), batcher([])))

    results = asyncio.run(main())
    assert results == [[i * i, (i + 100) ** 2] for i in range(20)] + [[]]
    assert max(map(len, batches)) == 8
    assert len(batches) == 5


def test_what_the_work_raises_goes_to_those_in_the_batch_and_the_next_goes_on() -> None:
    def work(items: list[int]) -> list[int]:
        if 13 in items:
            raise ValueError("thirteen")
        return items

    async def main() -> list[object]:
        batcher = Batcher(work, limit=2)
        first = await asyncio.gather(batcher([1, 13]), batcher([2, 3]), return_exceptions=True)
        return [*first, await batcher([5])]

    failed, well, later = asyncio.run(main())
    assert isinstance(failed, ValueError)
    assert (well, later) == ([2, 3], [5])


def test_a_cancelled_task_does_not_disturb_the_others() -> None:
    async def main() -> list[int]:
        batcher = Batcher(lambda items: items, limit=1)
        lost, kept = asyncio.create_task(batcher([1, 2, 3])), asyncio.create_task(batcher([4, 5]))
        await asyncio.sleep(0)
        lost.cancel()
        return await kept

    assert asyncio.run(main()) == [4, 5]


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_the_account_of_banks_adds_up_and_says_what_was_lost() -> None:
    account = Account()
    lost = Unread("extract", ("1",), "no JSON")
    unit = MemoryUnit("1", "text")
    for i in range(3):
        costs = {"extract": Cost(2, 10, 5, 0.5), "compress": Cost(seconds=0.25)}
        account.add(MemoryBank("b", str(i), (unit,), 1, costs, {"refused_nowhere": 1}, (lost,) if i else ()))
    summary = account.summary({"banks_built": 2, "banks_reused": 1})
    assert (summary["conversations"], summary["units"], summary["unread"]) == (3, 3, 2)
    assert summary["costs"]["extract"] == {
        "calls": 6,
        "prompt_tokens": 30,
        "completion_tokens": 15,
        "seconds": 1.5,
    }
    told = "\n".join(notes(summary))
    assert "3 conversations (2 built, 1 reused) took 6 calls, 45 tokens" in told
    assert "3 things that replies stated were refused" in told
    assert "2 calls gave nothing" in told
    assert notes(Account().summary({})) == []


def test_recall_within_a_budget_counts_what_the_kept_evidence_names() -> None:
    question = Question("q", "?", "t", ("a",), evidence_sessions=("s1", "s2"), evidence_turns=("1", "2", "3", "4"))
    kept = [Evidence(MemoryUnit("u", "text", None, "s1", ("1", "9")), 1.0, 0)]
    measured = kept_recall(question, kept)
    assert measured == {"session/recall_kept": 0.5, "turn/recall_kept": 0.25}
    (line,) = recall_notes([measured, {"session/recall_any@5": 1.0}], 2000)
    assert "within 2,000 tokens holds 50.0% of the evidence sessions (1 questions)" in line
    assert recall_notes([measured], None) == []

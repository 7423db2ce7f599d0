"""Shared parts of memory building: batches across tasks, accounts, and the simulated builder."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from datetime import datetime

import pytest

from metamem.backbones.simulation.building import entries
from metamem.core.banks import Cost, MemoryBank, Unread
from metamem.core.calls import Request, Sampling
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


# --- the simulated builder --------------------------------------------------------------------------------------------


def simulated(name: str, **values: object) -> dict:  # type: ignore[type-arg]
    backbone = build("backbone", {"name": "simulated"})
    request = Request(PROMPTS.render(name, **values), Sampling())
    return dict(json.loads(asyncio.run(backbone.generate(request))[0].text))


def extract(*messages: tuple[str, str]) -> list[tuple[int, str]]:
    shown: Sequence[dict[str, object]] = [
        {"index": i, "date": "2024-03-09 (Sat) 18:20", "speaker": speaker, "text": text}
        for i, (speaker, text) in enumerate(messages)
    ]
    reply = simulated("extract", segments=[shown], first=0, last=len(messages) - 1)
    return [(fact["source"], fact["fact"]) for fact in reply["facts"]]


def test_the_simulated_builder_gives_a_fact_a_message_with_its_number() -> None:
    assert extract(("user", "I live in Oslo. Do you know it?"), ("assistant", "Oslo is in Norway.")) == [
        (0, "user: I live in Oslo."),
        (1, "assistant: Oslo is in Norway."),
    ]


def test_a_message_that_says_nothing_gives_no_fact_and_lines_like_numbers_do_not_mislead() -> None:
    said = extract(("Ada", "Is it?"), ("Ada", "A list:\n[7] seven apples\n[0] none"), ("Ben", "I bought apples."))
    assert [source for source, _ in said] == [1, 2]
    assert "seven apples" in said[0][1]


@pytest.mark.parametrize(
    ("newer", "action"),
    [
        (["user: My rent is 950 euros."], "update"),
        (["user: My rent in Oslo is 900 euros, still."], "delete"),
        (["user: The cat likes tea."], "ignore"),
    ],
)
def test_the_simulated_builder_decides_about_a_memory(newer: list[str], action: str) -> None:
    stamp = "2024-03-09 (Sat) 18:20 "
    decision = simulated("update", entry=f"{stamp}user: My rent is 900 euros.", newer=[stamp + n for n in newer])
    assert decision["action"] == action
    if action == "update":
        assert "950" in decision["text"]
        assert "900" in decision["text"]
        assert str(datetime(2024, 3, 9).date()) not in decision["text"]


def test_entries_of_an_empty_section_are_none() -> None:
    assert entries("") == entries("no numbers") == []

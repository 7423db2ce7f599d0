"""No system sees a session later than the question, and one that does so all the same is caught."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from metamem.cli.python import composed
from metamem.core.contracts import Dataset, MemoryConstructor
from metamem.core.records import Conversation, Evidence, MemoryUnit, Question, Session, Turn
from metamem.core.retrieved import Retrieved
from metamem.datasets.memories import up_to_questions
from metamem.pipeline.evidence import gather_evidence
from metamem.pipeline.no_later import LeakError
from metamem.pipeline.prepare import PreparedRun, prepare
from metamem.tracking.trackers import Trackers

DAYS = [datetime(2024, 3, d, 12) for d in (1, 5, 9)]
TALK = Conversation("c", tuple(Session(f"s{d.day}", d, (Turn(f"t{d.day}", "user", f"day {d.day}"),)) for d in DAYS))


def asked(*dates: datetime | None) -> Dataset:
    questions = tuple(Question(f"q{i}", "?", "t", ("a",), date=d, conversation_id="c") for i, d in enumerate(dates))
    return Dataset("made", {"c": TALK}, questions)


def test_each_question_has_what_was_said_by_its_day_and_those_that_know_as_much_share_a_memory() -> None:
    dates = [None, DAYS[2] - timedelta(hours=6), DAYS[1], DAYS[1] + timedelta(days=2), DAYS[0] - timedelta(days=1)]
    found = up_to_questions(asked(*dates))
    seen = [found.conversations[q.conversation_id or ""].sessions for q in found.questions]
    assert [[s.id for s in sessions] for sessions in seen] == [
        *(["s1", "s5", "s9"], ["s1", "s5", "s9"], ["s1", "s5"], ["s1", "s5"]),
        [],
    ]
    assert len({q.conversation_id for q in found.questions}) == 3
    assert found.questions[0].conversation_id == "c", "a conversation of which nothing is later stays the same"


@dataclass
class Cheat(MemoryConstructor):
    """Puts a unit into every memory, whatever it was given."""

    config: Any
    unit: MemoryUnit

    async def grow(self, bank: Any, conversation: Conversation, scribe: Any) -> None:
        scribe.notebook.put(self.unit)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    outputs = tmp_path_factory.mktemp("out")
    return prepare(composed("eval", ["memory=turns", "backbone=simulated", f"outputs={outputs}"]))


def gather(prepared: PreparedRun, **parts: Any) -> None:
    # Banks of this test are its own: each has another version.
    data = up_to_questions(asked(DAYS[1]))
    given = replace(prepared, dataset=data, **parts)
    asyncio.run(gather_evidence(given, data.questions, Trackers([])))


@pytest.mark.parametrize(
    ("unit", "why"),
    [
        (MemoryUnit("u", "x", DAYS[2]), "is of 2024-03-09"),
        (MemoryUnit("u", "x", DAYS[0], "s9"), "the session s9"),
        (MemoryUnit("u", "x", None, None, ("t1", "t9")), "the turn t9"),
    ],
)
def test_a_memory_that_knows_a_later_session_is_caught_by_name(
    prepared: PreparedRun, tmp_path: Path, unit: MemoryUnit, why: str
) -> None:
    identity = {**prepared.memory_identity, "cheats": why}
    with pytest.raises(ExceptionGroup) as caught:
        gather(prepared, memory=Cheat(None, unit), memory_identity=identity)
    (error,) = caught.value.exceptions
    assert isinstance(error, LeakError)
    assert all(word in str(error) for word in ("memory=turns", "unit u", "question q0", why))


def test_a_retriever_that_makes_evidence_of_a_later_day_is_caught(prepared: PreparedRun) -> None:
    class Prophet:
        needs = prompts = reads = pinned = ()
        made: Callable[..., MemoryUnit] = staticmethod(lambda unit: replace(unit, time=DAYS[2]))

        async def retrieve(self, bank: Any, questions: Any, tools: Any) -> list[Retrieved]:
            return [Retrieved((Evidence(self.made(bank.units[0]), 1.0, 0),)) for _ in questions]

    with pytest.raises(ExceptionGroup) as caught:
        gather(prepared, retriever=Prophet())
    assert "retriever=bm25: the unit t1/turn" in str(caught.value.exceptions[0])


def test_what_was_said_in_time_passes(prepared: PreparedRun) -> None:
    gather(prepared)

"""Evidence for a run: memories, then evidence; what a retriever asks a model for is paid, told and asked again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.journal import Journal
from metamem.cli.python import composed
from metamem.core.banks import Cost, MemoryBank
from metamem.core.calls import Generation, Request, Sampling, Usage
from metamem.core.contracts import MemoryConstructor, RetrievalTools
from metamem.core.errors import BackboneError
from metamem.core.planted import Planted
from metamem.core.records import MemoryUnit, Question
from metamem.core.retrieved import Retrieved
from metamem.pipeline.accounts import mismatch_note
from metamem.pipeline.evidence import Gathered, gather_evidence
from metamem.pipeline.prepare import PreparedRun, prepare
from metamem.programs.show import described
from metamem.replies.json_in_text import Form, UnreadableError
from metamem.reporting.cases import load_cases, save_cases
from metamem.retrieval.base import best
from metamem.retrieval.bm25 import Bm25Scores
from metamem.statistics.judged import retrieval_figures
from metamem.tracking.trackers import Trackers


class Watching(Trackers):
    """Keeps what a tracker is told."""

    def __init__(self) -> None:
        super().__init__([])
        self.told: list[Any] = []

    def stage(self, name: str, total: int, unit: str) -> None:
        self.told.append((name, total, unit))

    def advance(self, what: str, count: int = 1) -> None:
        self.told.append((what, count))

    def note(self, text: str) -> None:
        self.told.append(text)

    def done(self, what: str) -> int:
        return sum(row[1] for row in self.told if row[0] == what and len(row) == 2)


def a_query(text: str) -> str:
    """The string that a reply's JSON is."""
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise UnreadableError(str(error)) from None


class Planned:
    """Plans a query with a model, ranks by words, and strengthens what it finds first."""

    needs: tuple[str, ...] = ("builder",)
    prompts: tuple[str, ...] = ("repair_memory",)
    reads: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        return {}

    async def retrieve(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[Retrieved]:
        asked = [tools.ask(q, "repair_memory", Form(None, a_query), stage="plan", problem=q.text) for q in questions]
        plans = await asyncio.gather(*asked)
        queries = [str(plan.value or q.text) for plan, q in zip(plans, questions, strict=True)]
        scores = await tools.run(Bm25Scores(1.5, 0.75, True), bank, queries)
        found = []
        for plan, query, row in zip(plans, queries, scores, strict=True):
            evidence = tuple(best(bank, row, 3))
            found.append(
                Retrieved(
                    evidence,
                    {"plan": plan.cost},
                    (plan.unread,) if plan.unread else (),
                    ({"step": "plan", "query": query, "keys": list(plan.keys)},),
                    {evidence[0].unit.id: {"strength": 1}},
                )
            )
        return found


class Model:
    """Replies by a function of the request; every reply takes 7 and 2 tokens."""

    max_samples = 1

    def __init__(self, reply: Callable[[Request], str]) -> None:
        self.reply = reply
        self.requests: list[Request] = []

    def identity(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    def sampling(self) -> Sampling:
        return Sampling(temperature=0.9, max_tokens=50)

    async def generate(self, request: Request) -> list[Generation]:
        self.requests.append(request)
        return [Generation(self.reply(request), usage=Usage(7, 2))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    outputs = tmp_path_factory.mktemp("out")
    chosen = ["dataset=world", "memory=turns", "backbone=simulated", "part=test", f"outputs={outputs}"]
    return prepare(composed("eval", chosen))


def gathered(prepared: PreparedRun, folder: Path, reply: Callable[[Request], str]) -> tuple[Gathered, Model, Watching]:
    model, tracker = Model(reply), Watching()
    caller = JournaledCaller(model, Journal(folder, "e", "r"), "builder")  # type: ignore[arg-type]
    asking = replace(prepared, retriever=Planned())
    questions = prepared.questions("test")[:3]
    return asyncio.run(gather_evidence(asking, questions, tracker, caller)), model, tracker


@pytest.mark.slow
def test_memories_are_built_first_and_evidence_is_told_after_the_last(prepared: PreparedRun) -> None:
    tracker = Watching()
    questions = prepared.questions("test")
    found = asyncio.run(gather_evidence(prepared, questions, tracker))
    talks = len({q.conversation_id for q in questions})
    assert [row for row in tracker.told if len(row) == 3] == [
        ("building memories", talks, "conversation"),
        ("retrieving evidence", len(questions), "question"),
    ]
    assert (tracker.done("conversation"), tracker.done("question")) == (talks, len(questions))
    assert list(found.evidence) == sorted(q.id for q in questions)
    assert (found.retrieval, found.traces) == ({}, {})


@pytest.mark.slow
def test_what_was_planted_in_a_memory_does_not_depend_on_which_questions_are_asked(prepared: PreparedRun) -> None:
    first = prepared.questions("test")[0]
    second = replace(first, id=f"{first.id}/again")
    records = [MemoryUnit(f"planted/{q.id}/record", first.text) for q in (first, second)]
    planted = {q.id: Planted("x", records=(r,)) for q, r in zip((first, second), records, strict=True)}
    under = replace(prepared, dataset=replace(prepared.dataset, questions=(first, second), planted=planted))
    alone, both = (asyncio.run(gather_evidence(under, asked, Watching())) for asked in ([first], [first, second]))
    assert alone.evidence[first.id] == both.evidence[first.id]
    assert {r.id for r in records} <= {e.unit.id for e in alone.evidence[first.id]}


@pytest.mark.slow
def test_what_retrieval_asks_for_stands_in_the_result_and_with_each_question(
    prepared: PreparedRun, tmp_path: Path
) -> None:
    found, model, tracker = gathered(prepared, tmp_path, lambda request: '"the tea that was bought"')
    assert all(r.sampling.temperature == 0 and r.sampling.max_tokens == 50 for r in model.requests)
    figures = retrieval_figures(found, prepared.questions("test")) or {}
    assert figures["unread"] == 0
    assert {**figures["costs"]["plan"], "seconds": 0} == {
        **{"calls": 3, "prompt_tokens": 21, "completion_tokens": 6},
        "seconds": 0,
    }
    assert "retrieval took 3 calls, 27 tokens" in tracker.told
    (question, *_) = prepared.questions("test")
    told = "\n".join(described(prepared, question, found))
    assert 'retrieval: 1 calls\n  {"keys":["' in told and '"query":"the tea that was bought"' in told
    assert ': {"strength":1}' in told
    save_cases(tmp_path, prepared.questions("test")[:3], found)
    case = load_cases(tmp_path)[question.id]
    assert case["trace"][0]["step"] == "plan" and list(case["effects"].values()) == [{"strength": 1}]


@pytest.mark.slow
def test_a_retrieval_that_is_repeated_asks_for_nothing_twice(prepared: PreparedRun, tmp_path: Path) -> None:
    first, _, _ = gathered(prepared, tmp_path, lambda request: '"tea"')
    again, model, _ = gathered(prepared, tmp_path, lambda request: "never asked")
    assert (again.evidence, model.requests) == (first.evidence, [])
    assert [r.trace for r in again.traces.values()] == [r.trace for r in first.traces.values()]


def test_an_unreadable_plan_is_mended_once_and_then_told(prepared: PreparedRun, tmp_path: Path) -> None:
    mended, model, _ = gathered(prepared, tmp_path / "a", lambda r: '"tea"' if len(r.messages) > 1 else "tea?")
    assert {one.costs["plan"].calls for one in mended.traces.values()} == {2}
    assert mended.retrieval["unread"] == 0
    assert [m.role for m in model.requests[-1].messages] == ["user", "assistant", "user"]
    lost, _, tracker = gathered(prepared, tmp_path / "b", lambda r: "tea?")
    assert (lost.retrieval["unread"], lost.retrieval["undelivered"]) == (3, 0)
    assert all(len(evidence) == 3 for evidence in lost.evidence.values()), "the question itself is searched for"
    assert "retrieval: 3 calls gave nothing that can be read" in tracker.told


def test_a_call_that_is_not_delivered_is_asked_again_and_alone(prepared: PreparedRun, tmp_path: Path) -> None:
    broken = prepared.questions("test")[1].text

    def fails(request: Request) -> str:
        if broken in request.messages[0].content:
            raise BackboneError("gone")
        return '"tea"'

    partly, _, tracker = gathered(prepared, tmp_path, fails)
    assert partly.retrieval["undelivered"] == 1
    assert any("not delivered: the next run asks for those again" in str(row) for row in tracker.told)
    whole, model, _ = gathered(prepared, tmp_path, lambda request: '"tea"')
    assert (len(model.requests), whole.retrieval["undelivered"]) == (1, 0)


def test_a_retriever_of_another_memory_is_said_in_a_note(prepared: PreparedRun) -> None:
    tracker, other = Watching(), replace(prepared, retriever=Planned())
    other.retriever.reads = ("core", "semantic")
    other.retriever.retrieve = _nothing  # type: ignore[method-assign]
    asyncio.run(gather_evidence(other, prepared.questions("test")[:1], tracker))
    assert "retriever=bm25 is made for units of kind core, semantic; memory=turns holds turn" in tracker.told
    assert mismatch_note("r", ("turn",), "m", {"turn"}) == mismatch_note("r", (), "m", {"x"}) == []


async def _nothing(bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[Retrieved]:
    return [Retrieved(costs={"plan": Cost()}) for _ in questions]


@pytest.mark.slow
def test_strictly_sequential_memories_are_all_under_way_at_once(prepared: PreparedRun) -> None:
    """A system with one call at a time per conversation is not held to fewer calls than the engine takes."""
    inside = most = 0

    class Slow(MemoryConstructor):
        needs = ("builder",)

        async def grow(self, bank: MemoryBank | None, conversation: Any, scribe: Any) -> None:
            nonlocal inside, most
            inside, most = inside + 1, max(most, inside + 1)
            await asyncio.sleep(0.05)
            inside -= 1

    names = [f"c{i}" for i in range(200)]
    (first, *_) = prepared.dataset.conversations.values()
    questions = [replace(prepared.questions("test")[0], id=n, conversation_id=n) for n in names]
    data = replace(prepared.dataset, conversations={n: replace(first, id=n) for n in names})
    many: Any = replace(prepared, dataset=data, memory=Slow(), memory_identity={"options": "slow"})
    asyncio.run(gather_evidence(many, questions, Watching(), builder=Model(str)))  # type: ignore[arg-type]
    assert most > 64

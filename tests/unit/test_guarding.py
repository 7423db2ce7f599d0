"""The guard in a run: which questions it sees together, and what becomes of the evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metamem.core.contracts import Dataset, Split
from metamem.core.errors import ConfigError
from metamem.core.guarded import Guard, Guarded, GuardedQuestion, without
from metamem.core.planted import Planted
from metamem.core.records import Conversation, Evidence, MemoryUnit, Question, Session, Turn
from metamem.core.registry import build, load_components
from metamem.pipeline.evidence import Gathered
from metamem.pipeline.guarding import guard_evidence, guard_figures, guard_rows
from metamem.pipeline.prepare import other_fold, prepare
from metamem.tracking.trackers import Trackers
from tests.config.test_presets import composed

load_components()
DAY = datetime(2024, 1, 1)


class First(Guard):
    """Holds back all but the first unit; keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[list[GuardedQuestion]] = []

    async def evidence(self, cases: Sequence[GuardedQuestion], tools: Any) -> list[Guarded]:
        self.seen.append(list(cases))
        await asyncio.sleep(0.001 * len(cases))
        return [without(c, {e.unit.id: "not the first" for e in c.evidence[1:]}) for c in cases]


def test_a_guard_sees_one_conversation_and_part_at_a_time_without_answers_and_in_the_order_of_ids() -> None:
    turns = (Turn("t0", "user", "It is Oslo.", "Ann"), Turn("t1", "assistant", "Fine."))
    conversations = {"c": Conversation("c", (Session("s", DAY, turns),)), "d": Conversation("d", ())}
    names = {"a": "c", "b": "c", "e": "c", "f": "d"}
    questions = tuple(
        Question(i, "Where?", "t", ("Oslo",), conversation_id=c, evidence_turns=("t0",)) for i, c in names.items()
    )
    units = [MemoryUnit(f"u{n}", "text", turn_ids=("t0",)) for n in range(3)]
    evidence = {i: tuple(Evidence(u, 1.0, n) for n, u in enumerate(units)) for i in names}
    planted = {"a": Planted("x", held=("u1",))}
    guard = First()
    prepared: Any = SimpleNamespace(
        guard=guard,
        split=Split(train=("b",), validation=(), test=("a", "e", "f")),
        dataset=Dataset("x", conversations, questions, planted=planted),
    )
    gathered = Gathered(evidence, {}, {})
    tools: Any = None
    found = asyncio.run(guard_evidence(prepared, questions[::-1], gathered, tools, Trackers([])))
    assert sorted([c.question.id for c in cases] for cases in guard.seen) == [["a", "e"], ["b"], ["f"]]
    case = next(c for cases in guard.seen for c in cases if c.question.id == "a")
    assert not case.question.answers and not case.question.evidence_turns
    assert {i: (s.speaker, s.text, s.time) for i, s in case.sources.items()} == {
        "t0": ("Ann", "It is Oslo.", DAY),
        "t1": ("assistant", "Fine.", DAY),
    }
    assert list(found.evidence) == list(names) and all(
        [e.unit.id for e in v] == ["u0"] for v in found.evidence.values()
    )
    assert found.offered == evidence and found.of({"a"}).guarded.keys() == {"a"}
    # What was planted under a turn with evidence is none.
    assert {k: guard_figures(found)[k] for k in ("units", "held_back", "evidence", "evidence_held_back")} == {
        "units": 12,
        "held_back": 8,
        "evidence": 11,
        "evidence_held_back": 7,
    }
    assert [row["question_id"] for row in guard_rows(found)] == list(names)
    assert guard_rows(found)[0]["dropped"] == dict.fromkeys(("u1", "u2"), "not the first")
    part = guard_figures(found.of({"a", "f"}))
    assert (part["questions"], part["units"], part["held_back"], part["evidence"]) == (2, 6, 4, 5), "of a fold, its own"


def test_all_folds_at_once_refuse_what_learns_from_other_questions_or_trains_weights_side_by_side() -> None:
    def fold(lessons: int, optimizer: str) -> None:
        guard = build("guard", {"name": "amemguard", "lessons": lessons})
        prepared: Any = SimpleNamespace(guard=guard, optimizer=build("optimizer", {"name": optimizer}))
        named = {kind: SimpleNamespace(name=name) for kind, name in (("guard", "amemguard"), ("optimizer", optimizer))}
        config: Any = SimpleNamespace(attack=SimpleNamespace(part="test"), **named)
        other_fold(prepared, config)

    with pytest.raises(ConfigError, match=r"split\.fold=all: .*guard\.lessons=0"):
        fold(4, "metamem")
    with pytest.raises(ConfigError, match="optimizer=grpo trains weights"):
        fold(0, "grpo")
    with pytest.raises(ConfigError, match="attack one"):
        fold(0, "metamem")


@pytest.mark.slow
def test_a_stream_refuses_a_guard_that_learns_from_questions_that_arrive_later(tmp_path: Path) -> None:
    given = ("split=stream", "guard=amemguard", f"outputs={tmp_path}", "embedder=hashing")
    with pytest.raises(ConfigError, match=r"split=stream: .*guard\.lessons=0"):
        prepare(composed("train", *given))
    assert not prepare(composed("train", *given, "guard.lessons=0")).guard.learns


@pytest.mark.slow
def test_what_a_search_finds_passes_no_guard_so_both_together_are_refused(tmp_path: Path) -> None:
    config = composed("eval", "guard=provenance", "search.calls=1", f"outputs={tmp_path}", "embedder=hashing")
    with pytest.raises(ConfigError, match=r"search\.calls: what answers find by searching passes no guard"):
        prepare(config)

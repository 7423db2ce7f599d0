"""Drafts of questions: what a model is shown, what it may reply, and what evidence fits a question type."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from metamem.config.options import MakeOptions
from metamem.core.contracts import Dataset
from metamem.core.records import Conversation, Session, Turn
from metamem.datasets.longmemeval import TYPES
from metamem.programs.drafting import ShownTurn, drafts_of, form_for, misfit
from metamem.replies.json_in_text import UnreadableError


def session(name: str, *texts: str, day: int = 1) -> Session:
    roles = ("user", "assistant")
    turns = tuple(Turn(f"{name}/{i}", roles[i % 2], text) for i, text in enumerate(texts))
    return Session(name, datetime(2024, 3, day, 9), turns)


SESSIONS = (
    session("tea", "The teapot from Lisbon leaks today.", "Glue it.", day=1),
    session("walk", "We walk along the river today.", "Nice.", day=2),
    session("pot", "The teapot from Lisbon is mended today.", "Good.", day=3),
    session("bread", "The bread is sour today.", "More water.", day=4),
)
DATA = Dataset("chats", {"chats": Conversation("chats", SESSIONS)}, ())


def test_more_questions_only_add_drafts_and_the_types_come_in_turn() -> None:
    few, many = (drafts_of(DATA, MakeOptions(questions=n), 1) for n in (6, 30))
    assert many[:6] == few and [d.question.type for d in few] == list(TYPES)
    assert len({d.question.id for d in many}) == 30
    assert {d.question.date for d in many} == {datetime(2024, 3, 4, 9)}
    assert drafts_of(DATA, MakeOptions(questions=6), 2) != few
    assert drafts_of(Dataset("chats", {}, ()), MakeOptions(questions=6), 1) == []


def test_questions_over_several_sessions_are_about_those_that_share_rare_words() -> None:
    drafts = drafts_of(DATA, MakeOptions(questions=60, sessions=2), 1)
    shown = Counter(
        (d.question.type.startswith("single-session"), frozenset(line.session for line in d.lines)) for d in drafts
    )
    assert all(len(sessions) == (1 if single else 2) for single, sessions in shown)
    about_pots = [sessions for (single, sessions) in shown if not single and sessions & {"tea", "pot"}]
    assert frozenset({"tea", "pot"}) in about_pots


def test_long_sessions_are_shown_within_the_words_that_there_is_room_for() -> None:
    long = session("long", *("word " * 300 for _ in range(40)))
    (draft,) = drafts_of(Dataset("d", {"c": Conversation("c", (long,))}, ()), MakeOptions(questions=1, words=200), 1)
    assert sum(len(line.text.split()) for line in draft.lines) < 2 * 200
    assert all(line.whole == "word " * 300 for line in draft.lines), "evidence is shown whole"


def reply(**said: Any) -> str:
    return json.dumps({"question": "What leaks?", "answer": "the teapot", "evidence": [1], **said})


def test_a_reply_names_turns_that_were_shown_and_has_both_a_question_and_an_answer() -> None:
    form = form_for(2)
    assert form.read(reply(evidence=[2])).evidence == [2]
    assert form.read(reply(question="", answer="", evidence=[])).question == ""
    for wrong in ({"evidence": [3]}, {"evidence": [0]}, {"evidence": []}, {"answer": " "}, {"question": ""}):
        with pytest.raises(UnreadableError):
            form.read(reply(**wrong))


def test_evidence_fits_the_type_of_its_question() -> None:
    user, assistant, later = (
        ShownTurn(f"{s}/{i}", s, role, "", "", None)
        for s, i, role in (("a", 0, "user"), ("a", 1, "assistant"), ("b", 0, "user"))
    )
    assert not misfit("multi-session", [user, later]) and misfit("multi-session", [user, assistant])
    assert not misfit("knowledge-update", [user, later]) and misfit("knowledge-update", [user])
    assert not misfit("single-session-user", [user]) and misfit("single-session-user", [assistant])
    assert not misfit("single-session-assistant", [assistant]) and misfit("single-session-assistant", [user])
    assert not misfit("temporal-reasoning", [user])

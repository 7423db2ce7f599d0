"""The invariants of the bundled sample data set, read from the shipped file itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "metamem" / "datasets" / "data" / "sample.json"
BUILD = ROOT / "experiments" / "sample" / "build.py"
DATE_FORMAT = "%Y/%m/%d (%a) %H:%M"
FIELDS = [
    "question_id",
    "question_type",
    "question",
    "question_date",
    "answer",
    "answer_session_ids",
    "haystack_dates",
    "haystack_session_ids",
    "haystack_sessions",
]
TYPE_COUNTS = {
    "single-session-user": 10,
    "single-session-assistant": 8,
    "single-session-preference": 6,
    "multi-session": 12,
    "knowledge-update": 12,
    "temporal-reasoning": 12,
}

Record = dict[str, Any]

RECORDS: list[Record] = json.loads(SAMPLE.read_text(encoding="utf-8"))
each_record = pytest.mark.parametrize("record", RECORDS, ids=[r["question_id"] for r in RECORDS])


def is_abstention(record: Record) -> bool:
    return str(record["question_id"]).endswith("_abs")


def evidence(record: Record) -> list[tuple[str, str]]:
    """The (session id, content) pairs of a record's evidence turns."""
    return [
        (session_id, turn["content"])
        for session_id, turns in zip(record["haystack_session_ids"], record["haystack_sessions"], strict=True)
        for turn in turns
        if turn.get("has_answer")
    ]


def of_type(kind: str) -> list[Record]:
    """The records of one type that have an answer."""
    return [r for r in RECORDS if r["question_type"] == kind and not is_abstention(r)]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9:']+", text.lower()))


def test_it_has_sixty_questions_with_unique_ids() -> None:
    assert len(RECORDS) == 60
    assert len({r["question_id"] for r in RECORDS}) == 60


def test_all_six_types_are_there() -> None:
    assert Counter(r["question_type"] for r in RECORDS) == TYPE_COUNTS


def test_it_has_enough_conversations_and_sessions() -> None:
    conversations = {tuple(r["haystack_session_ids"]) for r in RECORDS}
    assert len(conversations) >= 8
    assert all(len(session_ids) >= 8 for session_ids in conversations)
    every_id = [session_id for session_ids in conversations for session_id in session_ids]
    assert len(set(every_id)) == len(every_id)


def test_abstentions_are_variants_of_base_questions() -> None:
    by_id = {r["question_id"]: r for r in RECORDS}
    abstentions = [r for r in RECORDS if is_abstention(r)]
    assert len(abstentions) >= 6
    for record in abstentions:
        base = by_id[record["question_id"].removesuffix("_abs")]
        assert base["question_type"] == record["question_type"]
        assert base["haystack_session_ids"] == record["haystack_session_ids"]
        assert base["question"] != record["question"]
        assert record["answer"].startswith("The information provided is not enough.")


def test_some_counts_are_json_integers() -> None:
    answers = [r["answer"] for r in RECORDS]
    assert all(type(answer) in (str, int) for answer in answers)
    assert 2 <= sum(isinstance(answer, int) for answer in answers) <= 3


def test_the_file_is_small_and_plain_ascii() -> None:
    raw = SAMPLE.read_bytes()
    assert len(raw) < 1_200_000
    assert raw.isascii()
    assert b"\\u" not in raw


@each_record
def test_format(record: Record) -> None:
    assert list(record) == FIELDS
    assert len(record["haystack_dates"]) == len(record["haystack_session_ids"]) == len(record["haystack_sessions"])
    for turns in record["haystack_sessions"]:
        assert 4 <= len(turns) <= 8
        assert [t["role"] for t in turns] == [("user", "assistant")[i % 2] for i in range(len(turns))]
        for turn in turns:
            assert turn["content"]
            assert set(turn) <= {"role", "content", "has_answer"}
            assert turn.get("has_answer", True) is True


@each_record
def test_dates(record: Record) -> None:
    texts = [*record["haystack_dates"], record["question_date"]]
    dates = [datetime.strptime(text, DATE_FORMAT) for text in texts]
    assert [d.strftime(DATE_FORMAT) for d in dates] == texts, "a weekday is wrong"
    assert dates == sorted(set(dates)), "sessions out of order, or a question asked before the last session"


@each_record
def test_answer_sessions_are_those_of_the_evidence(record: Record) -> None:
    sessions = [session_id for session_id, _ in evidence(record)]
    assert is_abstention(record) or sessions
    assert record["answer_session_ids"] == list(dict.fromkeys(sessions))


@pytest.mark.parametrize("kind", ["single-session-user", "single-session-assistant"])
def test_single_session_answers_occur_in_their_evidence(kind: str) -> None:
    role = kind.rsplit("-", 1)[1]
    for record in of_type(kind):
        [(_, content)] = evidence(record)
        assert record["answer"].lower() in content.lower(), record["question_id"]
        speakers = {t["role"] for turns in record["haystack_sessions"] for t in turns if t.get("has_answer")}
        assert speakers == {role}, record["question_id"]


def test_preference_answers_are_rubrics() -> None:
    for record in of_type("single-session-preference"):
        assert len(record["answer_session_ids"]) == 1
        assert record["answer"].startswith("The user would prefer ")
        assert "; they would not want " in record["answer"]


def test_multi_session_answers_begin_with_a_number() -> None:
    for record in of_type("multi-session"):
        assert re.match(r"\$?\d", str(record["answer"])), record["question_id"]
        assert len(record["answer_session_ids"]) >= 2, record["question_id"]


def test_an_updated_fact_is_worded_less_like_the_question_than_the_old_one() -> None:
    for record in of_type("knowledge-update"):
        (_, old), (_, new) = evidence(record)
        answer = str(record["answer"]).lower()
        assert answer in new.lower(), record["question_id"]
        assert answer not in old.lower(), record["question_id"]
        asked = words(record["question"])
        assert len(asked & words(old)) > len(asked & words(new)), record["question_id"]


def test_the_shipped_file_is_what_the_sources_build() -> None:
    done = subprocess.run([sys.executable, str(BUILD), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from metamem.core.contracts import Dataset
from metamem.core.errors import ConfigError, DataError
from metamem.datasets.prepared import Prepared


def record(question_id: str = "q1", **changes: Any) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "problem": "Where does she live?",
        "memories": ["2023-05-20 Sat she moved to Oslo", "she likes snow"],
        "groundtruth": "Oslo",
        "task": "knowledge-update",
        "question_date": "2023/05/30 (Tue) 23:40",
        **changes,
    }


def load(folder: Path, *records: Any, lines: bool = False, **options: Any) -> Dataset:
    path = folder / "data.json"
    text = "\n".join(json.dumps(r) for r in records) if lines else json.dumps(records)
    path.write_text(text, encoding="utf-8")
    return Prepared(Prepared.Config(path=str(path), **options)).load()


def refusal(folder: Path, text: str) -> str:
    (folder / "data.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Prepared(Prepared.Config(path=str(folder / "data.json"))).load()
    return str(caught.value)


def test_a_record_becomes_a_question_that_holds_its_evidence(tmp_path: Path) -> None:
    data = load(tmp_path, record())
    (question,) = data.questions
    assert not data.conversations
    assert question.conversation_id is None
    assert (question.text, question.type, question.answers) == ("Where does she live?", "knowledge-update", ("Oslo",))
    assert question.date == datetime(2023, 5, 30, 23, 40)
    assert [(u.id, u.text, u.time) for u in question.prepared or ()] == [
        ("q1/m0", "she moved to Oslo", datetime(2023, 5, 20)),
        ("q1/m1", "she likes snow", None),
    ]
    assert not data.notices


def test_a_list_and_lines_read_the_same(tmp_path: Path) -> None:
    records = [record("q1"), record("q2")]
    assert load(tmp_path, *records) == load(tmp_path, *records, lines=True)
    assert load(tmp_path, record()) == load(tmp_path, record(), lines=True)


def test_both_sets_of_names_read_the_same(tmp_path: Path) -> None:
    other = record()
    for old, new in (("problem", "question"), ("groundtruth", "answer"), ("task", "question_type")):
        other[new] = other.pop(old)
    assert load(tmp_path, other) == load(tmp_path, record())


def test_names_that_disagree_are_counted_and_the_first_counts(tmp_path: Path) -> None:
    data = load(tmp_path, record(answer="Rome", question="Where does she live?"))
    assert data.questions[0].answers == ("Oslo",)
    assert data.notices == {"records whose groundtruth and answer differ; groundtruth counts": 1}


def test_one_text_gives_a_memory_for_each_line_that_is_not_empty(tmp_path: Path) -> None:
    data = load(tmp_path, record(memories="2023/05/20 (Sat) 02:21 she moved\r\n\n  she likes snow\u2028and ice \n"))
    units = data.questions[0].prepared or ()
    assert [(u.id, u.text) for u in units] == [("q1/m0", "she moved"), ("q1/m1", "she likes snow\u2028and ice")]
    assert not data.notices


@pytest.mark.parametrize(
    ("given", "answers"), [(0, ("0",)), (3.5, ("3.5",)), (["a", 0], ("a", "0")), ("a, b", ("a, b",))]
)
def test_answers_may_be_text_numbers_or_a_list(tmp_path: Path, given: Any, answers: tuple[str, ...]) -> None:
    assert load(tmp_path, record(groundtruth=given)).questions[0].answers == answers


def test_abstention_and_group_come_from_the_suffix(tmp_path: Path) -> None:
    questions = load(tmp_path, record("q_abs"), record("q"), record("abs_q")).questions
    assert [q.abstention for q in questions] == [True, False, False]
    assert [q.group for q in questions] == ["q", "q", "abs_q"]


def test_what_is_missing_without_harm_is_counted(tmp_path: Path) -> None:
    data = load(tmp_path, record("q1", memories=[" ", "a"], question_date=None), record("q2", memories=[]), limit=2)
    assert data.notices == {
        "memories without text, left out": 1,
        "questions without memories": 1,
        "questions without a date": 1,
    }
    assert data.questions[1].prepared == ()
    assert load(tmp_path, record("q1"), record("q2"), limit=1).notices == {"questions left out by dataset.limit": 1}


@pytest.mark.parametrize(
    "text",
    ["[]", "", "  ", '"a text"', "3", '{"data": []}', json.dumps({"data": [record()]}, indent=1),
     json.dumps({"q1": record()})],
)  # fmt: skip
def test_a_file_of_another_shape_is_told_what_was_expected(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text)
    assert "dataset.path: " in message
    assert "data.json: expected a JSON list or JSONL of objects with question_id, problem (or question)" in message


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    lines = [json.dumps(record("q1")), "", json.dumps(record("q2"))[:-20]]
    assert "line 3, column" in refusal(tmp_path, "\n".join(lines))
    wrong = [json.dumps(record("q1")), "", json.dumps(record("q2", memories=None))]
    assert "line 3 (question_id 'q2'), memories: expected a list of texts" in refusal(tmp_path, "\n".join(wrong))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"memories": [None]}, "memories: expected texts, found null at position 0"),
        ({"memories": 3}, "memories: expected a list of texts"),
        ({"groundtruth": []}, "groundtruth: expected an answer"),
        ({"groundtruth": True}, "groundtruth: expected text or a number, found true"),
        ({"groundtruth": ""}, "groundtruth: expected some text"),
        ({"problem": None}, "problem: expected text, found null"),
        ({"task": ""}, "task: expected some text"),
        ({"question_date": "soon"}, "question_date: expected a date such as"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert f"record 1 (question_id 'q1'), {said}" in refusal(tmp_path, json.dumps([record(**change)]))


def test_a_missing_field_is_named_with_both_its_names(tmp_path: Path) -> None:
    short = record()
    del short["problem"]
    assert "problem (or question): is missing" in refusal(tmp_path, json.dumps([short]))


def test_an_error_calls_a_field_what_the_file_calls_it(tmp_path: Path) -> None:
    other = record(answer=None)
    del other["groundtruth"]
    assert "answer: expected text or a number, found null" in refusal(tmp_path, json.dumps([other]))


def test_options_that_cannot_work_are_refused_by_their_key() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.path is not given: give the JSON or JSONL file"):
        Prepared(Prepared.Config())

"""Questions that bring their evidence along: no conversation, no memory and no retriever.

In: a JSON list or JSONL in the reference's merged format, the memories already retrieved. Out: questions whose
`prepared` field holds the evidence, in the order given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metamem.core.contracts import Dataset
from metamem.core.errors import DataError
from metamem.core.grouping import ABSTENTION_SUFFIX, base_id
from metamem.core.records import MemoryUnit, Question
from metamem.core.registry import option, register
from metamem.datasets.reading import (
    Place,
    Problems,
    found,
    given_path,
    leading_date,
    parse_json,
    parse_jsonl,
    place_of,
    read_text,
)

EXPECTED = (
    "a JSON list or JSONL of objects with question_id, problem (or question), memories (a list of texts, or one text "
    "with a memory on each line), groundtruth (or answer), task (or question_type) and, if known, question_date"
)

# Each field under the names it goes by; the first that is there counts.
NAMES = {
    "problem": ("problem", "question"),
    "groundtruth": ("groundtruth", "answer"),
    "task": ("task", "question_type"),
}


@register("dataset", "prepared")
class Prepared:
    """Your own questions with their evidence already retrieved (JSON or JSONL)."""

    @dataclass
    class Config:
        """Options of the data set."""

        path: str = option("", "the JSON or JSONL file of questions with their memories")
        limit: int | None = option(None, "read the first so many questions only, for smoke runs", least=1)

    def __init__(self, config: Config) -> None:
        what = "give the JSON or JSONL file, such as dataset.path=data/questions.jsonl"
        self._path = given_path(config.path, "dataset.path", what)
        self._limit = config.limit

    def files(self) -> Sequence[Path]:
        """The file of questions."""
        return (self._path,)

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and record."""
        numbered, unit = self._records()
        kept = numbered[: self._limit]
        notices = Counter({"questions left out by dataset.limit": len(numbered) - len(kept)})
        problems = Problems()
        questions: list[Question] = []
        seen: dict[str, int] = {}
        for number, raw in kept:
            place = place_of(self._path, "dataset.path", number, raw, "question_id", unit)
            with problems.collect():
                question = _read_question(raw, place, notices)
                if question.id in seen:
                    raise place.error("question_id", f"is the id of {unit} {seen[question.id]} too; ids must be unique")
                seen[question.id] = number
                questions.append(question)
        problems.finish()
        return Dataset("prepared", {}, tuple(questions), +notices)

    def _records(self) -> tuple[list[tuple[int, Any]], str]:
        """The raw records with their numbers, and what these count: records of a list, or lines."""
        key = "dataset.path"
        text = read_text(self._path, key)
        if text.lstrip().startswith("["):
            records = parse_json(text, self._path, key)
            if not records:
                raise DataError(f"{key}: {self._path}: expected {EXPECTED}; found an empty list")
            return list(enumerate(records, start=1)), "record"
        if not text.lstrip().startswith("{"):
            start = found(text.strip()) if text.strip() else "nothing"
            raise DataError(f"{key}: {self._path}: expected {EXPECTED}; found {start}")
        if text.strip().split("\n", 1)[0].rstrip().endswith("}"):
            records = parse_jsonl(text, self._path, key)
            if len(records) > 1 or "question_id" in records[0][1]:
                return records, "line"
        # One object, over several lines or without an id, is no JSONL: say so rather than blame its first line.
        value = parse_json(text, self._path, key)
        raise DataError(f"{key}: {self._path}: expected {EXPECTED}; found {found(value)}")


def _read_question(raw: Any, place: Place, notices: Counter[str]) -> Question:
    from metamem.datasets.schemas import PreparedRow, check

    if not isinstance(raw, dict):
        raise place.error("", f"expected an object, found {found(raw)}")
    values = dict(raw)
    shown: dict[str, str] = {}
    for field, names in NAMES.items():
        present = [name for name in names if name in raw]
        shown[field] = present[0] if present else f"{names[0]} (or {names[1]})"
        if present:
            values[field] = raw[present[0]]
        if len(present) > 1 and raw[present[0]] != raw[present[1]]:
            notices[f"records whose {present[0]} and {present[1]} differ; {present[0]} counts"] += 1
    row = check(PreparedRow, values, place, names=shown)
    given = values["groundtruth"]
    notices["answers that are numbers, read as text"] += isinstance(given, (int, float))
    notices["questions without a date"] += row.question_date is None
    texts = [text.strip() for text in row.memories if text.strip()]
    # The empty lines of one long text only lay it out; an empty entry of a list is something that got lost.
    notices["memories without text, left out"] += (
        len(row.memories) - len(texts) if isinstance(raw["memories"], list) else 0
    )
    notices["questions without memories"] += not texts
    units = []
    for index, text in enumerate(texts):
        time, rest = leading_date(text)
        units.append(MemoryUnit(f"{row.question_id}/m{index}", rest, time))
    return Question(
        id=row.question_id,
        text=row.problem,
        type=row.task,
        answers=row.groundtruth,
        date=None if row.question_date is None else place.date(row.question_date, "question_date"),
        abstention=row.question_id.endswith(ABSTENTION_SUFFIX),
        group=base_id(row.question_id),
        prepared=tuple(units),
    )

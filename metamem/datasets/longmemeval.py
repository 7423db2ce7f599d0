"""LongMemEval (arXiv 2410.10813) and the project's own sample, which is written in its format.

In: a JSON list of questions, each with its haystack of dated sessions (the S, M and oracle files). Out: conversations
and questions. Memory is built once per conversation, so questions with the same haystack share one `Conversation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metamem.core.collector import collector_at_rest
from metamem.core.contracts import Dataset
from metamem.core.errors import unknown
from metamem.core.grouping import ABSTENTION_SUFFIX, with_groups
from metamem.core.records import Conversation, Question
from metamem.core.registry import option, register
from metamem.datasets.haystacks import Haystack, SessionTable, read_haystack
from metamem.datasets.reading import Place, Problems, given_path, place_of
from metamem.datasets.record_stream import read_records

if TYPE_CHECKING:
    from metamem.datasets.schemas import LongMemEvalRow

TYPES = (
    "single-session-user",
    "single-session-assistant",
    "single-session-preference",
    "multi-session",
    "knowledge-update",
    "temporal-reasoning",
)
EXPECTED = "a list of LongMemEval questions, each an object with question_id, question, haystack_sessions and so on"


@register("dataset", "longmemeval")
class LongMemEval:
    """LongMemEval: 500 questions over long chat histories (S, M and oracle files)."""

    published = 500

    @dataclass
    class Config:
        """Options of the data set."""

        path: str = option("", "the JSON file of questions (longmemeval_s, _m or _oracle)")
        limit: int | None = option(None, "read the first so many questions only, for smoke runs", least=1)

    def __init__(self, config: Config) -> None:
        what = "give the JSON file, such as dataset.path=data/longmemeval_s.json"
        self._path = given_path(config.path, "dataset.path", what)
        self._limit = config.limit

    def files(self) -> Sequence[Path]:
        """The file of questions."""
        return (self._path,)

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and record."""
        return read_longmemeval("longmemeval", self._path, "dataset.path", self._limit)


@register("dataset", "sample")
class Sample:
    """The project's own small data set in LongMemEval's format, shipped with the package."""

    own = True

    @dataclass
    class Config:
        """Options of the data set."""

        limit: int | None = option(None, "read the first so many questions only, for smoke runs", least=1)

    def __init__(self, config: Config) -> None:
        self._limit = config.limit

    def files(self) -> Sequence[Path]:
        """The packaged file."""
        from importlib.resources import files

        return (Path(str(files("metamem.datasets").joinpath("data", "sample.json"))),)

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and record."""
        return read_longmemeval("sample", self.files()[0], "dataset=sample", self._limit, own=True)


@collector_at_rest()
def read_longmemeval(name: str, path: Path, key: str, limit: int | None = None, *, own: bool = False) -> Dataset:
    """The data set of one file in LongMemEval's format; `key` is the config key that gave the path.

    Raises `DataError` naming file, record and field of the first problem, and how many more records have one.
    """
    from metamem.datasets.schemas import LongMemEvalRow, check

    notices: Counter[str] = Counter()
    problems = Problems()
    conversations: dict[str, Conversation] = {}
    shared = SessionTable()
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(read_records(path, key, EXPECTED), start=1):
        if limit is not None and number > limit:
            notices["questions left out by dataset.limit"] += 1
            continue
        place = place_of(path, key, number, raw, "question_id")
        with problems.collect():
            row = check(LongMemEvalRow, raw, place)
            if row.question_id in seen:
                raise place.error("question_id", f"is the id of record {seen[row.question_id]} too; ids must be unique")
            seen[row.question_id] = number
            haystack = read_haystack(row, place, shared)
            if haystack.conversation.id not in conversations:
                conversations[haystack.conversation.id] = haystack.conversation
                notices.update(haystack.notices)
            questions.append(_read_question(row, place, haystack, notices))
            if not isinstance(raw["answer"], str):
                notices["answers that are numbers, read as text"] += 1
    problems.finish()
    return Dataset(name, conversations, with_groups(questions, conversations), +notices, own)


def _read_question(row: LongMemEvalRow, place: Place, haystack: Haystack, notices: Counter[str]) -> Question:
    if row.question_type not in TYPES:
        raise place.error("question_type", unknown("question type", row.question_type, TYPES))
    asked = place.date(row.question_date, "question_date")
    held = haystack.conversation.sessions
    notices["sessions dated after their question"] += sum(s.time is not None and s.time > asked for s in held)
    notices["questions without sessions"] += not held
    absent = [given for given in row.answer_session_ids if given not in haystack.occurrences]
    notices["answer_session_ids that name no session"] += len(absent)
    return Question(
        id=row.question_id,
        text=row.question,
        type=row.question_type,
        answers=(row.answer,),
        date=asked,
        abstention=row.question_id.endswith(ABSTENTION_SUFFIX),
        conversation_id=haystack.conversation.id,
        evidence_turns=haystack.evidence_turns,
        evidence_sessions=haystack.evidence_sessions(row.answer_session_ids),
    )

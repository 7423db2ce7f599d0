"""HaluMem (arXiv 2511.03506): users who talk to an assistant for years, and what a memory should hold of it.

In: the benchmark's JSONL file, a user a line (`HaluMem-Medium.jsonl`, `HaluMem-Long.jsonl`). Out: for each session with
points or questions a conversation that ends with it; its questions, asked there and then; and what a memory should hold
after it. Format: the programs of MemTensor/HaluMem (`eval/`, `scripts/stage6_*`). Sessions that the long version was
filled up with are part of what is said and nothing more; where such a one is dated out of order, it has no date.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from metamem.core.contracts import Dataset
from metamem.core.errors import DataError, unknown
from metamem.core.records import Conversation, Expected, MemoryPoint, Question, Session, Turn
from metamem.core.registry import option, register
from metamem.datasets.reading import Place, Problems, given_path, place_of, read_jsonl

if TYPE_CHECKING:
    from metamem.datasets.schemas import HaluMemPoint, HaluMemQuestion, HaluMemRow, HaluMemSession

KEY = "dataset.path"
# Where points come from; the last are false, and said by the assistant.
SOURCES = ("primary", "secondary", "system", "interference")
ROLES = ("user", "assistant")
# Questions about what the user never said.
UNKNOWN = "Memory Boundary"
# What a judge of answers is shown beside the answer.
EVIDENCE = "evidence"

_NAME = re.compile(r"Name:\s*(.*?)\s*;")


@dataclass
class Options:
    """How much of the users and sessions is read."""

    users: int | None = option(None, "keep the first so many users only, for smoke runs", least=1)
    sessions: int | None = option(None, "keep the first so many sessions of each user only, for smoke runs", least=1)


class _HaluMem(ABC):
    """What both data sets share."""

    _name: str

    def __init__(self, config: Options) -> None:
        self._config = config

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """The file of users."""

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and record."""
        from metamem.datasets.schemas import HaluMemRow, check

        (path,) = self.files()
        notices: Counter[str] = Counter()
        problems = Problems()
        users: dict[str, _User] = {}
        for number, raw in read_jsonl(path, KEY):
            place = place_of(path, KEY, number, raw, "uuid", "line")
            with problems.collect():
                row = check(HaluMemRow, raw, place)
                if row.uuid in users:
                    raise place.error("uuid", "is the id of an earlier line too; ids must be unique")
                users[row.uuid] = _User(row, place, notices)
                if self._config.users is None or len(users) <= self._config.users:
                    users[row.uuid].read(self._config.sessions)
        problems.finish()
        if not users:
            raise DataError(f"{KEY}: {path} is empty")
        kept = list(users.values())[: self._config.users]
        notices["users left out by dataset.users"] += len(users) - len(kept)
        questions = tuple(question for user in kept for question in user.questions)
        conversations = {c.id: c for user in kept for c in user.conversations}
        expected = tuple(one for user in kept for one in user.expected)
        return Dataset(self._name, conversations, questions, +notices, getattr(self, "own", False), expected=expected)


@register("dataset", "halumem")
class HaluMem(_HaluMem):
    """HaluMem: what a memory holds after each session, and questions on it; scored by evaluator=halumem."""

    _name = "halumem"

    @dataclass
    class Config(Options):
        """Options of the data set."""

        path: str = option("", "the JSONL file of users (HaluMem-Medium.jsonl or HaluMem-Long.jsonl)")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._path = given_path(config.path, KEY, "give the JSONL file, such as dataset.path=data/HaluMem-Medium.jsonl")

    def files(self) -> Sequence[Path]:
        """The file of users."""
        return (self._path,)


@register("dataset", "halumem_sample")
class HaluMemSample(_HaluMem):
    """The project's own two users in HaluMem's format, shipped with the package."""

    Config = Options
    own = True
    _name = "halumem_sample"

    def files(self) -> Sequence[Path]:
        """The packaged file."""
        return (Path(__file__).parent / "data" / "halumem.jsonl",)


class _User:
    """The reading of one line."""

    def __init__(self, row: HaluMemRow, place: Place, notices: Counter[str]) -> None:
        self._row, self._place, self._notices = row, place, notices
        name = _NAME.search(row.persona_info)
        self._speaker = name[1] if name else ""
        self._said: list[Session] = []
        self._latest: datetime | None = None
        self._stated: dict[str, str] = {}  # a point's text → the last session that states it
        self.conversations: list[Conversation] = []
        self.questions: list[Question] = []
        self.expected: list[Expected] = []

    def read(self, most: int | None) -> None:
        """Read the user's first sessions. Raises `DataError`."""
        for number, session in enumerate(self._row.sessions[:most], start=1):
            if session.is_generated_qa_session:
                self._hear(number, session, self._filler_time(number, session))
            else:
                self._session(number, session)
        if not self.conversations:
            raise self._place.error("sessions", "expected a session with memory points or questions, found none")
        self._notices["sessions left out by dataset.sessions"] += max(0, len(self._row.sessions) - (most or 10**9))
        self._notices["users without a name"] += not self._speaker

    def _session(self, number: int, session: HaluMemSession) -> None:
        began = self._date(session.start_time, f"sessions[{number - 1}].start_time")
        ended = self._date(session.end_time, f"sessions[{number - 1}].end_time")
        if not self._hear(number, session, began):
            if session.memory_points or session.questions:
                raise self._place.error(f"sessions[{number - 1}].dialogue", "expected some text, found none")
            return
        self._latest = max((t for t in (self._latest, began, ended) if t is not None), default=None)
        points = [self._point(number, i, point) for i, point in enumerate(session.memory_points)]
        self._stated |= {point.text: self._said[-1].id for point in points if point.wanted}
        if not (points or session.questions):
            return
        here = self._until(len(self._said))
        self.conversations.append(here)
        if points:
            self.expected.append(Expected(here, self._until(len(self._said) - 1), tuple(points)))
        self.questions += (self._question(number, i, q, here) for i, q in enumerate(session.questions))

    def _until(self, count: int) -> Conversation:
        id = self._row.uuid
        return Conversation(f"{id}@{count:03d}", tuple(self._said[:count]), part_of=id)

    def _hear(self, number: int, session: HaluMemSession, time: datetime | None) -> bool:
        """Add what was said in a session; False where nothing was."""
        turns = tuple(self._turns(number, session))
        if turns:
            self._said.append(Session(f"s{number:03d}", time, turns))
        else:
            self._notices["sessions without text, left out"] += 1
        return bool(turns)

    def _turns(self, number: int, session: HaluMemSession) -> Iterator[Turn]:
        for index, turn in enumerate(session.dialogue):
            if turn.role not in ROLES:
                field = f"sessions[{number - 1}].dialogue[{index}].role"
                raise self._place.error(field, unknown("role", turn.role, ROLES))
            if turn.content.strip():
                speaker = self._speaker if turn.role == "user" else ""
                yield Turn(f"s{number:03d}/{index}", turn.role, turn.content, speaker)
            else:
                self._notices["turns without text, left out"] += 1

    def _point(self, number: int, index: int, point: HaluMemPoint) -> MemoryPoint:
        if point.memory_source not in SOURCES:
            field = f"sessions[{number - 1}].memory_points[{index}].memory_source"
            raise self._place.error(field, unknown("source", point.memory_source, SOURCES))
        replaced = [text for text in point.original_memories if text.strip()]
        updates = point.is_update == "True"
        self._notices["memories that a point replaces without being an update, passed over"] += bool(
            replaced and not updates
        )
        return MemoryPoint(
            f"{self._row.uuid}/s{number:03d}/m{index + 1}",
            point.memory_content,
            point.memory_type,
            float(point.importance),
            point.memory_source != "interference",
            tuple(replaced) if updates else (),
        )

    def _question(self, number: int, index: int, asked: HaluMemQuestion, here: Conversation) -> Question:
        evidence = [one.memory_content for one in asked.evidence]
        where = [self._stated.get(text) for text in evidence]
        self._notices["questions with evidence that no point before them states"] += None in where
        known = () if None in where else tuple(dict.fromkeys(where))
        return Question(
            id=f"{self._row.uuid}/s{number:03d}/q{index + 1}",
            text=asked.question,
            type=asked.question_type,
            answers=(asked.answer,),
            date=self._latest,
            abstention=asked.question_type == UNKNOWN,
            conversation_id=here.id,
            group=self._row.uuid,
            evidence_sessions=tuple(str(id) for id in known),
            category=asked.difficulty,
            about={EVIDENCE: evidence},
        )

    def _filler_time(self, number: int, session: HaluMemSession) -> datetime | None:
        """Return the date of a session that was put in, where it lies between those of its neighbours."""
        time = self._date(session.start_time, f"sessions[{number - 1}].start_time")
        later = (i for i, s in enumerate(self._row.sessions) if i >= number and not s.is_generated_qa_session)
        end = None
        if (index := next(later, None)) is not None:
            end = self._date(self._row.sessions[index].start_time, f"sessions[{index}].start_time")
        in_order = time and not (self._latest and time < self._latest) and not (end and end < time)
        self._notices["sessions put in, dated out of order, read without a date"] += bool(time and not in_order)
        return time if in_order else None

    def _date(self, text: str | None, field: str) -> datetime | None:
        return None if text is None else self._place.date(text, field)

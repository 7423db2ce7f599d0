"""A LongMemEval haystack (ids, dates and sessions side by side) as one conversation, with its evidence and oddities.

In: a validated row. Out: a `Conversation` named by its content, so that questions with the same haystack share it,
the ids of the turns and sessions that hold evidence, and counts of what was odd.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from metamem.core.errors import unknown
from metamem.core.json_form import digest
from metamem.core.records import Conversation, Session, Turn
from metamem.datasets.reading import Place

if TYPE_CHECKING:
    from metamem.datasets.schemas import LongMemEvalRow

ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Haystack:
    """A conversation, where each session id of the file stands in it, the turns marked as evidence, what was odd."""

    conversation: Conversation
    occurrences: Mapping[str, tuple[str, ...]]
    evidence_turns: tuple[str, ...]
    notices: Counter[str]

    def evidence_sessions(self, answer_session_ids: Sequence[str]) -> tuple[str, ...]:
        """The sessions that the question names or that hold an evidence turn, in the order of the conversation."""
        wanted = {s for given in answer_session_ids for s in self.occurrences.get(given, ())}
        marked = set(self.evidence_turns)
        return tuple(s.id for s in self.conversation.sessions if s.id in wanted or any(t.id in marked for t in s.turns))


@dataclass(frozen=True)
class _SessionContent:
    """What a session says: the turns that hold text, their hash, the ids of those marked as evidence, what was odd."""

    turns: tuple[Turn, ...]
    content: str
    evidence: tuple[str, ...]
    notices: Counter[str]


class SessionTable:
    """The sessions of a file: one that stands in many haystacks is read and held once."""

    def __init__(self) -> None:
        self._held: dict[tuple[Any, ...], _SessionContent] = {}

    def read(self, id: str, raw: Any, place: Place, field: str) -> _SessionContent:
        """Return what the session says under this id. Raises `DataError` naming the field."""
        key = (id, *map(_plain, raw)) if isinstance(raw, list) else ()
        if key and None not in key:
            return self._held.get(key) or self._held.setdefault(key, _read_session(id, raw, place, field))
        return _read_session(id, raw, place, field)


def _plain(turn: Any) -> tuple[str, str, bool] | None:
    """Return what decides a turn that holds what is expected and nothing else; None of any other."""
    if type(turn) is not dict or len(turn) > 3:
        return None
    role, content, marked = turn.get("role"), turn.get("content"), turn.get("has_answer", False)
    fields = 2 + ("has_answer" in turn)
    if len(turn) == fields and type(role) is str and type(content) is str and type(marked) is bool:
        return role, content, marked
    return None


def _read_session(id: str, raw: Any, place: Place, field: str) -> _SessionContent:
    from metamem.datasets.schemas import LongMemEvalSession, check

    rows = check(LongMemEvalSession, raw, place, field).root
    notices: Counter[str] = Counter()
    notices["sessions that begin with an assistant turn"] += bool(rows) and rows[0].role == "assistant"
    notices["sessions with an odd number of turns"] += len(rows) % 2
    turns: list[Turn] = []
    evidence: list[str] = []
    for index, turn in enumerate(rows):
        if turn.role not in ROLES:
            raise place.error(f"{field}[{index}].role", unknown("role", turn.role, ROLES))
        if not turn.content.strip():
            notices["turns without text, left out"] += 1
            continue
        # One object for all that is said alike, under whatever ids.
        turns.append(Turn(f"{id}/{index}", sys.intern(turn.role), sys.intern(turn.content)))
        if turn.has_answer:
            evidence.append(turns[-1].id)
    notices["sessions without text, left out"] += not turns
    content = digest([[t.id, t.role, t.text] for t in turns])
    return _SessionContent(tuple(turns), content, tuple(evidence), +notices)


def read_haystack(row: LongMemEvalRow, place: Place, shared: SessionTable) -> Haystack:
    """The haystack of one row. `shared` holds the sessions of all rows. Raises `DataError`."""
    dates, ids, held = len(row.haystack_dates), len(row.haystack_session_ids), len(row.haystack_sessions)
    if not dates == ids == held:
        counts = f"{held} sessions, {ids} haystack_session_ids and {dates} haystack_dates"
        raise place.error("haystack_sessions", f"expected as many dates and ids as sessions, found {counts}")
    notices: Counter[str] = Counter()
    sessions: list[Session] = []
    content: list[tuple[str, str, str]] = []
    occurrences: dict[str, tuple[str, ...]] = {}
    given_ids = set(row.haystack_session_ids)
    used: set[str] = set()
    evidence: list[str] = []
    for position, given in enumerate(row.haystack_session_ids):
        time = place.date(row.haystack_dates[position], f"haystack_dates[{position}]")
        session_id = given
        if given in used:
            notices["session ids that repeat within a haystack"] += 1
            session_id = next(name for n in count(2) if (name := f"{given}#{n}") not in used and name not in given_ids)
        used.add(session_id)
        said = shared.read(session_id, row.haystack_sessions[position], place, f"haystack_sessions[{position}]")
        notices.update(said.notices)
        evidence += said.evidence
        if said.turns:
            sessions.append(Session(sys.intern(session_id), time, said.turns))
            content.append((session_id, str(time), said.content))
            occurrences[given] = (*occurrences.get(given, ()), session_id)
    conversation = Conversation(digest(content), tuple(sessions))
    return Haystack(conversation, occurrences, tuple(evidence), +notices)

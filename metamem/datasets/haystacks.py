"""A LongMemEval haystack (ids, dates and sessions side by side) as one conversation, with its evidence and oddities.

In: a validated row. Out: a `Conversation` named by its content, so that questions with the same haystack share it,
the ids of the turns and sessions that hold evidence, and counts of what was odd.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from metamem.core.errors import unknown
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


def read_haystack(row: LongMemEvalRow, place: Place, shared: dict[tuple[Turn, ...], tuple[Turn, ...]]) -> Haystack:
    """The haystack of one row. `shared` holds equal runs of turns once over all rows. Raises `DataError`."""
    dates, ids, held = len(row.haystack_dates), len(row.haystack_session_ids), len(row.haystack_sessions)
    if not dates == ids == held:
        counts = f"{held} sessions, {ids} haystack_session_ids and {dates} haystack_dates"
        raise place.error("haystack_sessions", f"expected as many dates and ids as sessions, found {counts}")
    notices: Counter[str] = Counter()
    sessions: list[Session] = []
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
        rows = row.haystack_sessions[position]
        notices["sessions that begin with an assistant turn"] += bool(rows) and rows[0].role == "assistant"
        notices["sessions with an odd number of turns"] += len(rows) % 2
        turns: list[Turn] = []
        for index, turn in enumerate(rows):
            if turn.role not in ROLES:
                field = f"haystack_sessions[{position}][{index}].role"
                raise place.error(field, unknown("role", turn.role, ROLES))
            if not turn.content.strip():
                notices["turns without text, left out"] += 1
                continue
            turns.append(Turn(f"{session_id}/{index}", turn.role, turn.content))
            if turn.has_answer:
                evidence.append(turns[-1].id)
        if not turns:
            notices["sessions without text, left out"] += 1
            continue
        # The same filler sessions stand in many haystacks: their turns are held once.
        sessions.append(Session(session_id, time, shared.setdefault(tuple(turns), tuple(turns))))
        occurrences[given] = (*occurrences.get(given, ()), session_id)
    conversation = Conversation(_content_id(sessions), tuple(sessions))
    return Haystack(conversation, occurrences, tuple(evidence), +notices)


def _content_id(sessions: Sequence[Session]) -> str:
    content = [[s.id, str(s.time), [[t.id, t.role, t.text] for t in s.turns]] for s in sessions]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

"""What questions of one's own are drafted from: sessions that may belong together, and the form of a draft.

In: conversations, options, a seed. Out: `Draft`s: a question type and the turns that a model is shown, drawn so that
more wanted questions only add drafts; the form of its reply; and whether a question's evidence fits its type.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random

from metamem.config.options import MakeOptions
from metamem.core.contracts import Dataset
from metamem.core.json_form import digest
from metamem.core.records import Conversation, Question, Session
from metamem.core.text import format_date
from metamem.datasets.longmemeval import TYPES
from metamem.replies.json_in_text import Form, UnreadableError, form_of

TEMPLATE = "make_question"
# Types that need evidence of several sessions; of one session those that begin so, and whose turn it must have.
_SEVERAL = ("multi-session", "knowledge-update")
_ONE, _SAID_BY = "single-session", {"single-session-user": "user", "single-session-assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """A turn as a model is shown it (`text`, cut), with its own words (`whole`) and place."""

    turn: str
    session: str
    role: str
    whole: str
    text: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A question that is to be written: its id, type, date and conversation are known; and what it is about."""

    question: Question
    lines: tuple[ShownTurn, ...]


@dataclass
class Written:
    """What a model replies; an empty question: there is nothing to ask."""

    question: str
    answer: str
    evidence: list[int]


def drafts_of(dataset: Dataset, options: MakeOptions, seed: int) -> list[Draft]:
    """Return as many drafts as questions are wanted, the types in turn; none without conversations.

    Each is about a session drawn by the seed and, for types that need several, those most like it in their words. A
    question is asked on the day of the conversation's last session.
    """
    places = [(c, s) for _, c in sorted(dataset.conversations.items()) for s in c.sessions if s.turns]
    words = {c.id: {s.id: _words(s) for s in c.sessions} for c, _ in places}
    rarity = {id: _rarity(list(held.values())) for id, held in words.items()}
    drafts = []
    for number in range(options.questions or 0 if places else 0):
        kind = TYPES[number % len(TYPES)]
        conversation, first = Random(f"{seed}/make/{number}").choice(places)
        count = 1 if kind.startswith(_ONE) else options.sessions
        chosen = _alike(conversation, first, words[conversation.id], rarity[conversation.id], count)
        lines = _lines(chosen, options.words)
        last = max((s.time for s in conversation.sessions if s.time is not None), default=None)
        name = digest([seed, number, kind, conversation.id, [line.turn for line in lines]], 10)
        question = Question(f"made_{name}", "", kind, ("",), last, conversation_id=conversation.id)
        drafts.append(Draft(question, lines))
    return drafts


def form_for(turns: int) -> Form[Written]:
    """Return the form of a draft about so many turns."""
    form = form_of(Written)

    def read(text: str) -> Written:
        found = form.read(text)
        if bool(found.question.strip()) != bool(found.answer.strip()):
            raise UnreadableError("question and answer: expected both, or neither")
        if found.question.strip() and not found.evidence:
            raise UnreadableError("evidence: expected the number of one turn at least")
        if strange := [n for n in found.evidence if not 1 <= n <= turns]:
            raise UnreadableError(f"evidence: expected numbers from 1 to {turns}, found {strange[0]}")
        return found

    return Form(form.schema, read)


def misfit(kind: str, evidence: Sequence[ShownTurn]) -> str:
    """Say why evidence does not fit a question type; empty where it does."""
    sessions = {line.session for line in evidence}
    if kind in _SEVERAL and len(sessions) < 2:
        return f"{kind}, with evidence of one session"
    if kind in _SAID_BY and all(line.role != _SAID_BY[kind] for line in evidence):
        return f"{kind}, with no evidence of the {_SAID_BY[kind]}'s"
    return ""


def _alike(
    conversation: Conversation, first: Session, words: dict[str, set[str]], rarity: dict[str, float], count: int
) -> list[Session]:
    """Return a session with those most like it by the rare words they share, in the order of the conversation."""
    score = {
        s.id: math.fsum(sorted(rarity[w] for w in words[first.id] & words[s.id]))
        for s in conversation.sessions
        if s.id != first.id and s.turns
    }
    chosen = {first.id, *sorted(score, key=lambda id: (-score[id], id))[: count - 1]}
    return [s for s in conversation.sessions if s.id in chosen]


def _lines(sessions: Sequence[Session], most: int) -> tuple[ShownTurn, ...]:
    """Return the turns of sessions with `most` words at most, shared out alike: each turn with its first words."""
    turns = [(s, t) for s in sessions for t in s.turns]
    each = max(12, most // len(turns))
    room = max(1, most // each)
    # Where there are more turns than have room, they are thinned out evenly.
    kept = turns if len(turns) <= room else [turns[i * len(turns) // room] for i in range(room)]
    made = []
    for session, turn in kept:
        said = turn.text.split()
        shown = " ".join(said[:each]) + (" ..." if len(said) > each else "")
        date = f"{format_date(session.time)} " if session.time else ""
        made.append(ShownTurn(turn.id, session.id, turn.role, turn.text, f"{date}{turn.role}: {shown}", session.time))
    return tuple(made)


def _words(session: Session) -> set[str]:
    return {w for t in session.turns for w in re.findall(r"\w{3,}", t.text.lower())}


def _rarity(sessions: Sequence[set[str]]) -> dict[str, float]:
    count = Counter(w for held in sessions for w in held)
    return {w: math.log((1 + len(sessions)) / n) for w, n in count.items()}

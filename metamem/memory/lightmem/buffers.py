"""LightMem's two buffers: pure data structures that gather, overflow and hand on.

In: exchanges (a user's message with the reply to it) one after another. Out: segments (runs of exchanges on one topic)
from the sensory buffer, and batches of segments, each the material of one extraction call, from the short-term buffer.
Nothing put in is ever lost: what comes out, concatenated, is what went in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from metamem.core.records import Session
from metamem.memory.chunks import said_in


@dataclass(frozen=True, slots=True)
class BufferedMessage:
    """A message as the buffers hold it (compressed, or a part of a long one), and where it comes from."""

    text: str
    role: str
    turn_id: str
    session_id: str
    time: datetime | None
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user's message with the replies to it; a message that stands alone is one of its own.

    `tokens` are those of its `lead`; `vector` is its embedding.
    """

    messages: tuple[BufferedMessage, ...]
    tokens: int = 0
    vector: Any = None

    @property
    def lead(self) -> BufferedMessage:
        """What the sensory buffer counts and the attention model reads: the user's message, or the first of it."""
        return next((m for m in self.messages if m.role == "user"), self.messages[0])

    @property
    def text(self) -> str:
        """All of it, for the embedding."""
        return " ".join(m.text for m in self.messages)


Segment = tuple[Exchange, ...]


def messages_of(session: Session) -> list[BufferedMessage]:
    """The messages of a session that hold text."""
    return [
        BufferedMessage(t.text.strip(), t.role, t.id, session.id, session.time, t.speaker) for t in said_in(session)
    ]


def exchanges_of(messages: Sequence[BufferedMessage]) -> list[Exchange]:
    """A session's exchanges: each begins with a user's message, or with the session; none is left out.

    Parts of one long message begin an exchange each, so that none is longer than the buffer.
    """
    groups: list[list[BufferedMessage]] = []
    for message in messages:
        if groups and message.role != "user" and groups[-1][0].role == "user":
            groups[-1].append(message)
        else:
            groups.append([message])
    return [Exchange(tuple(group)) for group in groups]


def split_long(text: str, capacity: int, count: Callable[[str], int]) -> list[str]:
    """A text in pieces of at most `capacity` tokens as `count` counts them, cut between words where that is possible.

    Nothing is left out but white space at the cuts. A single character is never cut, whatever it counts.
    """
    tokens = count(text)
    if tokens <= capacity or len(text) < 2:
        return [text]
    parts = -(-tokens // max(capacity, 1))
    words = text.split()
    if len(words) > 1:
        parts = min(parts, len(words))
        starts = [i * len(words) // parts for i in range(parts + 1)]
        pieces = [" ".join(words[a:b]) for a, b in pairwise(starts)]
    else:
        size = max(1, len(text) // parts)
        pieces = [piece for i in range(0, len(text), size) if (piece := text[i : i + size].strip())]
    return [shorter for piece in pieces for shorter in split_long(piece, capacity, count)]


@dataclass
class SensoryBuffer:
    """Holds exchanges up to `capacity` tokens; when the next does not fit, it is cut into topics.

    A cut hands on all segments but the last, whose topic may go on; without a boundary all of it is one segment.
    """

    capacity: int
    held: list[Exchange] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """The tokens held."""
        return sum(e.tokens for e in self.held)

    def fits(self, exchange: Exchange) -> bool:
        """Whether an exchange can be added without a cut; an empty buffer takes any."""
        return not self.held or self.tokens + exchange.tokens <= self.capacity

    def add(self, exchange: Exchange) -> None:
        """Take in an exchange that fits."""
        self.held.append(exchange)

    def cut(self, boundaries: Sequence[int], last: bool = False) -> list[Segment]:
        """The segments between these boundaries (positions in `held`); with `last` also what follows the last one."""
        inside = sorted({b for b in boundaries if 0 < b < len(self.held)})
        if not self.held:
            return []
        ends = [*inside, len(self.held)] if last or not inside else inside
        segments = [tuple(self.held[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
        self.held = self.held[ends[-1] :]
        return segments


@dataclass
class ShortTermBuffer:
    """Gathers segments up to `capacity` tokens; one that would overflow it sends those before it to extraction."""

    capacity: int
    held: list[Segment] = field(default_factory=list)
    tokens: int = 0

    def add(self, segment: Segment, tokens: int) -> tuple[Segment, ...] | None:
        """Take in a segment; gives the batch that had to make room, if any. A longer one than all fits alone."""
        batch = self.flush() if self.held and self.tokens + tokens > self.capacity else None
        self.held.append(segment)
        self.tokens += tokens
        return batch

    def flush(self) -> tuple[Segment, ...] | None:
        """Everything held as a batch, or None when nothing is."""
        batch = tuple(self.held)
        self.held, self.tokens = [], 0
        return batch or None

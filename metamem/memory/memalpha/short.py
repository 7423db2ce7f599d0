"""Calls of one number (`memory.contract=short`), for models of few tokens: which lines of a chunk are to be kept.

In: a chunk, and a reply to it. Out: its calls, in the form that others have. The prompt shows every line of the chunk
with its number behind it; each number of the reply inserts that line, as it is, into semantic memory. A number that is
repeated has nothing to do the second time. A reply of nothing calls nothing; anything but a number that is shown is
malformed.
"""

from __future__ import annotations

from metamem.core.calls import Generation
from metamem.memory.memalpha.state import MemoryPart
from metamem.replies.tool_calls import Call, Malformed

_HEADING = "Session "  # of a chunk of dialogue: its date, which a unit keeps beside its text


def numbered(chunk: str) -> list[str]:
    """Return the lines of a chunk that hold text, as they are numbered from 1."""
    heading, _, said = chunk.partition("\n")
    lines = (said if heading.startswith(_HEADING) else chunk).split("\n")
    return [line.strip() for line in lines if line.strip()]


def numbers_of(chunk: str) -> tuple[str, ...]:
    """Return the numbers that a reply may be made of."""
    return tuple(str(number) for number in range(1, len(numbered(chunk)) + 1))


def read_short(said: Generation, chunk: str) -> list[Call | Malformed]:
    """Return the calls of a reply to a chunk, number by number."""
    shown = dict(zip(numbers_of(chunk), numbered(chunk), strict=True))
    return [_call(word, shown) for word in said.text.split()]


def _call(word: str, shown: dict[str, str]) -> Call | Malformed:
    if word not in shown:
        return Malformed(word[:400], f"expected numbers of lines, from 1 to {len(shown)}")
    return Call("insert", {"memory": MemoryPart.semantic.value, "content": shown[word]})

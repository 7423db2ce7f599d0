"""Asking a model until its reply can be read.

In: messages, the form of the reply, a way to send and a way to say what was wrong. Out: what was read, and the last
reply. How a reply is sent, paid for and accounted is the caller's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from metamem.core.calls import Message
from metamem.replies.json_in_text import Form, UnreadableError

V = TypeVar("V")

# Characters of an unreadable reply that are shown to the model again.
_SHOWN = 20000


class Said(Protocol):
    """A delivered reply."""

    @property
    def text(self) -> str:
        """The reply's text."""


S = TypeVar("S", bound=Said)


@dataclass(frozen=True)
class Read(Generic[V, S]):
    """What was read of the last reply or of one before it, whole or in part (None: nothing), and why not all."""

    value: V | None
    last: S
    problem: str | None = None


async def ask_until_read(
    messages: tuple[Message, ...],
    form: Form[V],
    send: Callable[[tuple[Message, ...], int, str], Awaitable[S]],
    mend: Callable[[str], tuple[Message, ...]],
    repairs: int,
) -> Read[V, S]:
    """Send messages and read the reply, with up to `repairs` requests to mend it.

    `send` gets the messages, the number of the repetition and the unreadable reply before it; `mend` gives the messages
    that say what was wrong. Raises what `send` raises.
    """
    part: V | None = None
    problem, text = "", ""
    repeat = 0
    while True:
        said = await send(messages, repeat, text)
        text = said.text
        try:
            value = form.read(text)
        except UnreadableError as error:
            problem = str(error)
        else:
            if not form.partial(value):
                return Read(value, said)
            part, problem = value, "the reply was cut off"
        if repeat == repairs:
            return Read(part, said, problem)
        messages = (*messages, Message("assistant", text[:_SHOWN] or "(empty)"), *mend(problem))
        repeat += 1

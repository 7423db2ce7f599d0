"""Asks a model for something that can be read, and again when it cannot: the one way that every role is asked.

In: messages, a way to send them, a reader. Out: what was read, or what is wrong with the last reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from metamem.core.calls import Message
from metamem.replies.json_in_text import UnreadableError


class ReplyText(Protocol):
    """What a model replied."""

    @property
    def text(self) -> str:
        """Return the reply's text."""


V = TypeVar("V")
R = TypeVar("R", bound=ReplyText)
Messages = tuple[Message, ...]
# The template that asks for a reply again.
REPAIR = "repair_memory"
# Characters of an unreadable reply that are shown to the model again.
_SHOWN = 20000


@dataclass(frozen=True)
class Reading(Generic[V, R]):
    """The value of a reply (None: nothing, or a part where there is a `problem`); the last reply, number `repeat`."""

    value: V | None
    problem: str
    reply: R
    repeat: int


async def ask_until_read(
    messages: Messages,
    send: Callable[[Messages, int, str], Awaitable[R]],
    read: Callable[[R], V],
    again: Callable[[str], Messages],
    repairs: int,
    partial: Callable[[V], bool] = lambda value: False,
) -> Reading[V, R]:
    """Return what is read of a reply, with up to `repairs` further calls that say what was wrong.

    `send` is given the messages, how often it was called before, and the text that is being mended; what it raises
    passes through. `read` raises `UnreadableError`; `partial` tells that a value is only the beginning of one, which
    counts when no further reply gives a whole one. `again` gives the messages that say what is wrong.
    """
    part: V | None = None
    problem, text, repeat = "", "", 0
    while True:
        reply = await send(messages, repeat, text)
        text = reply.text
        try:
            value = read(reply)
        except UnreadableError as error:
            problem = str(error)
        else:
            if not partial(value):
                return Reading(value, "", reply, repeat)
            part, problem = value, "the reply was cut off"
        if repeat >= repairs:
            return Reading(part, problem, reply, repeat)
        repeat += 1
        messages = (*messages, Message("assistant", text[:_SHOWN] or "(empty)"), *again(problem))

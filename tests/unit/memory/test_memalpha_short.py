"""`memory.contract=short`: a reply names lines of the chunk by their numbers."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from metamem.core.calls import Generation, Request, Sampling
from metamem.core.contracts import MemoryContext, Reply
from metamem.core.errors import ConfigError
from metamem.core.records import Conversation, Session, Turn
from metamem.core.registry import REGISTRY, build, load_components
from metamem.memory.growing import grown
from metamem.memory.memalpha.short import numbers_of, read_short
from metamem.replies.tool_calls import Call, Malformed

load_components()
CHUNK = "Session of 2024/05/01 (Wed) 09:00\nuser: I gave Anna tea\nassistant: how kind\n \nuser: and Bruno coffee"
SHORT = {"name": "memalpha", "contract": "short", "held_to_numbers": True}


@pytest.mark.parametrize(
    ("reply", "texts"),
    [
        ("1", ["user: I gave Anna tea"]),
        ("3 1\n2", ["user: and Bruno coffee", "user: I gave Anna tea", "assistant: how kind"]),
        ("1 1", ["user: I gave Anna tea"] * 2),
        ("", []),
        (" \n ", []),
        ("01", [None]),
        ("0 1", [None, "user: I gave Anna tea"]),
        ("4", [None]),
        ("one", [None]),
        ("¹", [None]),
        ("9" * 5000, [None]),
    ],
)
def test_every_number_is_a_call_that_keeps_its_line_and_anything_else_is_malformed(
    reply: str, texts: list[str | None]
) -> None:
    calls = read_short(Generation(reply), CHUNK)
    assert [c.arguments["content"] if isinstance(c, Call) else None for c in calls] == texts
    assert all(isinstance(c, Call | Malformed) for c in calls)


def test_a_chunks_date_has_no_number_and_a_documents_first_line_has() -> None:
    assert numbers_of(CHUNK) == ("1", "2", "3")
    assert numbers_of("A b\nc") == ("1", "2")


class Builder:
    """Keeps what it is asked, and names the last line of what it is shown, twice."""

    label = "scripted"

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def sampling(self) -> Sampling:
        return Sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        self.asked.append(request)
        return [Reply("k", Generation(f"{request.only[-1]} {request.only[-1]}"))]


@pytest.mark.parametrize("prompts", ["default", "nano"])
def test_lines_are_shown_with_their_numbers_and_what_is_named_is_kept_once_with_its_day(prompts: str) -> None:
    day = datetime(2024, 5, 1, 9)
    turns = (Turn("s/t", "user", "I gave Anna tea"), Turn("s/u", "assistant", "how kind"))
    conversation = Conversation("c", (Session("s", day, turns),))
    builder: Any = Builder()
    context = MemoryContext(builder=builder, prompts=build("prompts", {"name": prompts}))
    bank = asyncio.run(grown(build("memory", SHORT), None, conversation, context))
    (request,) = builder.asked
    assert "user: I gave Anna tea 1\nassistant: how kind 2\n" in request.messages[-1].content
    assert request.only == ("1", "2") and not request.tools
    assert [(u.text, u.time) for u in bank.units] == [("assistant: how kind", day)]
    assert [e.executed for e in bank.history] == [True, False]


@pytest.mark.parametrize(
    "options", [{"contract": "short", "disabled": ["semantic"]}, {"held_to_numbers": True, "contract": "own"}]
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="contract=short"):
        REGISTRY.options("memory", {"name": "memalpha", **options})

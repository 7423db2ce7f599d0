"""Tools through a real server: sent as they are, and its calls read back, also when a key decides what is reused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones import chat
from metamem.backbones.caller import JournaledCaller
from metamem.backbones.journal import Journal
from metamem.backbones.openai import OpenAIBackbone
from metamem.core.calls import Draw, Generation, Message, Request, Sampling, ToolCall
from metamem.core.contracts import Reply as JournaledReply
from metamem.core.errors import ConfigError
from tests.server import Reply, Server

TOOL = {"type": "function", "function": {"name": "insert", "parameters": {"type": "object"}}}
SENT = (("insert", '{"content": "a fact"}'), ("insert", '{"content": "cut'))


def request(**more: Any) -> Request:
    return Request((Message("user", "Remember."),), Sampling(temperature=0.7), (Draw("s", 0),), **more)


def ask(server: Server, folder: Path, *requests: Request) -> list[JournaledReply]:
    async def session() -> list[JournaledReply]:
        backbone = OpenAIBackbone(OpenAIBackbone.Config(base_url=server.url, model="test-model"))
        await backbone.start()
        journal = Journal(folder, "e", "r")
        try:
            caller = JournaledCaller(backbone, journal, "builder")
            return [(await caller(r))[0] for r in requests]
        finally:
            journal.close()
            await backbone.close()

    return asyncio.run(session())


def test_tools_are_sent_as_they_are_and_only_when_there_are_some(tmp_path: Path) -> None:
    with Server() as server:
        ask(server, tmp_path, request(tools=(TOOL,)), request())
    assert server.calls[0].body["tools"] == [TOOL]
    assert "tools" not in server.calls[1].body


def test_a_servers_calls_come_back_as_written_and_out_of_the_journal_again(tmp_path: Path) -> None:
    with Server(lambda body: Reply(None, "tool_calls", tool_calls=SENT)) as server:
        (first,) = ask(server, tmp_path, request(tools=(TOOL,)))
        (again,) = ask(server, tmp_path, request(tools=(TOOL,)))
    assert isinstance(first.outcome, Generation)
    assert first.outcome.calls == tuple(ToolCall(*c) for c in SENT)
    assert (first.outcome.text, first.outcome.finish_reason) == ("", "stop")
    assert again.reused and again.outcome == first.outcome
    assert server.delivered == 1


def test_a_request_with_other_tools_is_another_call(tmp_path: Path) -> None:
    other = {"type": "function", "function": {"name": "update"}}
    with Server() as server:
        replies = ask(server, tmp_path, request(), request(tools=(TOOL,)), request(tools=(TOOL, other)))
    assert len({r.key for r in replies}) == server.delivered == 3


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (None, ()),
        ("nonsense", ()),
        ([None, 7, {}], (ToolCall("", "null"),) * 3),
        ([{"function": {"name": "insert"}}], (ToolCall("insert", "null"),)),
        ([{"function": {"name": "insert", "arguments": {"a": "é"}}}], (ToolCall("insert", '{"a": "é"}'),)),
    ],
)
def test_odd_calls_of_a_server_are_kept_and_none_crashes(told: Any, kept: tuple[ToolCall, ...]) -> None:
    (generation,) = chat.read({"choices": [{"message": {"content": "x", "tool_calls": told}}]}, 1)
    assert generation.calls == kept


def test_tools_cannot_be_slipped_in_beside_the_request() -> None:
    with pytest.raises(ConfigError, match=r"extra_body\.tools"):
        OpenAIBackbone.Config(base_url="http://localhost:1/v1", model="m", extra_body={"tools": []})

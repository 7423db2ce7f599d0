"""The gateway serves a run's own models to a client of OpenAI's, through the journal."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.gateway import RefusedError, application, request_of
from metamem.backbones.journal import Journal
from metamem.core.calls import Sampling
from metamem.core.registry import build, load_components
from tests import programs

if TYPE_CHECKING:
    import openai

load_components()
EMBEDDER = build("embedder", {"name": "hashing", "dimensions": 16})
HELLO: Any = [{"role": "system", "content": "Say something."}, {"role": "user", "content": "Hello?"}]


def serving(folder: Path, work: Callable[[openai.AsyncOpenAI, str], Awaitable[Any]], **options: Any) -> JournaledCaller:
    """Do the work with a client of a gateway before the stand-in; returns its caller, with its counts."""
    import openai

    async def run() -> JournaledCaller:
        journal = Journal(folder, "gateway", "run")
        caller = JournaledCaller(build("backbone", {"name": "simulated", **options}), journal, "builder")
        runner = web.AppRunner(application(caller, EMBEDDER), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
                await work(client, url)
        finally:
            await runner.cleanup()
            journal.close()
        return caller

    return asyncio.run(run())


def test_a_client_is_answered_and_the_same_request_is_paid_once(tmp_path: Path) -> None:
    said: list[str] = []

    async def ask(client: openai.AsyncOpenAI, url: str) -> None:
        for _ in range(2):
            reply = await client.chat.completions.create(model="any", messages=HELLO, temperature=0, max_tokens=50)
            said.append(reply.choices[0].message.content or "")
            assert reply.usage is not None and reply.usage.completion_tokens > 0
        stream = await client.chat.completions.create(
            model="any", messages=HELLO, temperature=0, max_tokens=50, stream=True
        )
        said.append("".join([piece.choices[0].delta.content or "" async for piece in stream]))

    first = serving(tmp_path, ask)
    assert len(set(said)) == 1 and said[0]
    assert (first.counts["delivered"], first.counts["reused"]) == (1, 2)
    again = serving(tmp_path, ask)
    assert again.counts["delivered"] == 0, "another process goes on from the journal"
    assert len(set(said)) == 1


def test_samples_are_as_many_as_asked_for_and_those_of_another_seed_are_others(tmp_path: Path) -> None:
    async def ask(client: openai.AsyncOpenAI, url: str) -> None:
        for seed in (1, 2, 1):
            reply = await client.chat.completions.create(model="m", messages=HELLO, temperature=1, n=4, seed=seed)
            assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]

    counts = serving(tmp_path, ask).counts
    assert (counts["delivered"], counts["reused"]) == (8, 4)


def test_vectors_are_those_of_the_embedder_in_either_encoding(tmp_path: Path) -> None:
    async def embed(client: openai.AsyncOpenAI, url: str) -> None:
        wanted = [[float(x) for x in vector] for vector in EMBEDDER.embed(["a tea", "a cup"])[0]]
        coded = await client.embeddings.create(model="m", input=["a tea", "a cup"])
        plain = await client.embeddings.create(model="m", input="a cup", encoding_format="float")
        assert [d.embedding for d in coded.data] == [pytest.approx(v, abs=1e-6) for v in wanted]
        assert plain.data[0].embedding == pytest.approx(wanted[1], abs=1e-6)
        assert [m.id async for m in client.models.list()] == ["simulated"]

    serving(tmp_path, embed)


def test_what_is_not_on_offer_is_refused_and_what_fails_is_an_error(tmp_path: Path) -> None:
    import openai

    async def ask(client: openai.AsyncOpenAI, url: str) -> None:
        for messages in (
            [{"role": "tool", "content": "x"}],
            [],
            [{"role": "user", "content": [{"type": "image_url"}]}],
        ):
            with pytest.raises(openai.BadRequestError, match="messages"):
                await client.chat.completions.create(model="m", messages=messages)  # type: ignore[arg-type]
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="m", messages=HELLO)
        async with aiohttp.ClientSession() as session:
            body = json.dumps({"messages": HELLO})
            for headers, status in (({"Host": "evil.example"}, 403), ({"Content-Type": "text/plain"}, 400)):
                async with session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
                    assert response.status == status

    caller = serving(tmp_path, ask, error_rate=1.0)
    assert caller.counts["failed"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", 5),
        ("stop", [1]),
        ("max_tokens", 2.5),
        ("temperature", float("nan")),
        ("temperature", "1"),
        ("n", 65),
        ("response_format", "json"),
        ("response_format", {"type": "json_schema", "json_schema": "x"}),
        ("tools", {"type": "function"}),
        ("tools", ["search"]),
    ],
)
def test_a_field_that_is_not_of_the_protocol_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(RefusedError, match=field):
        request_of({"messages": HELLO, field: value}, Sampling())
    assert request_of({"messages": HELLO, "response_format": {"type": "text"}}, Sampling()).schema is None


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted_and_says_what_it_was_asked_for(tmp_path: Path) -> None:
    import openai

    code = "import sys; from metamem.cli.inspect import main; main()"
    given = ["--outputs", str(tmp_path), "gateway", "--port", "0", "backbone=simulated", "embedder=hashing"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *given], stdout=subprocess.PIPE, text=True, env=programs.environment()
    )
    assert process.stdout is not None
    url = process.stdout.readline().split(" at ")[1].strip()
    with openai.OpenAI(base_url=url, api_key="unused") as client:
        assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert "asked for 1, 1 delivered" in printed and process.returncode == 0

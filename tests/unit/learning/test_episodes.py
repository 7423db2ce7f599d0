"""Episodes of any memory that asks a builder: each reply has its chunk, its token ids and its chunk's reward."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from metamem.core.calls import Generation, Request, Sampling
from metamem.core.contracts import MemoryContext, Reply
from metamem.core.errors import BackboneError, ConfigError
from metamem.core.records import Conversation, Question, Session, Turn
from metamem.core.registry import build, load_components
from metamem.optimizers.grpo_episodes import refuse_unrewarded, samples_of
from metamem.pipeline.episodes import Makers, Sampled, sample_groups
from metamem.retrieval.tools import Tools
from metamem.store.store import MemoryStore
from metamem.tracking.trackers import Trackers
from tests.retrieving import EMBEDDER

load_components()
PROMPTS = build("prompts", {"name": "default"})
DAY = datetime(2024, 5, 1, 9)
TURNS = ("I live in Oslo.", "Nice weather.", "I have a cat.")


class Model:
    """Names each turn but the weather as a fact; as the manager it adds it, or in odd writings names a wrong memory."""

    max_samples = 1

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def identity(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    def sampling(self) -> Sampling:
        return Sampling()

    async def generate(self, request: Request) -> list[Generation]:
        self.asked.append(request)
        said = request.messages[-1].content
        turn = next(t for t in TURNS if t in said)
        if request.tools:
            # Later pieces are answered first.
            await asyncio.sleep(0.001 * (3 - TURNS.index(turn)))
            good = {"name": "add_memory", "arguments": {"text": turn}}
            bad = {"name": "delete_memory", "arguments": {"id": 9}}
            calls = [good, bad] if request.draws[0].index else [good]
            text = "".join(f"<tool_call>{json.dumps(c)}</tool_call>" for c in calls)
        else:
            text = json.dumps({"facts": [] if "weather" in turn else [turn]})
        return [Generation(text, token_ids=tuple(map(ord, text[:5])))]


class Reader:
    """Answers with the city where the memory holds it."""

    label = "reader"
    backbone = None

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def sampling(self) -> Sampling:
        return Sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        return [Reply("k", Generation("Oslo" if "live in Oslo" in request.messages[-1].content else "?"))]


def makers(memory: dict[str, Any], model: Any) -> Makers:
    embedder = build("embedder", EMBEDDER)
    return Makers(
        memory=build("memory", memory),
        retriever=build("retriever", {"name": "full"}),
        tools=Tools(embedder, MemoryStore()),
        prompts=PROMPTS,
        builder=Sampled(model, "1/train/3/0", 0.7),
        policy=Reader(),  # type: ignore[arg-type]
        content=None,
        evaluator=build("evaluator", {"name": "exact_match"}),
        tracker=Trackers([]),
        gamma=0.0,
        context=MemoryContext(embedder=embedder),
        temperature=0.7,
    )


def written(memory: dict[str, Any], model: Any, size: int = 2) -> tuple[list[dict[str, Any]], Counter[str]]:
    sessions = tuple(Session(f"s{i}", DAY, (Turn(f"s{i}/t", "user", text),)) for i, text in enumerate(TURNS))
    question = Question("q", "Where do I live?", "t", ("Oslo",), conversation_id="c")
    return asyncio.run(sample_groups(makers(memory, model), [(Conversation("c", sessions), [question])], size))


def test_a_memory_managers_replies_have_their_turns_reward_and_those_that_name_facts_the_mean() -> None:
    model = Model()
    rows, left_out = written({"name": "memory_r1"}, model)
    assert not left_out and len(rows) == 2
    for row, share in zip(rows, (1.0, 0.5), strict=True):
        assert row["chunks"] == [-1, -1, -1, 0, 2]  # three that name facts, two of the manager
        assert row["chunk_calls"] == [share, 0.0, share]
        whole = 1.0 + 0.05 * (1 - row["memory_tokens"] / row["input_tokens"])
        assert row["chunk_rewards"] == pytest.approx([whole + r2 for r2 in row["chunk_calls"]])
        assert [[c["result"] for c in calls] for calls in row["calls"][3:]] == 2 * [
            ["done", "refused"][: len(row["calls"][3])]
        ]
        assert row["reply_ids"][3] == list(map(ord, "<tool"))
    first, second = rows
    assert (first["memory_tokens"], first["input_tokens"]) == (10, 13)
    assert first["chunk_advantages"][0] > second["chunk_advantages"][0] > second["chunk_advantages"][1]
    given = samples_of([{**row, "prompt_ids": [[0]] * 5} for row in rows])
    assert given[0]["advantage"] == pytest.approx(sum(first["chunk_advantages"]) / 3)
    assert given[3]["advantage"] == first["chunk_advantages"][0]


def test_a_memory_that_does_not_say_what_its_replies_did_is_refused_as_nothing_would_be_trained() -> None:
    rows, left_out = written({"name": "lightmem", "compressor": "none", "segmentation": False, "repairs": 0}, Model())
    assert len(rows) == 2 and not left_out
    with pytest.raises(ConfigError, match="keeps no history"):
        refuse_unrewarded(rows)
    refuse_unrewarded(written({"name": "memory_r1"}, Model())[0])


def test_writings_are_sampled_at_the_policys_temperature_each_from_its_own_draw() -> None:
    model = Model()
    written({"name": "memory_r1"}, model)
    assert {r.sampling.temperature for r in model.asked} == {0.7}
    assert {r.draws[0].index for r in model.asked} == {0, 1}
    assert all(r.draws[0].scope.startswith("1/train/3/0/memory/c/") for r in model.asked)


def test_an_episode_that_lost_a_call_is_left_out_and_counted() -> None:
    class Failing(Model):
        async def generate(self, request: Request) -> list[Generation]:
            if request.tools and request.draws[0].index:
                raise BackboneError("too long")
            return await super().generate(request)

    rows, left_out = written({"name": "memory_r1"}, Failing())
    assert [row["episode"] for row in rows] == [0]
    assert left_out == {"a call of the builder was not delivered": 1}

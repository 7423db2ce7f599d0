"""Ours against the package of LightMem's authors: same conversation, compressor and scripted builder.

Faults of the package that the comparison steps around, each by handing it what it would have made without it:
- a local maximum of attention is reported one sentence early (the paper's boundary k is of sentence k to k - 1);
- messages that are in no pair of user and reply make its cuts fall inside pairs, so only pairs are compared;
- a text without tokens between the sinks leaves every position of a short buffer uncounted (`valid[-0:]`), so buffers
  are long enough here.
Known and left alone: its facts carry their session's time but no message, and an updated text keeps its old vector.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from metamem.core.calls import Failure, Generation, Message, Request, Sampling
from metamem.core.contracts import MemoryContext, Reply
from metamem.core.records import Conversation, Session, Turn
from metamem.core.registry import build, load_components
from metamem.memory.adapters.lightmem import pairs_of
from metamem.memory.growing import grown
from metamem.memory.scribe import Scribe

load_components()
WORDS = (
    "the cat and dog Rex is old I live in Oslo my rent was euros every month like coffee tea new flat work hospital"
).split()
REASON = "needs zjunlp's LightMem package, which is not on the registry in usable form"


class Scripted:
    """A builder that writes down every line it is shown, for either system's prompt."""

    label = "scripted"

    def sampling(self) -> Sampling:
        return Sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        return [Reply("", Generation(self.reply(request.messages)))]

    def reply(self, messages: Sequence[Message]) -> str:
        shown = messages[1].content
        theirs = re.findall(r"^\[[^\]]*\] (\d+)\.user: (.*)$", shown, re.MULTILINE)
        if theirs:
            return json.dumps({"data": [{"source_id": int(n), "fact": text} for n, text in theirs]})
        section = shown.split("<messages>")[1].split("</messages>")[0]
        ours = re.findall(r"^\[(\d+)\] .*?user: (.*)$", section, re.MULTILINE)
        return json.dumps({"facts": [{"source": int(n), "fact": text} for n, text in ours]})


def conversation(seed: int, sessions: int = 5) -> Conversation:
    rng = random.Random(seed)
    made = []
    for s in range(sessions):
        topic = rng.sample(WORDS, 6)
        turns = []
        for t in range(rng.randrange(2, 9, 2)):
            text = " ".join(rng.choices(topic, k=rng.randint(25, 70)))
            turns.append(Turn(f"{s}:{t}", "assistant" if t % 2 else "user", text))
        made.append(Session(f"s{s}", datetime(2024, 1, 1, 9) + timedelta(days=s), tuple(turns)))
    return Conversation(f"c{seed}", tuple(made))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny_models

    return tiny_models.bert_compressor(tmp_path_factory.mktemp("bert-base-multilingual-cased"), layers=12)


def ours(model: Path, **options: Any) -> Any:
    chosen = {"compressor": "llmlingua2", "compressor_model": str(model), "device": "cpu", **options}
    return build("memory", {"name": "lightmem", **chosen})


def test_only_pairs_are_handed_to_the_package_and_the_rest_is_counted() -> None:
    roles = ["assistant", "user", "assistant", "user", "user", "assistant", "user"]
    turns = tuple(Turn(str(i), role, f"text {i}") for i, role in enumerate(roles))
    pairs, left_out = pairs_of([Session("s", datetime(2024, 1, 2, 3, 4), turns)])
    assert [[m["content"] for m in pair] for pair in pairs] == [["text 1", "text 2"], ["text 4", "text 5"]]
    assert left_out == 3
    assert pairs[0][0]["time_stamp"] == "2024/01/02 (Tue) 03:04"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_the_same_segments_and_batches(model: Path, seed: int) -> None:
    sensory = pytest.importorskip("lightmem.factory.memory_buffer.sensory_memory", reason=REASON)
    short_term = pytest.importorskip("lightmem.factory.memory_buffer.short_term_memory", reason=REASON)
    segmenting = pytest.importorskip("lightmem.factory.topic_segmenter.llmlingua_2", reason=REASON)
    hashing = build("embedder", {"name": "hashing"})
    constructor, talk = ours(model, sensory_tokens=300, short_term_tokens=200), conversation(seed, 8)
    topics = constructor._topics
    tokenizer, network = topics.compressor.parts()

    segmenter = segmenting.LlmLingua2Segmenter.__new__(segmenting.LlmLingua2Segmenter)
    segmenter.model, segmenter.tokenizer, segmenter.layers = network, tokenizer, [8, 9, 10, 11]
    early = segmenter.propose_cut
    segmenter.propose_cut = lambda texts: [k + 1 for k in early(texts)]

    class Embedder:
        def embed(self, text: str) -> Any:
            return hashing.embed([text[:1600]])[0][0]

    class Words:
        def encode(self, text: str) -> list[str]:
            return re.findall(r"\w+|[^\w\s]", text)

    buffer = sensory.SenMemBufferManager(300, tokenizer)
    gathering = short_term.ShortMemBufferManager.__new__(short_term.ShortMemBufferManager)
    gathering.max_tokens, gathering.tokenizer, gathering.buffer, gathering.token_count = 200, Words(), [], 0
    theirs: list[list[list[str]]] = []
    pairs, _ = pairs_of(talk.sessions)
    for number, pair in enumerate(pairs):
        texts = topics.compressor.compress([m["content"] for m in pair], 0.7)
        messages = [{**m, "content": text} for m, text in zip(pair, texts, strict=True)]
        segments = buffer.add_messages(messages, segmenter, Embedder())
        last = number == len(pairs) - 1
        if last:
            segments = segments + buffer.cut_with_segmenter(segmenter, Embedder(), True)
        _, batches = gathering.add_segments(segments, "user_only", last)
        theirs += [[[m["content"] for m in segment] for segment in batch] for batch in batches]

    async def mine() -> list[list[list[str]]]:
        scribe = Scribe(MemoryContext(Scripted(), hashing), talk)
        found = [b async for b in topics.batches(scribe)]
        return [[[m.text for e in segment for m in e.messages] for segment in batch] for batch in found]

    assert asyncio.run(mine()) == theirs
    assert len(theirs) > 1


def upstream(model: Path, **options: Any) -> Any:
    pytest.importorskip("lightmem.memory.lightmem", reason=REASON)
    pytest.importorskip("qdrant_client", reason="needs qdrant-client, the package's vector store")
    settings = {"compressor_model": str(model), "device": "cpu", **options}
    return build("memory", {"name": "lightmem_upstream", **settings})


def context(builder: Scripted) -> MemoryContext:
    return MemoryContext(builder, build("embedder", {"name": "hashing"}), build("prompts", {"name": "default"}))


@pytest.mark.slow
def test_the_same_facts_at_the_same_times(model: Path) -> None:
    theirs, talk, shared = upstream(model), conversation(3), context(Scripted())

    async def both() -> tuple[Any, Any]:
        return await grown(ours(model), None, talk, shared), await grown(theirs, None, talk, shared)

    mine, made = asyncio.run(both())
    assert sorted((u.text, u.session_id, u.time) for u in mine.units) == sorted(
        (u.text, u.session_id, u.time) for u in made.units
    )
    assert made.counts["left_out"] == 0


@pytest.mark.slow
def test_what_is_asked_does_not_depend_on_what_was_built_before(model: Path) -> None:
    class Updating(Scripted):
        def __init__(self) -> None:
            self.asked: list[str] = []

        def reply(self, messages: Sequence[Message]) -> str:
            self.asked.append(messages[1].content)
            if messages[1].content.startswith("Target memory:"):
                return json.dumps({"action": "update", "new_memory": f"{len(messages[1].content)} letters"})
            return super().reply(messages)

    theirs = upstream(model, update=True, update_threshold=0.1)
    first, again = Updating(), Updating()
    made = asyncio.run(grown(theirs, None, conversation(1, 3), context(first)))
    asyncio.run(grown(theirs, None, conversation(2, 2), context(Updating())))
    repeated = asyncio.run(grown(theirs, None, conversation(1, 3), context(again)))
    assert sorted(again.asked) == sorted(first.asked)
    assert any(text.startswith("Target memory:") for text in first.asked)
    assert repeated.units == made.units and made.units


@pytest.mark.slow
def test_a_call_that_fails_leaves_no_memory_and_says_so(model: Path) -> None:
    class Failing(Scripted):
        async def __call__(self, request: Request) -> list[Reply]:
            return [Reply("", Failure("gone"))]

    bank = asyncio.run(grown(upstream(model), None, conversation(1, 2), context(Failing())))
    assert (bank.units, [u.reason for u in bank.unread]) == ((), ["gone"])
    assert not bank.complete

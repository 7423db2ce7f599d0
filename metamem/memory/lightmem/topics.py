"""From a conversation's sessions to the material of extraction calls: LightMem's first half, without a builder.

In: sessions. Messages are compressed, over-long ones parted, and gathered in a sensory buffer, which is cut into topics
when it is full; topics gather in a short-term buffer. Out: batches of topics, one after another, so that a conversation
of any length streams. Compression, attention and embedding go in batches that all conversations of a run share.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from metamem.core.banks import Cost
from metamem.core.records import Session
from metamem.core.tokens import count_tokens
from metamem.memory.lightmem.buffers import (
    BufferedMessage,
    Exchange,
    Segment,
    SensoryBuffer,
    ShortTermBuffer,
    exchanges_of,
    messages_of,
    split_long,
)
from metamem.memory.lightmem.compression import Compressor
from metamem.memory.lightmem.options import LightMemOptions, MessagesUse
from metamem.memory.lightmem.segmentation import (
    attention_boundaries,
    sentence_attention,
    similarity_boundaries,
    topic_boundaries,
)
from metamem.memory.scribe import Scribe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# More than an embedder's window of text says nothing more of what a turn is about, as in the reference.
_EMBEDDED_CHARACTERS = 1600


class TopicCutter:
    """Cuts conversations into topics, with a compressor or without."""

    def __init__(self, options: LightMemOptions, compressor: Compressor | None) -> None:
        self.config = options
        self.compressor = compressor

    async def batches(self, scribe: Scribe) -> AsyncIterator[tuple[Segment, ...]]:
        """The material of one extraction call after another; every message is in exactly one, whole or in parts."""
        sensory, short_term = SensoryBuffer(self.config.sensory_tokens), ShortTermBuffer(self.config.short_term_tokens)
        for session in scribe.sessions:
            for exchange in await self._exchanges(session, scribe):
                while not sensory.fits(exchange):
                    for segment in await self._cut(sensory, False, scribe):
                        if batch := short_term.add(segment, self._tokens(segment)):
                            yield batch
                sensory.add(exchange)
        for segment in await self._cut(sensory, True, scribe):
            if batch := short_term.add(segment, self._tokens(segment)):
                yield batch
        if batch := short_term.flush():
            yield batch

    async def _exchanges(self, session: Session, scribe: Scribe) -> list[Exchange]:
        """A session's exchanges: compressed, over-long messages in parts, counted and embedded."""
        config = self.config
        messages = messages_of(session)
        scribe.counts["messages"] += len(messages)
        if self.compressor is None and config.tokenizer == "words":
            # Less work than handing it over, and a thread that computes in Python holds up the calls.
            began = time.perf_counter()
            prepared = self._prepare(self._weighed(messages))
            scribe.spend("compress", Cost(seconds=time.perf_counter() - began))
        else:
            prepared = await scribe.batched("prepare", self._prepare, self._weighed(messages), "compress")
        parts: list[BufferedMessage] = []
        tokens: dict[int, int] = {}
        for message, pieces in zip(messages, prepared, strict=True):
            scribe.counts["split"] += len(pieces) > 1
            for text, count in pieces:
                part = message if text == message.text else replace(message, text=text)
                parts.append(part)
                tokens[id(part)] = count
        groups = exchanges_of(parts)
        vectors: Any = [None] * len(groups)
        if config.segmentation and groups:
            vectors = await embed(scribe, [e.text for e in groups], "segment")
        return [Exchange(e.messages, tokens[id(e.lead)], v) for e, v in zip(groups, vectors, strict=True)]

    def _weighed(self, messages: Sequence[BufferedMessage]) -> list[tuple[str, bool]]:
        """Each text, and whether its tokens matter: it leads an exchange, or the builder sees it. Most replies do not,
        and are most of the text.
        """
        opened = False
        made = []
        for message in messages:
            opened = opened or message.role == "user"
            made.append((message.text, not opened or message.role == "user" or self.uses(message)))
        return made

    def _prepare(self, weighed: list[tuple[str, bool]]) -> list[list[tuple[str, int]]]:
        """Each text compressed and, where its tokens matter, in parts that fit the sensory buffer, with their tokens.

        Runs in a thread where there is a model in it.
        """
        texts = [text for text, _ in weighed]
        if self.compressor is not None:
            texts = self.compressor.compress(texts, self.config.rate)
        made = []
        for text, (_, matters) in zip(texts, weighed, strict=True):
            count = self._count(text) if matters else 0
            if count <= self.config.sensory_tokens:
                made.append([(text, count)])
            else:
                parts = split_long(text, self.config.sensory_tokens, self._count)
                made.append([(part, self._count(part)) for part in parts])
        return made

    def _count(self, text: str) -> int:
        if self.compressor is not None:
            return self.compressor.count(text)
        return count_tokens(text, self.config.tokenizer)

    async def _cut(self, buffer: SensoryBuffer, last: bool, scribe: Scribe) -> list[Segment]:
        boundaries: list[int] = []
        if self.config.segmentation and len(buffer.held) > 1:
            boundaries = await self._boundaries(buffer.held, scribe)
        segments = buffer.cut(boundaries, last)
        scribe.counts["segments"] += len(segments)
        return segments

    async def _boundaries(self, held: Sequence[Exchange], scribe: Scribe) -> list[int]:
        import numpy as np

        config = self.config
        cosines = [float(np.dot(a.vector, b.vector)) for a, b in pairwise(held)]
        similar = similarity_boundaries(cosines, config.similarity, config.similarity_step, config.similarity_ceiling)
        if self.compressor is None:
            return topic_boundaries(None, similar)
        leads = [[e.lead.text for e in held]]
        (maxima,) = await scribe.batched("attention", self._attention, leads, "segment", config.batch_size)
        return topic_boundaries(maxima, similar, config.tolerance)

    def _attention(self, buffers: list[list[str]]) -> list[list[int]]:
        assert self.compressor is not None
        read = self.compressor.attention(buffers)
        return [attention_boundaries(sentence_attention(a, spans, self.config.sinks)) for a, spans in read]

    def uses(self, message: BufferedMessage) -> bool:
        """Whether facts are extracted from a message."""
        return self.config.messages_use is MessagesUse.hybrid or message.role == self.config.messages_use.value

    def _tokens(self, segment: Segment) -> int:
        return sum(count_tokens(m.text, self.config.tokenizer) for e in segment for m in e.messages if self.uses(m))


async def embed(scribe: Scribe, texts: Sequence[str], stage: str) -> NDArray[np.float32]:
    """Return a unit vector of the beginning of each text (n, d)."""
    return await scribe.embed([text[:_EMBEDDED_CHARACTERS] for text in texts], stage)

"""`memory=memalpha`: Mem-α's memory of a conversation, written by the builder role.

In: a conversation, its sessions as chunks. Out: a bank with a unit for core and one for each item of the lists, in the
order of insertion; each vouches for the turns of the chunks that wrote it first and last. The bank's history holds
every call and what it did, so that the writing can be replayed. Source: Mem-α (arXiv 2509.25911).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.banks import NO_CALL, MemoryBank
from metamem.core.contracts import MemoryConstructor
from metamem.core.records import Conversation, MemoryUnit
from metamem.core.registry import register
from metamem.memory.chunks import Chunk, chunks_of, counter
from metamem.memory.memalpha.episode import PROMPTS, Episode, Writer, WritingOptions
from metamem.memory.memalpha.history import replayed
from metamem.memory.memalpha.state import Item, Memory, MemoryPart
from metamem.memory.scribe import Scribe


@register("memory", "memalpha")
class MemAlpha(MemoryConstructor):
    """Mem-α: core, semantic and episodic memory that the builder writes with tools."""

    version = 3
    needs = ("builder",)
    prompts = (*PROMPTS.values(), "call_replies")
    scope = "memalpha"
    retriever = "memalpha"

    @dataclass
    class Config(WritingOptions):
        """How the memory is written; the defaults are the paper's."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.prompts = (PROMPTS[config.contract], "call_replies")
        self._writer: Writer | None = None

    def identity(self) -> Mapping[str, Any]:
        """Return nothing beyond the options; a tokenizer that cannot be had is told at once."""
        counter(self.config.tokenizer)("")
        return {}

    async def grow(self, bank: MemoryBank | None, conversation: Conversation, scribe: Scribe) -> None:
        """Write the chunks down that are new."""
        await self.episode(conversation, scribe)

    async def episode(self, conversation: Conversation, scribe: Scribe) -> Episode:
        """Write the new chunks down, and return the memory with all changes and every reply with what came of it.

        Raises `LostError`; what was written until then stands in the scribe.
        """
        chunks = self.chunks(conversation)
        episode = Episode(replayed(self.writer.limits, scribe.history))
        try:
            await self.writer.write(episode, chunks[scribe.counts["chunks"] :], scribe)
        finally:
            scribe.notebook.replace(units_of(episode.memory, chunks))
            self._count(scribe, episode.memory, chunks)
        return episode

    @property
    def writer(self) -> Writer:
        """What writes, made when it is first needed."""
        if self._writer is None:
            self._writer = Writer(self.config)
        return self._writer

    @property
    def offered(self) -> tuple[dict[str, Any], ...]:
        """The tools that stand in a request."""
        return self.writer.offered

    def chunks(self, conversation: Conversation) -> list[Chunk]:
        """The chunks of a conversation."""
        return chunks_of(conversation.sessions, self.config.chunk_tokens, counter(self.config.tokenizer))

    def _count(self, scribe: Scribe, memory: Memory, chunks: Sequence[Chunk]) -> None:
        """Keep how many calls came to what, the chunks without a call, and the sizes."""
        calls = [e for e in scribe.history if e.result != NO_CALL]
        counts = Counter(f"calls_{effect.result}" for effect in calls)
        counts["chunks_without_calls"] = len({e.chunk for e in scribe.history} - {e.chunk for e in calls})
        read = chunks[: scribe.counts["chunks"]]
        counts["input_tokens"] = sum(self.writer.limits.count(chunk.text) for chunk in read)
        counts["memory_tokens"] = memory.tokens
        for name, count in counts.items():
            scribe.counts[name] = count


def units_of(memory: Memory, chunks: Sequence[Chunk]) -> list[MemoryUnit]:
    """A unit for core, where there is one, and for each item of the lists."""
    return [_unit(part, item, chunks) for part in MemoryPart for item in memory.items(part)]


def _unit(part: MemoryPart, item: Item, chunks: Sequence[Chunk]) -> MemoryUnit:
    first, last = chunks[item.born], chunks[item.changed]
    turns = dict.fromkeys((*first.turn_ids, *last.turn_ids))
    # Core sums up the whole; an item is as old as what it was last changed by.
    time = None if part is MemoryPart.core else last.time
    session = last.session_id if first.session_id == last.session_id else None
    return MemoryUnit(item.id, item.text, time, session, tuple(turns), part.value)

"""`memory=memalpha`: Mem-α's memory of a conversation, written by the builder role.

In: a conversation, its sessions as chunks. Out: a bank with a unit for core and one for each item of the lists, in the
order of insertion; each vouches for the turns of the chunks that wrote it first and last. The bank's history holds
every call and what it did, so that the writing can be replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.banks import Cost, MemoryBank
from metamem.core.contracts import MemoryContext
from metamem.core.records import Conversation, MemoryUnit
from metamem.core.registry import register
from metamem.memory.chunks import Chunk, chunks_of, counter
from metamem.memory.memalpha.episode import Episode, Writer, WritingOptions
from metamem.memory.memalpha.history import effects_of
from metamem.memory.memalpha.state import Item, Memory, Part
from metamem.prompts.templates import Prompts


@register("memory", "memalpha")
class MemAlpha:
    """Mem-α: core, semantic and episodic memory that the builder writes with tools."""

    version = 2
    needs: tuple[str, ...] = ("builder",)
    prompts: tuple[str, ...] = ("memorise", "call_replies")

    @dataclass
    class Config(WritingOptions):
        """How the memory is written; the defaults are the paper's."""

    def __init__(self, config: Config, *, prompts: Prompts) -> None:
        self.config = config
        self._prompts = prompts
        self._writer: Writer | None = None

    def identity(self) -> Mapping[str, Any]:
        """Nothing beyond the options; the tokenizer is loaded, so that one that cannot be had is told at once."""
        counter(self.config.tokenizer)("")
        return {}

    async def construct(self, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The memory of a whole conversation."""
        episode = await self.episode(conversation, context)
        return self._bank(conversation, episode)

    async def extend(self, bank: MemoryBank, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The memory as construction would have it: earlier chunks are written again, from replies that are stored.

        Every earlier request is the same as before, so none is paid for again.
        """
        return await self.construct(conversation, context)

    async def update(self, bank: MemoryBank, context: MemoryContext) -> MemoryBank:
        """The bank as it is: Mem-α has no step at rest."""
        return bank

    async def episode(self, conversation: Conversation, context: MemoryContext, draw: int = 0) -> Episode:
        """The writing of a conversation: its memory with all changes, and every call with what came of it."""
        assert context.builder is not None, "this memory needs the builder role"
        episode = Episode(Memory(self.writer.limits))
        chunks = self.chunks(conversation)
        await self.writer.write(episode, chunks, context.builder, context, f"memalpha/{conversation.id}", draw)
        return episode

    @property
    def writer(self) -> Writer:
        """What writes, made when it is first needed."""
        if self._writer is None:
            self._writer = Writer(self.config, self._prompts)
        return self._writer

    @property
    def offered(self) -> tuple[dict[str, Any], ...]:
        """The tools that stand in a request."""
        return self.writer.offered

    def chunks(self, conversation: Conversation) -> list[Chunk]:
        """The chunks of a conversation."""
        return chunks_of(conversation.sessions, self.config.chunk_tokens, counter(self.config.tokenizer))

    def _bank(self, conversation: Conversation, episode: Episode) -> MemoryBank:
        units = units_of(episode.memory, self.chunks(conversation))
        counts: Counter[str] = episode.counts
        costs: dict[str, Cost] = {"write": episode.cost}
        unread = tuple(episode.unread)
        bank = MemoryBank("", conversation.id, tuple(units), len(conversation.sessions))
        return replace(bank, costs=costs, counts=dict(counts), unread=unread, history=effects_of(episode))


def units_of(memory: Memory, chunks: Sequence[Chunk]) -> list[MemoryUnit]:
    """A unit for core, where there is one, and for each item of the lists."""
    return [_unit(part, item, chunks) for part in Part for item in memory.items(part)]


def _unit(part: Part, item: Item, chunks: Sequence[Chunk]) -> MemoryUnit:
    first, last = chunks[item.born], chunks[item.changed]
    turns = dict.fromkeys((*first.turn_ids, *last.turn_ids))
    # Core sums up the whole; an item is as old as what it was last changed by.
    time = None if part is Part.core else last.time
    session = last.session_id if first.session_id == last.session_id else None
    return MemoryUnit(item.id, item.text, time, session, tuple(turns), part.value)

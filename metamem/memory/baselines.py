"""Mem-α's baselines as memories: all chunks, the newest chunks that fit, and notes that each chunk overwrites.

In: a conversation as chunks. Out: a bank. `chunks` and `long_context` only cut; `memagent` (arXiv 2507.02259) and
`mem1` (arXiv 2506.15841) have the builder rewrite one text at every chunk, in view of the question where the stream
opens with it (`dataset.known_question=true`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.banks import Cost, Effect, MemoryBank, Unread
from metamem.core.calls import Draw, Failure, Request
from metamem.core.contracts import MemoryContext
from metamem.core.errors import ConfigError
from metamem.core.records import Conversation, MemoryUnit, Session
from metamem.core.registry import option, register
from metamem.memory.chunks import Chunk, chunks_of, counter, task_of
from metamem.memory.cutting import Cutting
from metamem.prompts.templates import Prompts

_ANY_TASK = "Any question about the text may be asked at the end."


@dataclass
class ChunkOptions:
    """How a stream is cut."""

    chunk_tokens: int = option(4096, "most tokens of a chunk; longer sessions are cut at sentence ends")
    tokenizer: str = option("words", "the tokenizer that counts them: words, or a Hugging Face tokenizer")

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise ConfigError(f"memory.chunk_tokens must be at least 1, got {self.chunk_tokens}")


class _InChunks(Cutting):
    """A memory of whole chunks, which says how much it holds of how much there was."""

    def __init__(self, config: ChunkOptions) -> None:
        self.config = config

    async def construct(self, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The chunks that are kept, and the tokens of all and of these."""
        bank = await super().construct(conversation, context)
        count = counter(self.config.tokenizer)
        chunks = chunks_of(conversation.sessions, self.config.chunk_tokens, count)
        return replace(bank, counts=_sizes(chunks, bank.units, count))

    async def extend(self, bank: MemoryBank, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The whole conversation anew: cutting costs nothing, and what is newest has changed."""
        return await self.construct(conversation, context)


@register("memory", "chunks")
class Chunks(_InChunks):
    """One unit per chunk; with retriever=bm25 retriever.k=2 Mem-α's retrieval baseline."""

    @dataclass
    class Config(ChunkOptions):
        """How the stream is cut."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)

    def cut(self, sessions: Sequence[Session]) -> list[MemoryUnit]:
        """A unit for each chunk."""
        chunks = chunks_of(sessions, self.config.chunk_tokens, counter(self.config.tokenizer))
        return _units(chunks)


@register("memory", "long_context")
class LongContext(_InChunks):
    """The newest chunks that fit a context, as they are; for retriever=full."""

    @dataclass
    class Config(ChunkOptions):
        """How the stream is cut, and how much of it is kept."""

        tokens: int = option(30720, "tokens that fit: the newest chunks are kept, whole")

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.tokens < self.chunk_tokens:
                raise ConfigError(
                    f"memory.tokens must be at least memory.chunk_tokens ({self.chunk_tokens}), got {self.tokens}"
                )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._tokens = config.tokens

    def cut(self, sessions: Sequence[Session]) -> list[MemoryUnit]:
        """The newest chunks that fit, oldest of them first."""
        count = counter(self.config.tokenizer)
        units = _units(chunks_of(sessions, self.config.chunk_tokens, count))
        left, kept = self._tokens, len(units)
        while kept and left >= (size := count(units[kept - 1].text)):
            left -= size
            kept -= 1
        return units[kept:]


@dataclass
class OverwritingOptions(ChunkOptions):
    """How the notes are rewritten."""

    chunk_tokens: int = option(5000, "most tokens of a chunk; longer sessions are cut at sentence ends")
    max_tokens: int = option(1024, "longest notes, in tokens of the builder: what is over is cut off")
    temperature: float = option(0.0, "sampling temperature of the builder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 1:
            raise ConfigError(f"memory.max_tokens must be at least 1, got {self.max_tokens}")
        if not self.temperature >= 0:
            raise ConfigError(f"memory.temperature must not be negative, got {self.temperature}")


class _Overwriting:
    """A memory that is one text, written anew at every chunk; its history holds every state of it."""

    version = 2
    needs: tuple[str, ...] = ("builder",)
    prompts: tuple[str, ...]

    def __init__(self, config: OverwritingOptions, *, prompts: Prompts) -> None:
        self.config = config
        self._prompts = prompts

    def identity(self) -> Mapping[str, Any]:
        """Nothing beyond the options."""
        counter(self.config.tokenizer)("")
        return {}

    async def construct(self, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The text after the last chunk, one unit. A reply without text leaves the one before, and is counted."""
        config, builder = self.config, context.builder
        assert builder is not None, "this memory needs the builder role"
        count = counter(config.tokenizer)
        chunks = chunks_of(conversation.sessions, config.chunk_tokens, count)
        task = task_of(conversation) or _ANY_TASK
        sampling = replace(builder.sampling(), temperature=config.temperature, max_tokens=config.max_tokens)
        notes, cost, unread = "", Cost(), []
        history: list[Effect] = []
        changes = 0
        counts: Counter[str] = Counter(chunks=len(chunks))
        (prompt,) = self.prompts
        for number, chunk in enumerate(chunks):
            messages = self._prompts.render(
                prompt, task=task, notes=notes, chunk=chunk.text, max_tokens=config.max_tokens
            )
            async with context.calls:
                began = time.perf_counter()
                draw = Draw(f"{prompt}/{conversation.id}/{number}")
                (reply,) = await builder(Request(messages, sampling, (draw,)))
                seconds = round(time.perf_counter() - began, 6)
            if isinstance(reply.outcome, Failure):
                unread.append(Unread("write", chunk.turn_ids, reply.outcome.reason, delivered=False))
                continue
            said = reply.outcome
            cost += Cost(1, said.usage.prompt_tokens, said.usage.completion_tokens, seconds)
            counts["cut"] += said.finish_reason == "length"
            if new := said.text.strip():
                effect = Effect(number, 0, reply.key, "unchanged", "overwrite", part="notes", id="notes")
                if new != notes:
                    changes += 1
                    effect = replace(effect, result="done", change=changes, before=notes or None, after=new)
                    effect = replace(effect, operation="update" if notes else "insert")
                history.append(effect)
                notes = new
            else:
                history.append(Effect(number, 0, reply.key, "none"))
                unread.append(Unread("write", chunk.turn_ids, "an empty reply"))
        turns = tuple(dict.fromkeys(turn for chunk in chunks for turn in chunk.turn_ids))
        units = (MemoryUnit("notes", notes, turn_ids=turns, kind="notes"),) if notes else ()
        counts.update(_sizes(chunks, units, count))
        bank = MemoryBank("", conversation.id, units, len(conversation.sessions))
        return replace(bank, costs={"write": cost}, counts=dict(counts), unread=tuple(unread), history=tuple(history))

    async def extend(self, bank: MemoryBank, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The whole stream again; the replies to earlier chunks are stored, since nothing before them has changed."""
        return await self.construct(conversation, context)

    async def update(self, bank: MemoryBank, context: MemoryContext) -> MemoryBank:
        """The bank as it is."""
        return bank


@register("memory", "memagent")
class MemAgent(_Overwriting):
    """MemAgent: notes of at most so many tokens that the builder overwrites at each chunk, the question known."""

    prompts = ("memagent",)

    @dataclass
    class Config(OverwritingOptions):
        """How the notes are rewritten; the defaults are the paper's."""


@register("memory", "mem1")
class Mem1(_Overwriting):
    """MEM1: one internal state of reasoning and memory that each chunk replaces, the question known."""

    prompts = ("mem1",)

    @dataclass
    class Config(OverwritingOptions):
        """How the state is rewritten."""

        chunk_tokens: int = option(4096, "most tokens of a chunk; longer sessions are cut at sentence ends")


def _sizes(chunks: Sequence[Chunk], units: Sequence[MemoryUnit], count: Callable[[str], int]) -> dict[str, int]:
    """Tokens of all that there was to remember, and of what is kept."""
    return {"input_tokens": sum(count(c.text) for c in chunks), "memory_tokens": sum(count(u.text) for u in units)}


def _units(chunks: Sequence[Chunk]) -> list[MemoryUnit]:
    """Ids by session and place there, so that a chunk's id stays when the stream goes on."""
    numbers: Counter[str] = Counter()
    units = []
    for chunk in chunks:
        place = numbers[chunk.session_id]
        numbers[chunk.session_id] += 1
        id = f"{chunk.turn_ids[0]}/chunk{place}"
        units.append(MemoryUnit(id, chunk.text, chunk.time, chunk.session_id, chunk.turn_ids, "chunk"))
    return units

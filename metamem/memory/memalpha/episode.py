"""One writing of a Mem-α memory: chunk by chunk, each with the calls of one reply, or of some that mend refused ones.

In: chunks, a memory as it stands, a model. Out: the memory changed, and an `Exchange` for every reply: what was asked,
what was said, what each call did. With the memory's changes they show the whole episode again, step by step.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metamem.core.banks import Cost, Unread
from metamem.core.calls import Draw, Failure, Generation, Message, Request
from metamem.core.contracts import Caller, MemoryContext
from metamem.core.errors import ConfigError, unknown
from metamem.core.json_form import canonical, to_json
from metamem.core.registry import option
from metamem.memory.chunks import Chunk, counter
from metamem.memory.memalpha.state import Limits, Memory, Part
from metamem.memory.memalpha.tools import Outcome, Vocabulary, execute, schemas
from metamem.prompts.templates import Prompts
from metamem.replies.tool_calls import ToolsIn, as_text, read_calls


@dataclass
class WritingOptions:
    """How a memory is written."""

    chunk_tokens: int = option(4096, "most tokens of a chunk; longer sessions are cut at sentence ends")
    tokenizer: str = option("words", "the tokenizer that counts tokens: words, or a Hugging Face tokenizer")
    core_tokens: int = option(512, "most tokens of core; a longer text is refused")
    item_tokens: int | None = option(None, "most tokens of an item of a list; a longer one is refused (null: no limit)")
    items: int | None = option(None, "most items of a list; more are refused (null: no limit)")
    disabled: list[str] = option([], "parts that are not used: core, semantic, episodic")
    newest: int = option(20, "items of each list that are shown while writing, the newest")
    repairs: int = option(0, "how often calls that were refused are asked for again, with the reasons")
    max_tokens: int = option(8192, "longest reply of the builder, in tokens")
    temperature: float = option(0.0, "sampling temperature of the builder")
    vocabulary: Vocabulary = option(
        Vocabulary.own, "names of the tools: own, or published (those Memalpha-4B was trained to call)"
    )
    tools: ToolsIn = option(
        ToolsIn.request, "where tools are shown: request (chat template, server) or prompt (for servers without tools)"
    )

    def __post_init__(self) -> None:
        """Raises `ConfigError` that names the option as the user types it."""
        for key, choices in (("vocabulary", Vocabulary), ("tools", ToolsIn)):
            try:
                setattr(self, key, choices(getattr(self, key)))
            except ValueError:
                raise ConfigError(
                    f"memory.{key}: {unknown('choice', str(getattr(self, key)), list(choices))}"
                ) from None
        for name in self.disabled:
            if name not in list(Part):
                raise ConfigError(f"memory.disabled: {unknown('part', name, list(Part))}")
        if len(set(self.disabled)) == len(Part):
            raise ConfigError("memory.disabled: at least one part must be left")
        for name, least in (("chunk_tokens", 1), ("core_tokens", 1), ("newest", 0), ("repairs", 0), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"memory.{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("item_tokens", "items"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"memory.{name} must be at least 1 or null, got {value}")
        if not self.temperature >= 0:
            raise ConfigError(f"memory.temperature must not be negative, got {self.temperature}")

    def limits(self) -> Limits:
        """What the memory may hold."""
        disabled = frozenset(Part(name) for name in self.disabled)
        return Limits(counter(self.tokenizer), self.core_tokens, self.item_tokens, self.items, disabled)


@dataclass(frozen=True)
class Exchange:
    """One reply of the builder: to what, under which journal key, and what its calls did."""

    chunk: int
    turn: int
    key: str
    messages: tuple[Message, ...]
    generation: Generation
    outcomes: tuple[Outcome, ...]


@dataclass
class Episode:
    """A memory in the making, and all that happened."""

    memory: Memory
    exchanges: list[Exchange] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    chunks: int = 0
    input_tokens: int = 0

    @property
    def counts(self) -> Counter[str]:
        """How many calls came to what, chunks without a call, and the sizes."""
        outcomes = [o for e in self.exchanges for o in e.outcomes]
        counts = Counter(f"calls_{o.result}" for o in outcomes)
        counts["chunks"] = self.chunks
        counts["chunks_without_calls"] = len({e.chunk for e in self.exchanges} - {o.chunk for o in outcomes})
        counts["input_tokens"] = self.input_tokens
        counts["memory_tokens"] = self.memory.tokens
        return counts


class Writer:
    """Writes chunks into memories, by a model with tools."""

    def __init__(self, options: WritingOptions, prompts: Prompts) -> None:
        self.options = options
        self.limits = options.limits()
        self.tools = schemas(self.limits, options.vocabulary)
        # Where the prompt shows the tools, the request does not.
        self.offered = self.tools if options.tools is ToolsIn.request else ()
        self._prompts = prompts

    async def write(
        self,
        episode: Episode,
        chunks: Sequence[Chunk],
        caller: Caller,
        context: MemoryContext,
        scope: str,
        draw: int = 0,
    ) -> None:
        """Take chunks in, one after the other. A chunk whose call fails is counted as unread, and the next is read."""
        for chunk in chunks:
            await self._chunk(episode, chunk, caller, context, f"{scope}/{episode.chunks}", draw)
            episode.chunks += 1
            episode.input_tokens += self.limits.count(chunk.text)

    async def _chunk(
        self, episode: Episode, chunk: Chunk, caller: Caller, context: MemoryContext, scope: str, draw: int
    ) -> None:
        options, number = self.options, episode.chunks
        messages = self.prompt(episode.memory, chunk.text)
        sampling = replace(caller.sampling(), temperature=options.temperature, max_tokens=options.max_tokens)
        for turn in range(options.repairs + 1):
            async with context.calls:
                began = time.perf_counter()
                (reply,) = await caller(
                    Request(messages, sampling, (Draw(scope, draw),), repeat=turn, tools=self.offered)
                )
                seconds = round(time.perf_counter() - began, 6)
            if isinstance(reply.outcome, Failure):
                episode.unread.append(Unread("write", chunk.turn_ids, reply.outcome.reason, delivered=False))
                return
            said = reply.outcome
            episode.cost += Cost(1, said.usage.prompt_tokens, said.usage.completion_tokens, seconds)
            outcomes = execute(episode.memory, read_calls(said, self.tools), number, turn, options.vocabulary)
            episode.exchanges.append(Exchange(number, turn, reply.key, messages, said, tuple(outcomes)))
            failed = [
                {"number": i, "call": o.call, "reply": o.reply} for i, o in enumerate(outcomes, 1) if not o.executed
            ]
            if not failed:
                return
            again = self._prompts.render("call_replies", outcomes=failed, done=len(outcomes) - len(failed))
            messages = (*messages, Message("assistant", as_text(said)), *again)

    def prompt(self, memory: Memory, chunk: str) -> tuple[Message, ...]:
        """The messages that ask to write a chunk down: core whole, the newest items of each list, the chunk."""
        newest = self.options.newest
        lists = (Part.semantic, Part.episodic)
        in_prompt = self.options.tools is ToolsIn.prompt
        return self._prompts.render(
            "memorise",
            parts=[part.value for part in self.limits.parts],
            core=memory.core.text if memory.core else "",
            semantic=memory.newest(Part.semantic, newest),
            episodic=memory.newest(Part.episodic, newest),
            hidden={part.value: max(0, len(memory.items(part)) - newest) for part in lists},
            core_tokens=self.options.core_tokens,
            chunk=chunk,
            tools=[canonical(tool) for tool in self.tools] if in_prompt else [],
        )


def changes_of(memory: Memory) -> list[dict[str, Any]]:
    """The history as JSON rows; `Memory.replay` of them gives the memory again."""
    return [to_json(change) for change in memory.changes]

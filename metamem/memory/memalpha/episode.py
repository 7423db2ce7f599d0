"""One writing of a Mem-α memory: chunk by chunk, each with the calls of one reply, or of some that mend refused ones.

In: chunks, a memory as it stands, a model. Out: the memory changed, and a `ChunkReply` for every reply: what was
asked, what was said, what each call did. With the memory's changes they show the whole episode again, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from metamem.core.banks import NO_CALL, Effect
from metamem.core.calls import Message
from metamem.core.errors import ConfigError, unknown
from metamem.core.json_form import canonical, to_json
from metamem.core.registry import option
from metamem.memory.builder_contracts import Contract, choice_of
from metamem.memory.chunks import Chunk, counter
from metamem.memory.memalpha.short import numbered, numbers_of, read_short
from metamem.memory.memalpha.state import Limits, LongCore, Memory, MemoryPart
from metamem.memory.memalpha.tools import Outcome, execute, schemas
from metamem.memory.scribe import Said, Scribe
from metamem.replies.tool_calls import ToolsIn, as_text, read_calls

PROMPTS = {
    Contract.own: "memorise",
    Contract.published: "memorise_published",
    Contract.short: "memorise_short",
}
# The share of the longest reply that a builder is told of, so that its last call is not cut.
_TOLD = 0.8


@dataclass
class WritingOptions:
    """How a memory is written."""

    chunk_tokens: int = option(4096, "most tokens of a chunk; longer sessions are cut at sentence ends", least=1)
    tokenizer: str = option("words", "the tokenizer that counts tokens: words, or a Hugging Face tokenizer")
    core_tokens: int = option(512, "most tokens of core", least=1)
    long_core: LongCore = option(
        LongCore.cut, "what becomes of a text for core that is longer: cut (with a mark at its end) or refuse"
    )
    item_tokens: int | None = option(
        None, "most tokens of an item of a list; a longer one is refused (null: no limit)", least=1
    )
    items: int | None = option(None, "most items of a list; more are refused (null: no limit)", least=1)
    disabled: list[str] = option([], "parts that are not used: core, semantic, episodic")
    newest: int = option(20, "items of each list that are shown while writing, the newest", least=0)
    repairs: int = option(0, "how often calls that were refused are asked for again, with the reasons", least=0)
    max_tokens: int = option(8192, "longest reply of the builder, in tokens", least=1)
    temperature: float = option(0.0, "sampling temperature of the builder", least=0)
    contract: Contract = option(
        Contract.own,
        "the prompt and the names of the tools: own, published (what Memalpha-4B was trained on), or short (a call is "
        "the number of a line to keep, in semantic memory: for models of few tokens)",
    )
    held_to_numbers: bool = option(
        False, "with contract=short: replies are made of the chunk's numbers alone (backbone=plain, or in an engine)"
    )
    tools: ToolsIn = option(
        ToolsIn.request, "where tools are shown: request (chat template, server) or prompt (for servers without tools)"
    )

    def __post_init__(self) -> None:
        """Raises `ConfigError` that names the option as the user types it."""
        for key, choices in (("contract", Contract), ("long_core", LongCore), ("tools", ToolsIn)):
            setattr(self, key, choice_of(choices, f"memory.{key}", getattr(self, key)))
        if self.contract is Contract.short and MemoryPart.semantic in self.disabled:
            raise ConfigError("memory.disabled: contract=short writes semantic memory alone")
        if self.held_to_numbers and self.contract is not Contract.short:
            raise ConfigError("memory.held_to_numbers is for memory.contract=short: other calls have more than numbers")
        for name in self.disabled:
            if name not in list(MemoryPart):
                raise ConfigError(f"memory.disabled: {unknown('part', name, list(MemoryPart))}")
        if len(set(self.disabled)) == len(MemoryPart):
            raise ConfigError("memory.disabled: at least one part must be left")

    def limits(self) -> Limits:
        """What the memory may hold."""
        disabled = frozenset(MemoryPart(name) for name in self.disabled)
        return Limits(counter(self.tokenizer), self.core_tokens, self.long_core, self.item_tokens, self.items, disabled)


@dataclass(frozen=True)
class ChunkReply:
    """One reply of the builder about a chunk, and what its calls did."""

    chunk: int
    turn: int
    said: Said
    outcomes: tuple[Outcome, ...]


@dataclass
class Episode:
    """A memory in the making, and the replies that wrote it."""

    memory: Memory
    exchanges: list[ChunkReply] = field(default_factory=list)


class Writer:
    """Writes chunks into memories, by a model with tools."""

    def __init__(self, options: WritingOptions) -> None:
        self.options = options
        self.limits = options.limits()
        self.tools = schemas(self.limits, options.contract)
        # Where the prompt shows the tools, the request does not.
        self.short = options.contract is Contract.short
        self.offered = self.tools if options.tools is ToolsIn.request and not self.short else ()

    async def write(self, episode: Episode, chunks: Sequence[Chunk], scribe: Scribe) -> None:
        """Take chunks in, one after the other. Raises `LostError`."""
        for number, chunk in scribe.stream(chunks):
            await self._chunk(episode, number, chunk, scribe)

    async def _chunk(self, episode: Episode, number: int, chunk: Chunk, scribe: Scribe) -> None:
        """Have one chunk written down; calls that were refused are asked for again."""
        options = self.options
        messages = scribe.render(PROMPTS[options.contract], **self.shown(episode.memory, chunk.text))
        for turn in range(options.repairs + 1):
            said = await scribe.reply(
                messages,
                stage="write",
                place=number,
                turn_ids=chunk.turn_ids,
                max_tokens=options.max_tokens,
                temperature=options.temperature,
                tools=self.offered,
                repeat=turn,
                only=numbers_of(chunk.text) if options.held_to_numbers else (),
            )
            calls = read_short(said.generation, chunk.text) if self.short else read_calls(said.generation, self.tools)
            outcomes = execute(episode.memory, calls, number, turn, options.contract)
            exchange = ChunkReply(number, turn, said, tuple(outcomes))
            episode.exchanges.append(exchange)
            scribe.history.extend(effects_of(exchange, episode.memory))
            failed = [{"number": i, "call": o.call, "reply": o.reply} for i, o in enumerate(outcomes, 1) if o.failed]
            if not failed:
                return
            if turn < options.repairs:
                again = scribe.render("call_replies", outcomes=failed, done=len(outcomes) - len(failed))
                messages = (*messages, Message("assistant", as_text(said.generation)), *again)

    def shown(self, memory: Memory, chunk: str) -> dict[str, Any]:
        """Return what the prompt to write a chunk down shows: core whole, the newest items of each list, the chunk."""
        newest = self.options.newest
        lists = (MemoryPart.semantic, MemoryPart.episodic)
        in_prompt = self.options.tools is ToolsIn.prompt and not self.short
        return {
            "parts": [part.value for part in self.limits.parts],
            "core": memory.core.text if memory.core else "",
            "semantic": memory.newest(MemoryPart.semantic, newest),
            "episodic": memory.newest(MemoryPart.episodic, newest),
            "hidden": {part.value: max(0, len(memory.items(part)) - newest) for part in lists},
            "core_tokens": self.options.core_tokens,
            "reply_tokens": int(self.options.max_tokens * _TOLD),
            "chunk": chunk,
            **({"lines": numbered(chunk)} if self.short else {}),
            "tools": [canonical(tool) for tool in self.tools] if in_prompt else [],
        }


def effects_of(exchange: ChunkReply, memory: Memory) -> list[Effect]:
    """Return what every call of a reply did, or that it called nothing."""
    if not exchange.outcomes:
        return [Effect(exchange.chunk, exchange.turn, exchange.said.key, NO_CALL)]
    return [_effect(outcome, exchange.said.key, memory) for outcome in exchange.outcomes]


def _effect(outcome: Outcome, key: str, memory: Memory) -> Effect:
    change = None if outcome.change is None else memory.changes[outcome.change - 1]
    return Effect(
        chunk=outcome.chunk,
        turn=outcome.turn,
        key=key,
        result=outcome.result.value,
        call=outcome.call,
        reply=outcome.reply,
        part=outcome.part.value if outcome.part else "",
        id=outcome.id,
        text="" if change and change.after in (None, outcome.text.strip()) else outcome.text,
        change=outcome.change,
        operation=change.operation.value if change else "",
        before=change.before if change else None,
        after=change.after if change else None,
    )


def changes_of(memory: Memory) -> list[dict[str, Any]]:
    """The history as JSON rows; `Memory.replay` of them gives the memory again."""
    return [to_json(change) for change in memory.changes]

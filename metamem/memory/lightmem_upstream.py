"""`lightmem_upstream`: the package of LightMem's authors (zjunlp) as a memory of this framework, to check ours against.

In: a conversation, as pairs of a user's message and its reply, which is what the package takes. Out: a bank of the
facts in its vector store. It is given this run's builder as its manager, our compressor and embedder as its models, and
a folder of its own under a name that is a hash; it reaches for no network. Its facts name no message: their time names
the session.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from metamem.core.banks import Cost, MemoryBank, Unread
from metamem.core.calls import Draw, Failure, Message, Request
from metamem.core.contracts import MemoryContext
from metamem.core.errors import ConfigError, MissingExtraError
from metamem.core.json_form import digest
from metamem.core.records import Conversation, MemoryUnit, Session
from metamem.core.registry import option, register
from metamem.memory.lightmem.buffers import messages_of
from metamem.memory.lightmem.compression import MODEL, Compressor
from metamem.memory.lightmem.options import MessagesUse

INSTALL = (
    "its pins clash with vLLM's, so install it without its dependencies, then what it needs of them: "
    "pip install --no-deps git+https://github.com/zjunlp/LightMem && pip install qdrant-client tiktoken"
)
_USE = {MessagesUse.user: "user_only", MessagesUse.assistant: "assistant_only", MessagesUse.hybrid: "hybrid"}
# The package's classes are looked up by factories in one module: they are exchanged while an instance is made.
_MAKING = threading.Lock()


@register("memory", "lightmem_upstream")
class LightMemUpstream:
    """zjunlp's LightMem package itself, where it is installed: to compare lightmem with."""

    version = 1
    needs: tuple[str, ...] = ("builder", "embedder")
    prompts: tuple[str, ...] = ()

    @dataclass
    class Config:
        """The settings that the package takes."""

        messages_use: MessagesUse = option(
            MessagesUse.user, "messages facts are extracted from: user, assistant, hybrid"
        )
        compressor_model: str = option(MODEL, "folder or hub id of a LLMLingua-2 model, which compresses and segments")
        rate: float = option(0.7, "share of a message's words that compression keeps, above 0 to 1")
        attention_layers: list[int] = option([8, 9, 10, 11], "layers of the compressor whose attention tells topics")
        device: str | None = option(None, "torch device of the compressor (null: the fastest)", result=False)
        reply_tokens: int = option(4096, "new tokens per reply of the builder at most")
        update: bool = option(False, "run the package's offline update")
        update_threshold: float = option(0.9, "similarity from which the offline update considers a later fact")
        storage: str = option("outputs/memory/upstream", "folder of the package's vector stores", result=False)

        def __post_init__(self) -> None:
            self.messages_use = MessagesUse(self.messages_use)
            if not 0 < self.rate <= 1:
                raise ConfigError(f"memory.rate must be above 0 and at most 1, got {self.rate}")

    def __init__(self, config: Config) -> None:
        if importlib.util.find_spec("lightmem") is None:
            raise MissingExtraError(f"memory=lightmem_upstream needs zjunlp's LightMem package; {INSTALL}")
        self.config = config
        self._compressor = Compressor(config.compressor_model, config.attention_layers, config.device)

    def identity(self) -> Mapping[str, Any]:
        """The compressor's weights and the package's source."""
        self._compressor.check(512)
        spec = importlib.util.find_spec("lightmem")
        assert spec is not None
        folder = Path(next(iter(spec.submodule_search_locations or ())))
        hashed = sha256()
        for path in sorted(folder.rglob("*.py")):
            hashed.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return {"compressor": dict(self._compressor.identity()), "package": hashed.hexdigest()[:16]}

    async def construct(self, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """What the package makes of the conversation. Messages that are in no pair are left out and counted."""
        loop = asyncio.get_running_loop()
        manager = _Manager(context, self.config.reply_tokens, loop)
        units, left_out = await asyncio.to_thread(self._build, conversation, context, manager)
        counts = {"facts": len(units), "left_out": left_out, "undelivered": len(manager.failed)}
        costs = {"extract": manager.cost}
        sessions = len(conversation.sessions)
        return MemoryBank("", conversation.id, units, sessions, costs, counts, tuple(manager.failed))

    async def extend(self, bank: MemoryBank, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The new sessions as a conversation of their own, added to the bank."""
        new = await self.construct(replace(conversation, sessions=conversation.sessions[bank.sessions :]), context)
        units = tuple(replace(u, id=f"{bank.sessions}/{u.id}") for u in new.units)
        costs = {"extract": bank.costs["extract"] + new.costs["extract"]}
        counts = {name: bank.counts[name] + count for name, count in new.counts.items()}
        unread = (*bank.unread, *new.unread)
        return MemoryBank(
            "", bank.conversation_id, bank.units + units, len(conversation.sessions), costs, counts, unread
        )

    async def update(self, bank: MemoryBank, context: MemoryContext) -> MemoryBank:
        """The bank as it is: the package updates what is in its own store, while it constructs."""
        return bank

    def _build(
        self, conversation: Conversation, context: MemoryContext, manager: _Manager
    ) -> tuple[tuple[MemoryUnit, ...], int]:
        pairs, left_out = pairs_of(conversation.sessions)
        if not pairs:
            return (), left_out
        place = Path(self.config.storage) / digest([conversation.id, str(self.config)], 32)
        place.parent.mkdir(parents=True, exist_ok=True)
        memory = self._make(context, manager, place)
        for number, pair in enumerate(pairs):
            last = number == len(pairs) - 1
            memory.add_memory(pair, force_segment=last, force_extract=last)
        if self.config.update:
            memory.construct_update_queue_all_entries()
            memory.offline_update_all_entries(score_threshold=self.config.update_threshold)
        entries = memory.embedding_retriever.get_all()
        memory.embedding_retriever.client.close()
        sessions = {_stamp(s): s for s in reversed(conversation.sessions)}
        found = sorted(entries, key=lambda e: (e["payload"]["float_time_stamp"], e["payload"]["memory"]))
        units = []
        for number, entry in enumerate(found):
            time = datetime.fromisoformat(str(entry["payload"]["time_stamp"])).replace(second=0, microsecond=0)
            session = next((s for stamp, s in sessions.items() if stamp == _minute(time)), None)
            text = str(entry["payload"]["memory"])
            units.append(MemoryUnit(f"fact{number}", text, time, session.id if session else None, (), "fact"))
        return tuple(units), left_out

    def _make(self, context: MemoryContext, manager: _Manager, place: Path) -> Any:
        """An instance of the package's memory with our parts in place of those its factories would make."""
        package = importlib.import_module("lightmem.memory.lightmem")
        embedder = context.embedder
        assert embedder is not None
        compressor = _Compressor(self._compressor, self.config.rate)
        dimensions = int(embedder.embed(["a"])[0].shape[1])
        parts = {
            "PreCompressorFactory": compressor,
            "MemoryManagerFactory": manager.instance(compressor.tokenizer),
            "TextEmbedderFactory": _Embedder(embedder),
        }
        settings = {
            "pre_compress": True,
            "pre_compressor": {"model_name": "llmlingua-2"},
            "topic_segment": True,
            "precomp_topic_shared": True,
            "topic_segmenter": {"model_name": "llmlingua-2", "configs": {"layers": list(self.config.attention_layers)}},
            "messages_use": _USE[self.config.messages_use],
            "memory_manager": {"model_name": "openai", "configs": {"model": "builder", "api_key": "unused"}},
            "index_strategy": "embedding",
            "retrieve_strategy": "embedding",
            "embedding_retriever": {
                "model_name": "qdrant",
                "configs": {"collection_name": "facts", "embedding_model_dims": dimensions, "path": str(place)},
            },
            "update": "offline",
        }
        with _MAKING:
            known = {name: getattr(package, name) for name in parts}
            try:
                for name, part in parts.items():
                    setattr(package, name, SimpleNamespace(from_config=lambda *_, made=part: made))
                made = package.LightMemory.from_config(settings)
                _silence()
                return made
            finally:
                for name, factory in known.items():
                    setattr(package, name, factory)


def pairs_of(sessions: Sequence[Session]) -> tuple[list[list[dict[str, str]]], int]:
    """The messages as the package takes them, a user's with its reply, and how many are in no such pair."""
    pairs: list[list[dict[str, str]]] = []
    count = 0
    for session in sessions:
        said = messages_of(session)
        count += len(said)
        position = 0
        while position + 1 < len(said):
            if [m.role for m in said[position : position + 2]] == ["user", "assistant"]:
                shown = [
                    {"role": m.role, "content": m.text, "time_stamp": _stamp(session)} for m in said[position:][:2]
                ]
                pairs.append(shown)
                position += 1
            position += 1
    return pairs, count - 2 * len(pairs)


def _silence() -> None:
    """The package reports by print, whole prompts too; a run has its own display."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "lightmem" and module is not None:
            vars(module)["print"] = lambda *_, **__: None


def _stamp(session: Session) -> str:
    return _minute(session.time or datetime(1970, 1, 1))


def _minute(time: datetime) -> str:
    return f"{time:%Y/%m/%d} ({('Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun')[time.weekday()]}) {time:%H:%M}"


class _Manager:
    """The builder role as the package's language model: its own prompts, our calls."""

    def __init__(self, context: MemoryContext, tokens: int, loop: asyncio.AbstractEventLoop) -> None:
        self._context, self._tokens, self._loop = context, tokens, loop
        self._guard = threading.Lock()
        self.cost = Cost()
        self.failed: list[Unread] = []

    def instance(self, tokenizer: Any) -> Any:
        """An object of the package's manager class that asks the builder."""
        kind = importlib.import_module("lightmem.factory.memory_manager.openai").OpenaiManager
        made = kind.__new__(kind)  # its constructor would make a client of a server
        made.config = SimpleNamespace(model="builder")
        made.tokenizer = tokenizer
        made.generate_response = self.generate
        return made

    def generate(self, messages: list[dict[str, str]], **_: Any) -> tuple[str, dict[str, int]]:
        """One reply and its usage, from a thread of the package's."""
        builder = self._context.builder
        assert builder is not None
        sampling = replace(builder.sampling(), temperature=0.0, max_tokens=self._tokens)
        asked = tuple(Message(m["role"], m["content"]) for m in messages)
        call = builder(Request(asked, sampling, (Draw("memory/upstream"),)))
        outcome = asyncio.run_coroutine_threadsafe(_awaited(call), self._loop).result()[0].outcome
        with self._guard:
            if isinstance(outcome, Failure):
                self.failed.append(Unread("extract", (), outcome.reason, delivered=False))
                # The package does not survive a manager that raises: it is told that there is nothing.
                return '{"data": []}', dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
            usage = outcome.usage
            self.cost += Cost(1, usage.prompt_tokens, usage.completion_tokens)
        tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        return outcome.text, {**tokens, "total_tokens": sum(tokens.values())}


async def _awaited(call: Any) -> Any:
    return await call


class _Compressor:
    """Our compressor as the package's."""

    def __init__(self, compressor: Compressor, rate: float) -> None:
        self._compressor, self._rate = compressor, rate
        self.tokenizer, model = compressor.parts()
        self.inner_compressor = SimpleNamespace(model=model, tokenizer=self.tokenizer)

    def compress(self, messages: list[dict[str, str]], tokenizer: Any = None) -> list[dict[str, str]]:
        """The messages with their contents compressed."""
        texts = self._compressor.compress([m["content"] for m in messages], self._rate)
        return [{**m, "content": text} for m, text in zip(messages, texts, strict=True)]


class _Embedder:
    """Our embedder as the package's: the vector of a text's first window."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self._guard = threading.Lock()

    def embed(self, text: str) -> list[float]:
        """One text's vector."""
        with self._guard:
            vectors, _ = self._embedder.embed([text])
        return [float(value) for value in vectors[0]]

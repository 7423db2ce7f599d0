"""`evermemos`: the algorithms of EverMemOS, in their authors' packages everalgo, as a memory of this framework.

In: a conversation, a session at a time. Out: a bank of episodes and of the atomic facts of each, with the turns that
they were made of. The builder cuts a session into cells, tells each cell as an episode, and takes the facts from the
episode's text, which is what the authors' server (everos) does with the same packages; the rest of what that makes
(profiles, foresights) is left out. The packages are given this run's builder; their clock is that of the messages, and
their tokenizer is read from a file, where they would fetch it. They keep nothing, so that a bank grows by what a later
session says.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from types import SimpleNamespace
from typing import Any

from metamem.core.errors import MissingExtraError
from metamem.core.records import Session
from metamem.core.registry import option, register
from metamem.memory.adapters.base import Fact, Made, Models, PackageMemory, session_time
from metamem.memory.chunks import said_in

# The set that everos 1.5.1 pins: newer ones do not fit each other.
_PINNED = ("everalgo-user-memory==0.4.0", "everalgo-boundary==0.2.1", "everalgo-core==0.3.0")


@register("memory", "evermemos")
class EverMemOS(PackageMemory):
    """EverMemOS's packages themselves, where they are installed: episodes of a session, and the facts of each.

    Source: the packages everalgo-user-memory 0.4.0, everalgo-boundary 0.2.1 and everalgo-core 0.3.0
    (EverMind-AI/EverAlgo), put together as everos 1.5.1 does; the paper is EverMemOS (arXiv 2601.02163).
    """

    package = "everalgo"
    beside = ("everalgo.user_memory", "everalgo.boundary", "bpe_openai")
    install = (" ".join((*_PINNED, "'bpe-openai>=0.1.4'")),)
    python = (3, 12)
    retriever = "hybrid"
    needs = ("builder",)

    @dataclass
    class Config:
        """How much a reply may hold."""

        reply_tokens: int = option(4096, "new tokens per reply of the builder at most", least=1)

    def __init__(self, config: Config) -> None:
        super().__init__("evermemos", config.reply_tokens)

    def identity(self) -> Mapping[str, Any]:
        """Return what the packages are, by the one that extracts, and the versions of all.

        Raises `MissingExtraError` for versions that do not fit each other.
        """
        versions = {name: importlib.metadata.version(name) for name in (pin.split("==")[0] for pin in _PINNED)}
        if strange := [
            f"{name}=={version}" for name, version in versions.items() if f"{name}=={version}" not in _PINNED
        ]:
            raise MissingExtraError(
                f"memory=evermemos needs versions that fit each other, not {', '.join(strange)}. Install them with:\n"
                f"  {sys.executable} -m pip install {self.install[0]}"
            )
        made = super().identity()
        package = {**made["package"], "version": versions["everalgo-user-memory"]}
        return {**made, "package": package, "versions": versions}

    def build(self, sessions: Sequence[Session], models: Models) -> Made:
        """Return episodes and facts; replies of the wrong form are counted."""
        counts = Counter(unread_boundaries=0, unread_episodes=0, unread_facts=0)
        self._count_offline()
        return Made(asyncio.run(self._of_all(sessions, models, counts)), counts)

    async def _of_all(self, sessions: Sequence[Session], models: Models, counts: Counter[str]) -> list[Fact]:
        # What is made of a session depends on no other one.
        made = await asyncio.gather(*(self._of_session(session, models, counts) for session in sessions))
        return [fact for facts in made for fact in facts]

    async def _of_session(self, session: Session, models: Models, counts: Counter[str]) -> list[Fact]:
        """Return what is made of a session's cells; one whose boundaries could not be read is one cell."""
        types, extracting = self.load("everalgo.types"), self.load("everalgo.user_memory")
        builder = self._client(models)
        milliseconds = int(session_time(session).replace(tzinfo=UTC).timestamp()) * 1000
        messages = [
            types.ChatMessage(
                id=turn.id,
                role="assistant" if turn.role == "assistant" else "user",
                content=turn.text.strip(),
                timestamp=milliseconds,
                sender_id=turn.speaker or turn.role,
                sender_name=turn.speaker or turn.role,
            )
            for turn in said_in(session)
        ]
        if not messages:
            return []
        try:
            cells = (await extracting.BoundaryDetector(llm=builder).adetect(messages, is_final=True)).cells
        except ValueError:
            counts["unread_boundaries"] += 1
            cells = [types.MemCell(items=messages, timestamp=milliseconds)]
        made = await asyncio.gather(*(self._of_cell(cell, session, builder, counts) for cell in cells))
        return [fact for facts in made for fact in facts]

    async def _of_cell(self, cell: Any, session: Session, builder: Any, counts: Counter[str]) -> list[Fact]:
        extracting = self.load("everalgo.user_memory")
        turns = tuple(message.id for message in cell.items)
        try:
            episode = await extracting.EpisodeExtractor(llm=builder).aextract(cell, sender_id=None)
        except ValueError:
            counts["unread_episodes"] += 1
            return []
        made = [Fact(episode.episode, session.time, session.id, turns, kind="episode")]
        facts = extracting.AtomicFactExtractor(llm=builder)
        try:
            found = await facts.aextract_from_text(episode.episode, timestamp=episode.timestamp)
        except ValueError:
            counts["unread_facts"] += 1
        else:
            made += [Fact(fact.content, session.time, session.id, turns) for fact in found]
        return made

    def _client(self, models: Models) -> Any:
        """Return our builder as the packages' kind of client."""
        response: Any = self.load("everalgo.llm.types").ChatResponse

        async def chat(messages: Sequence[Any], **_: Any) -> Any:
            told = [{"role": message.role, "content": message.content} for message in messages]
            text, _usage = await asyncio.to_thread(models.ask, told, "extract")
            return response(content=text, model="builder")

        return SimpleNamespace(chat=chat)

    def _count_offline(self) -> None:
        """Have the packages count tokens with their vocabulary as a file; a special token in a text is plain text."""
        counting = self.load("bpe_openai").get_encoding("o200k_base")
        ordinary = SimpleNamespace(encode=counting.encode_ordinary, decode=counting.decode)
        vars(self.load("everalgo._tokenize"))["_tokenizer_cache"] = ordinary

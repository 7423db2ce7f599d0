"""What every memory system of another package needs around it to be a memory of this framework.

In: a conversation, and what a package makes of its sessions in a thread of its own. Out: a bank with ids that do not
depend on the package's random ones, or one with the call that was not delivered. A package gets this run's builder and
embedder (`Models`), so that the journal, the costs and the choice of model are the run's; it prints nothing, reports to
nobody, and its version and source are part of the bank's address.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from metamem.core.banks import Cost, MemoryBank, Unread
from metamem.core.calls import Draw, Failure, Message, Request, Usage
from metamem.core.contracts import MemoryContext
from metamem.core.errors import MissingExtraError
from metamem.core.records import Conversation, MemoryUnit, Session

# The time of a session that has none. Never today's: prompts that show it would be others tomorrow.
UNDATED = datetime(1970, 1, 1)


class NotDeliveredError(Exception):
    """The builder failed on a call of a package, or on an earlier one of the same conversation."""


class Models:
    """The builder and the embedder of a run, as a package's threads call them.

    `max_tokens` is what a reply may have. `cost` sums the calls, `failed` is the first that was not delivered: what
    comes after it would be asked otherwise the next time, so no more calls of the conversation are sent. `error` is an
    exception of our own, such as a refused key: a package may swallow it, a run must not.
    """

    def __init__(self, context: MemoryContext, max_tokens: int, loop: asyncio.AbstractEventLoop) -> None:
        assert context.builder is not None, "this memory needs the builder role"
        assert context.embedder is not None, "this memory needs an embedder"
        self._context, self._builder, self._embedder = context, context.builder, context.embedder
        self._max_tokens, self._loop = max_tokens, loop
        self._lock = threading.Lock()  # a package may use threads
        self._one_embeds = threading.Lock()
        self.cost = Cost()
        self.failed: Unread | None = None
        self.error: Exception | None = None

    def ask(self, messages: Sequence[Mapping[str, str]], scope: str) -> tuple[str, Usage]:
        """Return the builder's greedy reply and its tokens. Raises `NotDeliveredError`."""
        if self.failed is not None:
            raise NotDeliveredError(self.failed.reason)
        sampling = replace(self._builder.sampling(), temperature=0.0, max_tokens=self._max_tokens)
        asked = tuple(Message(m["role"], m["content"]) for m in messages)
        request = Request(asked, sampling, (Draw(f"memory/{scope}"),))
        try:
            outcome = asyncio.run_coroutine_threadsafe(self._sent(request), self._loop).result()
        except Exception as error:
            self.error = error
            raise
        with self._lock:
            if isinstance(outcome, Failure):
                self.failed = self.failed or Unread("build", (), outcome.reason, delivered=False)
                raise NotDeliveredError(outcome.reason)
            self.cost += Cost(1, outcome.usage.prompt_tokens, outcome.usage.completion_tokens)
        return outcome.text, outcome.usage

    def embed(self, text: str) -> list[float]:
        """Return the unit vector of a text's first window."""
        with self._one_embeds:
            vectors, _ = self._embedder.embed([text])
        return [float(value) for value in vectors[0]]

    async def _sent(self, request: Request) -> Any:
        async with self._context.calls:
            (reply,) = await self._builder(request)
        return reply.outcome


@dataclass(frozen=True)
class Fact:
    """A piece of a package's memory. Its time is the session's where the package keeps it."""

    text: str
    time: datetime | None = None
    session_id: str | None = None


@dataclass(frozen=True)
class Made:
    """What a package made of sessions: its memory, and figures to report."""

    facts: Sequence[Fact] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


class PackageMemory(ABC):
    """A memory (kind `memory`) that another package implements.

    `package` is the name it is imported by, `install` the arguments of pip that install it, each entry one command;
    `loggers` are those that it logs to beside its own, `quiet` the environment variables that keep it from reporting
    its use to its authors.
    """

    package: ClassVar[str]
    install: ClassVar[Sequence[str]]
    loggers: ClassVar[Sequence[str]] = ()
    quiet: ClassVar[Mapping[str, str]] = {"DO_NOT_TRACK": "1"}

    version = 1
    needs: tuple[str, ...] = ("builder", "embedder")
    prompts: tuple[str, ...] = ()

    def __init__(self, name: str, max_tokens: int) -> None:
        """Raises `MissingExtraError` with the commands that install the package."""
        if importlib.util.find_spec(self.package) is None:
            commands = "\n".join(f"  {sys.executable} -m pip install {arguments}" for arguments in self.install)
            raise MissingExtraError(
                f"memory={name} needs the package {self.package}, which is not installed. Install it with:\n{commands}"
            )
        self._max_tokens = max_tokens

    @abstractmethod
    def build(self, sessions: Sequence[Session], models: Models) -> Made:
        """Return what the package makes of sessions. Runs in a thread and may block."""

    def identity(self) -> Mapping[str, Any]:
        """Return the package's name, version and source: a checkout changes without its version."""
        return {"package": {"name": self.package, "version": self._version(), "source": self._source()}}

    async def construct(self, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """Return the bank of one conversation."""
        return await self._grow(None, conversation, context)

    async def extend(self, bank: MemoryBank, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """Return the bank with the new sessions taken in, as a conversation of their own."""
        return await self._grow(bank, conversation, context)

    async def update(self, bank: MemoryBank, context: MemoryContext) -> MemoryBank:
        """Return the bank as it is: a package reworks what is in its own store while it builds."""
        return bank

    async def _grow(self, bank: MemoryBank | None, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """Return a bank of the whole conversation; what an earlier one covers is taken from it."""
        bank = bank or MemoryBank("", conversation.id, ())
        models = Models(context, self._max_tokens, asyncio.get_running_loop())
        new = conversation.sessions[bank.sessions :]
        made = await asyncio.to_thread(self._build, new, models)
        counts = {**made.counts, "facts": len(made.facts), "undelivered": int(models.failed is not None)}
        return MemoryBank(
            "",
            conversation.id,
            (*bank.units, *_units(made.facts, f"{bank.sessions}/" if bank.sessions else "")),
            len(conversation.sessions),
            {"build": bank.costs.get("build", Cost()) + models.cost},
            {name: bank.counts.get(name, 0) + count for name, count in counts.items()},
            (*bank.unread, *([models.failed] if models.failed else [])),
        )

    def _build(self, sessions: Sequence[Session], models: Models) -> Made:
        made, stumbled = Made(), None
        try:
            made = self.build(sessions, models)
        except Exception as error:
            stumbled = error
        if models.error is not None:
            raise models.error
        if models.failed is not None:
            # Whether the package raised or went on with less: this is no memory of these sessions.
            return Made()
        if stumbled is not None:
            raise stumbled
        return made

    def load(self, module: str) -> Any:
        """Import a module of the package and silence it: a run has its own display."""
        os.environ.update({name: value for name, value in self.quiet.items() if name not in os.environ})
        loaded = importlib.import_module(module)
        for name in (self.package, *self.loggers):
            logger = logging.getLogger(name)
            if logger.propagate:
                logger.addHandler(logging.NullHandler())
                logger.propagate = False
        # Packages print whole prompts, from threads of their own, while the run's display draws: standard output cannot
        # be taken from them alone, so each module of theirs gets a `print` that does nothing.
        for name, known in list(sys.modules.items()):
            if name.split(".")[0] == self.package and known is not None:
                vars(known)["print"] = lambda *_, **__: None
        return loaded

    def _version(self) -> str:
        for distribution in importlib.metadata.packages_distributions().get(self.package, [self.package]):
            try:
                return importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "unknown"

    def _source(self) -> str:
        found = importlib.util.find_spec(self.package)
        assert found is not None
        hashed = sha256()
        for folder in map(Path, found.submodule_search_locations or ()):
            for path in sorted(folder.rglob("*.py")):
                hashed.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return hashed.hexdigest()[:16]


def session_time(session: Session) -> datetime:
    """Return the time that a package is told of a session, to the minute."""
    return (session.time or UNDATED).replace(second=0, microsecond=0)


def _units(facts: Sequence[Fact], prefix: str) -> tuple[MemoryUnit, ...]:
    """Number facts by time and text: a package's own ids and order may be random."""
    order = sorted(facts, key=lambda f: (f.time or UNDATED, f.session_id or "", f.text))
    return tuple(MemoryUnit(f"{prefix}fact{n}", f.text, f.time, f.session_id, (), "fact") for n, f in enumerate(order))

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
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from metamem.backbones.engine.loop import in_thread
from metamem.core.banks import MemoryBank, Unread
from metamem.core.calls import Generation, Message, Usage
from metamem.core.contracts import MemoryConstructor
from metamem.core.errors import MissingExtraError
from metamem.core.records import Conversation, MemoryUnit, Session
from metamem.memory.scribe import LostError, Scribe

# The time of a session that has none. Never today's: prompts that show it would be others tomorrow.
UNDATED = datetime(1970, 1, 1)


class Models:
    """The builder and the embedder of a run, as a package's threads call them.

    `max_tokens` is what a reply may have. `lost` is the first call that was not delivered: what comes after it would be
    asked otherwise the next time, so no more calls of the conversation are sent. `error` is an exception of our own,
    such as a refused key: a package may swallow it, a run must not.
    """

    def __init__(self, scribe: Scribe, max_tokens: int, loop: asyncio.AbstractEventLoop) -> None:
        self._scribe, self._max_tokens, self._loop = scribe, max_tokens, loop
        self._one_embeds = threading.Lock()
        self.lost: LostError | None = None
        self.error: Exception | None = None

    def ask(self, messages: Sequence[Mapping[str, str]], place: str) -> tuple[str, Usage]:
        """Return the text of the builder's greedy reply and its tokens. Raises `LostError`."""
        reply = self.generate(messages, place)
        return reply.text, reply.usage

    def generate(
        self,
        messages: Sequence[Mapping[str, str]],
        place: str,
        tools: Sequence[dict[str, Any]] = (),
        schema: dict[str, Any] | None = None,
    ) -> Generation:
        """Return the builder's greedy reply, which may call tools, or follows a JSON schema. Raises `LostError`."""
        if self.lost is not None:
            raise self.lost
        asked = tuple(Message(m["role"], m["content"]) for m in messages)
        call = self._scribe.reply(
            asked, stage="build", place=place, max_tokens=self._max_tokens, schema=schema, tools=tools
        )
        try:
            said = asyncio.run_coroutine_threadsafe(call, self._loop).result()
        except LostError as error:
            self.lost = error
            raise
        except Exception as error:
            self.error = error
            raise
        return said.generation

    def lose(self, reason: str) -> LostError:
        """Note a call that a server of the package's did not answer, and return what to raise."""
        self._scribe.note(Unread("build", (), reason, delivered=False))
        self.lost = self.lost or LostError(reason)
        return self.lost

    def embed(self, text: str) -> list[float]:
        """Return the unit vector of a text's first window, alone in its batch: packages do not round what they rank."""
        with self._one_embeds:
            vectors, _ = self._scribe.embedder.embed([text])
        return [float(value) for value in vectors[0]]


@dataclass(frozen=True)
class Fact:
    """A piece of a package's memory. Its time is the session's, and its turns are known, where the package keeps
    them. `key` is what it is found by where that is not its text, `until` when it ceased to be true.
    """

    text: str
    time: datetime | None = None
    session_id: str | None = None
    turn_ids: tuple[str, ...] = ()
    key: str = ""
    until: datetime | None = None
    kind: str = "fact"


@dataclass(frozen=True)
class Made:
    """What a package made of sessions: its memory, and figures to report."""

    facts: Sequence[Fact] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


class PackageMemory(MemoryConstructor):
    """A memory (kind `memory`) that another package implements.

    `package` is the name it is imported by, `beside` those of others that it cannot do without, `install` the
    arguments of pip that install it, each entry one command, `python` the first version of Python that it runs with;
    `loggers` are those that it logs to beside its own, `quiet` the environment variables that keep it from reporting
    its use to its authors.
    """

    package: ClassVar[str]
    beside: ClassVar[Sequence[str]] = ()
    install: ClassVar[Sequence[str]]
    python: ClassVar[tuple[int, int]] = (3, 11)
    loggers: ClassVar[Sequence[str]] = ()
    quiet: ClassVar[Mapping[str, str]] = {"DO_NOT_TRACK": "1"}

    needs: tuple[str, ...] = ("builder", "embedder")

    def __init__(self, name: str, max_tokens: int) -> None:
        """Raises `MissingExtraError` with the commands that install the package."""
        needed = (self.package, *self.beside)
        missing = next((module for module in needed if importlib.util.find_spec(module) is None), None)
        if missing is not None and sys.version_info < self.python:
            raise MissingExtraError(
                f"memory={name} needs Python {'.'.join(map(str, self.python))} or later; "
                f"{sys.executable} is {'.'.join(map(str, sys.version_info[:2]))}"
            )
        if missing is not None:
            commands = "\n".join(f"  {sys.executable} -m pip install {arguments}" for arguments in self.install)
            raise MissingExtraError(
                f"memory={name} needs the package {missing}, which is not installed. Install it with:\n{commands}"
            )
        self._max_tokens = max_tokens

    @abstractmethod
    def build(self, sessions: Sequence[Session], models: Models) -> Made:
        """Return what the package makes of sessions. Runs in a thread and may block."""

    def identity(self) -> Mapping[str, Any]:
        """Return the package's name, version and source: a checkout changes without its version."""
        return {"package": {"name": self.package, "version": self.version_of(self.package), "source": self._source()}}

    async def grow(self, bank: MemoryBank | None, conversation: Conversation, scribe: Scribe) -> None:
        """Add what the package makes of the new sessions, as a conversation of their own."""
        models = Models(scribe, self._max_tokens, asyncio.get_running_loop())
        # Not one of the loop's own few threads: what a builder of this process replies with may need those.
        made = await in_thread(lambda: self._build(scribe.sessions, models), f"metamem-{self.package}")
        for unit in _units(made.facts, f"{bank.sessions}/" if bank is not None and bank.sessions else ""):
            scribe.notebook.put(unit)
        scribe.counts.update({**made.counts, "facts": len(made.facts)})

    def _build(self, sessions: Sequence[Session], models: Models) -> Made:
        made, stumbled = Made(), None
        try:
            made = self.build(sessions, models)
        except Exception as error:
            stumbled = error
        if models.error is not None:
            raise models.error
        if models.lost is not None:
            # Whether the package raised or went on with less: this is no memory of these sessions.
            raise models.lost
        if stumbled is not None:
            raise stumbled
        return made

    def load(self, module: str) -> Any:
        """Import a module of the package and silence it: a run has its own display."""
        os.environ.update({name: value for name, value in self.quiet.items() if name not in os.environ})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the package itself uses: no user of ours can mend it
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

    def version_of(self, package: str) -> str:
        """Return the version of an installed package, by the name it is imported by."""
        for distribution in importlib.metadata.packages_distributions().get(package, [package]):
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
    order = sorted(facts, key=lambda f: (f.time or UNDATED, f.session_id or "", f.text, f.turn_ids))
    return tuple(
        MemoryUnit(f"{prefix}{f.kind}{n}", f.text, f.time, f.session_id, f.turn_ids, f.kind, key=f.key, until=f.until)
        for n, f in enumerate(order)
    )

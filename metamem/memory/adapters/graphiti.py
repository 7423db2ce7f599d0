"""`graphiti`: Zep's Graphiti package as a memory of this framework: a graph of entities whose facts have a time.

In: a conversation, a message at a time, as the package's evaluation gives it what was said. Out: a bank of the facts in
its graph, which lives in an embedded database in memory, each with the turns that state it and when it held. For each
message the builder names entities, matches them to known ones, draws facts between them, and says which known facts a
new one repeats or ends. The package is given this run's builder and embedder; ids are counted, and its clock is the
session's; it reaches for no network. What a bank grows by is read as a conversation of its own.

Its driver of Kuzu, an engine that is no longer maintained, is mended where the package lets drivers be written: it
has no name of a database and no indices of words (getzep/graphiti issue 1258), takes 8 TB of addresses for each
conversation, and ranks equals as its threads come. Candidates that are alike are taken in the order of their ids, not
of hashes.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

from metamem.core.records import Session, Turn
from metamem.core.registry import option, register
from metamem.memory.adapters.base import UNDATED, Fact, Made, Models, PackageMemory, session_time
from metamem.memory.chunks import line_of, said_in
from metamem.replies.json_in_text import UnreadableError, form_of

_GROUP = "memory"
_CACHE, _MOST = 1 << 30, 1 << 34  # bytes of a conversation's database, in memory and in all


@dataclass
class _Told:
    """What a conversation's threads take for the time and for chance."""

    now: datetime = UNDATED
    numbers: Iterator[int] = field(default_factory=itertools.count)


_told: ContextVar[_Told] = ContextVar("told")


@register("memory", "graphiti")
class Graphiti(PackageMemory):
    """Graphiti's package itself, where it is installed: facts between entities, with the times at which they held.

    Source: the package graphiti-core (getzep/graphiti), 0.31, with its embedded database, Kuzu; Zep's paper
    (arXiv 2501.13956) tells of the same system.
    """

    package = "graphiti_core"
    beside = ("kuzu",)
    install = ("'graphiti-core[kuzu]>=0.31.1,<0.32'",)
    retriever = "hybrid"
    loggers = ("neo4j", "posthog")
    quiet: ClassVar[Mapping[str, str]] = {"GRAPHITI_TELEMETRY_ENABLED": "false", "PYTHON_DOTENV_DISABLED": "true"}

    @dataclass
    class Config:
        """What is told at a time, and how much a reply may hold."""

        turns: int = option(1, "turns of a session that are one episode", least=1)
        reply_tokens: int = option(4096, "new tokens per reply of the builder at most", least=1)

    def __init__(self, config: Config) -> None:
        super().__init__("graphiti", config.reply_tokens)
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return what the package is, and the version of its database."""
        return {**super().identity(), "kuzu": self.version_of("kuzu")}

    def build(self, sessions: Sequence[Session], models: Models) -> Made:
        """Return the facts of the package's graph; episodes that a reply of the wrong form left out are counted."""
        _told.set(_Told())
        return asyncio.run(self._grown_graph(sessions, models))

    async def _grown_graph(self, sessions: Sequence[Session], models: Models) -> Made:
        main, nodes = self.load("graphiti_core.graphiti"), self.load("graphiti_core.nodes")
        _counted()
        driver = self._driver()
        counts = Counter(unread_episodes=0, unread_replies=0)
        graph = main.Graphiti(graph_driver=driver, **self._clients(models, counts))
        sources: dict[str, tuple[Session, Sequence[Turn]]] = {}
        try:
            await graph.build_indices_and_constraints()
            for session in sessions:
                time = session_time(session).replace(tzinfo=UTC)
                _told.get().now = time
                turns, size = said_in(session), self.config.turns
                for said in (turns[i : i + size] for i in range(0, len(turns), size)):
                    try:
                        made = await graph.add_episode(
                            name=said[0].id,
                            episode_body="\n".join(map(line_of, said)),
                            source_description="conversation",
                            reference_time=time,
                            source=nodes.EpisodeType.message,
                            group_id=_GROUP,
                        )
                    except UnreadableError:
                        counts["unread_episodes"] += 1
                    else:
                        sources[made.episode.uuid] = (session, said)
            edges = await graph.edges.entity.get_by_group_ids([_GROUP])
        finally:
            driver.client.close()
            driver.db.close()
        return Made([_fact(edge, sources) for edge in edges], counts)

    def _driver(self) -> Any:
        """Return the package's driver of an empty database in memory, with what it lacks."""
        module, kuzu = self.load("graphiti_core.driver.kuzu_driver"), self.load("kuzu")
        vars(module)["warnings"] = SimpleNamespace(warn=lambda *_, **__: None)  # that the engine is not maintained
        kind: Any = module.KuzuDriver

        class Driver(kind):  # type: ignore[misc]
            _database = _GROUP
            db: Any

            def setup_schema(self) -> None:
                self.db.close()
                self.db = kuzu.Database(":memory:", buffer_pool_size=_CACHE, max_db_size=_MOST, max_num_threads=1)
                super().setup_schema()

            async def build_indices_and_constraints(self, delete_existing: bool = False) -> None:
                await self.graph_ops.build_indices_and_constraints(self, delete_existing)

        return Driver()

    def _clients(self, models: Models, counts: Counter[str]) -> Mapping[str, Any]:
        """Return our builder and embedder as the package's kinds of clients; nothing is reranked while it writes."""
        asking: Any = self.load("graphiti_core.llm_client.client").LLMClient
        embedding: Any = self.load("graphiti_core.embedder.client").EmbedderClient
        ranking: Any = self.load("graphiti_core.cross_encoder.client").CrossEncoderClient

        class Builder(asking):  # type: ignore[misc]
            async def _generate_response(self, messages: Any, response_model: Any = None, *_: Any, **__: Any) -> Any:
                form = form_of(response_model)
                told = [{"role": message.role, "content": message.content} for message in messages]
                name = response_model.__name__
                # Calls of one episode run side by side: each waits in a thread of its own.
                reply = await asyncio.to_thread(models.generate, told, name, schema=form.schema)
                try:
                    return form.read(reply.text).model_dump()
                except UnreadableError:
                    counts["unread_replies"] += 1  # the package goes on without some of them: a fact has no date
                    raise

        class Embedder(embedding):  # type: ignore[misc]
            async def create(self, input_data: Any) -> list[float]:
                return models.embed(input_data if isinstance(input_data, str) else input_data[0])

            async def create_batch(self, input_data_list: list[str]) -> list[list[float]]:
                return [models.embed(text) for text in input_data_list]

        class Unused(ranking):  # type: ignore[misc]
            async def rank(self, query: str, passages: list[str]) -> Any:
                raise NotImplementedError

        return {"llm_client": Builder(None), "embedder": Embedder(), "cross_encoder": Unused()}


class _InOrder(set[str]):
    """A set of ids that is gone through in their order: that of hashes is another in every process."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__()))


def _counted() -> None:
    """Have the package's modules count where they would draw ids, and ask the conversation where they would look at
    the clock.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("graphiti_core.") and module is not None:
            own = vars(module)
            if "uuid4" in own:
                own["uuid4"] = lambda: uuid.UUID(int=next(_told.get().numbers))
            if "utc_now" in own:
                own["utc_now"] = lambda: _told.get().now + timedelta(microseconds=next(_told.get().numbers))
            if name.endswith(".dedup_helpers"):
                own["set"] = _InOrder


def _fact(edge: Any, sources: Mapping[str, tuple[Session, Sequence[Turn]]]) -> Fact:
    """Return a fact of the graph, which says when it held, with the session that stated it first and all its turns."""
    begin, end = (edge.valid_at and f"{edge.valid_at:%Y-%m-%d}", edge.invalid_at and f"{edge.invalid_at:%Y-%m-%d}")
    held = " ".join(f"{word} {day}" for word, day in (("from", begin), ("until", end)) if day)
    session = sources[edge.episodes[0]][0]
    ids = dict.fromkeys(turn.id for one in edge.episodes for turn in sources[one][1])
    return Fact(
        f"{edge.fact} ({held})" if held else edge.fact,
        session.time,
        session.id,
        tuple(ids),
        key=edge.fact,
        until=edge.invalid_at and edge.invalid_at.replace(tzinfo=None),
    )

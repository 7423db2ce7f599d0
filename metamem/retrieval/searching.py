"""Searching a memory while a question is answered: the tool as a model sees it, and what a call of it finds.

In: a bank, and calls read from a reply. Out: the tool's schema for that bank, and for each call the units found, best
first, or `RefusedSearch` with a reply that the model can act on. The arguments are Mem-α's (arXiv 2509.25911, section
3): which list, what for, by BM25 or by embeddings, how many.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.contracts import Embedder, RetrievalTools, Retriever
from metamem.core.errors import ConfigError, unknown
from metamem.core.records import Evidence, Question
from metamem.core.registry import option
from metamem.replies.tool_calls import Call, ToolsIn
from metamem.retrieval.bm25 import Bm25
from metamem.retrieval.dense import Dense
from metamem.retrieval.evidence import EvidenceOrder, assemble

NAME = "search"


class Method(StrEnum):
    """How units are compared with a query."""

    bm25 = "bm25"
    embedding = "embedding"


@dataclass
class SearchOptions:
    """Searching the memory while answering."""

    calls: int = option(0, "searches of its memory that an answer may make; 0: none, it works with its evidence alone")
    k: int = option(10, "units that one search gives at most; a call may ask for fewer")
    methods: list[str] = option(["bm25", "embedding"], "how a search may compare: bm25, embedding")
    tokens: int | None = option(None, "most tokens of what one search gives (evidence.tokenizer; null: no limit)")
    tools: ToolsIn = option(
        ToolsIn.request,
        "where the tool is shown: request (chat template, server) or prompt (for servers without)",
    )

    def __post_init__(self) -> None:
        """Raises `ConfigError` that names the option as the user types it."""
        try:
            self.tools = ToolsIn(self.tools)
        except ValueError:
            raise ConfigError(f"search.tools: {unknown('choice', str(self.tools), list(ToolsIn))}") from None
        for name, least in (("calls", 0), ("k", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"search.{name} must be at least {least}, got {getattr(self, name)}")
        if self.tokens is not None and self.tokens < 1:
            raise ConfigError(f"search.tokens must be at least 1 or null, got {self.tokens}")
        for name in self.methods:
            if name not in list(Method):
                raise ConfigError(f"search.methods: {unknown('method', str(name), list(Method))}")
        if not self.methods:
            raise ConfigError(f"search.methods: name at least one of {', '.join(Method)}")

    @property
    def embeds(self) -> bool:
        """Whether searches may need the embedder."""
        return self.calls > 0 and Method.embedding in self.methods


class RefusedSearch(ValueError):
    """A search that was not made; its text is the reply to the model."""


class Searcher:
    """Searches banks for calls of the tool, with the retrievers that its methods name."""

    def __init__(
        self, options: SearchOptions, tools: RetrievalTools, tokenizer: str, pinned: Collection[str] = ()
    ) -> None:
        """Search with a run's tools; the lists of the `pinned` kinds, which are always shown, are not offered."""
        self.options = options
        self._tools = tools
        self._tokenizer = tokenizer
        self._pinned = frozenset(pinned)
        # Everything is ranked: which list is meant, and what is shown already, comes after. A unit that shares no word
        # with the query is not what was looked for; any meaning has some likeness.
        self._retrievers: dict[Method, Retriever] = {
            Method.bm25: Bm25(Bm25.Config(k=sys.maxsize, matching=True)),
            Method.embedding: Dense(Dense.Config(k=sys.maxsize)),
        }

    def tools(self, bank: MemoryBank) -> tuple[dict[str, Any], ...]:
        """The tool, for this bank; nothing where there is nothing to search.

        An argument that leaves no choice is not offered: the list of a memory that has one, the only method.
        """
        lists = self._lists(bank)
        if not lists:
            return ()
        properties: dict[str, Any] = {"query": {"type": "string", "description": "what to look for, in words"}}
        if len(lists) > 1:
            where = {"type": "string", "enum": lists, "description": "which list of the memory; left out: all"}
            properties = {"memory": where, **properties}
        if len(self.options.methods) > 1:
            how = "bm25 compares words, embedding compares meaning; left out: " + self.options.methods[0]
            properties["method"] = {"type": "string", "enum": list(self.options.methods), "description": how}
        most = {"type": "integer", "minimum": 1, "maximum": self.options.k, "description": "how many at most"}
        parameters = {
            "type": "object",
            "properties": {**properties, "k": most},
            "required": ["query"],
            "additionalProperties": False,
        }
        function = {"name": NAME, "description": "Look something up in the memory.", "parameters": parameters}
        return ({"type": "function", "function": function},)

    async def find(
        self, call: Call, bank: MemoryBank, question: Question, shown: Collection[str]
    ) -> tuple[Evidence, ...]:
        """The units that a call asks for, best first, without those whose ids are `shown` already. Raises
        `RefusedSearch`.

        `question` is the one that is being answered; what is found depends on the call alone.
        """
        given = call.arguments
        query, wanted = str(given["query"]).strip(), given.get("k")
        if not query:
            raise RefusedSearch("the query is empty; say what to look for")
        if wanted is not None and not 1 <= wanted <= self.options.k:
            raise RefusedSearch(f"k must be from 1 to {self.options.k}, found {wanted}")
        method = Method(given.get("method") or self.options.methods[0])
        lists = [given["memory"]] if given.get("memory") else self._lists(bank)
        (ranked,) = await self._retrievers[method].retrieve(bank, [replace(question, text=query)], self._tools)
        found = [e for e in ranked.evidence if e.unit.kind in lists and e.unit.id not in shown]
        found = [replace(e, rank=rank) for rank, e in enumerate(found[: wanted or self.options.k])]
        return assemble(question, found, self.options.tokens, self._tokenizer, EvidenceOrder.score)

    def _lists(self, bank: MemoryBank) -> list[str]:
        return [kind for kind in dict.fromkeys(unit.kind for unit in bank.units) if kind not in self._pinned]


def identity(options: SearchOptions, embedder: Embedder) -> Mapping[str, Any] | None:
    """What decides a search's results beyond its options: the embedder's weights; None where there is nothing."""
    return {"embedder": dict(embedder.identity())} if options.embeds else None

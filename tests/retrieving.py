"""What tests of retrievers share: banks, questions, and a retrieval with all that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.registry import build, load_components
from metamem.core.retrieved import Retrieved
from metamem.retrieval.tools import Tools
from metamem.store.store import MemoryStore

load_components()
EMBEDDER = {"name": "hashing", "dimensions": 64, "window": 4}


def bank(*texts: str, name: str = "bank") -> MemoryBank:
    return MemoryBank(name, "c", tuple(MemoryUnit(f"u{i}", text) for i, text in enumerate(texts)))


def ask(text: str, **fields: object) -> Question:
    return Question(id=text, text=text, type="t", answers=("a",), **fields)  # type: ignore[arg-type]


def places(evidence: Sequence[Evidence]) -> list[int]:
    return [int(e.unit.id[1:]) for e in evidence]


async def retrieve(
    retriever: Any, held: MemoryBank, questions: Sequence[Question], embedder: Any = None, store: Any = None
) -> list[Retrieved]:
    tools = Tools(embedder or build("embedder", EMBEDDER), store or MemoryStore())
    found: list[Retrieved] = await retriever.retrieve(held, questions, tools)
    return found


def ranked(
    retriever: Any, held: MemoryBank, questions: Sequence[Question], embedder: Any = None, store: Any = None
) -> list[list[Evidence]]:
    """The evidence that a retriever gives for each question."""
    return [list(one.evidence) for one in asyncio.run(retrieve(retriever, held, questions, embedder, store))]

"""A-MEM (arXiv 2502.12110): notes with keywords, context and tags, linked to each other and rewritten by later ones.

In: a conversation, turn by turn; then questions. Out: a note for each turn, whose nearest neighbours the builder links
or rewrites when it comes; for a question, the notes nearest to keywords made of it, and what they link to.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import metamem as mm
from metamem import MemoryUnit, Scribe, option, register

mm.add_templates(Path(__file__).parent / "templates")


class Note(BaseModel):
    """What the builder says of a turn."""

    keywords: list[str] = []
    context: str = ""
    tags: list[str] = []


class Neighbour(Note):
    """What becomes of a neighbour, which is named by its number in the prompt."""

    number: int


class Evolution(BaseModel):
    """What a new note changes: the neighbours that it is linked to, its tags in their light, and rewritten ones."""

    links: list[int] = []
    tags: list[str] = []
    neighbours: list[Neighbour] = []


def described(unit: MemoryUnit, note: Note) -> MemoryUnit:
    """Return a unit with what is said of it: its words and context are shown, and all of it is what it is found by."""
    held = {"said": unit.text, **Note().model_dump(), **unit.about}
    about = {**held, **{name: value for name, value in note if name in held and value}}
    text = f"{about['said']} [{about['context']}]" if about["context"] else about["said"]
    return replace(unit, text=text, key=" ".join([text, *about["keywords"], *about["tags"]]), about=about)


@register("memory", "amem")
class AMem(mm.MemoryConstructor):
    """A-MEM: linked notes of turns that later notes rewrite."""

    needs = ("builder", "embedder")
    prompts = ("amem_note", "amem_evolve", "repair_memory")
    retriever = "amem"

    @dataclass
    class Config:
        """How far a note reaches."""

        neighbours: int = option(5, "nearest notes that a new one may be linked to or may change", least=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    async def grow(self, bank: mm.MemoryBank | None, conversation: mm.Conversation, scribe: Scribe) -> None:
        """Write a note for each new turn, one after another: each meets those before it."""
        said = [(session, turn) for session in scribe.sessions for turn in session.turns if turn.text.strip()]
        for number, (session, turn) in scribe.stream(said):
            text = f"{turn.speaker or turn.role}: {turn.text.strip()}"
            unit = MemoryUnit(f"{turn.id}/note", text, session.time, session.id, (turn.id,), "note")
            call: dict[str, Any] = {"turn_ids": unit.turn_ids, "note": unit}
            answer = await scribe.ask("amem_note", Note, stage="note", place=f"note/{number}", **call)
            unit = described(unit, answer.value or Note())
            if near := [unit for unit, _ in await scribe.notebook.nearest(unit.found_by, self.config.neighbours)]:
                call = {"turn_ids": unit.turn_ids, "note": unit, "neighbours": near}
                found = await scribe.ask("amem_evolve", Evolution, stage="evolve", place=f"evolve/{number}", **call)
                unit = self._evolved(unit, near, found, scribe.notebook)
            scribe.notebook.put(unit, answer)

    def _evolved(self, unit: MemoryUnit, near: list[MemoryUnit], answer: Any, notebook: Any) -> MemoryUnit:
        """Rewrite the neighbours as the builder said, and return the new note with its links and tags."""
        found = answer.value or Evolution()
        for change in found.neighbours:
            if 1 <= change.number <= len(near):
                notebook.update(described(near[change.number - 1], change), answer, "evolve")
        links = tuple(mm.Link(near[i - 1].id) for i in dict.fromkeys(found.links) if 1 <= i <= len(near))
        return replace(described(unit, Note(tags=found.tags if links else [])), links=links)


@register("retriever", "amem")
class AMemRetriever(mm.RankingRetriever):
    """A-MEM's view: the notes nearest to keywords of the question, then the notes that they link to."""

    needs = ("builder", "embedder")
    prompts = ("amem_query", "repair_memory")
    reads = ("note",)

    @dataclass
    class Config:
        """How much is shown."""

        k: int = option(10, "notes found per question, beside those that they link to", least=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    async def retrieve(self, bank: mm.MemoryBank, questions: Any, tools: mm.RetrievalTools) -> list[mm.Retrieved]:
        """Return the nearest notes of each question, best first, then the linked ones by nearness."""
        calls = (tools.ask(q, "amem_query", Note, stage="query", question=q.text) for q in questions)
        asked = await asyncio.gather(*calls)
        texts = [(a.value and ", ".join(a.value.keywords)) or q.text for a, q in zip(asked, questions, strict=True)]
        made = []
        for answer, row in zip(asked, await tools.run(mm.dense_scores, bank, texts, tools), strict=True):
            found = mm.with_linked(bank, row, mm.best(bank, row, self.config.k))
            made.append(mm.Retrieved(tuple(found), {"query": answer.cost}, (answer.unread,) if answer.unread else ()))
        return made

"""`ace`: ACE, agentic context engineering (arXiv 2510.04618; ace-agent/ace): a playbook that grows by deltas.

In: batches of questions. Per question: an answer under the playbook, and a reflection on it, which marks the bullets
that helped or harmed and finds lessons. Per batch: a curator turns the lessons into new bullets, each in a section.
Nothing is rewritten: bullets are added, their counters go up, and those that nearly say the same are merged into the
earliest with the counts of both. Out: the playbook, which every prompt is given, sections together. A model as small as
`backbone=nano` has not learned to review an answer by itself, nor to curate: it learns next to nothing so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.calls import Generation
from metamem.core.learned import Bounds, ExpectedCalls, Laboratory, Position, Update
from metamem.core.meta_memory import Action, Guideline, MetaMemory, Operation, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import case_of, usable
from metamem.optimizers.proposing import entries_of

_COUNTS = ("helpful", "harmful")


@register("optimizer", "ace")
class ACE(Scheduled):
    """ACE: a playbook of bullets with counters, grown by small additions and never rewritten."""

    prompts = ("ace_reflect", "ace_curate", "repair")

    @dataclass
    class Config:
        """The method's settings."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step", least=1)
        temperature: float = option(0.0, "sampling temperature of the answer", least=0)
        lessons: int = option(2, "lessons taken from an answer at most", least=1)
        bullets: int = option(5, "bullets added by a curation at most", least=1)
        same: float = option(0.9, "similarity from which on two bullets say the same", least=-1, most=1)
        max_words: int = option(40, "words asked for per bullet at most", least=1)
        tokens: int = option(4096, "new tokens per reflection and curation at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is answered once and reflected on, and the batch curated once."""
        most, c = len(batch), self.config
        asked = (
            ExpectedCalls("ace_reflect", 0, most, 2 * most, c.tokens),
            ExpectedCalls("ace_curate", 0, min(most, 1), 2 * min(most, 1), c.tokens),
        )
        return Bounds(most, tuple(a for a in asked if a.most))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Reflect on each answer, count what was marked, add what the curator makes of the lessons, merge."""
        questions = sorted(batch, key=lambda q: q.id)
        found = await asyncio.gather(*(self._reflect(q, at.meta_memory, laboratory) for q in questions))
        memory = at.meta_memory
        for reflection in found:
            memory = counted(memory, reflection)
        lessons = [
            {"text": text, "question": question.id}
            for question, reflection in zip(questions, found, strict=True)
            for text in reflection["lessons"]
        ]
        adding = await self._curate(memory, lessons, laboratory) if lessons else []
        memory, changes, refused = apply(memory, adding, laboratory.step, max_words=self.config.max_words)
        merged = await self._merged(memory, laboratory)
        counts = {"lessons": len(lessons), "merged": len(memory.guidelines) - len(merged.guidelines)}
        # What was added and merged at once is not worth a line.
        left = {g.id for g in merged.guidelines}
        kept = tuple(c for c in changes if c.id in left)
        gone = [g for g in at.meta_memory.guidelines if g.id not in left]
        _, deleted, _ = apply(at.meta_memory, [Operation(Action.delete, g.id) for g in gone], laboratory.step)
        return Update(merged, None, (*kept, *deleted), refused, counts)

    async def _reflect(self, question: Question, memory: MetaMemory, laboratory: Laboratory) -> dict[str, list[str]]:
        """Return the lessons of an answer, and the ids of the shown bullets that helped it and harmed it."""
        judged = await laboratory.attempt(question, memory, 1, self.config.temperature)
        pairs = usable(judged)
        if not pairs:
            return {"lessons": [], "helpful": [], "harmful": []}
        attempt, verdict = pairs[0]
        shown = [g for g in memory.guidelines if g.id in (attempt.shown or ())]
        read = await laboratory.read(
            "ace_reflect",
            self.config.tokens,
            lambda reply: _reflection(reply, self.config.lessons, {g.id for g in shown}),
            **case_of(judged),
            answer=told(attempt),
            correct=bool(verdict.correct),
            bullets=shown,
            most=self.config.lessons,
        )
        return read.value or {"lessons": [], "helpful": [], "harmful": []}

    async def _curate(
        self, memory: MetaMemory, lessons: Sequence[Mapping[str, str]], laboratory: Laboratory
    ) -> list[Operation]:
        c = self.config
        found = await laboratory.read(
            "ace_curate",
            c.tokens,
            lambda reply: entries_of(reply, c.bullets),
            bullets=list(memory.guidelines),
            lessons=[lesson["text"] for lesson in lessons],
            most=c.bullets,
            max_words=c.max_words,
        )
        support = tuple(dict.fromkeys(lesson["question"] for lesson in lessons))
        return [
            Operation(
                Action.add,
                None,
                entry["text"],
                support,
                {"section": entry.get("section") or "general", "helpful": 0, "harmful": 0},
            )
            for entry in found.value or ()
        ]

    async def _merged(self, memory: MetaMemory, laboratory: Laboratory) -> MetaMemory:
        """Return the playbook with bullets that say the same merged into the earliest, and sections together."""
        kept: list[Guideline] = []
        for bullet in sorted(memory.guidelines, key=lambda g: int(g.id[1:])):
            near = await laboratory.similar(bullet.text, [g.text for g in kept])
            best = max(range(len(kept)), key=lambda i: (near[i], -i), default=None)
            if best is not None and near[best] >= self.config.same:
                both = {name: kept[best].about[name] + bullet.about[name] for name in _COUNTS}
                kept[best] = replace(kept[best], about={**kept[best].about, **both})
            else:
                kept.append(bullet)
        sections = list(dict.fromkeys(g.about["section"] for g in kept))
        kept.sort(key=lambda g: sections.index(g.about["section"]))
        return replace(memory, guidelines=tuple(kept))


def counted(memory: MetaMemory, marked: Mapping[str, Sequence[str]]) -> MetaMemory:
    """Return the playbook with the counters of marked bullets gone up by one."""
    for name in _COUNTS:
        for bullet in (g for g in memory.guidelines if g.id in marked[name]):
            memory = memory.noted(bullet.id, **{name: bullet.about[name] + 1})
    return memory


def _reflection(reply: Generation, most: int, shown: set[str]) -> dict[str, list[Any]]:
    """Return what a reflection says: lessons, and which of the shown bullets helped and harmed (not both).

    Raises `UnreadableError` where there is no JSON object with any of these, or a list of lessons.
    """
    from metamem.replies.json_in_text import UnreadableError, read_json

    value, _ = read_json(reply.text)
    if isinstance(value, list):  # of a model that only lists what it learned
        return {"lessons": [e["text"] for e in entries_of(reply, most)], "helpful": [], "harmful": []}
    if not isinstance(value, Mapping) or not {"lessons", *_COUNTS} & value.keys():
        raise UnreadableError('the JSON object has no "lessons", "helpful" or "harmful"')
    texts = {key: [str(v) for v in held if v] for key, held in value.items() if isinstance(held, list)}
    lessons = [" ".join(text.split()) for text in texts.get("lessons", ())]
    marked = {name: [i.strip("[] ") for i in texts.get(name, ())] for name in _COUNTS}
    both = set(marked["helpful"]) & set(marked["harmful"])
    held = {name: [i for i in dict.fromkeys(ids) if i in shown - both] for name, ids in marked.items()}
    return {"lessons": [t for t in dict.fromkeys(lessons) if any(c.isalnum() for c in t)][:most], **held}

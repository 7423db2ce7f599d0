"""`mel_contrast`: lessons from pairs of a right and a wrong attempt at the same question.

In: batches of questions. Out: where attempts disagree, a right one is put beside a wrong one, and the reflector names
the step at which they part and the lesson that it teaches; each lesson is a guideline that every prompt is given. A
lesson that nearly repeats a held one strengthens it instead; the weakest go when there are too many. The plainest form
of learning from contrast, without a review of each attempt and without consolidation. The pairs and the step at which
they part are those of Meta-Experience Learning (MEL, arXiv 2602.10224), which then trains the model on what it found;
here the model stays as it is, and is told. A model as small as
`backbone=nano` has not learned to read attempts that nobody reviewed, and finds next to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import Action, Change, MetaMemory, Operation, Refusal, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import case_of, usable
from metamem.optimizers.proposing import texts_of


@register("optimizer", "mel_contrast")
class Contrast(Scheduled):
    """Lessons from a right and a wrong attempt at the same question, put side by side."""

    prompts = ("contrast", "repair")

    @dataclass
    class Config:
        """The schedule, the pairs, and what is kept."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step", least=1)
        attempts: int = option(5, "answers sampled per question", least=2)
        temperature: float = option(0.7, "sampling temperature of the attempts", above=0)
        pairs: int = option(1, "pairs of a right and a wrong attempt per question at most", least=1)
        lessons: int = option(1, "lessons taken from a pair at most", least=1)
        same: float = option(0.9, "similarity from which on a lesson repeats a held one", least=-1, most=1)
        max_lessons: int = option(30, "lessons kept at most: the weakest and oldest go (0: no cap)", least=0)
        max_words: int = option(30, "words asked for per lesson at most", least=1)
        tokens: int = option(4096, "new tokens per contrast at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is attempted, and what contrasts it may ask for."""
        c = self.config
        most = len(batch) * min(c.pairs, c.attempts // 2)
        return Bounds(len(batch) * c.attempts, (ExpectedCalls("contrast", 0, most / 2, 2 * most, c.tokens),))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Contrast the attempts of a batch, then take the lessons in one after another."""
        questions = sorted(batch, key=lambda q: q.id)
        learned = await asyncio.gather(*(self._learn(q, at.meta_memory, laboratory) for q in questions))
        memory, repeated = at.meta_memory, 0
        changes: list[Change] = []
        refused: list[Refusal] = []
        for question, text in ((q, text) for q, texts in zip(questions, learned, strict=True) for text in texts):
            held = memory.guidelines
            near = await laboratory.similar(text, [g.text for g in held])
            best = max(range(len(held)), key=lambda i: (near[i], -i), default=None)
            if best is not None and near[best] >= self.config.same:
                memory = memory.noted(held[best].id, strength=held[best].about["strength"] + 1)
                repeated += 1
                continue
            adding = Operation(Action.add, None, text, (question.id,), {"strength": 1})
            memory, added, not_added = apply(memory, [adding], laboratory.step, max_words=self.config.max_words)
            changes += added
            refused += not_added
        memory, gone, _ = apply(memory, self._weakest(memory), laboratory.step)
        counts = {"contrasted": sum(bool(texts) for texts in learned), "repeated": repeated}
        return Update(memory, None, (*changes, *gone), tuple(refused), counts)

    async def _learn(self, question: Question, memory: MetaMemory, laboratory: Laboratory) -> list[str]:
        """Return the lessons of one question's pairs."""
        c = self.config
        judged = await laboratory.attempt(question, memory, c.attempts, c.temperature)
        found = await asyncio.gather(
            *(
                laboratory.read(
                    "contrast",
                    c.tokens,
                    lambda reply: texts_of(reply, c.lessons),
                    **case_of(judged),
                    right=right,
                    wrong=wrong,
                    guidelines=list(memory.guidelines),
                    most=c.lessons,
                    max_words=c.max_words,
                )
                for right, wrong in _paired(judged)[: c.pairs]
            )
        )
        return list(dict.fromkeys(text for read in found for text in read.value or ()))

    def _weakest(self, memory: MetaMemory) -> list[Operation]:
        """Return the deletions that the cap asks for."""
        over = len(memory.guidelines) - self.config.max_lessons if self.config.max_lessons else 0
        order = sorted(memory.guidelines, key=lambda g: (g.about["strength"], int(g.id[1:])))
        return [Operation(Action.delete, g.id) for g in order[: max(over, 0)]]


def _paired(judged: Judged) -> list[tuple[str, str]]:
    """Return the first right attempt with the first wrong one, the second with the second, and so on."""
    right = [told(a) for a, v in usable(judged) if v.correct]
    wrong = [told(a) for a, v in usable(judged) if not v.correct]
    return list(zip(right, wrong, strict=False))

"""A bank of experiences: what each training question taught, shown to the questions that are most like it.

The policy answers each question of a batch under what the recall shows of the bank, credits the experiences that were
shown with the outcome, and keeps one more: a lesson in a sentence, with its question, outcome and utility `about` it.
Learn with `experiments/train.py optimizer=experience_bank recall=experiences`.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from metamem import (
    Action,
    Bounds,
    ExpectedCalls,
    Generation,
    Operation,
    Similarity,
    Update,
    add_templates,
    apply,
    option,
    register,
    shuffled,
)

add_templates(Path(__file__).parent / "templates")


@register("optimizer", "experience_bank")
class ExperienceBank:
    """Keep a lesson of each question with its outcome, and a utility that follows the answers it was shown to."""

    prompts = ("experience",)

    @dataclass
    class Config:
        """The schedule, the attempts, and how fast utilities change."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step", least=1)
        attempts: int = option(2, "answers sampled per question", least=1)
        temperature: float = option(0.7, "sampling temperature of the attempts", least=0)
        rate: float = option(0.3, "share of a new outcome in a utility", least=0, most=1)
        max_words: int = option(40, "words asked for per lesson at most", least=1)
        tokens: int = option(256, "new tokens per lesson at most", least=1)

    def __init__(self, config):
        self.config = config

    def batches(self, train, seed):
        """Return epochs of shuffled questions, every one of them."""
        return shuffled(train, self.config.epochs, self.config.batch_size, drop_last=False, seed=seed)

    def plan(self, batch):
        """Return that each question is attempted, and one lesson asked for where it was judged."""
        lessons = ExpectedCalls("experience", 0, len(batch), len(batch), self.config.tokens)
        return Bounds(len(batch) * self.config.attempts, (lessons,))

    async def step(self, at, batch, laboratory):
        """Live through a batch; the bank changes after its last question."""
        lived = await asyncio.gather(*(self._live(question, at.meta_memory, laboratory) for question in batch))
        memory = at.meta_memory
        for judged, _ in lived:
            for name in sorted({name for attempt in judged.attempts for name in attempt.shown}):
                known = next(g.about["utility"] for g in memory.guidelines if g.id == name)
                outcome = 2 * judged.score - 1
                memory = memory.noted(name, utility=round(known + self.config.rate * (outcome - known), 6))
        held = {g.about["question_id"]: g.id for g in memory.guidelines}
        operations = []
        for question, judged, lesson in ((j.question, j, text) for j, text in lived if text):
            about = {"question_id": question.id, "question": question.text, "outcome": judged.score}
            if question.id in held:
                operations.append(Operation(Action.update, held[question.id], lesson, (question.id,), about))
            else:
                operations.append(Operation(Action.add, None, lesson, (question.id,), {**about, "utility": 0.0}))
        memory, changes, refused = apply(memory, operations, laboratory.step)
        return Update(memory, at.state, changes, refused)

    async def _live(self, question, memory, laboratory):
        judged = await laboratory.attempt(question, memory, self.config.attempts, self.config.temperature)
        pairs = zip(judged.attempts, judged.verdicts, strict=True)
        attempts = [{"text": a.response, "correct": v.correct} for a, v in pairs if v.valid and not a.error]
        if not attempts:
            return judged, ""
        about = {"question": question.text, "truth": list(question.answers), "max_words": self.config.max_words}
        reply = await laboratory.ask("experience", self.config.tokens, attempts=attempts, **about)
        return judged, reply.text if isinstance(reply, Generation) else ""


@register("recall", "experiences")
class Experiences:
    """Show the experiences of the questions nearest to this one; utility moves them up or down."""

    prompts = ()

    @dataclass
    class Config:
        """How many, how near, and what utility counts for."""

        k: int = option(3, "experiences shown per question", least=1)
        least: float = option(0.2, "similarity of the questions at least", least=-1, most=1)
        weight: float = option(0.1, "what a utility of 1 adds to the similarity", least=0)

    def __init__(self, config, *, embedder):
        self.config = config
        self._similarity = Similarity(embedder)

    def identity(self):
        """Return the embedder's identity."""
        return {"embedder": self._similarity.identity()}

    async def shown(self, meta_memory, question):
        """Return the experiences of other questions, the best first."""
        held = [g for g in meta_memory.guidelines if g.about.get("question_id") not in (None, question.id)]
        near = await asyncio.to_thread(self._similarity, question.text, [g.about["question"] for g in held])
        pairs = [(score, g) for score, g in zip(near, held, strict=True) if score >= self.config.least]
        pairs.sort(key=lambda pair: -pair[0] - self.config.weight * pair[1].about["utility"])
        return [g for _, g in pairs[: self.config.k]]

"""`memrl`: MemRL (arXiv 2601.03192; MemTensor/MemRL), and its recall in two phases.

In: batches of questions. Out: one experience for each, kept under its question with a utility Q that follows what
became of the answers that it was shown to: Q moves by a share towards the reward, which is 1 or -1 (no next state, so
nothing is discounted). A new question is shown, of the nearest experiences whose questions are similar enough, those
with the best sum of standardised similarity and standardised Q; in training now and then any of these; none whose Q is
too low. A question that nearly repeats one that is held makes no new experience: the held one is rewritten, and
credited by the answers that were not shown it. A model as small as `backbone=nano` has not learned to read an answer
without a review: what it notes is poor, and it learns next to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.calls import Generation
from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import LONGEST_TEXT, Action, Guideline, MetaMemory, Operation, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import case_of, usable
from metamem.recall.embedding import Comparing

# Decimals of what is computed, so that no order of sums shows.
_DECIMALS = 6


@register("optimizer", "memrl")
class MemRL(Scheduled):
    """MemRL: experiences with utilities that follow the answers they were shown to."""

    prompts = ("memrl_experience",)
    recall = "memrl"

    @dataclass
    class Config:
        """The method's settings."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step (1: each sees what the one before it taught)", least=1)
        attempts: int = option(1, "answers sampled per question; each credits what it was shown", least=1)
        temperature: float = option(0.35, "sampling temperature of the attempts", least=0)
        rate: float = option(0.3, "share of a new reward in a utility", least=0, most=1)
        explore: float = option(0.1, "share of the questions that are shown any of their candidates", least=0, most=1)
        merge: float = option(0.85, "similarity from which on a question repeats one that is held", least=-1, most=1)
        max_words: int = option(60, "words asked for per experience at most", least=1)
        tokens: int = option(2048, "new tokens per experience at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is attempted, and one experience asked for."""
        asked = ExpectedCalls("memrl_experience", 0, len(batch), len(batch), self.config.tokens)
        return Bounds(len(batch) * self.config.attempts, (asked,))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Live through a batch, credit what was shown, keep what was experienced."""
        questions = sorted(batch, key=lambda q: q.id)
        drawn = [laboratory.random.random() < self.config.explore for _ in questions]
        memories = [_scrambled(at.meta_memory, laboratory) if d else at.meta_memory for d in drawn]
        pairs = zip(questions, memories, strict=True)
        lived = await asyncio.gather(*(self._live(q, memory, laboratory) for q, memory in pairs))
        memory = at.meta_memory
        for judged, _ in lived:
            for attempt, verdict in usable(judged):
                for name in attempt.shown or ():
                    memory = credited(memory, name, bool(verdict.correct), self.config.rate)
        operations: list[Operation] = []
        for judged, text in lived:
            if text:
                memory, found = await self._kept(memory, judged, text, operations, laboratory)
                operations.append(found)
        memory, changes, refused = apply(memory, operations, laboratory.step)
        counts = {"explored": sum(drawn), "merged": sum(o.action is Action.update for o in operations)}
        return Update(memory, None, changes, refused, counts)

    async def _live(self, question: Question, memory: MetaMemory, laboratory: Laboratory) -> tuple[Judged, str]:
        c = self.config
        judged = await laboratory.attempt(question, memory, c.attempts, c.temperature)
        attempts = [{"text": told(a), "correct": bool(v.correct)} for a, v in usable(judged)]
        if not attempts:
            return judged, ""
        reply = await laboratory.ask(
            "memrl_experience", c.tokens, **case_of(judged), attempts=attempts, max_words=c.max_words
        )
        return judged, " ".join(reply.text.split())[:LONGEST_TEXT] if isinstance(reply, Generation) else ""

    async def _kept(
        self,
        memory: MetaMemory,
        judged: Judged,
        text: str,
        before: Sequence[Operation],
        laboratory: Laboratory,
    ) -> tuple[MetaMemory, Operation]:
        """Return the memory with the credit, and the operation, by which an experience is kept; those of the batch that
        came `before` it are not merged with, since nobody was shown them.
        """
        question, support = judged.question, (judged.question.id,)
        about = {"question_id": question.id, "question": question.text, "outcome": judged.score}
        taken = {o.id for o in before}
        held = [g for g in memory.guidelines if "question" in g.about and g.id not in taken]
        near = await laboratory.similar(question.text, [g.about["question"] for g in held])
        best = max(range(len(held)), key=lambda i: (near[i], -i), default=None)
        if best is None or near[best] < self.config.merge:
            return memory, Operation(Action.add, None, text, support, {**about, "utility": 0.0, "uses": 0})
        name = held[best].id
        for attempt, verdict in usable(judged):
            if name not in (attempt.shown or ()):  # what was shown it has credited it already
                memory = credited(memory, name, bool(verdict.correct), self.config.rate)
        return memory, Operation(Action.update, name, text, support, about)


def credited(memory: MetaMemory, name: str, right: bool, rate: float) -> MetaMemory:
    """Return the memory with the utility of one experience moved towards the reward of an answer (1 or -1)."""
    held = next((g for g in memory.guidelines if g.id == name and "utility" in g.about), None)
    if held is None:
        return memory
    utility = held.about["utility"] + rate * ((1.0 if right else -1.0) - held.about["utility"])
    return memory.noted(name, utility=round(utility, _DECIMALS), uses=held.about["uses"] + 1)


def _scrambled(memory: MetaMemory, laboratory: Laboratory) -> MetaMemory:
    """Return the memory with a drawn number beside each experience, by which the recall then chooses."""
    for guideline in memory.guidelines:
        memory = memory.noted(guideline.id, drawn=laboratory.random.random())
    return memory


@register("recall", "memrl")
class TwoPhases(Comparing):
    """Show experiences of similar questions, those first that are near and have been useful."""

    @dataclass
    class Config:
        """How many, how near, and how much their utility counts."""

        k: int = option(3, "experiences shown per question", least=1)
        candidates: int = option(5, "nearest experiences that are weighed against each other", least=1)
        least: float = option(0.5, "similarity of the questions at least", least=-1, most=1)
        similarity: float = option(0.5, "weight of the standardised similarity", least=0)
        utility: float = option(0.5, "weight of the standardised utility", least=0)
        useful: float = option(-0.8, "utility at least", least=-1, most=1)

    config: Config

    async def shown(self, meta_memory: MetaMemory, question: Question) -> list[Guideline]:
        """Return the chosen experiences of other questions, the best first; of equals the earlier."""
        c = self.config
        held = [g for g in meta_memory.guidelines if g.about.get("question_id") not in (None, question.id)]
        near = await asyncio.to_thread(self._similarity, question.text, [g.about["question"] for g in held])
        order = sorted(range(len(held)), key=lambda i: (-near[i], i))
        order = [i for i in order if near[i] >= c.least][: c.candidates]
        closeness = standardised([near[i] for i in order])
        worth = standardised([held[i].about["utility"] for i in order])
        scores = [c.similarity * s + c.utility * u for s, u in zip(closeness, worth, strict=True)]
        if order and "drawn" in held[order[0]].about:
            scores = [held[i].about["drawn"] for i in order]
        good = [n for n, i in enumerate(order) if held[i].about["utility"] >= c.useful]
        best = sorted(good, key=lambda n: (-round(scores[n], _DECIMALS), order[n]))
        return [held[order[n]] for n in best[: c.k]]


def standardised(values: Sequence[float]) -> list[float]:
    """Return values less their mean, over their standard deviation; zeros where all are the same."""
    if not values:
        return []
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
    return [(v - mean) / spread if spread > 1e-9 else 0.0 for v in values]

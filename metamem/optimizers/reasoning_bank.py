"""`reasoning_bank`: ReasoningBank (arXiv 2509.25140; google-research/reasoning-bank), and its recall.

In: batches of questions. Out: strategy items (title, description, text) drawn from right and from wrong attempts by
different instructions, kept under their question. A new question is shown the items of the questions most similar to
it. With several attempts at a question that do not all end alike, they are contrasted in one call instead (the paper's
parallel scaling). What an attempt is worth is the run's verdict; the accepted answer is not shown. A model as small as
`backbone=nano` has not learned to read attempts without a review: what it makes of them is poor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import LONGEST_TEXT, Action, Guideline, MetaMemory, Operation, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import case_of, usable
from metamem.optimizers.proposing import entries_of
from metamem.recall.embedding import Comparing


@register("optimizer", "reasoning_bank")
class ReasoningBank(Scheduled):
    """ReasoningBank: strategies from successes and failures, shown to the questions most like theirs."""

    prompts = ("reasoning_items", "repair")
    recall = "reasoning_bank"

    @dataclass
    class Config:
        """The method's settings."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step (1: each sees what the one before it taught)", least=1)
        attempts: int = option(1, "answers sampled per question; several are contrasted where they disagree", least=1)
        temperature: float = option(0.7, "sampling temperature of the attempts", least=0)
        items: int = option(3, "items taken from an attempt at most", least=1)
        contrasted: int = option(5, "items taken from attempts that are contrasted at most", least=1)
        tokens: int = option(4096, "new tokens per extraction at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is attempted, and one extraction asked for, and perhaps again."""
        asked = ExpectedCalls("reasoning_items", 0, len(batch), 2 * len(batch), self.config.tokens)
        return Bounds(len(batch) * self.config.attempts, (asked,))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Attempt each question, and add what its attempts teach; what it taught before goes."""
        questions = sorted(batch, key=lambda q: q.id)
        found = await asyncio.gather(*(self._live(q, at.meta_memory, laboratory) for q in questions))
        operations: list[Operation] = []
        for question, (outcome, items, _) in zip(questions, found, strict=True):
            if items:
                mine = (g for g in at.meta_memory.guidelines if g.about.get("question_id") == question.id)
                operations += [Operation(Action.delete, g.id, None, (question.id,)) for g in mine]
            operations += [_adding(question, outcome, item) for item in items]
        memory, changes, refused = apply(at.meta_memory, operations, laboratory.step)
        counts = {"items": sum(len(i) for _, i, _ in found), "unreadable": sum(bool(p) for _, _, p in found)}
        return Update(memory, None, changes, refused, counts)

    async def _live(
        self, question: Question, memory: MetaMemory, laboratory: Laboratory
    ) -> tuple[str, list[dict[str, str]], str]:
        """Return what became of a question, the items that it teaches, and what went wrong."""
        c = self.config
        judged = await laboratory.attempt(question, memory, c.attempts, c.temperature)
        outcome, attempts = _seen(judged)
        if not attempts:
            return "", [], ""
        most = c.contrasted if outcome == "contrast" else c.items
        case = {key: value for key, value in case_of(judged).items() if key != "truth"}
        found = await laboratory.read(
            "reasoning_items",
            c.tokens,
            lambda reply: entries_of(reply, most),
            **case,
            attempts=attempts,
            outcome=outcome,
            most=most,
        )
        return outcome, found.value or [], found.problem


def _seen(judged: Judged) -> tuple[str, list[dict[str, Any]]]:
    """Return which instructions a question's attempts are read by, and the attempts: all where they disagree, else the
    first, since the others ended like it.
    """
    pairs = [{"text": told(a), "correct": bool(v.correct)} for a, v in usable(judged)]
    if judged.teaches:
        return "contrast", pairs
    return ("success" if pairs and pairs[0]["correct"] else "failure"), pairs[:1]


def _adding(question: Question, outcome: str, item: Mapping[str, str]) -> Operation:
    head = " ".join(f"{item[key].rstrip('.:')}." for key in ("title", "description") if item.get(key))
    text = f"{head} {item['text']}".strip()[:LONGEST_TEXT]
    about = {"question_id": question.id, "question": question.text, "outcome": outcome}
    return Operation(Action.add, None, text, (question.id,), about)


@register("recall", "reasoning_bank")
class NearestTasks(Comparing):
    """Show all items of the k questions that are most similar to this one, the most similar first."""

    @dataclass
    class Config:
        """Of how many questions."""

        k: int = option(1, "questions whose items are shown", least=1)
        least: float = option(-1.0, "leave out questions of a lower similarity", least=-1, most=1)

    config: Config

    async def shown(self, meta_memory: MetaMemory, question: Question) -> list[Guideline]:
        """Return the items of the nearest other questions; of equally near ones the earlier."""
        held: dict[str, list[Guideline]] = {}
        for guideline in meta_memory.guidelines:
            if (owner := guideline.about.get("question_id")) not in (None, question.id):
                held.setdefault(owner, []).append(guideline)
        groups = list(held.values())
        texts = [group[0].about["question"] for group in groups]
        near = await asyncio.to_thread(self._similarity, question.text, texts)
        order = sorted(range(len(groups)), key=lambda i: (-near[i], i))[: self.config.k]
        return [guideline for i in order if near[i] >= self.config.least for guideline in groups[i]]

"""`training_free_grpo`: Training-Free GRPO (arXiv 2510.08191; TencentCloudADP/youtu-agent, `utu/practice`).

In: batches of questions. Per question: a group of rollouts; where the group is partly right, a summary of each, then
what sets the better ones apart (the semantic advantage, one or two experiences), then what that changes in the list of
experiences. Per batch: one revision of all these changes. Out: the next list, which every prompt is given. Epochs go
over the same questions again with what was learned. `nano` can do it, by short prompts of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.calls import Generation
from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import Action, MetaMemory, Operation, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import case_of, compared
from metamem.optimizers.proposing import operations_of, supported, texts_of

# How often an unreadable revision of a batch is asked for again.
_REPAIRS = 3


@register("optimizer", "training_free_grpo")
class TrainingFreeGRPO(Scheduled):
    """Training-Free GRPO: experiences from comparing a group's rollouts, revised batch by batch."""

    prompts = ("grpo_summary", "grpo_advantage", "grpo_update", "grpo_batch", "repair")

    @dataclass
    class Config:
        """The method's settings."""

        epochs: int = option(3, "passes over the training part", least=0)
        batch_size: int = option(50, "questions per step", least=1)
        attempts: int = option(5, "rollouts in a question's group", least=2)
        temperature: float = option(0.7, "sampling temperature of the rollouts", above=0)
        experiences: int = option(2, "experiences taken from a question at most", least=1)
        max_words: int = option(32, "words asked for per experience at most", least=1)
        tokens: int = option(8192, "new tokens per summary, advantage, update and revision at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return what a step asks for at most: every group could be partly right."""
        questions, c = len(batch), self.config
        counts = {"grpo_summary": questions * c.attempts, "grpo_advantage": 2 * questions, "grpo_update": 2 * questions}
        counts["grpo_batch"] = 1 + _REPAIRS if questions else 0
        asked = (ExpectedCalls(name, 0, most / 2, most, c.tokens) for name, most in counts.items())
        return Bounds(questions * c.attempts, tuple(asked))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Make one step over one batch."""
        questions = sorted(batch, key=lambda q: q.id)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._learn(q, at.meta_memory, laboratory)) for q in questions]
        rows = [task.result() for task in tasks]
        counts = Counter({"groups": sum(bool(r["summaries"]) for r in rows)})
        counts["experiences"] = sum(len(r["experiences"]) for r in rows)
        operations, note = await self._revise(at.meta_memory, rows, laboratory)
        memory, changes, refused = apply(at.meta_memory, operations, laboratory.step)
        trace = tuple({**r, "operations": [o.text or o.id for o in r["operations"]]} for r in rows if r["summaries"])
        return Update(memory, None, changes, refused, dict(counts), (note,) if note else (), trace)

    async def _learn(self, question: Question, memory: MetaMemory, laboratory: Laboratory) -> dict[str, Any]:
        """Return what a question's group gives: summaries, experiences, operations; nothing where it has no sides."""
        c = self.config
        judged = await laboratory.attempt(question, memory, c.attempts, c.temperature)
        row: dict[str, Any] = {"question_id": question.id, "summaries": [], "experiences": [], "operations": []}
        row["summaries"] = await self._summaries(judged, laboratory)
        if not row["summaries"]:
            return row
        held: dict[str, Any] = {"experiences": list(memory.guidelines), "max_words": c.max_words}
        about = {key: value for key, value in case_of(judged).items() if key != "memories"}
        found = await laboratory.read(
            "grpo_advantage",
            c.tokens,
            lambda reply: texts_of(reply, c.experiences),
            **held,
            **about,
            summaries=row["summaries"],
            most=c.experiences,
        )
        row["experiences"], row["problem"] = found.value or [], found.problem
        if row["experiences"]:
            numbered = [{"id": f"P{i}", "text": text} for i, text in enumerate(row["experiences"], 1)]
            proposed = {n["id"]: Operation(Action.add, None, n["text"]) for n in numbered}
            read = await laboratory.read(
                "grpo_update",
                c.tokens,
                lambda reply: operations_of(reply, proposed),
                **held,
                lessons=numbered,
            )
            operations = read.value.operations if read.value else ()
            row["operations"] = [replace(o, support=(question.id,)) for o in operations]
            row["problem"] = row["problem"] or read.problem
        return row

    async def _summaries(self, judged: Judged, laboratory: Laboratory) -> list[dict[str, Any]]:
        """Return a summary of each rollout of a group that has a better and a worse side."""
        group = compared(judged)
        case = case_of(judged)
        replies = await asyncio.gather(
            *(
                laboratory.ask("grpo_summary", self.config.tokens, **case, attempt=told(a), correct=correct)
                for a, correct in group
            )
        )
        pairs = zip(group, replies, strict=True)
        return [{"text": r.text, "correct": c} for (_, c), r in pairs if isinstance(r, Generation) and r.text.strip()]

    async def _revise(
        self, memory: MetaMemory, rows: Sequence[Mapping[str, Any]], laboratory: Laboratory
    ) -> tuple[list[Operation], str]:
        """Return the operations that a batch's changes come to; none, with a note, where the reply cannot be read."""
        proposed = {f"P{i}": o for i, o in enumerate((o for r in rows for o in r["operations"]), 1)}
        if not proposed:
            return [], ""
        found = await laboratory.read(
            "grpo_batch",
            self.config.tokens,
            lambda reply: operations_of(reply, proposed),
            repairs=_REPAIRS,
            experiences=list(memory.guidelines),
            revisions=[
                {"id": i, "action": o.action.value, "target": o.id or "", "text": o.text or ""}
                for i, o in proposed.items()
            ],
            max_words=self.config.max_words,
        )
        if found.value is None:
            return [], f"the batch's revision failed, the experiences stay as they were: {found.problem}"
        return supported(found.value, proposed), ""

"""`dynamic_cheatsheet`: Dynamic Cheatsheet (arXiv 2504.07952; suzgunmirac/dynamic-cheatsheet), the cumulative variant.

In: batches of questions. Per question: an answer with the sheet beside it; then, one answer after another, a curator
who sees the sheet, the question and the answer writes the whole sheet anew. Nobody tells it whether the answer was
right, unless that is asked for. Out: the sheet, a line a guideline; a line that is kept keeps its id. A model as small
as `backbone=nano` cannot rewrite a sheet: its replies are mostly unreadable, and little is learned.
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
from metamem.optimizers.cases import case_of
from metamem.optimizers.proposing import rewritten


@register("optimizer", "dynamic_cheatsheet")
class DynamicCheatsheet(Scheduled):
    """Dynamic Cheatsheet: one sheet of strategies that a curator rewrites after each answer."""

    prompts = ("cheatsheet", "repair")

    @dataclass
    class Config:
        """The method's settings."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step (1: each sees the sheet that the one before it left)", least=1)
        temperature: float = option(0.0, "sampling temperature of the answer", least=0)
        verdicts: bool = option(False, "tell the curator whether an answer was right")
        max_lines: int = option(30, "lines asked for at most", least=1)
        tokens: int = option(4096, "new tokens per sheet at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is answered once, and the sheet rewritten once for each."""
        return Bounds(len(batch), (ExpectedCalls("cheatsheet", 0, len(batch), 2 * len(batch), self.config.tokens),))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Answer a batch, then rewrite the sheet after each answer, in the order in which they came."""
        memory, lost = at.meta_memory, 0
        judged = await asyncio.gather(*(laboratory.attempt(q, memory, 1, self.config.temperature) for q in batch))
        changes: list[Change] = []
        refused: list[Refusal] = []
        for one in judged:
            if one.attempts[0].error is not None:
                continue
            sheet = await self._curated(memory, one, laboratory)
            lost += sheet is None
            if sheet is not None:
                memory, changed, not_changed = apply(memory, _changes(memory, sheet, one), laboratory.step)
                changes += changed
                refused += not_changed
        return Update(memory, None, tuple(changes), tuple(refused), {"unreadable": lost})

    async def _curated(self, memory: MetaMemory, judged: Judged, laboratory: Laboratory) -> list[str] | None:
        """Return the lines of the sheet after an answer; None where the curator's reply cannot be read."""
        (attempt,), (verdict,) = judged.attempts, judged.verdicts
        text = "\n".join(g.text for g in memory.guidelines)
        case = {key: value for key, value in case_of(judged).items() if key != "truth"}
        found = await laboratory.read(
            "cheatsheet",
            self.config.tokens,
            lambda reply: rewritten(reply, text),
            **case,
            sheet=text,
            answer=told(attempt),
            correct=verdict.correct if self.config.verdicts else None,
            max_lines=self.config.max_lines,
        )
        return None if found.value is None else found.value.split("\n")[: self.config.max_lines]


def _changes(memory: MetaMemory, sheet: Sequence[str], judged: Judged) -> list[Operation]:
    """Return what makes a sheet of the one before it."""
    support = (judged.question.id,)
    held = {g.text for g in memory.guidelines}
    gone = [Operation(Action.delete, g.id, None, support) for g in memory.guidelines if g.text not in sheet]
    return [*gone, *(Operation(Action.add, None, line, support) for line in sheet if line not in held)]

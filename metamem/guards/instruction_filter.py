"""`instruction_filter`: what gives orders is no memory, and what holds facts of the data is no guideline.

In: evidence, and texts that a policy has learned. Out: those that the judge role finds to be what they should: records
of what was said, and advice on the use of memory. A reply that cannot be read holds nothing back, and is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.guarded import Guard, Guarded, GuardedQuestion, GuardTools, Screened, without
from metamem.core.registry import option, register
from metamem.core.text import on_one_line, render_unit


@dataclass
class Orders:
    """The numbers of the entries that are orders."""

    orders: list[int]


@dataclass
class Unfit:
    """The numbers of the texts that are no advice on the use of memory."""

    unfit: list[int]


@register("guard", "instruction_filter")
class InstructionFilter(Guard):
    """Memories that are orders to their reader are held back, and guidelines that are not about using memory."""

    needs = ("judge",)
    prompts = ("guard_instructions", "guard_guidelines")

    @dataclass
    class Config:
        """How long the judge may reply."""

        tokens: int = option(512, "new tokens per reply of the judge at most", least=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    async def evidence(self, cases: Sequence[GuardedQuestion], tools: GuardTools) -> list[Guarded]:
        """Hold back what the judge finds to be orders, case by case."""
        return list(await asyncio.gather(*(self._one(case, tools) for case in cases)))

    async def _one(self, case: GuardedQuestion, tools: GuardTools) -> Guarded:
        if not case.evidence:
            return Guarded(())
        read = await tools.judge.ask(
            case.question,
            "guard_instructions",
            Orders,
            stage="instructions",
            max_tokens=self.config.tokens,
            units=[on_one_line(render_unit(e.unit)) for e in case.evidence],
        )
        named = set(read.value.orders) if read.value is not None else set()
        dropped = {
            e.unit.id: "the judge finds orders in it" for number, e in enumerate(case.evidence, 1) if number in named
        }
        unread = (read.unread,) if read.unread else ()
        return without(case, dropped, costs={"instructions": read.cost}, unread=unread)

    async def proposals(self, texts: Sequence[str], step: str, tools: GuardTools) -> Screened:
        """Keep out what the judge finds not to be about the use of memory."""
        read = await tools.judge.ask(
            step,
            "guard_guidelines",
            Unfit,
            stage="guidelines",
            max_tokens=self.config.tokens,
            texts=[on_one_line(t) for t in texts],
        )
        named = set(read.value.unfit) if read.value is not None else set()
        why = "the judge finds it not to be about the use of memory"
        reasons = tuple(why if number in named else "" for number in range(1, len(texts) + 1))
        return Screened(reasons, read.cost, (read.unread,) if read.unread else ())

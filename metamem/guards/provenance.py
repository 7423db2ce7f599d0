"""`provenance`: a memory must say what the turns say that it names as its source, on their day.

In: units of memory and the turns of the conversation. Out: the units that their turns support: by words, where most of
a unit's words stand in its turns, or by the judge role, which reads both. A unit that is dated on another day than its
turns is held back either way. What was said in the conversation itself is its own source, whether it is true or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from metamem.core.banks import Cost, Unread
from metamem.core.guarded import Guard, Guarded, GuardedQuestion, GuardTools, SourceTurn, without
from metamem.core.planted import words_of
from metamem.core.records import MemoryUnit
from metamem.core.registry import option, register
from metamem.core.text import format_date, on_one_line, render_unit

_STOP = frozenset(
    """a an and are as at be been but by did do does for from had has have he her his i in is it its me my of on or our
    she so that the their they this to was we were will with you your user assistant said says""".split()
)


class Support(StrEnum):
    """Who tells whether turns support a unit."""

    words = "words"
    judge = "judge"


@dataclass
class Supported:
    """The numbers of the memories that their sources support."""

    supported: list[int]


@register("guard", "provenance")
class Provenance(Guard):
    """Memories that the turns they come from do not support are held back, and so are those with another date."""

    @dataclass
    class Config:
        """What counts as supported."""

        by: Support = option(Support.words, "who tells: words (most of a unit's stand in its turns) or judge")
        least: float = option(0.75, "share of a unit's words that stand in its turns, at least", least=0, most=1)
        unnamed: bool = option(True, "let units pass that name no turn (false: hold them back)")
        tokens: int = option(512, "new tokens per reply of the judge at most", least=1)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._judged = Support(config.by) is Support.judge
        self.needs = ("judge",) if self._judged else ()
        self.prompts = ("guard_provenance",) if self._judged else ()

    async def evidence(self, cases: Sequence[GuardedQuestion], tools: GuardTools) -> list[Guarded]:
        """Hold back what is not supported, case by case."""
        return list(await asyncio.gather(*(self._one(case, tools) for case in cases)))

    async def _one(self, case: GuardedQuestion, tools: GuardTools) -> Guarded:
        dropped: dict[str, str] = {}
        asked: list[tuple[MemoryUnit, list[SourceTurn]]] = []
        for unit in (e.unit for e in case.evidence):
            sources = [case.sources[turn] for turn in unit.turn_ids if turn in case.sources]
            if not sources:
                if not self.config.unnamed:
                    dropped[unit.id] = "it names no turn that it comes from"
            elif why := _misdated(unit, sources):
                dropped[unit.id] = why
            elif self._judged:
                asked.append((unit, sources))
            elif (share := supported(unit.text, sources)) < self.config.least:
                dropped[unit.id] = f"{share:.0%} of its words stand in the turns that it names"
        if not asked:
            return without(case, dropped)
        read = await tools.judge.ask(
            case.question,
            "guard_provenance",
            Supported,
            stage="provenance",
            max_tokens=self.config.tokens,
            entries=[
                {
                    "unit": on_one_line(render_unit(unit)),
                    "sources": [on_one_line(f"{s.speaker}: {s.text}") for s in sources],
                }
                for unit, sources in asked
            ],
        )
        costs: Mapping[str, Cost] = {"provenance": read.cost}
        unread: tuple[Unread, ...] = (read.unread,) if read.unread else ()
        if read.value is not None:
            named = set(read.value.supported)
            dropped |= {
                unit.id: "the judge finds no support in the turns that it names"
                for number, (unit, _) in enumerate(asked, 1)
                if number not in named
            }
        return without(case, dropped, costs=costs, unread=unread)


def supported(text: str, sources: Sequence[SourceTurn]) -> float:
    """Return the share of a text's distinct words that stand in its sources, names of speakers among them; words that
    say nothing by themselves are not counted. 1 for a text without any other.
    """
    there = {word for s in sources for word in words_of(f"{s.speaker} {s.text}")}
    # A memory may date what was said.
    there |= {word for s in sources if s.time is not None for word in words_of(format_date(s.time))}
    wanted = set(words_of(text)) - _STOP
    return sum(word in there for word in wanted) / len(wanted) if wanted else 1.0


def _misdated(unit: MemoryUnit, sources: Sequence[SourceTurn]) -> str:
    """Say that a unit is of another day than all of its turns; empty where it is not, or a day is not known."""
    days = {s.time.date() for s in sources if s.time is not None}
    if unit.time is None or not days or unit.time.date() in days:
        return ""
    # A unit of several turns may be dated between them.
    if len(days) > 1 and min(days) <= unit.time.date() <= max(days):
        return ""
    return f"it is dated {unit.time.date()}, its turns are of {max(days)}"

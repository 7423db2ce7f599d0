"""The contract of guards: what one is shown, and what it lets through.

In: a question with its retrieved evidence and what the turns of its conversation say (`GuardedQuestion`). Out:
`Guarded`: the evidence that a prompt may show, and for every unit that it may not why.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from metamem.core.banks import Cost, Unread
from metamem.core.contracts import RetrievalTools
from metamem.core.records import Evidence, Question


@dataclass(frozen=True)
class SourceTurn:
    """What stands behind a unit of memory: one turn with who said it, and the time of its session."""

    speaker: str
    text: str
    time: datetime | None = None


@dataclass(frozen=True)
class GuardedQuestion:
    """A question (without its answers) with its evidence; `sources` are the turns of its conversation by id, none where
    it brings its evidence along.
    """

    question: Question
    evidence: tuple[Evidence, ...]
    sources: Mapping[str, SourceTurn] = field(default_factory=dict)


@dataclass(frozen=True)
class Guarded:
    """The evidence for a question behind a guard, in its order. `dropped` maps ids of units that are held back to why,
    `added` counts what the guard itself put in (lessons). `costs` are those of model calls by stage, `unread` the calls
    that gave nothing.
    """

    evidence: tuple[Evidence, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    added: int = 0
    costs: Mapping[str, Cost] = field(default_factory=dict)
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True)
class Screened:
    """What a guard says of learned texts: of each why it is kept out (empty: it may enter), and what its calls took."""

    why: tuple[str, ...]
    cost: Cost = field(default_factory=Cost)
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True)
class GuardTools:
    """What guards work with: the tools of retrievals, asking the model of the `policy`, of the `judge`. One whose role
    the guard does not need only embeds.
    """

    policy: RetrievalTools
    judge: RetrievalTools


class Guard(Protocol):
    """Kind `guard`: stands between retrieval and prompt, and between what a policy learned and the meta-memory.

    A class may inherit from this one for the defaults. `needs` names what it works with (`embedder`, `policy`,
    `judge`) and `prompts` the templates that it has filled in. `open` says that everything passes: it is not asked.
    `learns` is the override without which it takes from a question to those behind it; empty where it takes nothing.
    """

    needs: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    open: bool = False
    learns: str = ""

    @abstractmethod
    async def evidence(self, cases: Sequence[GuardedQuestion], tools: GuardTools) -> list[Guarded]:
        """Return for each case the evidence that its prompt may show; the same whatever else is asked beside.

        The cases are of one conversation and of one part of the split, in the order of their ids: a guard that learns
        takes from a case to those behind it, and no further.
        """

    async def proposals(self, texts: Sequence[str], step: str, tools: GuardTools) -> Screened:
        """Return which texts that a policy has learned in a step are kept out of the meta-memory, and why."""
        return Screened(("",) * len(texts))


def without(case: GuardedQuestion, dropped: Mapping[str, str], **about: object) -> Guarded:
    """Return the evidence of a case without the units that are dropped; `about` is the rest of what is told of it."""
    kept = tuple(e for e in case.evidence if e.unit.id not in dropped)
    return Guarded(kept, dict(dropped), **about)  # type: ignore[arg-type]

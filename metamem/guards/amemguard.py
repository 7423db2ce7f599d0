"""`amemguard`: consensus among what each memory alone leads to, after A-MemGuard (arXiv 2510.02373).

In: evidence and its question. Per retrieved memory the policy's model writes one chain of reasoning in three steps;
which chains agree is said by the judge role, or by the largest DBSCAN cluster of their embeddings. Out: the memories
whose chains agree. Every other chain is kept as a lesson beside the memory; behind the evidence stand the four lessons
nearest to the question: of its own chains and of those of earlier questions about the same conversation. Without a
chain, or a word of the judge that can be read, all of the evidence stays as it is, and no lesson is drawn.
Source: the authors' repository (TangciuYueng/AMemGuard).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from metamem.core.banks import Cost, Unread
from metamem.core.guarded import Guard, Guarded, GuardedQuestion, GuardTools, without
from metamem.core.records import Evidence, MemoryUnit
from metamem.core.registry import option, register
from metamem.core.text import format_date, on_one_line, render_unit
from metamem.replies.json_in_text import Form, UnreadableError
from metamem.replies.reasoning import split_reasoning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DECIMALS = 5
# Words of a chain that a lesson shows.
_LESSON_WORDS = 60


class Consensus(StrEnum):
    """Who tells which chains agree."""

    judge = "judge"
    dbscan = "dbscan"


@dataclass
class Agreed:
    """The numbers of the chains that are consistent and safe."""

    consistent: list[int]


@dataclass(frozen=True)
class _Thought:
    """One case with its chains by the place of their memory in the evidence, best first (None: the call gave none), and
    the places of those that agree (None: nobody could tell).
    """

    case: GuardedQuestion
    chains: Mapping[int, str | None]
    agreed: frozenset[int] | None
    costs: dict[str, Cost]
    unread: tuple[Unread, ...]


@register("guard", "amemguard")
class AMemGuard(Guard):
    """Memories whose own line of reasoning the others do not bear out are held back, and kept as lessons."""

    @dataclass
    class Config:
        """How agreement is found, and what is shown of the rest."""

        consensus: Consensus = option(Consensus.judge, "who tells which chains agree: judge or dbscan")
        eps: float = option(0.5, "dbscan: cosine distance within which chains are neighbours", above=0, most=2)
        fewest: int = option(2, "dbscan: chains, itself included, that make one the core of a cluster", least=1)
        memories: int = option(
            0, "memories that are reasoned from, best first; the others are held back (0: all)", least=0
        )
        lessons: int = option(4, "lessons shown with the evidence at most", least=0)
        tokens: int = option(512, "new tokens per chain, and per reply of the judge, at most", least=1)

    def __init__(self, config: Config) -> None:
        self.config = config
        judged = self._judged = Consensus(config.consensus) is Consensus.judge
        self.needs = (
            "policy",
            *(("judge",) if judged else ()),
            *(("embedder",) if config.lessons or not judged else ()),
        )
        self.learns = "guard.lessons=0" if config.lessons else ""
        self.prompts = ("amemguard_chain", *(("amemguard_judge",) if judged else ()))

    async def evidence(self, cases: Sequence[GuardedQuestion], tools: GuardTools) -> list[Guarded]:
        """Reason from every memory of every case at once; lessons go from a case to those behind it."""
        thoughts = await asyncio.gather(*(self._think(case, tools) for case in cases))
        lessons: list[tuple[str, str]] = []
        guarded = []
        for thought in thoughts:
            lessons += _lessons(thought)
            guarded.append(await tools.policy.run(self._shown, thought, tuple(lessons), tools))
        return guarded

    async def _think(self, case: GuardedQuestion, tools: GuardTools) -> _Thought:
        held = case.evidence
        checked = sorted(range(len(held)), key=lambda n: held[n].rank)[: self.config.memories or None]
        if not checked:
            return _Thought(case, {}, frozenset(), {}, ())
        question = case.question
        date = format_date(question.date) if question.date else ""
        read = await asyncio.gather(
            *(
                tools.policy.ask(
                    question,
                    "amemguard_chain",
                    _TEXT,
                    stage=f"chain {number}",
                    max_tokens=self.config.tokens,
                    repairs=0,
                    question=question.text,
                    date=date,
                    memory=render_unit(held[n].unit),
                )
                for number, n in enumerate(checked, 1)
            )
        )
        chains = {n: r.value for n, r in zip(checked, read, strict=True)}
        costs = {"chains": sum((r.cost for r in read[1:]), read[0].cost)}
        unread = tuple(r.unread for r in read if r.unread)
        numbers = [n for n, chain in chains.items() if chain]
        texts = [on_one_line(chains[n] or "") for n in numbers]
        found: set[int] | None = None
        if not texts:
            return _Thought(case, chains, None, costs, unread)
        if not self._judged:
            found = await tools.policy.run(self._clustered, texts, tools)
        else:
            asked = await tools.judge.ask(
                question,
                "amemguard_judge",
                Agreed,
                stage="consensus",
                max_tokens=self.config.tokens,
                question=question.text,
                chains=texts,
            )
            costs["consensus"] = asked.cost
            unread += (asked.unread,) if asked.unread else ()
            found = {n - 1 for n in asked.value.consistent} if asked.value is not None else None
        agreed = None if found is None else frozenset(numbers[n] for n in found if 0 <= n < len(numbers))
        return _Thought(case, chains, agreed, costs, unread)

    def _clustered(self, texts: Sequence[str], tools: GuardTools) -> set[int]:
        """Return the positions of the texts in the largest cluster of their embeddings; none without a cluster."""
        labels = dbscan(_directions(texts, tools), self.config.eps, self.config.fewest)
        sizes = Counter(label for label in labels if label >= 0)
        if not sizes:
            return set()
        largest = min(sizes, key=lambda label: (-sizes[label], label))
        return {n for n, label in enumerate(labels) if label == largest}

    def _shown(self, thought: _Thought, lessons: Sequence[tuple[str, str]], tools: GuardTools) -> Guarded:
        """Return what agrees, and behind it the lessons nearest to the question; all of it where nobody could tell."""
        case, agreed = thought.case, thought.agreed
        if agreed is None:
            return without(case, {}, costs=thought.costs, unread=thought.unread)
        dropped = {e.unit.id: _why(thought.chains, n) for n, e in enumerate(case.evidence) if n not in agreed}
        guarded = without(case, dropped, costs=thought.costs, unread=thought.unread)
        near = self._nearest(case.question.text, lessons, tools)
        rank = max((e.rank for e in case.evidence), default=-1) + 1
        added = tuple(
            Evidence(MemoryUnit(name, text, kind="lesson"), 0.0, rank + n) for n, (name, text) in enumerate(near)
        )
        return replace(guarded, evidence=(*guarded.evidence, *added), added=len(added))

    def _nearest(self, question: str, lessons: Sequence[tuple[str, str]], tools: GuardTools) -> list[tuple[str, str]]:
        import numpy as np

        if not lessons or not self.config.lessons:
            return []
        held = _directions([question, *(text for _, text in lessons)], tools)
        scores = np.round(held[1:] @ held[0], _DECIMALS)
        order = np.argsort(-scores, kind="stable")[: self.config.lessons]
        return [lessons[int(n)] for n in order]


def dbscan(vectors: NDArray[np.float64], eps: float, fewest: int) -> list[int]:
    """Return the cluster of each unit vector (n, d), numbered by first members; -1 for those in none.

    DBSCAN by cosine distance: a vector with at least `fewest` vectors within `eps`, itself included, is a core; a
    cluster is what cores reach.
    """
    import numpy as np

    near = np.round(1 - vectors @ vectors.T, _DECIMALS) <= eps
    np.fill_diagonal(near, True)
    cores = near.sum(axis=1) >= fewest
    labels, number = [-1] * len(vectors), 0
    for start in range(len(vectors)):
        if labels[start] >= 0 or not cores[start]:
            continue
        waiting = [start]
        while waiting:
            at = waiting.pop()
            if labels[at] >= 0:
                continue
            labels[at] = number
            if cores[at]:
                waiting += [int(n) for n in np.flatnonzero(near[at]) if labels[int(n)] < 0]
        number += 1
    return labels


def _directions(texts: Sequence[str], tools: GuardTools) -> NDArray[np.float64]:
    """Return a unit vector for each text (n, d): the direction of the sum of its windows."""
    import numpy as np

    vectors, owners = tools.policy.vectors(texts)
    sums = np.stack([vectors[owners == n].astype(np.float64).sum(axis=0) for n in range(len(texts))])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(lengths > 0, lengths, 1.0))


def _lessons(thought: _Thought) -> list[tuple[str, str]]:
    """Return what a case leaves to those behind it: an id and a text for each chain that the others do not bear out."""
    if thought.agreed is None:
        return []
    return [
        (
            f"lesson/{thought.case.question.id}/{thought.case.evidence[n].unit.id}",
            "Lesson: this line of thought was not borne out by other memories, do not follow it: "
            + " ".join(chain.split()[:_LESSON_WORDS]),
        )
        for n, chain in thought.chains.items()
        if chain and n not in thought.agreed
    ]


def _why(chains: Mapping[int, str | None], place: int) -> str:
    if place not in chains:
        return "it was not among the memories that are reasoned from"
    return "other memories do not bear out what it leads to" if chains[place] else "nothing could be reasoned from it"


def _read(text: str) -> str:
    answer = split_reasoning(text)[0]
    if not answer:
        raise UnreadableError("the reply is empty")
    return answer


_TEXT: Form[str] = Form(None, _read)

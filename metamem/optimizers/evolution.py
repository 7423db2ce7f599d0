"""Candidates that evolve: their Pareto front over questions, whom to take as a parent, and how two are merged.

In: candidates (texts by block, parents, scores by question). Out: the fronts, a drawn parent, a merged candidate. As in
GEPA (arXiv 2507.19457; gepa-ai/gepa 0.1, `gepa_utils.py` and `proposer/merge.py`); everything that is drawn is drawn
from the generator that is given, in the same order as there, so that the two can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

# How often a pair is drawn before a merge is given up, and how often a draw is tried for a pair.
_DRAWS = 10
# The questions that a merge is tried on; with fewer nothing is merged.
_TRIAL = 5

Fronts = Mapping[str, Collection[int]]


@dataclass(frozen=True)
class Candidate:
    """One version of the texts. `scores` are those of the questions of the front, by id; `turn` is the place among the
    blocks of the one that is changed next.
    """

    texts: Mapping[str, str]
    parents: tuple[int, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    born: int = 0
    turn: int = 0

    @property
    def mean(self) -> float:
        """Return the mean score; 0 without any."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else 0.0


@dataclass
class Merges:
    """Which merges were tried: (first, second, ancestor), and what was taken from whom."""

    due: int = 0
    accepted: int = 0
    triplets: list[tuple[int, int, int]] = field(default_factory=list)
    made: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        made = [[i, j, list(taken)] for i, j, taken in self.made]
        triplets = [list(t) for t in self.triplets]
        return {"due": self.due, "accepted": self.accepted, "triplets": triplets, "made": made}

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Merges:
        """Return the inverse of `to_json`."""
        made = [(i, j, tuple(taken)) for i, j, taken in form["made"]]
        return cls(form["due"], form["accepted"], [(i, j, a) for i, j, a in form["triplets"]], made)


def fronts(candidates: Sequence[Candidate]) -> dict[str, list[int]]:
    """Return for each question the candidates that answer it best."""
    found = {}
    for question in candidates[0].scores:
        best = max(c.scores[question] for c in candidates)
        found[question] = [i for i, c in enumerate(candidates) if c.scores[question] == best]
    return found


def undominated(front: Fronts, means: Sequence[float]) -> dict[str, list[int]]:
    """Return the fronts without the candidates that are not needed: those that share each of their places with another
    that is left. The worst goes first.
    """
    left = sorted(dict.fromkeys(i for held in front.values() for i in held), key=lambda i: means[i])
    while True:
        gone = next((i for i in left if all({*held, i} & {*left} - {i} for held in front.values() if i in held)), None)
        if gone is None:
            return {question: sorted(set(held) & set(left)) for question, held in front.items()}
        left.remove(gone)


def parent(candidates: Sequence[Candidate], random: Random) -> int:
    """Draw a candidate of the front, each as often as it leads questions."""
    kept = undominated(fronts(candidates), [c.mean for c in candidates])
    leading: dict[int, int] = {}
    for held in kept.values():
        for i in held:
            leading[i] = leading.get(i, 0) + 1
    return random.choice([i for i, times in leading.items() for _ in range(times)])


def merged(candidates: Sequence[Candidate], merges: Merges, random: Random) -> tuple[dict[str, str], int, int] | None:
    """Return the texts of a merge of two candidates of the front that changed different blocks of a common ancestor,
    and whom they were taken from; None where no such pair is found. What was tried is noted.
    """
    kept = undominated(fronts(candidates), [c.mean for c in candidates])
    leading = sorted({i for held in kept.values() for i in held})
    if len(leading) < 2 or len(candidates) < 3:
        return None
    for _ in range(_DRAWS):
        found = _pair(candidates, leading, merges, random)
        if found is None:
            continue
        first, second, ancestor = found
        texts, taken = _mixed(candidates, first, second, ancestor, random)
        if (first, second, taken) in merges.made or len(candidates[first].scores) < _TRIAL:
            continue
        merges.made.append((first, second, taken))
        merges.triplets.append(found)
        return texts, first, second
    return None


def trial(first: Mapping[str, float], second: Mapping[str, float], random: Random) -> list[str]:
    """Draw the questions that a merge is tried on: as many that the first answers better as the second, and equals."""
    ids = list(first)
    better = [i for i in ids if first[i] > second[i]]
    worse = [i for i in ids if first[i] < second[i]]
    equal = [i for i in ids if first[i] == second[i]]
    drawn: list[str] = []
    for held in (better, worse, equal):
        take = min(len(held), math.ceil(_TRIAL / 3), _TRIAL - len(drawn))
        drawn += random.sample(held, k=take) if take > 0 else []
    missing = _TRIAL - len(drawn)
    return drawn + (random.sample([i for i in ids if i not in drawn], k=missing) if missing else [])


def _pair(
    candidates: Sequence[Candidate], leading: Sequence[int], merges: Merges, random: Random
) -> tuple[int, int, int] | None:
    for _ in range(_DRAWS):
        first, second = sorted(random.sample(list(leading), 2))
        before, behind = _ancestors(candidates, first), _ancestors(candidates, second)
        if first in behind or second in before:
            continue
        means = [candidates[i].mean for i in (first, second)]
        common = [
            a
            for a in sorted(before & behind)
            if (first, second, a) not in merges.triplets
            and candidates[a].mean <= min(means)
            and _divided(candidates[a].texts, candidates[first].texts, candidates[second].texts)
        ]
        if common:
            weights = [candidates[a].mean for a in common]
            drawn = random.choices(common, k=1, weights=weights if any(weights) else None)[0]
            return first, second, drawn
    return None


def _ancestors(candidates: Sequence[Candidate], one: int) -> set[int]:
    found: set[int] = set()
    waiting = list(candidates[one].parents)
    while waiting:
        if (i := waiting.pop()) not in found:
            found.add(i)
            waiting += candidates[i].parents
    return found


def _divided(ancestor: Mapping[str, str], first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Whether some block was changed by one of the two alone."""
    return any(ancestor[b] in (first[b], second[b]) and first[b] != second[b] for b in ancestor)


def _mixed(
    candidates: Sequence[Candidate], first: int, second: int, ancestor: int, random: Random
) -> tuple[dict[str, str], tuple[int, ...]]:
    """Take each block from the one that changed it; where both did, even to the same, from the better one."""
    one, other, old = (candidates[i] for i in (first, second, ancestor))
    texts, taken = {}, []
    for block, text in old.texts.items():
        if text == other.texts[block]:
            source = first
        elif text == one.texts[block]:
            source = second
        elif one.mean != other.mean:
            source = first if one.mean > other.mean else second
        else:
            source = random.choice([first, second])
        texts[block] = candidates[source].texts[block]
        taken.append(source)
    return texts, tuple(taken)

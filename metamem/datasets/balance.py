"""Fair shares of grouped questions: folds and a validation part in which strata have their share and no group is torn.

In: questions and a `random.Random`. Out: groups of questions dealt out. Both ways are greedy and depend on nothing
but the questions' ids, groups and strata and the generator, never on the order in which the questions come.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from metamem.core.records import Question

Group = tuple[Question, ...]


def stratum(question: Question) -> str:
    """What a question counts as when parts are balanced: its type, or abstention, which is a stratum of its own."""
    return "abstention" if question.abstention else f"type {question.type}"


def grouped(questions: Sequence[Question]) -> list[Group]:
    """The groups in the order of their names, each sorted by question id; a question without a group is its own."""
    held: dict[tuple[bool, str], list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda q: q.id):
        held[(bool(question.group), question.group or question.id)].append(question)
    return [tuple(held[name]) for name in sorted(held)]


def deal(groups: Sequence[Group], folds: int, rng: random.Random) -> list[list[Group]]:
    """The groups dealt into `folds` parts, none empty if there are as many groups.

    Largest first, ties by chance. Each goes where its strata are the least filled (the sum over the strata of squared
    counts, each against the stratum's total, grows the least), then to the smallest fold, then to the first.
    """
    shuffled = list(groups)
    rng.shuffle(shuffled)
    shuffled.sort(key=len, reverse=True)
    totals = Counter(stratum(q) for group in groups for q in group)
    filled: list[Counter[str]] = [Counter() for _ in range(folds)]
    parts: list[list[Group]] = [[] for _ in range(folds)]
    for group in shuffled:
        added = Counter(stratum(q) for q in group)

        def cost(fold: int, added: Counter[str] = added) -> tuple[float, int, int]:
            growth = sum(n * (2 * filled[fold][s] + n) / totals[s] for s, n in sorted(added.items()))
            return (round(growth, 9), filled[fold].total(), fold)

        best = min(range(folds), key=cost)
        parts[best].append(group)
        filled[best] += added
    return parts


def draw(groups: Sequence[Group], shares: Mapping[str, int], rng: random.Random) -> list[Group]:
    """Groups whose questions come closest to `shares` (stratum → questions wanted); at least one group is left undrawn.

    Each step takes the group that most reduces the summed distance to the shares, ties by chance, until none does. When
    not even the first reduces it (large groups, a small share), the closest is drawn all the same: there is to be one.
    """
    shuffled = list(groups)
    rng.shuffle(shuffled)
    # Groups that hold the same strata are interchangeable, so a step looks at the kinds of groups, not at all of them.
    kinds: dict[tuple[tuple[str, int], ...], list[Group]] = defaultdict(list)
    for group in shuffled:
        kinds[tuple(sorted(Counter(stratum(q) for q in group).items()))].append(group)
    missing = Counter(dict(shares))
    drawn: list[Group] = []
    while kinds and len(drawn) < len(groups) - 1:
        # Distance once a group of the kind is taken, less the distance now.
        best = min(kinds, key=lambda kind: sum(abs(missing[s] - n) - abs(missing[s]) for s, n in kind))
        if drawn and sum(abs(missing[s] - n) - abs(missing[s]) for s, n in best) >= 0:
            break
        drawn.append(kinds[best].pop())
        missing.subtract(dict(best))
        if not kinds[best]:
            del kinds[best]
    return drawn


def quotas(questions: Sequence[Question], share: float) -> dict[str, int]:
    """How many questions of each stratum make up `share` of all: at least 1 in all, by largest remainders."""
    totals = Counter(stratum(q) for q in questions)
    whole = max(1, round(share * len(questions)))
    exact = {s: whole * n / len(questions) for s, n in totals.items()}
    wanted = {s: int(n) for s, n in exact.items()}
    by_remainder = sorted(exact, key=lambda s: (wanted[s] - exact[s], s))
    for s in by_remainder[: whole - sum(wanted.values())]:
        wanted[s] += 1
    return wanted

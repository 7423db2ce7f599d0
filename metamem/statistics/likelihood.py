"""Likelihoods of reference answers: means with intervals, paired differences, and how far they go with judged accuracy.

In: rows of likelihood.jsonl: per question, system and evaluator the mean natural log-probability of an accepted
answer's tokens. Out: JSON-serialisable dicts. Every question weighs the same, whatever its answer's length; nothing is
cut at a threshold. Intervals and p-values are the estimator's, over groups of questions and trainings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.statistics.estimate import Estimate, Observations, difference_of, mean_of
from metamem.statistics.paired import ALPHA, holm


@dataclass(frozen=True, slots=True)
class QuestionLikelihood:
    """One question under one system: `value` in nats a token, `right` the judged share of right replies (None: no
    reply was judged). `replicate` names the training behind it, where there was one.
    """

    question_id: str
    type: str
    group: str
    value: float
    right: float | None = None
    replicate: str = ""


def scored(rows: Iterable[Mapping[str, Any]], replicate: str = "") -> tuple[list[QuestionLikelihood], dict[str, int]]:
    """Return the questions of one system that have a figure, by id, and how many have none, by reason."""
    found, left_out = [], Counter[str]()
    for row in sorted(rows, key=lambda r: str(r["question_id"])):
        if row["left_out"]:
            left_out[row["left_out"]] += 1
            continue
        about = (row["question_id"], row["type"], row["group"], row["log_probability"], row["right"])
        found.append(QuestionLikelihood(*about, replicate=replicate))
    return found, dict(sorted(left_out.items()))


def figures(of: Sequence[QuestionLikelihood]) -> dict[str, Any]:
    """The figures of one system.

    questions, clusters       what they are made of
    log_probability, interval the mean over questions in nats a token, with its 95 % interval
    by_type                   question type → mean
    accuracy                  the judged accuracy on the same questions; None where no reply was judged
    correlation               how far questions with a likelier reference answer are those that are answered right
                              (`correlated`); None where that is not known
    """
    cell: dict[str, Any] = {
        "questions": len({s.question_id for s in of}),
        "clusters": len({s.group for s in of}),
        **dict.fromkeys(("log_probability", "interval", "accuracy", "correlation")),
        "by_type": {},
    }
    if not of:
        return cell
    estimate = mean_of(_sample(of, [s.value for s in of]))
    cell |= {"log_probability": estimate.point, "interval": _ends(estimate)}
    for kind in sorted({s.type for s in of}):
        values = [s.value for s in of if s.type == kind]
        cell["by_type"][kind] = math.fsum(values) / len(values)
    judged = [s for s in of if s.right is not None]
    if judged:
        cell["accuracy"] = math.fsum(s.right or 0.0 for s in judged) / len(judged)
        cell["correlation"] = correlated(judged)
    return cell


def difference(first: Sequence[QuestionLikelihood], second: Sequence[QuestionLikelihood]) -> dict[str, Any] | None:
    """Return what the second system has more than the first on the questions that both have, in nats a token, with its
    `interval`, `p` of "it is nothing", and `accuracy`, the same of judged accuracy where both are judged. None where
    they share no question.
    """
    shared = {s.question_id for s in first} & {s.question_id for s in second}
    sides = [[s for s in side if s.question_id in shared] for side in (first, second)]
    if not shared:
        return None
    change = difference_of(*(_sample(side, [s.value for s in side]) for side in sides))
    judged = [[s.right for s in side if s.right is not None] for side in sides]
    accuracy = None
    if all(len(found) == len(side) for found, side in zip(judged, sides, strict=True)):
        before, after = (math.fsum(found) / len(found) for found in judged)
        accuracy = after - before
    found = {"questions": len(shared), "log_probability": change.point, "interval": _ends(change)}
    return {**found, "p": change.p(), "accuracy": accuracy}


def decide(changes: Sequence[Mapping[str, Any] | None], alpha: float = ALPHA) -> list[dict[str, Any] | None]:
    """Return the differences of one table with `p_holm` and `verdict`: likelier, less likely or no difference shown.

    A difference is shown when its interval leaves 0 out and its p-value, corrected over the table, is below `alpha`.
    """
    corrected = iter(holm([c["p"] for c in changes if c is not None]))
    decided: list[dict[str, Any] | None] = []
    for change in changes:
        if change is None:
            decided.append(None)
            continue
        p, ends = next(corrected), change["interval"]
        shown = ends is not None and (ends[0] > 0 or ends[1] < 0) and p < alpha
        better = "likelier" if change["log_probability"] > 0 else "less likely"
        decided.append({**change, "p_holm": p, "verdict": better if shown else "no difference shown"})
    return decided


def correlated(judged: Sequence[QuestionLikelihood]) -> dict[str, Any] | None:
    """Return Spearman's rank correlation of likelihood and judged score over questions, with a 95 % `interval` over
    their groups (None where these are too few). None where one of the two never varies.

    The interval is that of the mean of what each question adds to the correlation, the ranks taken as they are.
    """
    import numpy as np

    ranks = [_ranks(values) for values in ([s.value for s in judged], [s.right or 0.0 for s in judged])]
    centred = [np.asarray(r) - np.mean(r) for r in ranks]
    spread = [float(np.sqrt(np.mean(c**2))) for c in centred]
    if min(spread) == 0:
        return None
    x, y = (c / s for c, s in zip(centred, spread, strict=True))
    point = float(np.mean(x * y))
    adds = point + x * y - point * (x**2 + y**2) / 2
    ends = _ends(mean_of(_sample(judged, [float(a) for a in adds])))
    interval = None if ends is None else [max(-1.0, ends[0]), min(1.0, ends[1])]
    return {"rank": point, "interval": interval, "questions": len(judged)}


def ordered_alike(cells: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return how many pairs of systems likelihood and judged accuracy order alike, and of how many that differ in both;
    None where there is no such pair.
    """
    known = [(c["log_probability"], c["accuracy"]) for c in cells if c["accuracy"] is not None]
    pairs = [(a, b) for i, a in enumerate(known) for b in known[i + 1 :] if a[0] != b[0] and a[1] != b[1]]
    alike = sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in pairs)
    return (alike, len(pairs)) if pairs else None


def measured(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a cell for each evaluator and system of one run's rows, in their order: `figures`, what was `left_out`,
    and its decided `difference` to the evaluator's first system (None for that one).
    """
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["evaluator"], row["system"]), []).append(row)
    base: dict[str, list[QuestionLikelihood]] = {}
    cells, changes = [], []
    for (evaluator, system), of in grouped.items():
        found, left_out = scored(of)
        changes.append(difference(base[evaluator], found) if evaluator in base else None)
        base.setdefault(evaluator, found)
        cells.append({"evaluator": evaluator, "system": system, **figures(found), "left_out": left_out})
    return [{**cell, "difference": change} for cell, change in zip(cells, decide(changes), strict=True)]


def sentence(cell: Mapping[str, Any]) -> str:
    """Return a cell in words."""
    if cell["log_probability"] is None:
        return f"{cell['system']}: nothing could be scored"
    text = f"{cell['system']}: {cell['log_probability']:.3f} nats a token"
    change = cell.get("difference")
    return f"{text}, {change['log_probability']:+.3f}: {change['verdict']}" if change else text


def _sample(of: Sequence[QuestionLikelihood], values: Sequence[float]) -> Observations:
    return Observations(values, [s.group for s in of], [s.replicate for s in of])


def _ends(estimate: Estimate) -> list[float] | None:
    ends = estimate.interval()
    return list(ends) if all(map(math.isfinite, ends)) else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, those of equal values their mean."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks, start = [0.0] * len(values), 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for i in order[start:end]:
                ranks[i] = (start + end - 1) / 2
            start = end
    return ranks

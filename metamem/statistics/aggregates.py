"""Figures over outcomes: how often right, strictly and among valid verdicts only, overall and in parts, with intervals.

In: one `Outcome` per judged attempt of one run. Out: `aggregate`, a JSON-serialisable dict. An invalid verdict counts
as wrong in `accuracy` (strict, the headline) and is left out of `valid_accuracy`. A question with several attempts
counts once: the mean over its attempts comes first, then the mean over questions, so that no question weighs more for
having been drawn more often. An empty part gives None, never NaN. Intervals are the estimator's (`estimate`), over
clusters of questions; they speak of this run's guidelines, since one run tells nothing of other trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.statistics.estimate import Observations, mean_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """What aggregates need of one verdict.

    `correct` is None when the verdict is invalid (its `score` is then not looked at); `retrieved` says whether all the
    evidence that the question needs was retrieved, None when that is unknown; `group` is the question's cluster, empty
    when it stands for itself.
    """

    question_id: str
    type: str
    abstention: bool
    correct: bool | None
    score: float
    retrieved: bool | None = None
    group: str = ""


def aggregate(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """All figures of one evaluator over one set of attempts.

    A *cell* is a dict of `accuracy` and `score` (strict: invalid counts as wrong, with score 0), `valid_accuracy` and
    `valid_score` (valid verdicts only; questions without any are left out), all in [0, 1] or None, each with its 95 %
    interval (`interval`, `score_interval`, `valid_interval`, `valid_score_interval`: [low, high], None where fewer than
    two clusters tell nothing), and the counts `count` (questions), `clusters`, `valid_count` (questions with a valid
    verdict), `attempts`, `invalid` (attempts without a valid verdict).

    overall        cell over all questions
    task_averaged  `accuracy`, `valid_accuracy` with `interval`, `valid_interval`: the mean over the types of `by_type`,
                   each type weighing the same
    abstention     cell over the abstention questions, whatever their type
    by_type        question type → cell, abstention questions under their own type, types in alphabetical order
    by_evidence    `retrieved`, `missed`: cells over questions whose evidence was all retrieved, or was not

    LongMemEval's published figures are `overall`, `task_averaged` and `abstention`, each `accuracy`.
    """
    rows = list(outcomes)
    by_type = {kind: cell([o for o in rows if o.type == kind]) for kind in sorted({o.type for o in rows})}
    valid = [o for o in rows if o.correct is not None]
    return {
        "overall": cell(rows),
        "task_averaged": {
            **_figure(rows, _right, "accuracy", "interval", by_type=True),
            **_figure(valid, _right, "valid_accuracy", "valid_interval", by_type=True),
        },
        "abstention": cell([o for o in rows if o.abstention]),
        "by_type": by_type,
        "by_evidence": {
            "retrieved": cell([o for o in rows if o.retrieved is True]),
            "missed": cell([o for o in rows if o.retrieved is False]),
        },
    }


def cell(rows: Sequence[Outcome]) -> dict[str, Any]:
    """Return the figures of one part (see `aggregate`)."""
    valid = [o for o in rows if o.correct is not None]
    return {
        **_figure(rows, _right, "accuracy", "interval"),
        **_figure(valid, _right, "valid_accuracy", "valid_interval"),
        **_figure(rows, _score, "score", "score_interval"),
        **_figure(valid, _score, "valid_score", "valid_score_interval"),
        "count": len({o.question_id for o in rows}),
        "clusters": len({o.group or o.question_id for o in rows}),
        "valid_count": len({o.question_id for o in valid}),
        "attempts": len(rows),
        "invalid": len(rows) - len(valid),
    }


def _right(outcome: Outcome) -> float:
    return float(outcome.correct is True)


def _score(outcome: Outcome) -> float:
    return 0.0 if outcome.correct is None else outcome.score


def _figure(
    rows: Sequence[Outcome], value: Callable[[Outcome], float], name: str, interval: str, by_type: bool = False
) -> dict[str, Any]:
    """A mean over questions (over types, each weighing the same) and its interval, under these names."""
    if not rows:
        return {name: None, interval: None}
    first: dict[str, Outcome] = {}
    values: dict[str, list[float]] = {}
    for row in rows:
        first.setdefault(row.question_id, row)
        values.setdefault(row.question_id, []).append(value(row))
    # fsum does not depend on the order, and neither do the figures: questions go in the order of their ids.
    names = sorted(first)
    estimate = mean_of(
        Observations(
            [math.fsum(values[i]) / len(values[i]) for i in names],
            [first[i].group or i for i in names],
            strata=[first[i].type for i in names] if by_type else (),
        )
    )
    found = estimate.share_interval()
    return {name: estimate.point, interval: None if found is None else list(found)}

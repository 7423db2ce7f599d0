"""Figures over outcomes: how often right, strictly and among valid verdicts only, overall and in parts.

In: one `Outcome` per judged attempt. Out: `aggregate`, a JSON-serialisable dict. An invalid verdict counts as wrong in
`accuracy` (strict, the headline) and is left out of `valid_accuracy`. A question with several attempts counts once: the
mean over its attempts comes first, then the mean over questions, so that no question weighs more for having been drawn
more often. An empty part gives None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What aggregates need of one verdict.

    `correct` is None when the verdict is invalid (its `score` is then not looked at); `retrieved` says whether all the
    evidence that the question needs was retrieved, None when that is unknown.
    """

    question_id: str
    type: str
    abstention: bool
    correct: bool | None
    score: float
    retrieved: bool | None = None


def aggregate(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """All figures of one evaluator over one set of attempts.

    A *cell* is a dict of `accuracy` and `score` (strict: invalid counts as wrong, with score 0), `valid_accuracy` and
    `valid_score` (valid verdicts only; questions without any are left out), all in [0, 1] or None, and the counts
    `count` (questions), `valid_count` (questions with a valid verdict), `attempts`, `invalid` (attempts without a valid
    verdict).

    overall        cell over all questions
    task_averaged  `accuracy`, `valid_accuracy`: the mean over the types of `by_type`, each type weighing the same
    abstention     cell over the abstention questions, whatever their type
    by_type        question type → cell, abstention questions under their own type, types in alphabetical order
    by_evidence    `retrieved`, `missed`: cells over questions whose evidence was all retrieved, or was not

    LongMemEval's published figures are `overall`, `task_averaged` and `abstention`, each `accuracy`.
    """
    rows = list(outcomes)
    by_type = {kind: _cell([o for o in rows if o.type == kind]) for kind in sorted({o.type for o in rows})}
    return {
        "overall": _cell(rows),
        "task_averaged": {
            key: _mean([cell[key] for cell in by_type.values() if cell[key] is not None])
            for key in ("accuracy", "valid_accuracy")
        },
        "abstention": _cell([o for o in rows if o.abstention]),
        "by_type": by_type,
        "by_evidence": {
            "retrieved": _cell([o for o in rows if o.retrieved is True]),
            "missed": _cell([o for o in rows if o.retrieved is False]),
        },
    }


def _cell(rows: Sequence[Outcome]) -> dict[str, Any]:
    valid = [o for o in rows if o.correct is not None]
    return {
        "accuracy": _over_questions(rows, lambda o: float(o.correct is True)),
        "valid_accuracy": _over_questions(valid, lambda o: float(o.correct is True)),
        "score": _over_questions(rows, lambda o: 0.0 if o.correct is None else o.score),
        "valid_score": _over_questions(valid, lambda o: o.score),
        "count": len({o.question_id for o in rows}),
        "valid_count": len({o.question_id for o in valid}),
        "attempts": len(rows),
        "invalid": len(rows) - len(valid),
    }


def _over_questions(rows: Sequence[Outcome], value: Callable[[Outcome], float]) -> float | None:
    by_question: dict[str, list[float]] = {}
    for row in rows:
        by_question.setdefault(row.question_id, []).append(value(row))
    return _mean([math.fsum(values) / len(values) for values in by_question.values()])


def _mean(values: Sequence[float]) -> float | None:
    # fsum does not depend on the order, so neither do the figures.
    return math.fsum(values) / len(values) if values else None

"""Pairs of systems for studies: how one differs from the other, and which questions flip.

In: runs. Out: rows of a table, decided together by `statistics.comparison` (intervals, exact tests, Holm), with the
questions that were gained and lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.statistics.comparison import compare_pair, decide, summary
from metamem.statistics.results import load
from metamem.statistics.rows import Row
from metamem.statistics.systems import System, align

# Studies compare many pairs; the ends of an interval are good to a third of a point all the same.
_DRAWS = 4000


def run_systems(runs: Iterable[str | Path], part: str | None = None, evaluator: str | None = None) -> dict[str, System]:
    """The systems of one run, or of several that are seeds or folds of one another: `without`, `best`, `last` of
    training runs (without their steps), the labels of evaluations; in the order of the runs' results.
    Judged by the reward, or by `evaluator`.
    """
    rows: dict[str, list[Row]] = {}
    places: dict[str, dict[tuple[str, str, str], None]] = {}
    for run in runs:
        source = load(run, part, evaluator)
        order = {key: number for number, key in enumerate(source.labels)}
        for row in sorted(source.rows, key=lambda r: order.get(r.system, len(order))):
            label = source.labels.get(row.system, row.system).split(" (step ")[0]
            rows.setdefault(label, []).append(row)
            places.setdefault(label, {})[str(run), source.part, row.system] = None
    return {label: System(label, tuple(found), tuple(places[label])) for label, found in rows.items()}


def compare(first: System, second: System, **about: Any) -> dict[str, Any] | None:
    """A row for `decide`, with `gained` and `lost` (ids of the questions that flip); None without a shared question."""
    if not {r.question_id for r in first.rows} & {r.question_id for r in second.rows}:
        return None
    aligned = align(first, second)
    sides: dict[str, list[list[float]]] = {}
    for row, a, b in zip(aligned.rows, aligned.first, aligned.second, strict=True):
        pair = sides.setdefault(row.question_id, [[], []])
        pair[0].append(a)
        pair[1].append(b)
    right = {q: tuple(2 * sum(s) >= len(s) for s in pair) for q, pair in sides.items()}
    return {
        "first": first.label,
        "second": second.label,
        "part": "overall",
        **about,
        **compare_pair(aligned, draws=_DRAWS),
        "gained": [q for q, (a, b) in right.items() if b and not a],
        "lost": [q for q, (a, b) in right.items() if a and not b],
    }


def decided(rows: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """The rows there are as one table: corrected over it, with `shown` and a `sentence` each."""
    return decide([row for row in rows if row is not None])


def columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """A decided row as columns of a study's table, in points."""
    low, high = row["interval"]
    verdict = ("gain" if row["difference"] > 0 else "loss") if row["shown"] else "no difference shown"
    return {
        "difference": _points(row["difference"]),
        "95 % interval": f"{_points(low)} to {_points(high)}",
        "gained": len(row["gained"]),
        "lost": len(row["lost"]),
        "p (Holm)": row["p_holm"],
        "verdict": verdict,
    }


def accuracy(system: System) -> dict[str, Any]:
    """Strict accuracy with its interval, as columns: Wilson's, or where answers hang together (conversations, seeds,
    folds) that of the hierarchical bootstrap.
    """
    cell = summary(system, draws=_DRAWS)["parts"]["overall"]
    low, high = cell["interval"] or (None, None)
    return {"questions": cell["questions"], "accuracy": cell["accuracy"], "low": low, "high": high}


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"

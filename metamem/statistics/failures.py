"""Why answers are wrong, as shares of all answers with intervals, by system and question type.

In: sorted answers. Out: rows of a table, and what changes between a system without guidelines and with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metamem.statistics.estimate import Observations, difference_of, mean_of

EVERY = "all"


def shares(rows: Sequence[Mapping[str, Any]], kinds: Iterable[str]) -> dict[str, Any]:
    """Return the share of wrong answers, and that of each kind of failure, among all of these answers, each with its
    interval (`KIND, 95 %`; None where nothing tells it).

    `rows` have `wrong`, `kind`, `question_id`, `group` and `run` (the training behind the answer; empty for none).
    """
    found: dict[str, Any] = {"questions": len({row["question_id"] for row in rows})}
    for name in ("wrong", *kinds):
        estimate = mean_of(_sample(rows, name))
        interval = estimate.share_interval()
        found[name] = estimate.point
        found[f"{name}, 95 %"] = None if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
    return found


def by_type(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of all types together, then those of each type."""
    types = sorted({str(row["type"]) for row in rows})
    return {EVERY: list(rows), **{t: [row for row in rows if row["type"] == t] for t in types if len(types) > 1}}


def change(
    without: Sequence[Mapping[str, Any]], guided: Sequence[Mapping[str, Any]], kind: str
) -> tuple[float, tuple[float, float]]:
    """Return by how much the share of a kind of failure differs with guidelines, over the questions that both answered,
    and the interval.
    """
    both = {row["question_id"] for row in without} & {row["question_id"] for row in guided}
    sides = [_sample([row for row in side if row["question_id"] in both], kind) for side in (without, guided)]
    estimate = difference_of(*sides)
    return estimate.point, estimate.interval()


def _sample(rows: Sequence[Mapping[str, Any]], name: str) -> Observations:
    ordered = sorted(rows, key=lambda row: (row["question_id"], row["run"]))
    values = [float(row["wrong"]) if name in ("wrong", row["kind"]) else 0.0 for row in ordered]
    return Observations(values, [str(row["group"]) for row in ordered], [str(row["run"]) for row in ordered])

"""Totals over folds: every question scored exactly once, by the guidelines of the fold that did not see it.

In: one finished training run per fold. Out: per system its accuracy over all test parts, with an interval that reckons
with folds and groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.core.errors import DataError
from metamem.statistics.comparison import summary
from metamem.statistics.pairs import compare, decided, run_systems


def fold_totals(runs: Sequence[str | Path]) -> dict[str, Any]:
    """`systems`: label → `questions`, `accuracy`, `interval`, `parts` (by type and in summary) over all folds; `gain`:
    the chosen guidelines against none, decided.

    Raises `DataError` when the runs test a question more than once: they are not folds of one split.
    """
    systems = run_systems(runs)
    found = {}
    for label, system in systems.items():
        seen = Counter(row.question_id for row in system.rows)
        twice = [q for q, n in seen.items() if n > 1]
        if twice:
            raise DataError(f"question '{twice[0]}' is tested by {seen[twice[0]]} of the runs: they are no folds")
        figures = summary(system)
        overall = figures["parts"]["overall"]
        found[label] = {**{k: overall[k] for k in ("questions", "accuracy", "interval")}, "parts": figures["parts"]}
    without, chosen = systems.get("without"), systems.get("best") or systems.get("last")
    pairs = decided([compare(without, chosen)]) if without and chosen else []
    return {"systems": found, "gain": pairs[0]["sentence"] if pairs else ""}

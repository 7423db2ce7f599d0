"""Averages over streamed data sets as the papers report them: by source, by competency, and beside the memory's size.

In: a score per question with its source, and the counts of the memory banks. Out: plain figures. A source's score is
the mean over its questions; a competency's and the average are means over sources, each weighing the same (Mem-α, arXiv
2509.25911, tables 1 and 2). The average leaves conflict resolution out, as Mem-α's does: it stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.sources import Competency, source_of


@dataclass(frozen=True)
class StreamScore:
    """One question's score in [0, 1], invalid verdicts as 0."""

    source: str
    score: float


def averages(scored: Iterable[StreamScore]) -> dict[str, Any]:
    """`sources` and `competencies` (name → mean), `average` without conflict resolution, and `conflict_resolution`.

    None where there is no question.
    """
    by_source: dict[str, list[float]] = {}
    for one in scored:
        by_source.setdefault(one.source, []).append(one.score)
    sources = {name: _mean(scores) for name, scores in sorted(by_source.items())}
    by_competency: dict[str, list[float]] = {}
    for name, mean in sources.items():
        by_competency.setdefault(source_of(name).competency.value, []).append(mean or 0.0)
    conflict = by_competency.get(Competency.conflict.value, [])
    others = [m for name, means in by_competency.items() if name != Competency.conflict.value for m in means]
    return {
        "sources": sources,
        "competencies": {name: _mean(means) for name, means in sorted(by_competency.items())},
        "average": _mean(others),
        "conflict_resolution": _mean(conflict),
    }


def sizes(counts: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Means over the banks' counts: `memory_tokens`, `input_tokens`, `compression` (1 - memory / input of each)."""
    measured = [c for c in counts if c.get("input_tokens")]
    return {
        "memory_tokens": _mean([float(c["memory_tokens"]) for c in measured]),
        "input_tokens": _mean([float(c["input_tokens"]) for c in measured]),
        "compression": _mean([1 - c["memory_tokens"] / c["input_tokens"] for c in measured]),
    }


def of_result(result: Mapping[str, Any], evaluator: str | None = None) -> dict[str, dict[str, Any]]:
    """System → `averages` and `sizes` of an evaluation's result.json; by the run's reward, or by `evaluator`.

    Raises `KeyError` for an evaluator that the run did not have.
    """
    memory = result.get("memory") or {}
    counts, banks = memory.get("counts") or {}, memory.get("conversations") or 1
    # A result holds sums over its banks; a memory that stayed empty has no count.
    size = {name: counts.get(name, 0) / banks for name in ("memory_tokens", "input_tokens")}
    return {
        label: {
            **averages(StreamScore(source, cell["score"]) for source, cell in figures["by_type"].items()),
            **sizes([size]),
        }
        for label, figures in result["figures"][evaluator or result["reward"]].items()
    }


def rows_of(runs: Mapping[str, Mapping[str, Any]], evaluator: str | None = None) -> list[dict[str, Any]]:
    """A row a run and system, as tables want it: the averages, each competency and source, the memory's size."""
    rows = []
    for name, result in runs.items():
        for label, found in of_result(result, evaluator).items():
            named = {key: found[key] for key in ("average", "conflict_resolution", "memory_tokens", "compression")}
            rows.append({"run": name, "system": label, **named, **found["competencies"], **found["sources"]})
    return rows


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None

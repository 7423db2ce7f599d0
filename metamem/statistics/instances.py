"""Averages over streamed data by instance: each context's questions first, then contexts, then sources.

In: judged questions of each system. Out: the averages of `statistics.streams`, where an instance weighs as much as
another however many questions it has. So Mem-α (arXiv 2509.25911) scores its tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metamem.core.learned import Judged
from metamem.core.records import Verdict
from metamem.statistics.streams import StreamScore, averages


def with_instances(
    streams: Mapping[str, Mapping[str, Any]], judged: Mapping[str, Sequence[Judged]]
) -> dict[str, dict[str, Any]]:
    """Return the figures of streams by system, each with its averages by instance as `per_instance`."""
    return {label: {**of, "per_instance": instance_averages(judged[label])} for label, of in streams.items()}


def instance_averages(judged: Iterable[Judged]) -> dict[str, Any]:
    """Return `sources`, `competencies`, `average` and `conflict_resolution` by the reward; an invalid verdict scores 0.

    An instance is the questions of one source about one context.
    """
    instances: dict[tuple[str, str], list[float]] = {}
    for j in judged:
        if j.verdicts:
            instances.setdefault((j.question.type, j.question.group), []).append(_score(j.verdicts))
    return averages(StreamScore(source, _mean(scores)) for (source, _), scores in sorted(instances.items()))


def _score(verdicts: Sequence[Verdict]) -> float:
    return _mean([v.score if v.valid else 0.0 for v in verdicts])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

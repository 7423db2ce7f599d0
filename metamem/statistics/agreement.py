"""How far a verdict can be trusted: the noise of a judge asked twice, and the agreement of two judges or rubrics.

In: verdicts by attempt. Out: rates, standard errors and Cohen's kappa as JSON-serialisable dicts. Invalid verdicts are
left out and counted. statsmodels computes kappa and is imported when asked.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any


def judge_noise(verdicts: Mapping[Hashable, Sequence[bool | None]]) -> dict[str, Any]:
    """What repeating verdicts shows of a judge. `verdicts`: attempt → its verdicts by one judge and rubric, None when
    invalid.

    attempts        attempts with at least two valid verdicts; the figures are over these
    verdicts        their valid verdicts
    invalid         invalid verdicts of all attempts
    flipped         share of the attempts whose verdicts are not all the same
    disagreement    chance that two verdicts of one attempt differ (unbiased: mean of 2·r·w / (m·(m-1)) over attempts
                    with r right and w wrong of m)
    standard_error  what judging each attempt once adds to the accuracy over these attempts by its own noise
    """
    usable = [v for v in ([b for b in given if b is not None] for given in verdicts.values()) if len(v) >= 2]
    invalid = sum(b is None for given in verdicts.values() for b in given)
    result: dict[str, Any] = {"attempts": len(usable), "verdicts": sum(map(len, usable)), "invalid": invalid}
    if not usable:
        return {**result, "flipped": None, "disagreement": None, "standard_error": None}
    differ = [2 * sum(v) * (len(v) - sum(v)) / (len(v) * (len(v) - 1)) for v in usable]
    mean = math.fsum(differ) / len(usable)
    return {
        **result,
        "flipped": sum(0 < sum(v) < len(v) for v in usable) / len(usable),
        "disagreement": mean,
        # A single verdict's variance is p(1-p), half the chance that two of them differ.
        "standard_error": math.sqrt(mean / 2 / len(usable)),
    }


def cohens_kappa(first: Sequence[bool | None], second: Sequence[bool | None]) -> dict[str, Any]:
    """The agreement of two judges (rubrics, evaluators) on the same attempts, in the same order, None when invalid.

    count      attempts that both judged validly; `invalid` the others
    agreement  share of the same verdict
    kappa      Cohen's kappa (1960, Educational and Psychological Measurement 20:37-46); None where it is not defined:
               no attempt, or both judges say the same throughout
    interval   its 95 % interval; None also where its spread is not defined
    table      [[both right, only the first], [only the second, both wrong]]

    Raises ValueError when the lengths differ.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    table = [[sum((a, b) == (x, y) for a, b in pairs) for y in (True, False)] for x in (True, False)]
    result: dict[str, Any] = {"count": len(pairs), "invalid": len(first) - len(pairs), "table": table}
    same = table[0][0] + table[1][1]
    result["agreement"] = same / len(pairs) if pairs else None
    if not pairs or max(table[0][0], table[1][1]) == len(pairs):
        return {**result, "kappa": None, "interval": None}
    if same == len(pairs):
        # Perfect agreement has no spread; the library divides by it.
        return {**result, "kappa": 1.0, "interval": [1.0, 1.0]}
    import numpy as np
    from statsmodels.stats.inter_rater import cohens_kappa as library

    # A judge that always says the same has kappa 0 and no variance; rounding may make the library's negative.
    with np.errstate(invalid="ignore", divide="ignore"):
        found = library(table)
    low, high = float(found.kappa_low), float(found.kappa_upp)
    interval = [max(-1.0, low), min(1.0, high)] if math.isfinite(low) else None
    return {**result, "kappa": float(found.kappa), "interval": interval}

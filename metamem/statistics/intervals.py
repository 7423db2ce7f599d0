"""Intervals for proportions: Wilson's, and Wilson's at the number of independent answers that a sample amounts to.

In: counts, or a bootstrapped `Estimate` of a share. Out: (low, high) in [0, 1]. statsmodels does the arithmetic and is
imported when asked for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from metamem.statistics.paired import Discordance
from metamem.statistics.resampling import LEVEL, Estimate


def wilson(right: float, count: float, level: float = LEVEL) -> tuple[float, float] | None:
    """Wilson's score interval of `right` out of `count`; None when there is nothing to count.

    `right` need not be whole: with several attempts a question it is a sum of shares, and the interval is then wider
    than it need be. Wilson 1927, JASA 22:209-212; by statsmodels.
    """
    from statsmodels.stats.proportion import proportion_confint

    if count <= 0:
        return None
    low, high = proportion_confint(right, count, alpha=1 - level, method="wilson")
    # Rounding may put a bound a hair beyond the share itself, or beyond 0 and 1.
    share = right / count
    return min(share, max(0.0, float(low))), max(share, min(1.0, float(high)))


def clustered(estimate: Estimate, count: int, statistic: int = 0) -> tuple[float, float] | None:
    """The interval of one share of an `Estimate` over `count` observations: Wilson's at the effective sample size.

    The effective size is the number of independent answers that would vary as much as the bootstrap says, never more
    than `count`, times the square of z over t for the number of clusters (Korn and Graubard 1998, Survey Methodology
    24:193-201; with Wilson's interval: Dean and Pagano 2015, Journal of Survey Statistics and Methodology 3:484-503).
    Percentiles of the bootstrap would be a single point where all answers are right. None when the share is unknown.
    """
    from scipy.stats import norm, t

    share = float(estimate.point[statistic])
    if share != share:
        return None
    if estimate.clusters < 2:
        return 0.0, 1.0
    tail = (1 - estimate.level) / 2
    variance = estimate.variance(statistic)
    if estimate.tells and 0 < share < 1 and variance > 0:
        size = min(float(count), share * (1 - share) / variance)
    else:
        # Nothing varies, so nothing tells how alike the answers of a cluster are: each counts once.
        size = float(estimate.clusters)
    size *= (norm.ppf(tail) / t.ppf(tail, estimate.clusters - 1)) ** 2
    return wilson(share * size, size, estimate.level)


def matched(cases: Discordance, level: float = LEVEL) -> tuple[float, float]:
    """An interval of the difference (second less first) of two accuracies on the same independent questions that still
    tells something when the two hardly ever differ: Wald's with half a question more in each of the four cases.

    Agresti and Min 2005, Statistics in Medicine 24:729-740.
    """
    from scipy.stats import norm

    count, b, c = cases.count + 2, cases.only_first + 0.5, cases.only_second + 0.5
    centre, spread = (c - b) / count, math.sqrt((b + c) - (c - b) ** 2 / count) / count
    reach = float(norm.ppf((1 + level) / 2)) * spread
    return max(-1.0, centre - reach), min(1.0, centre + reach)


def with_intervals(figures: Mapping[str, Any], level: float = LEVEL) -> dict[str, Any]:
    """`aggregates.aggregate`'s figures with `interval` and `valid_interval` (Wilson's: [low, high] or None) in every
    cell.
    """
    return {
        name: _celled(cell, level)
        if "count" in cell
        else {k: _celled(c, level) if isinstance(c, Mapping) and "count" in c else c for k, c in cell.items()}
        for name, cell in figures.items()
    }


def _celled(cell: Mapping[str, Any], level: float) -> dict[str, Any]:
    count, known = cell["count"], cell["valid_count"]
    strict = None if cell["accuracy"] is None else wilson(cell["accuracy"] * count, count, level)
    valid = None if cell["valid_accuracy"] is None else wilson(cell["valid_accuracy"] * known, known, level)
    return {**cell, "interval": list(strict) if strict else None, "valid_interval": list(valid) if valid else None}

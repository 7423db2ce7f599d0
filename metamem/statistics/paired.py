"""Tests between two systems that answered the same questions, and what such a test can show at all.

In: right and wrong by question, or p-values. Out: the exact McNemar test, Holm's correction over a table, the smallest
difference that a sample could show. statsmodels and scipy do the arithmetic and are imported when asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

POWER = 0.8
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Discordance:
    """How two systems fare question by question."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def count(self) -> int:
        """The number of questions."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def share(self) -> float:
        """The share of questions on which the two differ; 0 without questions."""
        return (self.only_first + self.only_second) / self.count if self.count else 0.0


def discordance(first: Sequence[bool], second: Sequence[bool]) -> Discordance:
    """Count the four cases; the two say in the same order whether each question was answered right. Raises ValueError
    when their lengths differ.
    """
    pairs = list(zip(first, second, strict=True))
    return Discordance(
        sum(a and b for a, b in pairs),
        sum(a and not b for a, b in pairs),
        sum(b and not a for a, b in pairs),
        sum(not a and not b for a, b in pairs),
    )


def mcnemar(cases: Discordance) -> float:
    """The two-sided p-value of the exact McNemar test: do the two differ equally often in either direction?

    Questions are taken as independent. 1 when they never differ. McNemar 1947, Psychometrika 12:153-157; by
    statsmodels.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact

    if cases.only_first + cases.only_second == 0:
        return 1.0
    table = [[cases.both, cases.only_first], [cases.only_second, cases.neither]]
    return min(1.0, float(exact(table, exact=True).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of one table corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6:65-70; by
    statsmodels), in the order given.
    """
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def smallest_difference(count: float, share: float, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest true difference of two accuracies that a paired test on `count` questions would show.

    `share` is the share of questions on which the two systems differ, `power` the chance of showing it at a two-sided
    level `alpha`. It is the d that solves

        count · d² = (z(1 - alpha/2) · √share + z(power) · √(share - d²))²

    which is the sample size of the McNemar test (Connor 1987, Biometrics 43:207-211) read backwards: a quadratic in d.
    None when no difference could be shown: `d` would exceed `share`, the most that two systems can differ which
    disagree so rarely, or there are no questions.
    """
    from scipy.stats import norm

    if count <= 0 or share <= 0:
        return None
    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))
    a = count + z_power**2
    b = z_alpha * math.sqrt(share * count)
    c = share * (z_alpha**2 - z_power**2)
    under_root = b * b - a * c
    if under_root < 0:
        return None
    found = (b + math.sqrt(under_root)) / a
    return found if found <= share else None

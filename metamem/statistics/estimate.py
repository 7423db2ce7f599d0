"""One estimator for every figure: means over questions with the uncertainty of questions, conversations and trainings.

In: `Observations`, one per question and training run: its value, the cluster it belongs to (a conversation,
or a base question with its variants), the training run that made it, and a stratum (a question type) where a mean over
types is wanted. Out: an `Estimate` with one variance and one number of degrees of freedom, from which interval, p-value
and power all come. numpy and scipy are imported when something is estimated.

The variance has two sources. Questions: the cluster-robust sandwich with G - 1 degrees of freedom (Liang and Zeger
1986, Biometrika 73:13-22; for evaluations of models Miller 2024, arXiv 2411.00640). Trainings, where a side has several
runs: what the runs differ by beyond what their questions explain, by the analysis of variance of questions crossed with
runs (Searle, Casella and McCulloch 1992, Variance Components, chapter 4); a negative remainder is none.

How many standard errors the interval reaches: the mean of what the t of either source asks for, weighted by their
variances (Cochran 1964, Biometrics 20:191-195). Satterthwaite's degrees of freedom will not do there: with two or three
runs they are largest where the runs are alike by luck. Only where every side that was trained has three runs or more,
and they differ by no more than their questions explain, do the questions alone decide; that two runs are alike says
nothing. p-values and other levels follow the t with the degrees of freedom of the runs, scaled to that interval: a
correction for many comparisons asks for tails of which few runs tell little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
# A variance that is rounding.
_NOTHING = 1e-18
# How many clusters an exact test over all their signs takes: 2¹² vectors of signs.
MOST_FLIPPED = 12


@dataclass(frozen=True)
class Observations:
    """Observations of one system, n of each: `values`, `clusters`, and where wanted `runs` (default: one run), `strata`
    (default: one stratum) and `weights` above 0 (default: alike).
    """

    values: Sequence[float]
    clusters: Sequence[str]
    runs: Sequence[str] = ()
    strata: Sequence[str] = ()
    weights: Sequence[float] = ()


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of two: `point`, `variance` (infinite where nothing tells it), `freedom` (degrees of
    freedom), `clusters`, and `runs` of each side.

    `scale` is what the t of so few degrees of freedom is narrowed by where only the runs have so few. `flipped` holds,
    for a difference of single runs over few clusters, what each cluster adds to the difference and to its weight, for
    the exact test over their signs.
    """

    point: float
    variance: float
    freedom: float
    clusters: int
    runs: tuple[int, ...]
    scale: float = 1.0
    flipped: tuple[tuple[float, float], ...] = ()

    @property
    def known(self) -> bool:
        """Whether anything tells the uncertainty: at least two clusters."""
        return math.isfinite(self.variance)

    @property
    def error(self) -> float:
        """What the t of `freedom` degrees of freedom is multiplied by: the standard error, scaled."""
        return self.scale * math.sqrt(self.variance)

    def reach(self, level: float = LEVEL) -> float:
        """Return half the width of the t interval."""
        return _t_quantile((1 + level) / 2, self.freedom) * self.error if self.known else math.inf

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval that belongs to `p`: by the signs of the clusters where these are tested, else by t."""
        if self.flipped:
            return _between_signs(self.flipped, level)
        return self.point - self.reach(level), self.point + self.reach(level)

    def share_interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return the interval of a share in [0, 1]: Wilson's at the effective number of answers. None if unknown.

        The effective number is that of independent answers that would vary as much, times the square of the t that
        these would have over the t that there is (Korn and Graubard 1998, Survey Methodology 24:193-201; with Wilson's
        interval: Dean and Pagano 2015, Journal of Survey Statistics and Methodology 3:484-503). Where nothing varies,
        a cluster counts as one answer.
        """
        if not self.known:
            return None
        share = min(1.0, max(0.0, self.point))
        # Conversations that happen to be alike to the last digit tell nothing either.
        varies = self.variance > _NOTHING and 0 < share < 1
        if not varies:
            return wilson(share * self.clusters, self.clusters, level)
        # Of n single independent answers the variance is estimated as share · (1 - share) / (n - 1).
        told = share * (1 - share) / self.variance
        theirs = _t_quantile((1 + level) / 2, told) * math.sqrt(self.variance)
        size = (told + 1) * min(1.0, theirs / self.reach(level)) ** 2
        return wilson(share * size, size, level)

    def p(self) -> float:
        """Return the two-sided p-value of "it is zero": exact over the signs of few clusters, else by t."""
        from scipy.special import stdtr

        if self.flipped:
            return _sign_flip(self.flipped)
        if not self.known:
            return 1.0
        if self.variance <= _NOTHING:
            # Conversations that happen to be alike to the last digit: no less than their signs would say.
            return 1.0 if abs(self.point) < _NOTHING else min(1.0, 2.0 ** (1 - self.clusters))
        return float(2 * stdtr(self.freedom, -abs(self.point) / self.error))


def wilson(right: float, count: float, level: float = LEVEL) -> tuple[float, float] | None:
    """Wilson's score interval of `right` out of `count`, which need not be whole; None when there is nothing to count.

    Wilson 1927, JASA 22:209-212. Written out: statsmodels has it, and takes a second to import at the end of every run.
    """
    if count <= 0:
        return None
    share, z = right / count, _z_quantile((1 + level) / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    # Rounding may put a bound a hair beyond the share itself, or beyond 0 and 1.
    return min(share, max(0.0, centre - spread)), max(share, min(1.0, centre + spread))


def smallest_by_t(error: float, freedom: float, alpha: float, power: float) -> float:
    """Return the smallest true difference that a t test at a two-sided level `alpha` shows with this power, given the
    standard error of the difference.
    """
    return (_t_quantile(1 - alpha / 2, freedom) + _t_quantile(power, freedom)) * error


def mean_of(sample: Observations) -> Estimate:
    """Estimate a mean (over strata, each weighing the same, where there are any). Raises ValueError without values."""
    (codes,), clusters = _coded([sample.clusters])
    side = _Side(sample, codes)
    variance, freedom = _of_questions([side], [1.0], clusters, spread=0.5)
    return _with_runs(side.point, variance, freedom, clusters, [side])


def difference_of(first: Observations, second: Observations) -> Estimate:
    """Estimate the mean of `second` less that of `first`, paired by cluster. Raises ValueError without values.

    Questions stand in both samples, with as many runs on each side as there are: seeds need not be the same.
    """
    codes, clusters = _coded([first.clusters, second.clusters])
    sides = [_Side(sample, code) for sample, code in zip((first, second), codes, strict=True)]
    variance, freedom = _of_questions(sides, [-1.0, 1.0], clusters, spread=1.0)
    found = _with_runs(sides[1].point - sides[0].point, variance, freedom, clusters, sides)
    paired = set(first.clusters) == set(second.clusters)
    if found.runs == (1, 1) and paired and 2 <= clusters <= MOST_FLIPPED:
        return Estimate(**{**found.__dict__, "flipped": _cluster_sums(sides, clusters)})
    return found


def _t_quantile(level: float, freedom: float) -> float:
    # scipy.special is there at once; scipy.stats takes most of a second to import.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, level))


def _z_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(level))


class _Side:
    """A sample as arrays, its clusters as numbers: `point`, and what each observation adds to it (`pull`, summing to 0
    in every stratum).
    """

    def __init__(self, sample: Observations, clusters: NDArray[np.intp]) -> None:
        import numpy as np

        count = len(sample.values)
        if not count or any(len(x) not in (0, count) for x in (sample.runs, sample.strata, sample.weights)):
            raise ValueError(f"{count} values: one cluster, run, stratum and weight each is wanted")
        self.values = np.asarray(sample.values, dtype=np.float64)
        self.clusters = clusters
        (codes,), self.strata = _coded([sample.strata or [""] * count])
        (runs,), self.runs = _coded([sample.runs or [""] * count])
        self.stratum, self.run = codes, runs
        weights = np.asarray(sample.weights or np.ones(count), dtype=np.float64)
        total = np.bincount(codes, weights=weights)
        means = np.bincount(codes, weights=weights * self.values) / total
        self.point = float(means.mean())
        # What an observation counts in the mean of all strata.
        self.share: NDArray[np.float64] = weights / total[codes] / len(total)
        self.pull: NDArray[np.float64] = self.share * (self.values - means[codes])


def _of_questions(sides: Sequence[_Side], signs: Sequence[float], clusters: int, spread: float) -> tuple[float, float]:
    """The cluster-robust variance and its degrees of freedom.

    A stratum of a single cluster tells nothing of its own spread: the largest possible, `spread`, is taken for it.
    """
    import numpy as np

    strata = sides[0].strata
    sums = np.zeros((clusters, strata))
    present = np.zeros((clusters, strata), dtype=bool)
    for side, sign in zip(sides, signs, strict=True):
        np.add.at(sums, (side.clusters, side.stratum), sign * side.pull)
        present[side.clusters, side.stratum] = True
    held = present.sum(axis=0)
    sums *= np.sqrt(held / np.maximum(held - 1, 1))
    by_stratum = (sums**2).sum(axis=0)
    variance = float((sums.sum(axis=1) ** 2).sum())
    alone = int((held == 1).sum())
    if clusters < 2 or alone == strata:
        return math.inf, 1.0
    variance += alone * (spread / strata) ** 2
    told = float((by_stratum**2 / np.maximum(held - 1, 1)).sum())
    # Few questions of one type may carry most of the variance of a mean over types.
    freedom = min(clusters - 1.0, float(by_stratum.sum()) ** 2 / told) if strata > 1 and told > 0 else clusters - 1.0
    return variance, max(1.0, freedom)


def _with_runs(point: float, questions: float, freedom: float, clusters: int, sides: Sequence[_Side]) -> Estimate:
    """Add to the variance of questions what the trainings of each side differ by."""
    import numpy as np

    runs = tuple(s.runs for s in sides)
    trained = [s for s in sides if s.runs > 1]
    if not trained or not math.isfinite(questions):
        return Estimate(point, questions, freedom, clusters, runs)
    each = [float((np.bincount(s.run, weights=s.pull) ** 2).sum()) * s.runs / (s.runs - 1) for s in trained]
    between, explained = sum(each), sum(_explained(s, clusters) for s in trained)
    squares = sum(b**2 / (s.runs - 1) for b, s in zip(each, trained, strict=True))
    fewest = max(1.0, min(freedom, between**2 / squares if squares > 0 else freedom))
    variance = questions + max(between - explained, 0.0)
    alike = variance <= 0 or (between <= explained and all(s.runs > 2 for s in trained))
    scale = scale_of(0.0 if alike else min(1.0, between / variance), freedom, fewest)
    return Estimate(point, variance, fewest, clusters, runs, scale)


def scale_of(share: float, freedom: float, fewest: float) -> float:
    """Return what the t of the `fewest` degrees of freedom is multiplied by where only a `share` of the variance has
    so few and the rest has `freedom`: Cochran's weighted mean of the two at the level of intervals.
    """
    ends = _t_quantile((1 + LEVEL) / 2, freedom), _t_quantile((1 + LEVEL) / 2, fewest)
    return share + (1 - share) * ends[0] / ends[1]


def _explained(side: _Side, clusters: int) -> float:
    """What the runs of a side would differ by had its trainings no luck: the spread of their clusters around each run's
    mean, less what a cluster has in every run that asks it.
    """
    import numpy as np

    shape = (clusters, side.strata, side.runs)
    place = np.ravel_multi_index((side.clusters, side.stratum, side.run), shape)
    size = clusters * side.strata * side.runs
    added = np.bincount(place, weights=side.pull, minlength=size).reshape(shape)
    share = np.bincount(place, weights=side.share, minlength=size).reshape(shape)
    held = (share > 0).sum(axis=0)
    added = added - share * (added.sum(axis=0) / np.where(held, share.sum(axis=0), 1.0))
    own = (added * np.sqrt(held / np.maximum(held - 1, 1))).sum(axis=1)
    asked = (share > 0).any(axis=1)
    times = asked.sum(axis=1)
    several = times > 1
    own -= np.where(several, own.sum(axis=1) / np.maximum(times, 1), 0.0)[:, None] * asked
    return float(((own**2).sum(axis=1) * np.where(several, times / np.maximum(times - 1, 1), 1.0)).sum())


def _coded(clusters: Sequence[Sequence[str]]) -> tuple[list[NDArray[np.intp]], int]:
    """Names as numbers from 0, in their order, and how many there are."""
    import numpy as np

    numbers = {name: i for i, name in enumerate(sorted(set().union(*clusters)))}
    return [np.fromiter(map(numbers.__getitem__, c), np.intp, len(c)) for c in clusters], len(numbers)


def _cluster_sums(sides: Sequence[_Side], clusters: int) -> tuple[tuple[float, float], ...]:
    """What each cluster adds to the difference of two means, and to the weight of 1 that all have together."""
    import numpy as np

    added = [np.bincount(s.clusters, weights=s.share * s.values, minlength=clusters) for s in sides]
    weight = np.mean([np.bincount(s.clusters, weights=s.share, minlength=clusters) for s in sides], axis=0)
    return tuple((float(d), float(w)) for d, w in zip(added[1] - added[0], weight, strict=True))


def _signs(count: int) -> NDArray[np.float64]:
    import numpy as np

    return np.asarray(1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1))


def _sign_flip(clusters: Sequence[tuple[float, float]]) -> float:
    """The share of all vectors of signs that give a difference at least as large: Fisher's randomisation test."""
    import numpy as np

    sums = _signs(len(clusters)) @ np.asarray([d for d, _ in clusters])
    # Sums of the same numbers in another order differ in their last digits.
    return float((np.abs(sums) >= abs(sums[0]) * (1 - 1e-9) - 1e-15).mean())


def _between_signs(clusters: Sequence[tuple[float, float]], level: float) -> tuple[float, float]:
    """All differences that the sign-flip test would not reject: infinite where it can reject none.

    A vector of signs speaks against a difference as long as that lies between the means of the clusters it flips and
    of those it keeps; the interval ends where fewer than 1 - `level` of the vectors do.
    """
    import numpy as np

    values, weights = (np.asarray(column) for column in zip(*clusters, strict=True))
    flips = _signs(len(clusters)) < 0
    flips = flips[1:-1]
    flipped, kept = (flips @ values) / (flips @ weights), (~flips @ values) / (~flips @ weights)
    low, high = np.sort(np.minimum(flipped, kept)), np.sort(np.maximum(flipped, kept))[::-1]
    # The vectors that keep all signs and that flip all always count: the others that must.
    needed = math.floor((1 - level) * 2 ** len(clusters) + 1e-9) + 1 - 2
    if needed <= 0:
        return -math.inf, math.inf
    return float(low[needed - 1]), float(high[needed - 1])

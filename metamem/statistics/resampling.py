"""The hierarchical bootstrap: what a mean over questions would have been with other questions and other training runs.

In: for every observation its value, the cluster it belongs to (a conversation, or a base question with its variants)
and the replicate (a training seed or fold) that made it. Out: an `Estimate` with its bootstrap draws, an interval, a
p-value and a design effect. All statistics drawn by one `Resampler` come from the same resamples, so differences are
paired. numpy and scipy are imported when a resampler is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

DRAWS = 10_000
LEVEL = 0.95
# Five clusters that all point the same way do so by chance once in 2⁵ / 2 = 16 times; with six it is one in 32.
FEWEST_CLUSTERS = 6


@dataclass(frozen=True)
class Estimate:
    """Means of one or several statistics, and what resampling made of them.

    `point` (k,); `draws` (draws, k), NaN where a resample holds none of the observations; `clusters` and `replicates`
    counted; `level` is that of the interval.
    """

    point: NDArray[np.float64]
    draws: NDArray[np.float64]
    clusters: int
    replicates: int
    level: float

    @property
    def tells(self) -> bool:
        """False when resampling says nothing: fewer clusters than could reach the 5 % level by all pointing the same
        way, or many resamples that miss all that is asked for.
        """
        import numpy as np

        return self.clusters >= FEWEST_CLUSTERS and bool(np.isfinite(self.draws[:, 0]).mean() >= self.level)

    def intervals(self) -> NDArray[np.float64]:
        """Expanded percentile intervals, (k, 2).

        The percentiles are those that make the interval of a mean as wide as Student's t over the clusters would
        (Hesterberg 2015, The American Statistician 69:371-386, section 5.3); with many clusters they are the plain
        ones. Without spread to speak of (`tells` is False) an interval is infinite.
        """
        import numpy as np
        from scipy.stats import norm, t

        if not self.tells:
            return np.tile([-np.inf, np.inf], (len(self.point), 1))
        tail = (1 - self.level) / 2
        expanded = norm.cdf(t.ppf(tail, self.clusters - 1) * np.sqrt(self.clusters / (self.clusters - 1)))
        return np.asarray(np.nanquantile(self.draws, [expanded, 1 - expanded], axis=0).T)

    def p_values(self) -> NDArray[np.float64]:
        """Two-sided p-values of "the mean is zero", (k,): the level at which the interval would just touch zero."""
        import numpy as np
        from scipy.stats import norm, t

        if not self.tells:
            return np.ones(len(self.point))
        known = np.isfinite(self.draws).sum(axis=0)
        below, above = (self.draws <= 0).sum(axis=0), (self.draws >= 0).sum(axis=0)
        tail = np.minimum(1.0, (1 + np.minimum(below, above)) / (1 + known))
        z = norm.ppf(tail) * np.sqrt((self.clusters - 1) / self.clusters)
        return np.asarray(np.minimum(1.0, 2 * t.cdf(z, self.clusters - 1)))

    def variance(self, statistic: int = 0) -> float:
        """The variance of one mean, corrected for the number of clusters; infinite for a single one."""
        import numpy as np

        if self.clusters < 2:
            return math.inf
        return float(np.nanvar(self.draws[:, statistic]) * self.clusters / (self.clusters - 1))


class Resampler:
    """Resamples clusters and, where there are several, replicates; all with replacement, from one seed.

    A resample is a weight for each cluster; every question of a cluster, in every replicate, gets it. That gives the
    spread that comes of the questions. Replicates vary more than their questions explain when training is a lottery:
    only that excess of their deviations is resampled and added (deviations of means shrunk by their sampling noise, as
    in Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8), widened as Student's t asks of
    so few. So replicates that differ by chance alone do not count the questions' spread twice. Works alike for seeds
    that answer the same questions, folds that share none, and seeds times folds.
    """

    def __init__(
        self,
        clusters: Sequence[str],
        replicates: Sequence[str] | None = None,
        *,
        seed: int = 0,
        draws: int = DRAWS,
        level: float = LEVEL,
    ) -> None:
        """`clusters` and `replicates` (None: one) name those of each observation. Raises ValueError when the two do
        not have the same length or there is no observation.
        """
        import numpy as np

        replicates = ["" for _ in clusters] if replicates is None else replicates
        if len(clusters) != len(replicates) or not clusters:
            raise ValueError(f"{len(clusters)} clusters for {len(replicates)} replicates: one each per observation")
        names, self._cluster = np.unique(np.asarray(clusters), return_inverse=True)
        runs, self._replicate = np.unique(np.asarray(replicates), return_inverse=True)
        self.level, self._groups, self._runs = level, len(names), len(runs)
        # Two streams, so that the weights of the clusters do not depend on how many replicates there are.
        of_clusters, of_runs = np.random.default_rng(seed).spawn(2)
        g, r = self._groups, self._runs
        self._weights = of_clusters.multinomial(g, np.full(g, 1 / g), size=draws).astype(np.float64)
        self._run_weights = of_runs.multinomial(r, np.full(r, 1 / r), size=draws).astype(np.float64)

    def draw(self, values: ArrayLike, where: ArrayLike | None = None, weights: ArrayLike | None = None) -> Estimate:
        """The means of `values`, (n,) or (k, n) for k statistics of the same observations; `where` (n,) picks some of
        them (default all), `weights` (n,) above 0 say how much each counts (default alike).
        """
        import numpy as np

        table = np.atleast_2d(np.asarray(values, dtype=np.float64))
        kept = np.ones(table.shape[1], dtype=bool) if where is None else np.asarray(where, dtype=bool)
        each = np.ones(table.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
        cell = (self._replicate * self._groups + self._cluster)[kept]
        shape, size = (self._runs, self._groups), self._runs * self._groups
        counts = np.bincount(cell, weights=each[kept], minlength=size).reshape(shape).astype(np.float64)
        weighted = [np.bincount(cell, weights=(row * each)[kept], minlength=size) for row in table]
        sums = np.stack([w.reshape(shape) for w in weighted])
        with np.errstate(invalid="ignore", divide="ignore"):
            point = sums.sum(axis=(1, 2)) / counts.sum()
            draws = (self._weights @ sums.sum(axis=1).T) / (self._weights @ counts.sum(axis=0))[:, None]
            present = counts.sum(axis=1) > 0
            if present.sum() > 1:
                for k in range(len(table)):
                    draws[:, k] += self._between(sums[k], counts, present, point[k], draws[:, k])
        used = int((counts.sum(axis=0) > 0).sum())
        return Estimate(point, draws, used, int(present.sum()), self.level)

    def _between(
        self,
        sums: NDArray[np.float64],
        counts: NDArray[np.float64],
        present: NDArray[np.bool_],
        mean: float,
        drawn: NDArray[np.float64],
    ) -> Any:
        """What resampling the replicates adds to each draw: their mean deviation, less what questions explain."""
        import numpy as np
        from scipy.stats import norm, t

        sums, counts = sums[present], counts[present]
        deviation = sums.sum(axis=1) / counts.sum(axis=1) - mean
        under_resampling = (self._weights @ sums.T) / (self._weights @ counts.T) - drawn[:, None]
        noise = float(np.nanvar(under_resampling, axis=0).sum())
        spread = float((deviation**2).sum())
        if spread <= noise:
            return np.zeros(len(drawn))
        number = len(deviation)
        tail = (1 - self.level) / 2
        widened = np.sqrt(number / (number - 1)) * t.ppf(tail, number - 1) / norm.ppf(tail)
        weights = self._run_weights[:, present] * counts.sum(axis=1)
        total = weights.sum(axis=1)
        shift = np.divide((weights * deviation).sum(axis=1), total, out=np.zeros(len(drawn)), where=total > 0)
        return np.sqrt(1 - noise / spread) * widened * shift

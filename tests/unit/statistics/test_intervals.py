"""Intervals: as statsmodels and scipy give them, and right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.proportion import proportion_confint

from metamem.statistics.aggregates import Outcome, aggregate
from metamem.statistics.intervals import clustered, matched, wilson, with_intervals
from metamem.statistics.paired import Discordance
from metamem.statistics.resampling import Resampler

SETTINGS = [(100, 0.5), (100, 0.8), (500, 0.5), (500, 0.8), (56, 0.98)]
LEAST = {(56, 0.98): 0.92}


def independent(n: int, **options: float) -> Resampler:
    return Resampler([str(i) for i in range(n)], seed=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (350, 500), (363, 500), (55, 56)])
def test_wilson_is_that_of_scipy_and_statsmodels(right: int, count: int) -> None:
    scipy = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right, count) == pytest.approx((scipy.low, scipy.high), abs=1e-12)
    assert wilson(right, count) == pytest.approx(proportion_confint(right, count, method="wilson"), abs=1e-12)


def test_nothing_has_no_interval() -> None:
    assert wilson(0, 0) is None
    figures = with_intervals(aggregate([]))
    assert figures["overall"]["interval"] is None


def test_every_cell_of_the_figures_gets_the_intervals_of_its_strict_and_valid_shares() -> None:
    rows = [Outcome(str(i), "ab"[i % 2], False, (True, False, None)[i % 3], 0.0, True) for i in range(12)]
    figures = with_intervals(aggregate(rows))
    cells = [figures["overall"], figures["by_type"]["a"], figures["by_evidence"]["retrieved"]]
    for cell in cells:
        assert cell["interval"] == list(wilson(round(cell["accuracy"] * cell["count"]), cell["count"]) or ())
        assert cell["valid_interval"] == list(wilson(cell["valid_count"] / 2, cell["valid_count"]) or ())
    assert figures["task_averaged"] == aggregate(rows)["task_averaged"]


def test_the_clustered_bootstrap_agrees_with_scipys_over_cluster_sums() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 6, 60)
    clusters = [str(c) for c, size in enumerate(sizes) for _ in range(size)]
    values = random.random(len(clusters)) < np.repeat(random.random(60), sizes)
    sums = np.array([values[np.array(clusters) == str(c)].sum() for c in range(60)])

    def ratio(s: np.ndarray, n: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(s.sum(axis=axis) / n.sum(axis=axis))

    theirs = bootstrap(
        (sums, sizes), ratio, paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=random
    )
    mine = Resampler(clusters, seed=5, draws=20_000).draw(values)
    assert mine.point[0] == pytest.approx(values.mean())
    assert np.nanstd(mine.draws) == pytest.approx(theirs.standard_error, rel=0.03)
    low, high = theirs.confidence_interval
    # The expanded percentiles reach out as t over z does for 60 clusters: by three in a hundred.
    middle, half = (low + high) / 2, (high - low) / 2
    assert mine.intervals()[0] == pytest.approx((middle - 1.03 * half, middle + 1.03 * half), abs=0.006)


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    values = [1, 0, 0, 1, 1, 0, 1, 1]
    draws = [Resampler(list("abcdefgh"), seed=s).draw(values).draws for s in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_questions_that_agree_within_a_conversation_widen_the_interval() -> None:
    clusters = [str(i // 20) for i in range(400)]
    values = [i // 20 % 2 for i in range(400)]
    low, high = clustered(Resampler(clusters, seed=1).draw(values), 400) or (0, 0)
    narrow = wilson(200, 400) or (0, 0)
    assert high - low > 3 * (narrow[1] - narrow[0])


def test_fewer_than_six_conversations_tell_nothing() -> None:
    estimate = Resampler([str(i % 5) for i in range(100)], seed=1).draw([1.0] * 100)
    assert np.isinf(estimate.intervals()).all()
    assert estimate.p_values()[0] == 1


def test_training_runs_that_differ_more_than_their_questions_explain_widen_the_interval() -> None:
    questions = [str(i) for _ in range(5) for i in range(100)]
    runs = [str(r) for r in range(5) for _ in range(100)]
    alike = [i % 2 for _ in range(5) for i in range(100)]
    apart = [float(i % 10 < 2 + r) for r in range(5) for i in range(100)]
    widths = [np.diff(Resampler(questions, runs, seed=1).draw(v).intervals()[0])[0] for v in (alike, apart)]
    assert widths[1] > 1.5 * widths[0]
    single = np.diff(independent(100).draw(alike[:100]).intervals()[0])[0]
    assert widths[0] == pytest.approx(single)


def test_systems_that_never_differ_have_an_interval_that_is_not_a_point() -> None:
    low, high = matched(Discordance(50, 0, 0, 6))
    assert low == -high
    assert high > 0.03


@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_a_permutation_of_the_questions_changes_no_estimate(rows: list[tuple[str, bool]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (Resampler([c for c, _ in r], seed=3, draws=50).draw([v for _, v in r]) for r in (rows, shuffled))
    assert np.array_equal(one.draws, other.draws, equal_nan=True)
    assert np.array_equal(one.intervals(), other.intervals())


# --- coverage: simulated data sets whose truth is known


def simulated(n: int, p: float, seed: int, sets: int = 2000) -> np.ndarray:
    return np.random.default_rng(seed).random((sets, n)) < p


def covered(intervals: np.ndarray, truth: float) -> float:
    return float(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("n", "p"), SETTINGS)
def test_wilson_intervals_cover_the_truth_95_times_in_100(n: int, p: float) -> None:
    right = simulated(n, p, seed=n).sum(axis=1)
    by_count = {k: wilson(k, n) for k in set(right.tolist())}
    share = covered(np.array([by_count[k] for k in right.tolist()]), p)
    assert LEAST.get((n, p), 0.93) <= share
    assert share <= 0.97 or (n, p) in LEAST


@pytest.mark.slow
@pytest.mark.parametrize(("n", "p"), SETTINGS)
def test_intervals_from_the_bootstrap_cover_the_truth_95_times_in_100(n: int, p: float) -> None:
    estimate = independent(n, draws=1000).draw(simulated(n, p, seed=n))
    share = covered(np.array([clustered(estimate, n, k) for k in range(2000)]), p)
    assert LEAST.get((n, p), 0.93) <= share
    assert share <= 0.97 or (n, p) in LEAST


@pytest.mark.slow
@pytest.mark.parametrize(("n", "p"), SETTINGS[:4])
def test_intervals_of_a_paired_difference_cover_the_truth_95_times_in_100(n: int, p: float) -> None:
    random = np.random.default_rng(n)
    first, other = random.random((2000, n)) < p, random.random((2000, n))
    # The second answers half of the questions as the first does, the others on its own and a little better.
    same = random.random((2000, n)) < 0.5
    second = np.where(same, first, other < p + 0.1)
    intervals = independent(n, draws=1000).draw(second.astype(float) - first).intervals()
    assert 0.93 <= covered(intervals, 0.05) <= 0.97


@pytest.mark.slow
def test_the_shown_interval_of_a_difference_between_near_perfect_systems_covers_the_truth() -> None:
    random = np.random.default_rng(9)
    first, second = random.random((2000, 56)) < 0.98, random.random((2000, 56)) < 0.99
    estimate = independent(56, draws=1000).draw(second.astype(float) - first)
    ends = estimate.intervals()
    floors = np.array(
        [
            matched(Discordance(0, int((a & ~b).sum()), int((b & ~a).sum()), 56 - int((a ^ b).sum())))
            for a, b in zip(first, second, strict=True)
        ]
    )
    shown = np.stack([np.minimum(ends[:, 0], floors[:, 0]), np.maximum(ends[:, 1], floors[:, 1])], axis=1)
    assert covered(shown, 0.01) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize(("clusters", "size", "spread"), [(10, 50, 0.1), (30, 10, 0.15), (100, 3, 0.2)])
def test_intervals_over_conversations_cover_the_truth(clusters: int, size: int, spread: float) -> None:
    random = np.random.default_rng(clusters)
    ability = 0.6 + random.choice([-spread, spread], size=(2000, clusters, 1))
    right = (random.random((2000, clusters, size)) < ability).reshape(2000, -1)
    names = [str(i // size) for i in range(clusters * size)]
    estimate = Resampler(names, seed=1, draws=1000).draw(right)
    shares = [covered(estimate.intervals(), 0.6)]
    shares.append(covered(np.array([clustered(estimate, clusters * size, k) for k in range(2000)]), 0.6))
    assert all(0.92 <= s <= 0.98 for s in shares), shares


@pytest.mark.slow
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("lottery", [0.0, 0.1])
def test_intervals_over_five_training_runs_cover_the_truth(nested: bool, lottery: float) -> None:
    random = np.random.default_rng(7)
    luck = random.normal(size=(500, 5, 1)) * lottery
    ability = random.choice([-0.2, 0.2], size=(500, 1, 60)) if not nested else 0.0
    right = (random.random((500, 5, 60)) < np.clip(0.6 + luck + ability, 0, 1)).reshape(500, -1)
    names = [f"{r if nested else ''}/{i}" for r in range(5) for i in range(60)]
    runs = [str(r) for r in range(5) for _ in range(60)]
    estimate = Resampler(names, runs, seed=1, draws=500).draw(right)
    assert 0.89 <= covered(estimate.intervals(), 0.6) <= 0.985

"""The estimator: as statsmodels and scipy have it where they have it, and right as often as it says."""

from __future__ import annotations

import importlib.util
import itertools
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.statistics.estimate import Estimate, Observations, difference_of, mean_of, wilson

COVERAGE = Path(__file__).resolve().parents[3] / "experiments" / "benchmarks" / "coverage.py"


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (350, 500), (363.5, 500), (55, 56)])
def test_wilson_is_that_of_statsmodels(right: float, count: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    assert wilson(right, count) == pytest.approx(proportion_confint(right, count, method="wilson"), abs=1e-12)


def test_nothing_has_no_interval() -> None:
    assert wilson(0, 0) is None
    assert mean_of(Observations([1.0, 0.0], ["one", "one"])).share_interval() is None
    with pytest.raises(ValueError, match="0 values"):
        mean_of(Observations([], []))


def test_questions_of_their_own_give_the_t_test_of_scipy() -> None:
    from scipy.stats import ttest_1samp

    luck = random.Random(1)
    a, b = ([luck.random() for _ in range(40)] for _ in range(2))
    names = [str(i) for i in range(40)]
    found = difference_of(Observations(a, names), Observations(b, names))
    theirs = ttest_1samp(np.array(b) - np.array(a), 0)
    assert found.p() == pytest.approx(float(theirs.pvalue))
    assert found.interval() == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.freedom == 39


def test_conversations_give_the_sandwich_of_statsmodels() -> None:
    from statsmodels.regression.linear_model import OLS

    luck = np.random.default_rng(2)
    sizes = luck.integers(1, 9, 30)
    groups = np.repeat(np.arange(30), sizes)
    values = luck.random(len(groups)) + luck.random(30)[groups]
    fit = OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    found = mean_of(Observations(values.tolist(), [str(g) for g in groups]))
    assert found.point == pytest.approx(float(fit.params[0]))
    assert found.variance == pytest.approx(float(fit.bse[0]) ** 2 * 30 / 29)


def test_single_answers_to_questions_of_their_own_give_plain_wilson() -> None:
    found = mean_of(Observations([1.0] * 13 + [0.0] * 7, [str(i) for i in range(20)]))
    assert found.share_interval() == pytest.approx(wilson(13, 20))
    certain = mean_of(Observations([1.0] * 20, [str(i) for i in range(20)]))
    assert certain.share_interval() == pytest.approx(wilson(20, 20))


@pytest.mark.parametrize("luck", [0.0, 0.3])
def test_questions_crossed_with_runs_give_the_analysis_of_variance(luck: float) -> None:
    random = np.random.default_rng(4)
    table = random.normal(0, 1, (40, 1)) + random.normal(0, 1, (40, 3))
    table += luck * np.array([-1.0, 0.0, 1.0]) - table.mean(axis=0)
    by_question, by_run = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_question[:, None] - by_run + table.mean()
    residual = (rest**2).sum() / 39 / 2 / 120
    runs = by_run.var(ddof=1) / 3
    names = [[f"{q:02d}", str(r)] for q in range(40) for r in range(3)]
    found = mean_of(Observations(table.reshape(-1).tolist(), [q for q, _ in names], [r for _, r in names]))
    assert found.variance == pytest.approx(by_question.var(ddof=1) / 40 + max(0.0, runs - residual))
    assert bool(runs > residual) is (luck > 0)


def test_only_two_trainings_that_are_alike_by_luck_keep_the_caution_of_one_degree_of_freedom() -> None:
    random = np.random.default_rng(6)
    answers = random.normal(0, 1, (60, 4))
    answers -= answers.mean(axis=0) - [0.0, 0.06, 0.0, 0.06]

    def found(runs: int) -> float:
        names = [[str(q), str(r)] for q in range(60) for r in range(runs)]
        values = answers[:, :runs].reshape(-1).tolist()
        estimate = mean_of(Observations(values, [q for q, _ in names], [r for _, r in names]))
        return estimate.reach() / estimate.variance**0.5

    questions_alone = mean_of(Observations(answers[:, 0].tolist(), [str(q) for q in range(60)]))
    assert found(4) == pytest.approx(questions_alone.reach() / questions_alone.variance**0.5)
    assert found(2) > 1.1 * found(4)


def test_signs_of_few_clusters_are_flipped_one_by_one_and_the_interval_is_what_that_does_not_reject() -> None:
    luck = random.Random(3)
    names = [str(i) for i in range(8)]
    gains = [luck.gauss(0.3, 0.4) for _ in names]
    found = difference_of(Observations([0.0] * 8, names), Observations(gains, names))

    def p(shift: float) -> float:
        shifted = [g - shift for g in gains]
        sums = [
            abs(sum(s * g for s, g in zip(signs, shifted, strict=True)))
            for signs in itertools.product((1, -1), repeat=8)
        ]
        return sum(s >= abs(sum(shifted)) - 1e-12 for s in sums) / 2**8

    assert found.p() == pytest.approx(p(0.0))
    low, high = found.interval()
    assert p(low - 1e-9) <= 0.05 < p(low + 1e-9)
    assert p(high + 1e-9) <= 0.05 < p(high - 1e-9)


def test_right_and_wrong_over_few_questions_is_the_binomial_test() -> None:
    from scipy.stats import binomtest

    names = [str(i) for i in range(12)]
    after = [1.0] * 8 + [0.0] * 4
    found = difference_of(Observations([0.0] * 11 + [1.0], names), Observations(after, names))
    assert found.p() == pytest.approx(float(binomtest(1, 9).pvalue))


def test_five_conversations_can_show_nothing_and_ten_can() -> None:
    for clusters, shown in ((5, False), (10, True)):
        names = [str(i % clusters) for i in range(100)]
        found = difference_of(Observations([0.0] * 100, names), Observations([0.9] * 99 + [1.0], names))
        assert (found.p() < 0.05) is shown
        assert (found.interval()[0] > 0) is shown


def test_questions_that_agree_within_a_conversation_widen_the_interval() -> None:
    groups = [str(i // 20) for i in range(400)]
    low, high = mean_of(Observations([float(i // 20 % 2) for i in range(400)], groups)).share_interval() or (0, 0)
    narrow = wilson(200, 400) or (0, 0)
    assert high - low > 3 * (narrow[1] - narrow[0])


def test_trainings_that_differ_more_than_their_questions_explain_widen_the_interval() -> None:
    questions = [str(i) for _ in range(5) for i in range(100)]
    runs = [str(r) for r in range(5) for _ in range(100)]
    alike = [float(i % 2) for _ in range(5) for i in range(100)]
    apart = [float(i % 10 < 2 + r) for r in range(5) for i in range(100)]
    widths = [mean_of(Observations(v, questions, runs)).reach() for v in (alike, apart)]
    assert widths[1] > 1.5 * widths[0]
    assert widths[0] == pytest.approx(mean_of(Observations(alike[:100], questions[:100])).reach())


def test_each_sides_trainings_count_whatever_the_seeds_are_called() -> None:
    questions = [str(i) for _ in range(3) for i in range(60)]
    apart = [float(i % 10 < 2 + r) for r in range(3) for i in range(60)]
    runs = [str(r) for r in range(3) for _ in range(60)]
    other = [f"other {r}" for r in runs]
    one = difference_of(Observations(apart[:60], questions[:60]), Observations(apart, questions, runs))
    both, renamed = (
        difference_of(Observations(apart[::-1], questions[::-1], runs[::-1]), Observations(apart, questions, names))
        for names in (runs, other)
    )
    assert one.variance < both.variance
    assert both == renamed
    assert (one.runs, both.runs) == ((1, 3), (3, 3))


def test_a_mean_over_types_weighs_them_alike_and_knows_that_a_rare_type_tells_little() -> None:
    values = [1.0] * 90 + [0.0] * 8 + [1.0, 0.0]
    types = ["often"] * 98 + ["rare"] * 2
    names = [str(i) for i in range(100)]
    found = mean_of(Observations(values, names, strata=types))
    assert found.point == pytest.approx((90 / 98 + 0.5) / 2)
    assert found.freedom < 2
    alone = mean_of(Observations(values[:99], names[:99], strata=types[:99]))
    assert alone.variance > 0.06


rows = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40)


@given(rows, st.randoms())
def test_the_order_of_the_questions_changes_no_figure(given_rows: list[tuple[str, float]], luck: random.Random) -> None:
    mixed = list(given_rows)
    luck.shuffle(mixed)
    one, other = (mean_of(Observations([v for _, v in r], [c for c, _ in r])) for r in (given_rows, mixed))
    assert one.point == pytest.approx(other.point)
    assert (one.share_interval() or ()) == pytest.approx(other.share_interval() or ())


@given(rows)
def test_an_interval_of_a_share_holds_it_and_stays_within_0_and_1(given_rows: list[tuple[str, float]]) -> None:
    found = mean_of(Observations([v for _, v in given_rows], [c for c, _ in given_rows]))
    ends = found.share_interval()
    if ends is not None:
        assert 0 <= ends[0] <= found.point + 1e-12
        assert found.point - 1e-12 <= ends[1] <= 1
        assert ends[1] > ends[0]


@given(rows, rows)
def test_swapping_the_sides_mirrors_the_difference(a: list[tuple[str, float]], b: list[tuple[str, float]]) -> None:
    sides = [Observations([v for _, v in r], [c for c, _ in r]) for r in (a, b)]
    one, other = difference_of(*sides), difference_of(*sides[::-1])
    assert one.point == pytest.approx(-other.point)
    assert one.p() == pytest.approx(other.p())
    low, high = one.interval()
    assert other.interval() == pytest.approx((-high, -low))


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", COVERAGE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_intervals_hold_the_truth_as_often_as_they_say(coverage: ModuleType, number: int) -> None:
    setting = coverage.QUICK[number]
    assert not list(coverage.outside(setting, coverage.measure(setting, 300, 7), 300))


@pytest.mark.slow
def test_forty_points_over_ten_conversations_are_shown_in_a_table_of_fifteen(coverage: ModuleType) -> None:
    assert coverage.family(coverage.Setting(300, 10, 0.05), 0.4, 10, 5) == 1


def test_clusters_that_are_alike_to_the_last_digit_are_no_certainty() -> None:
    assert Estimate(0.2, 1e-32, 1.0, 2, (2, 2)).p() == 0.5
    assert Estimate(0.2, 1e-32, 9.0, 10, (2, 2)).p() == 2.0**-9
    assert Estimate(0.0, 0.0, 9.0, 10, (2, 2)).p() == 1.0

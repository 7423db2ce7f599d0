"""Paired tests: as statsmodels and scipy give them, mirrored when the systems swap, and the power they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.statistics.paired import Discordance, discordance, holm, matched, mcnemar, smallest_by_mcnemar

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@given(PAIRS)
def test_mcnemar_is_the_binomial_test_of_the_discordant_questions(pairs: list[tuple[bool, bool]]) -> None:
    from scipy.stats import binomtest

    cases = discordance([a for a, _ in pairs], [b for _, b in pairs])
    assert cases.count == len(pairs)
    apart = cases.only_first + cases.only_second
    expected = binomtest(cases.only_first, apart).pvalue if apart else 1.0
    assert mcnemar(cases) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_is_that_of_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

    table = [[295, 55], [68, 82]]
    expected = statsmodels_mcnemar(table, exact=True).pvalue
    assert mcnemar(Discordance(295, 55, 68, 82)) == pytest.approx(float(expected))


@given(PAIRS)
def test_swapped_systems_have_the_same_p_and_mirrored_cases(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    one, other = discordance(first, second), discordance(second, first)
    assert (one.only_first, one.both) == (other.only_second, other.both)
    assert mcnemar(one) == mcnemar(other)


def test_systems_of_unequal_length_are_not_paired() -> None:
    with pytest.raises(ValueError):
        discordance([True], [True, False])


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 7])
def test_holm_is_that_of_statsmodels_and_never_below_the_p_it_corrects(number: int) -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = (np.random.default_rng(number).random(number) ** 3).tolist()
    corrected = holm(p_values)
    assert corrected == pytest.approx(multipletests(p_values, method="holm")[1])
    assert all(c >= p - 1e-12 for c, p in zip(corrected, p_values, strict=True))


def test_an_empty_table_has_nothing_to_correct() -> None:
    assert holm([]) == []


@pytest.mark.parametrize(("count", "share"), [(500, 0.25), (200, 0.4), (1540, 0.1)])
def test_the_smallest_by_mcnemar_is_shown_four_times_out_of_five_by_mcnemars_test(count: int, share: float) -> None:
    from scipy.stats import binom

    difference = smallest_by_mcnemar(count, share)
    assert difference is not None
    power = 0.0
    up = (share + difference) / 2 / share
    for apart in range(count + 1):
        chance = binom.pmf(apart, count, share)
        if chance > 1e-7:
            k = np.arange(apart + 1)
            rejects = 2 * np.minimum(binom.cdf(k, apart, 0.5), binom.sf(k - 1, apart, 0.5)) < 0.05
            power += chance * binom.pmf(k, apart, up)[rejects].sum()
    # The exact test is a little less powerful than the normal approximation that the formula rests on.
    assert 0.76 <= power <= 0.81


def test_a_sample_that_hardly_disagrees_can_show_no_difference() -> None:
    assert smallest_by_mcnemar(70, 5 / 70) is None
    assert smallest_by_mcnemar(0, 0.5) is None
    assert smallest_by_mcnemar(100, 0.0) is None


@given(st.integers(50, 5000), st.floats(0.05, 0.9))
def test_more_questions_show_smaller_differences(count: int, share: float) -> None:
    few, many = smallest_by_mcnemar(count, share), smallest_by_mcnemar(2 * count, share)
    assert many is None or many <= share
    assert few is None or (many is not None and many < few)


def test_systems_that_never_differ_have_an_interval_that_is_not_a_point() -> None:
    low, high = matched(Discordance(50, 0, 0, 6))
    assert low == -high
    assert high > 0.03

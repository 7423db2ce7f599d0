"""Judges: kappa by hand and by two libraries, noise by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.statistics.agreement import cohens_kappa, judge_noise


def test_kappa_of_a_textbook_table_by_hand() -> None:
    # 20 both right, 5 and 10 apart, 15 both wrong: observed 0.7, by chance 0.5·0.6 + 0.5·0.4 = 0.5, kappa 0.4.
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    found = cohens_kappa(first, second)
    assert found["table"] == [[20, 5], [10, 15]]
    assert (found["agreement"], found["kappa"]) == (0.7, pytest.approx(0.4))
    assert found["interval"][0] < 0.4 < found["interval"][1]


@pytest.mark.slow  # scikit-learn alone takes seconds to import
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_kappa_is_that_of_scikit_learn_where_it_is_defined(pairs: list[tuple[bool, bool]]) -> None:
    from sklearn.metrics import cohen_kappa_score

    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found = cohens_kappa(first, second)["kappa"]
    if len({*first, *second}) < 2:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_invalid_verdicts_are_left_out_of_kappa_and_counted() -> None:
    found = cohens_kappa([True, None, False, True], [True, True, False, None])
    assert (found["count"], found["invalid"], found["agreement"]) == (2, 2, 1.0)
    assert found["kappa"] == 1.0


def test_noise_counts_attempts_whose_verdicts_differ() -> None:
    found = judge_noise({"a": [True, True, False], "b": [False, False], "c": [True], "d": [True, None, True]})
    assert (found["attempts"], found["verdicts"], found["invalid"]) == (3, 7, 1)
    assert found["flipped"] == pytest.approx(1 / 3)
    # Of the three pairs of a's verdicts two differ; of the others' none.
    assert found["disagreement"] == pytest.approx(2 / 3 / 3)


def test_a_judge_that_was_asked_once_has_no_noise_to_speak_of() -> None:
    found = judge_noise({"a": [True], "b": [None, False]})
    assert found["attempts"] == 0
    assert found["standard_error"] is None


def test_the_standard_error_is_how_far_an_accuracy_strays_when_all_is_judged_again() -> None:
    random = np.random.default_rng(3)
    chance = np.where(random.random(400) < 0.8, 1.0, 0.5)
    verdicts = random.random((300, 400)) < chance
    found = judge_noise({i: verdicts[:5, i].tolist() for i in range(400)})
    assert found["standard_error"] == pytest.approx(verdicts.mean(axis=1).std(), rel=0.15)

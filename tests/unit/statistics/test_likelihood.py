"""Likelihoods against numbers worked by hand, and what must hold of their differences and correlations."""

from __future__ import annotations

import random
from typing import Any

import pytest

from metamem.statistics.likelihood import (
    QuestionLikelihood,
    correlated,
    decide,
    difference,
    figures,
    measured,
    ordered_alike,
)


def one(
    question: str, value: float, right: float | None = None, group: str = "", kind: str = "t"
) -> QuestionLikelihood:
    return QuestionLikelihood(question, kind, group or question, value, right)


def row(system: str, question: str, value: float | None, left_out: str = "") -> dict[str, Any]:
    about = {"evaluator": "e", "system": system, "question_id": question, "type": "t", "group": question, "right": None}
    return {**about, "log_probability": value, "left_out": left_out}


def test_every_question_weighs_the_same_and_nothing_is_cut_at_a_threshold() -> None:
    cell = figures([one("a", -1.0, kind="x"), one("b", -2.0, kind="x"), one("c", -6.0, kind="y")])
    assert (cell["questions"], cell["log_probability"]) == (3, pytest.approx(-3.0))
    assert cell["by_type"] == {"x": pytest.approx(-1.5), "y": -6.0}
    assert cell["accuracy"] is None and cell["correlation"] is None


def test_a_difference_is_of_the_questions_that_both_have() -> None:
    first = [one("a", -1.0), one("b", -2.0), one("only first", -100.0)]
    found = difference(first, [one("a", -0.5), one("b", -1.0)])
    assert found is not None and found["questions"] == 2 and found["log_probability"] == pytest.approx(0.75)
    assert difference(first, [one("elsewhere", -1.0)]) is None


def test_a_paired_gain_is_shown_where_the_spread_of_questions_would_hide_it_and_is_corrected_over_the_table() -> None:
    rng = random.Random(1)
    first = [one(f"q{i}", rng.gauss(-5, 3), group=f"g{i // 2}") for i in range(80)]
    second = [QuestionLikelihood(s.question_id, s.type, s.group, s.value + rng.gauss(0.3, 0.5)) for s in first]
    change = difference(first, second)
    (alone,) = decide([change])
    assert alone is not None and alone["verdict"] == "likelier"
    (back,) = decide([difference(second, first)])
    assert back is not None and back["verdict"] == "less likely"
    same, shown, nothing = decide([difference(first, first), change, None])
    assert same is not None and same["verdict"] == "no difference shown" and nothing is None
    assert shown is not None and shown["p_holm"] == pytest.approx(2 * shown["p"])


def test_the_correlation_is_spearmans_and_its_interval_holds_it() -> None:
    from scipy.stats import spearmanr

    rng = random.Random(2)
    judged = []
    for i in range(60):
        right = float(rng.random() < 0.5)
        judged.append(one(f"q{i}", round(rng.gauss(right, 1), 1), right, f"g{i // 3}"))
    found = correlated(judged)
    expected = spearmanr([s.value for s in judged], [s.right for s in judged]).statistic
    assert found is not None and found["rank"] == pytest.approx(expected)
    low, high = found["interval"]
    assert -1 <= low < found["rank"] < high <= 1
    assert correlated([one("a", -1.0, 1.0), one("b", -2.0, 1.0)]) is None, "every reply was right"


def test_systems_are_ordered_alike_by_pairs_that_differ_in_both() -> None:
    cells = [{"log_probability": v, "accuracy": a} for v, a in ((-3.0, 0.1), (-2.0, 0.4), (-1.0, 0.2), (-0.5, None))]
    assert ordered_alike(cells) == (2, 3)
    assert ordered_alike(cells[:1]) is None


def test_a_run_compares_later_systems_with_its_first_and_counts_what_it_leaves_out() -> None:
    rows = [
        row(system, f"q{i}", -float(i) + gain) for system, gain in (("without", 0.0), ("best", 1.0)) for i in range(9)
    ]
    cells = measured([*rows, row("best", "lost", None, "not scored")])
    assert [c["system"] for c in cells] == ["without", "best"] and cells[0]["difference"] is None
    assert cells[1]["difference"]["log_probability"] == pytest.approx(1.0)
    assert cells[1]["left_out"] == {"not scored": 1} and cells[1]["questions"] == 9

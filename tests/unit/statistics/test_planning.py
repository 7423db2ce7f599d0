"""What a plan promises, and where the spread of answers comes from, against simulated answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.programs.plan import Plan
from metamem.statistics.planning import (
    Assumed,
    SampleSize,
    assumed_of,
    components_row,
    detectable,
    detectable_sentence,
    variance_components,
)
from metamem.statistics.rows import Row

CAREFUL = Assumed(0.25, 0.03, 0.03)


@given(st.integers(50, 2000), st.integers(13, 40), st.integers(2, 6), st.integers(1, 20))
def test_more_questions_and_trainings_show_less_and_more_comparisons_need_more(
    questions: int, clusters: int, runs: int, comparisons: int
) -> None:
    def found(**changed: int) -> float:
        size = {"questions": questions, "clusters": clusters, "runs": runs, "comparisons": comparisons, **changed}
        return detectable(SampleSize(**size), CAREFUL) or 1.0

    # With more questions two or three trainings weigh more, and their few degrees of freedom with them.
    assert found(questions=2 * questions) <= 1.25 * found()
    assert found(runs=runs + 1) <= found() + 1e-9
    assert found(comparisons=comparisons + 1) >= found() - 1e-9


def test_ten_conversations_in_a_table_of_twenty_six_show_nothing_and_in_one_of_fifteen_they_do() -> None:
    assert detectable(SampleSize(1540, 10, 1, 26), CAREFUL) is None
    assert detectable(SampleSize(1540, 10, 1, 15), CAREFUL)
    assert "too little" in detectable_sentence(SampleSize(300, 2), CAREFUL)


def test_what_was_published_on_longmemeval_could_have_shown_six_points() -> None:
    assert detectable(SampleSize(500, 500), CAREFUL) == pytest.approx(0.063, abs=0.001)


def answers(luck: float, talk: float, attempts: int, seed: int) -> list[Row]:
    """60 conversations of 10 questions, 8 trainings; deviations of conversations, trainings and questions known."""
    random = np.random.default_rng(seed)
    by_talk, by_question = random.normal(0, talk, 60), random.normal(0, 0.15, 600)
    rows = []
    for run in range(8):
        chance = np.clip(0.5 + random.normal(0, luck) + np.repeat(by_talk, 10) + by_question, 0, 1)
        for q, share in enumerate(random.binomial(attempts, chance) / attempts):
            group = f"g{q // 10}"
            rows.append(
                Row("s", f"q{q}", "", False, group, float(share), float(share), attempts, seed=run, learned="l")
            )
    return rows


@pytest.mark.slow
def test_components_are_those_that_the_answers_were_made_with() -> None:
    found = [variance_components(answers(0.06, 0.1, 4, seed)) or {} for seed in range(12)]
    means = {name: float(np.mean([f[name] for f in found])) for name in found[0]}
    assert means["training"] == pytest.approx(0.06**2, rel=0.35)
    assert means["conversation"] == pytest.approx(0.1**2, rel=0.25)
    assert means["question"] == pytest.approx(0.15**2, rel=0.15)
    assert means["attempt"] == pytest.approx(0.25 - 0.1**2 - 0.15**2 - 0.06**2, rel=0.05)
    row = components_row("s", found[0], judge=0.01)
    assert sum(row[k] for k in ("conversation", "question", "training", "question, training", "attempt")) == (
        pytest.approx(1)
    )


def test_a_pilot_tells_how_often_systems_differ_and_what_it_cannot_tell_is_assumed() -> None:
    first = [Row("a", f"q{i}", "", False, f"q{i}", float(i % 2), float(i % 2)) for i in range(100)]
    second = [Row("b", f"q{i}", "", False, f"q{i}", float(i % 4 < 2), None) for i in range(100)]
    found = assumed_of([(first, second)], CAREFUL, "pilot")
    assert (found.discordance, found.icc, found.luck) == (0.5, CAREFUL.icc, CAREFUL.luck)


def test_questions_that_many_jobs_of_a_sweep_are_tested_on_count_once() -> None:
    assumed = {"discordance": 0.25, "icc": 0.03, "luck": 0.03, "source": ""}
    folds = [{f"q{fold}{i}": f"talk{i}" for i in range(20)} for fold in range(3)]
    plans = [Plan(sample={"questions": fold, "assumed": assumed}) for fold in folds]
    whole = plans[0] + plans[1] + plans[2]
    assert whole.power().startswith("60 questions in 20 groups")
    assert (whole + plans[1] + whole + Plan()).power() == whole.power()

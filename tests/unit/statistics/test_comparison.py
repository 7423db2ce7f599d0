"""Comparisons: of published systems, of runs and of files; what they call a difference, and what they refuse."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from metamem.core.errors import ConfigError, DataError
from metamem.reporting.console.comparison_tables import print_comparison
from metamem.statistics.comparison import compare_results, decide
from tests.unit.statistics.conftest import PlainFile

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    paths = [SHARED / f"longmemeval_judged_{name}_500.json" for name in ("rag", "cm")]
    if not all(p.exists() for p in paths):
        pytest.skip("the public judged answers are not here")
    data = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in paths}
    return {"comparison": compare_results([str(p) for p in paths]), "data": data}


def test_published_accuracies_and_their_wilson_intervals_are_those_of_the_files(published: dict[str, Any]) -> None:
    for system in published["comparison"]["systems"]:
        file = published["data"][system["label"]]["aggregate"]
        parts = system["parts"]
        assert parts["overall"]["accuracy"] == pytest.approx(file["overall_accuracy"], abs=1e-12)
        assert system["task_averaged"]["accuracy"] == pytest.approx(file["task_averaged_accuracy"], abs=1e-12)
        assert parts["abstention"]["accuracy"] == pytest.approx(file["abstention_accuracy"], abs=1e-12)
        for kind, cell in file["by_type"].items():
            assert parts[kind]["accuracy"] == pytest.approx(cell["accuracy"])
            right = round(cell["accuracy"] * cell["count"])
            assert parts[kind]["wilson"] == pytest.approx(proportion_confint(right, cell["count"], method="wilson"))
            # A few abstention questions share their base question, which hardly matters.
            assert parts[kind]["interval"] == pytest.approx(parts[kind]["wilson"], abs=0.02)


def test_published_tests_are_those_of_statsmodels_and_scipy(published: dict[str, Any]) -> None:
    first, second = (
        {row["question_id"]: row["correct"] for row in data["per_question"]} for data in published["data"].values()
    )
    only_first = sum(first[q] and not second[q] for q in first)
    only_second = sum(second[q] and not first[q] for q in first)
    (pair,) = published["comparison"]["pairs"]
    assert (pair["only_first"], pair["only_second"], pair["questions"]) == (only_first, only_second, 500)
    assert pair["p"] == pytest.approx(binomtest(only_first, only_first + only_second).pvalue)
    table = [[pair["both"], only_first], [only_second, pair["neither"]]]
    assert pair["p"] == pytest.approx(float(mcnemar(table, exact=True).pvalue))
    parts = published["comparison"]["parts"]
    corrected = multipletests([p["p"] for p in parts], method="holm")[1]
    assert [p["p_holm"] for p in parts] == pytest.approx(corrected)


def test_the_published_difference_of_two_point_six_is_not_called_one(published: dict[str, Any]) -> None:
    (pair,) = published["comparison"]["pairs"]
    assert pair["difference"] == pytest.approx(0.026)
    assert pair["interval"][0] < 0 < pair["interval"][1]
    assert not pair["shown"]
    assert pair["sentence"].startswith("no difference shown between longmemeval_judged_rag_500 and")
    assert "better" not in pair["sentence"]
    # A difference of six points would have been needed.
    assert pair["smallest_difference"] == pytest.approx(0.063, abs=0.001)
    assert "6.3 points" in pair["sentence"]


def test_the_bootstrap_interval_of_the_published_difference_is_as_wide_as_the_normal_one(
    published: dict[str, Any],
) -> None:
    (pair,) = published["comparison"]["pairs"]
    share = pair["discordance"]
    error = ((share - pair["difference"] ** 2) / 500) ** 0.5
    low, high = pair["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.04)


def test_a_clear_difference_is_called_one_and_names_the_better_system(plain_file: PlainFile) -> None:
    a = plain_file("weak", {f"q{i}": i % 2 == 0 for i in range(100)})
    b = plain_file("strong", {f"q{i}": i % 10 != 0 for i in range(100)})
    (pair,) = compare_results([str(a), str(b)])["pairs"]
    assert pair["shown"]
    assert pair["sentence"].startswith("strong is better than weak by 40.0 points")


def row(p: float, interval: tuple[float, float]) -> dict[str, Any]:
    return {
        **{"first": "a", "second": "b", "part": "overall", "questions": 100, "difference": sum(interval) / 2},
        **{"interval": list(interval), "p": p, "p_bootstrap": p, "discordance": 0.2, "smallest_difference": 0.1},
    }


def test_a_gain_whose_interval_holds_zero_is_not_called_one_whatever_the_test_says() -> None:
    (decided,) = decide([row(0.001, (-0.01, 0.2))])
    assert not decided["shown"]
    assert "no difference shown" in decided["sentence"]


def test_a_difference_that_the_correction_over_the_table_takes_back_is_not_called_one() -> None:
    decided = decide([row(0.03, (0.01, 0.2)), row(0.5, (-0.1, 0.2))])
    assert not decided[0]["shown"]
    assert "once corrected" in decided[0]["sentence"]
    assert decide([row(0.03, (0.01, 0.2))])[0]["shown"]


# Few examples: the library's correction collects garbage at every call.
@pytest.mark.slow
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([True, False, None])), min_size=8, max_size=30), st.randoms())
def test_order_changes_no_statistic_and_swapping_the_systems_mirrors_the_difference(
    plain_file: PlainFile, verdicts: list[tuple[bool, bool | None]], shuffle: random.Random
) -> None:
    names = [f"q{i // 2}{'_abs' if i % 2 else ''}" for i in range(len(verdicts))]
    a = plain_file("a", {n: v for n, (v, _) in zip(names, verdicts, strict=True)})
    b = plain_file("b", {n: v for n, (_, v) in zip(names, verdicts, strict=True)})
    given_order = compare_results([str(a), str(b)], draws=200)
    swapped = compare_results([str(b), str(a)], draws=200)["pairs"][0]
    mixed = list(zip(names, verdicts, strict=True))
    shuffle.shuffle(mixed)
    plain_file("a", {n: v for n, (v, _) in mixed})
    plain_file("b", {n: v for n, (_, v) in mixed[::-1]})
    assert compare_results([str(a), str(b)], draws=200) == given_order
    pair = given_order["pairs"][0]
    assert swapped["difference"] == -pair["difference"]
    assert swapped["interval"] == pytest.approx([-pair["interval"][1], -pair["interval"][0]], abs=1e-12)
    assert (swapped["p"], swapped["p_bootstrap"]) == (pair["p"], pytest.approx(pair["p_bootstrap"]))
    assert json.loads(json.dumps(given_order, allow_nan=False)) == given_order


def test_several_runs_of_one_system_are_its_replicates(plain_file: PlainFile) -> None:
    luck = random.Random("luck")
    files = {
        name: [
            str(plain_file(f"{name}{s}", {f"q{i}": luck.random() < share for i in range(40)}, seed=s)) for s in range(3)
        ]
        for name, share in (("a", 0.4), ("b", 0.6))
    }
    found = compare_results({"ours": files["b"], "theirs": files["a"]}, draws=500)
    assert [(s["label"], s["replicates"]) for s in found["systems"]] == [("ours", 3), ("theirs", 3)]
    (pair,) = found["pairs"]
    assert (pair["questions"], pair["replicates"]) == (40, 3)
    with pytest.raises(DataError, match="same seed and fold"):
        compare_results([[files["a"][0], files["a"][0]], files["b"]])


def test_questions_that_only_one_system_answered_are_left_out_and_counted(plain_file: PlainFile) -> None:
    a = plain_file("a", {f"q{i}": True for i in range(20)})
    b = plain_file("b", {f"q{i}": False for i in range(5, 30)})
    found = compare_results([str(a), str(b)], draws=100)
    assert found["pairs"][0]["questions"] == 15
    assert "15 questions that only one of them answered are left out" in found["notes"][0]
    c = plain_file("c", {"other": True})
    with pytest.raises(DataError, match="share no question"):
        compare_results([str(a), str(c)], draws=100)


def test_a_few_conversations_are_said_to_be_too_few(plain_file: PlainFile) -> None:
    a = plain_file("a", {f"q{i}": True for i in range(30)}, group="one")
    b = plain_file("b", {f"q{i}": False for i in range(30)}, group="one")
    found = compare_results([str(a), str(b)], draws=100)
    assert not found["pairs"][0]["shown"]
    assert "too few for an interval" in found["notes"][0]


@pytest.mark.parametrize("given", ["a.json", [], [[]], [None], {}])
def test_what_names_nothing_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="compare"):
        compare_results(given)


def test_the_printed_comparison_says_it_in_words(plain_file: PlainFile, capsys: pytest.CaptureFixture[str]) -> None:
    a = plain_file("a", {f"q{i}": i % 2 == 0 for i in range(40)}, type="x")
    b = plain_file("b", {f"q{i}": i % 3 == 0 for i in range(40)}, type="x")
    print_comparison(compare_results([str(a), str(b)], draws=100))
    printed = capsys.readouterr().out
    assert "no difference shown" in printed
    assert "0.500 [.352 .648]" in printed

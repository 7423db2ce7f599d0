"""Comparisons: of published systems, of runs and of files; what they call a difference, and what they refuse."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metamem.core.errors import ConfigError, DataError
from metamem.reporting.console.comparison_tables import print_comparison
from metamem.statistics.comparison import compare_results, decide, significance
from metamem.statistics.estimate import Observations, difference_of
from metamem.statistics.paired import FEWEST_CLUSTERS, discordance
from tests.unit.statistics.conftest import PlainFile

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    paths = [SHARED / f"longmemeval_judged_{name}_500.json" for name in ("rag", "cm")]
    if not all(p.exists() for p in paths):
        pytest.skip("the public judged answers are not here")
    data = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in paths}
    return {"comparison": compare_results([str(p) for p in paths]), "data": data}


def test_published_accuracies_are_those_of_the_files_and_their_intervals_wilsons(published: dict[str, Any]) -> None:
    from statsmodels.stats.proportion import proportion_confint

    for system in published["comparison"]["systems"]:
        file = published["data"][system["label"]]["aggregate"]
        parts = system["parts"]
        assert parts["overall"]["accuracy"] == pytest.approx(file["overall_accuracy"], abs=1e-12)
        assert system["task_averaged"]["accuracy"] == pytest.approx(file["task_averaged_accuracy"], abs=1e-12)
        assert parts["abstention"]["accuracy"] == pytest.approx(file["abstention_accuracy"], abs=1e-12)
        for kind, cell in file["by_type"].items():
            assert parts[kind]["accuracy"] == pytest.approx(cell["accuracy"])
            wilson = proportion_confint(round(cell["accuracy"] * cell["count"]), cell["count"], method="wilson")
            # A few abstention questions share their base question, and a spread is estimated: it hardly matters.
            assert parts[kind]["interval"] == pytest.approx(wilson, abs=0.02)


def test_the_published_difference_of_two_point_six_is_not_called_one(published: dict[str, Any]) -> None:
    first, second = (
        {row["question_id"]: row["correct"] for row in data["per_question"]} for data in published["data"].values()
    )
    (pair,) = published["comparison"]["pairs"]
    assert pair["only_first"] == sum(first[q] and not second[q] for q in first)
    assert pair["only_second"] == sum(second[q] and not first[q] for q in first)
    assert pair["difference"] == pytest.approx(0.026)
    assert pair["interval"] == pytest.approx([-0.018, 0.069], abs=0.01)
    assert not pair["shown"]
    assert pair["sentence"].startswith("no difference shown between longmemeval_judged_rag_500 and")
    assert "better" not in pair["sentence"]
    # A difference of six points would have been needed.
    assert pair["smallest_difference"] == pytest.approx(0.063, abs=0.001)
    assert "6.3 points" in pair["sentence"]


def test_one_attempt_of_one_run_over_questions_of_their_own_is_mcnemars_test(plain_file: PlainFile) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    a = plain_file("a", {f"q{i}": i % 3 == 0 for i in range(60)})
    b = plain_file("b", {f"q{i}": i % 2 == 0 for i in range(60)})
    (pair,) = compare_results([str(a), str(b)])["pairs"]
    table = [[pair["both"], pair["only_first"]], [pair["only_second"], pair["neither"]]]
    assert (pair["test"], pair["p"]) == ("exact McNemar", pytest.approx(float(mcnemar(table, exact=True).pvalue)))
    grouped = [str(plain_file(n, {f"q{i}": i % k == 0 for i in range(60)}, group="g")) for n, k in (("c", 3), ("d", 2))]
    assert compare_results(grouped)["pairs"][0]["test"] != "exact McNemar"


def test_a_clear_difference_is_called_one_and_names_the_better_system(plain_file: PlainFile) -> None:
    a = plain_file("weak", {f"q{i}": i % 2 == 0 for i in range(100)})
    b = plain_file("strong", {f"q{i}": i % 10 != 0 for i in range(100)})
    (pair,) = compare_results([str(a), str(b)])["pairs"]
    assert pair["shown"]
    assert pair["sentence"].startswith("strong is better than weak by 40.0 points")


def row(p: float, **about: Any) -> dict[str, Any]:
    known = {
        **{"first": "a", "second": "b", "part": "overall", "questions": 100, "clusters": 100, "runs": [1, 1]},
        **{"trained": [False, False], "difference": 0.1, "interval": [0.01, 0.2], "error": 0.04, "freedom": 99.0},
        **{"p": p, "test": "t", "valid": {"questions": 100, "difference": 0.1, "p": p}, "invalid": [0, 0]},
        **{"invalid_shares": [0.0, 0.0], "bounds": [0.1, 0.1], "discordance": 0.2},
    }
    return {**known, **about}


def test_a_difference_that_the_correction_over_the_table_takes_back_is_not_called_one() -> None:
    decided = decide([row(0.03), row(0.5)])
    assert not decided[0]["shown"]
    assert "once corrected" in decided[0]["sentence"]
    assert decide([row(0.03)])[0]["shown"]
    # What the sample could show is reckoned with the correction.
    assert decided[0]["smallest_difference"] > decide([row(0.03)])[0]["smallest_difference"]


def test_fewer_groups_than_can_show_a_difference_show_none_however_alike_they_are() -> None:
    (few,) = decide([row(0.001, clusters=FEWEST_CLUSTERS - 1)])
    assert (few["shown"], few["smallest_difference"]) == (False, None)
    assert "from 5 independent groups alone" in few["sentence"]
    assert decide([row(0.001, clusters=FEWEST_CLUSTERS)])[0]["shown"]


def test_a_difference_must_hold_among_valid_answers_too() -> None:
    (decided,) = decide([row(0.001, valid={"questions": 90, "difference": 0.0, "p": 1.0})])
    assert (decided["shown"], decided["verdict"]) == (False, "no difference shown")
    assert "among valid answers" in decided["sentence"]


def test_an_outage_of_one_sides_judge_is_not_comparable_and_never_a_loss(plain_file: PlainFile) -> None:
    right = {f"q{i}": i % 4 != 0 for i in range(200)}
    a = plain_file("a", right)
    b = plain_file("b", {q: None if i % 7 == 0 else v for i, (q, v) in enumerate(right.items())})
    (pair,) = compare_results([str(a), str(b)])["pairs"]
    assert pair["verdict"] == "not comparable: 29 invalid"
    assert not pair["shown"]
    assert "not comparable" in pair["sentence"]
    worst, best = pair["bounds"]
    assert worst < 0 <= best


def test_trainings_that_ran_once_are_better_by_these_guidelines_only() -> None:
    (once,) = decide([row(0.001, trained=[False, True], runs=[1, 1])])
    assert (once["shown"], once["of_method"], once["verdict"]) == (True, False, "gain by these guidelines")
    assert "not of the method" in once["sentence"]
    for runs, of_method in (([2, 1], False), ([2, 2], True)):
        (several,) = decide([row(0.001, trained=[True, True], runs=runs)])
        assert several["of_method"] is of_method


def test_seeds_of_one_setting_do_not_differ_as_methods(plain_file: PlainFile) -> None:
    luck = random.Random("seeds")
    files = [
        str(plain_file(f"s{s}", {f"q{i}": luck.random() < 0.4 + 0.04 * s for i in range(200)}, seed=s))
        for s in range(6)
    ]
    found = compare_results({"even": files[::2], "odd": files[1::2]})
    assert found["pairs"][0]["runs"] == [3, 3]
    assert not found["pairs"][0]["shown"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([True, False, None])), min_size=8, max_size=30), st.randoms())
def test_order_changes_no_statistic_and_swapping_the_systems_mirrors_the_difference(
    plain_file: PlainFile, verdicts: list[tuple[bool, bool | None]], shuffle: random.Random
) -> None:
    names = [f"q{i // 2}{'_abs' if i % 2 else ''}" for i in range(len(verdicts))]
    a = plain_file("a", {n: v for n, (v, _) in zip(names, verdicts, strict=True)})
    b = plain_file("b", {n: v for n, (_, v) in zip(names, verdicts, strict=True)})
    given_order = compare_results([str(a), str(b)])
    swapped = compare_results([str(b), str(a)])["pairs"][0]
    mixed = list(zip(names, verdicts, strict=True))
    shuffle.shuffle(mixed)
    plain_file("a", {n: v for n, (v, _) in mixed})
    plain_file("b", {n: v for n, (_, v) in mixed[::-1]})
    assert compare_results([str(a), str(b)]) == given_order
    pair = given_order["pairs"][0]
    assert swapped["difference"] == -pair["difference"]
    assert swapped["interval"] == pytest.approx([-pair["interval"][1], -pair["interval"][0]], abs=1e-12)
    assert swapped["p"] == pytest.approx(pair["p"])
    assert json.loads(json.dumps(given_order, allow_nan=False)) == given_order


def test_several_runs_of_one_system_are_its_replicates(plain_file: PlainFile) -> None:
    luck = random.Random("luck")
    files = {
        name: [
            str(plain_file(f"{name}{s}", {f"q{i}": luck.random() < share for i in range(40)}, seed=s)) for s in range(3)
        ]
        for name, share in (("a", 0.4), ("b", 0.6))
    }
    found = compare_results({"ours": files["b"], "theirs": files["a"]})
    assert [(s["label"], s["runs"]) for s in found["systems"]] == [("ours", 3), ("theirs", 3)]
    (pair,) = found["pairs"]
    assert (pair["questions"], pair["runs"]) == (40, [3, 3])
    with pytest.raises(DataError, match="same seed, fold and guidelines"):
        compare_results([[files["a"][0], files["a"][0]], files["b"]])


def test_questions_that_only_one_system_answered_are_left_out_and_counted(plain_file: PlainFile) -> None:
    a = plain_file("a", {f"q{i}": True for i in range(20)})
    b = plain_file("b", {f"q{i}": False for i in range(5, 30)})
    found = compare_results([str(a), str(b)])
    assert found["pairs"][0]["questions"] == 15
    assert "15 questions that only one of them answered are left out" in found["notes"][0]
    c = plain_file("c", {"other": True})
    with pytest.raises(DataError, match="share no question"):
        compare_results([str(a), str(c)])


def test_a_few_conversations_are_said_to_be_too_few(plain_file: PlainFile) -> None:
    a = plain_file("a", {f"q{i}": True for i in range(30)}, group="one")
    b = plain_file("b", {f"q{i}": False for i in range(30)}, group="one")
    found = compare_results([str(a), str(b)])
    assert not found["pairs"][0]["shown"]
    assert "too few to show a difference" in found["notes"][0]


@pytest.mark.parametrize("given", ["a.json", [], [[]], [None], {}])
def test_what_names_nothing_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="compare"):
        compare_results(given)


def test_the_printed_comparison_says_it_in_words(plain_file: PlainFile, capsys: pytest.CaptureFixture[str]) -> None:
    a = plain_file("a", {f"q{i}": i % 2 == 0 for i in range(40)}, type="x")
    b = plain_file("b", {f"q{i}": i % 3 == 0 for i in range(40)}, type="x")
    print_comparison(compare_results([str(a), str(b)]))
    printed = capsys.readouterr().out
    assert "no difference shown" in printed
    assert "0.500 [.352 .648]" in printed
    assert "p: exact McNemar; one comparison" in printed


@pytest.mark.parametrize("questions", [7, 20, 60])
def test_the_interval_of_single_answers_holds_zero_where_p_shows_nothing(questions: int) -> None:
    names = [str(i) for i in range(questions)]
    for lost in range(0, questions // 2, 2):
        for gained in range(lost, questions - lost + 1):
            first = [False] * gained + [True] * (questions - gained)
            second = [True] * gained + [False] * lost + [True] * (questions - gained - lost)
            sides = [Observations([float(x) for x in side], names) for side in (first, second)]
            p, (low, high), _ = significance(difference_of(*sides), discordance(first, second))
            assert (p < 0.05) is not (low <= 0 <= high)

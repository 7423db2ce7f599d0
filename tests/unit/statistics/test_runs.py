"""Runs as results: rows, comparisons and the tidy table of what train.py and eval.py left behind."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from metamem.core.errors import ConfigError
from metamem.statistics.aggregates import aggregate
from metamem.statistics.comparison import compare_results, noise
from metamem.statistics.results import load, outcomes
from metamem.statistics.tidy import tidy_table
from tests import programs

pytestmark = pytest.mark.slow
TRAIN = ["optimizer.batch_size=8", "optimizer.attempts=2", "optimizer.epochs=1", "evaluator=[llm_judge,token_f1]"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run, an evaluation of its meta-memory on all questions, and the same attempts judged again."""
    place = tmp_path_factory.mktemp("outputs")
    programs.run_here("train", f"outputs={place}", *TRAIN)
    trained = programs.only_run(place)
    shared = [f"outputs={place}", "part=all"]
    asking = ["allow_seen=true", "name=asked", "evaluation.attempts=2"]
    programs.run_here("eval", *shared, f"meta_memory=[null,{trained}]", *asking)
    asked = programs.only_run(place, "asked")
    programs.run_here("eval", *shared, f"from={asked}", "judge.seed=5", "backbone@judge=simulated", "name=again")
    return place


def test_rows_of_a_run_recount_its_own_figures(outputs: Path) -> None:
    for name in ("train", "asked"):
        directory = programs.only_run(outputs, name)
        result = programs.result_of(directory)
        source = load(directory)
        assert source.notes == ()
        by_question = {r.question_id: r for r in source.rows}
        for key in {r.system for r in source.rows}:
            mine = [j for j in source.judgements if j.system == key]
            figures = aggregate(outcomes(mine, by_question, source.reward))
            stored = result["figures"][source.reward][source.labels[key]]
            compared = ("overall", "task_averaged", "abstention", "by_type")
            assert {k: figures[k] for k in compared} == {k: stored[k] for k in compared}
            shares = [r.strict for r in source.rows if r.system == key]
            assert sum(shares) / len(shares) == pytest.approx(stored["overall"]["accuracy"])


def test_replies_that_are_judged_several_times_tell_the_judges_noise(outputs: Path) -> None:
    run = programs.only_run(outputs, "asked")
    judge = ["backbone@judge=simulated", "evaluator.llm_judge.temperature=0.7"]
    judge += ["evaluator.llm_judge.repeats=3", "evaluator.llm_judge.repeat_sample=20"]
    programs.run_here("eval", f"outputs={outputs}", "part=all", f"from={run}", "name=noisy", *judge)
    asked, again = (load(programs.only_run(outputs, name)) for name in ("asked", "noisy"))
    (row,) = noise([again])
    assert row["verdicts"] == 3 * row["attempts"] == 60 == len(again.judgements) - len(asked.judgements) + 20
    stored = programs.result_of(programs.only_run(outputs, "noisy"))["repeatability"]["llm_judge"]
    assert stored == {key: value for key, value in row.items() if key != "judge"}
    assert 0 < row["flipped"] < 1
    assert noise([asked]) == []


def test_an_evaluation_keeps_what_is_known_of_its_questions(outputs: Path) -> None:
    source = load(programs.only_run(outputs, "asked"))
    assert {r.retrieved for r in source.rows} >= {True, None}
    assert len({r.group for r in source.rows}) < len({r.question_id for r in source.rows})
    assert all(r.type and r.attempts == 2 and r.seed == 42 for r in source.rows)


def test_a_run_compares_its_own_systems_and_one_can_be_picked(outputs: Path) -> None:
    trained, asked = programs.only_run(outputs), programs.only_run(outputs, "asked")
    labels = [s["label"] for s in compare_results([str(trained)])["systems"]]
    assert labels == [s["label"] for s in programs.result_of(trained)["systems"]]
    with pytest.raises(ConfigError, match=r"differ in part \(test / all\)"):
        compare_results([f"{trained}@best", f"{asked}@without"])
    two = compare_results([f"{trained}@best", f"{asked}@without"], allow_mixed=True)
    assert len(two["systems"]) == 2
    assert two["pairs"][0]["questions"] == programs.result_of(trained)["split"]["test"]
    assert two["stamps"] == ["mixed", "selected on these questions in part", "simulated"]
    with pytest.raises(ConfigError, match="unknown system.*Did you mean 'best'"):
        compare_results([f"{trained}@bst"])


def test_the_same_replies_under_two_judges_give_their_agreement(outputs: Path) -> None:
    asked, again = programs.only_run(outputs, "asked"), programs.only_run(outputs, "again")
    first, second = load(asked), load(again)
    assert [j.reply for j in first.judgements] == [j.reply for j in second.judgements]
    trained = load(programs.only_run(outputs))
    found = compare_results([str(programs.only_run(outputs))])["agreement"]
    judged = [j for j in trained.judgements if j.evaluator == "token_f1" and j.reply]
    assert [(r["first"].split(" ")[0], r["second"].split(" ")[0]) for r in found] == [("llm_judge", "token_f1")]
    assert found[0]["count"] == len({(j.attempt, j.reply) for j in judged})


def test_a_run_whose_data_set_has_changed_says_what_it_does_not_know(outputs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(programs.only_run(outputs), copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["contents"]["dataset"] = ["other"]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    for name in ("questions.jsonl", "cases.jsonl"):
        (copy / name).unlink(missing_ok=True)
    source = load(copy)
    assert "is not what it was" in source.notes[0]
    assert {r.type for r in source.rows} == {""}


def test_the_tidy_table_has_a_row_per_run_part_and_system_and_a_column_per_override(outputs: Path) -> None:
    runs = [programs.only_run(outputs, name) for name in ("train", "asked")]
    rows = tidy_table(runs)
    results = [programs.result_of(r) for r in runs]
    assert len(rows) == sum(len(r["systems"]) for r in results) + len(results[0]["validation"])
    assert len({tuple(r) for r in rows}) == 1
    assert {r["evaluation.attempts"] for r in rows} == {1, 2}
    # The validation part is a single conversation, which tells nothing of others.
    assert {row["low"] for row in rows if row["part"] == "validation"} == {None}
    for row in rows:
        assert row["low"] is None or 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    best = next(r for r in rows if r["system"].startswith("best"))
    assert best["accuracy by token_f1"] == results[0]["figures"]["token_f1"][best["system"]]["overall"]["accuracy"]
    written = io.StringIO()
    csv.DictWriter(written, rows[0]).writerows(rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_the_command_prints_the_comparison_keeps_it_and_asks_no_model(outputs: Path, tmp_path: Path) -> None:
    trained = programs.only_run(outputs)
    printed = programs.run_here("eval", f"outputs={tmp_path}", f"compare=[{trained}]")
    assert "no difference shown" in printed
    (kept,) = (tmp_path / "eval" / "comparisons").glob("*.json")
    assert str(kept) in printed.replace("\n", "")
    stored = json.loads(kept.read_text(encoding="utf-8"))
    assert [p["sentence"] for p in stored["pairs"]]
    assert [p.name for p in tmp_path.iterdir()] == ["eval"]
    for wrong in ("compare=[/no/such/run]", "compare=[]", f"compare=[{trained}@nobody]"):
        assert "compare" in programs.run_here("eval", f"outputs={tmp_path}", wrong, code=2)
    refused = programs.run_here("eval", f"outputs={tmp_path}", f"compare=[{trained}]", f"meta_memory={trained}", code=2)
    assert "without meta_memory=" in refused

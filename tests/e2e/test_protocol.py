"""Protocol: folds score every question once, test reads are noted, a dry run says what a run then does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from metamem.cli.arguments import spelled
from metamem.cli.hydra_bridge import config_folder, export
from metamem.cli.jobs import perform
from metamem.config.options import TrainConfig
from metamem.config.resolve import resolve
from metamem.core.errors import DataError
from metamem.core.files import read_rows
from metamem.programs.dry_run import plan_job
from metamem.programs.frame import Frame
from metamem.programs.plan import Plan
from metamem.programs.train import train
from metamem.runs.sweep import LEDGER
from metamem.runs.test_reads import test_parts as parts_read
from metamem.statistics.folds import fold_totals
from tests import programs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("composed_once")]
SMALL = ["optimizer.batch_size=10", "optimizer.attempts=3"]


def config(*overrides: str, program: str = "train") -> Any:
    export()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return resolve(compose(program, [spelled(o) for o in overrides]))


def test_all_folds_score_every_question_exactly_once_and_steps_have_a_mean(tmp_path: Path) -> None:
    given = ["split.fold=all", "split.folds=3", "optimizer.batch_size=20", "optimizer.attempts=2", "test_steps=true"]
    printed = programs.run_here("train", f"outputs={tmp_path}", *given)
    assert "over 60 questions, each tested once" in printed
    (kept,) = (tmp_path / "train").glob("folds-*.json")
    totals = json.loads(kept.read_text(encoding="utf-8"))
    runs = [Path(r) for r in totals["runs"]]
    asked: Counter[str] = Counter()
    right = 0.0
    for run in runs:
        for v in read_rows(run / "verdicts.jsonl"):
            if v["attempt_id"].startswith("test/last/"):
                asked[v["question_id"]] += 1
                right += bool(v["correct"])
        result = programs.result_of(run)
        steps = [f["overall"]["accuracy"] for k, f in result["figures"]["llm_judge"].items() if k.startswith("step-")]
        assert len(steps) == result["steps"]
        assert result["mean_of_steps"] == pytest.approx(sum(steps) / len(steps), abs=1e-6)
    assert set(asked.values()) == {1} and len(asked) == 60
    assert totals["systems"]["last"]["accuracy"] == pytest.approx(right / 60)
    assert {len(p.runs) for p in parts_read(tmp_path)} == {1} and len(parts_read(tmp_path)) == 3
    with pytest.raises(DataError, match="no folds"):
        fold_totals([runs[0], runs[0]])


def test_folds_side_by_side_learn_what_each_learns_alone(tmp_path: Path) -> None:
    given = ["split.folds=3", *SMALL]
    programs.run_here("train", f"outputs={tmp_path / 'all'}", "split.fold=all", *given)
    (kept,) = (tmp_path / "all" / "train").glob("folds-*.json")
    together = [Path(r) for r in json.loads(kept.read_text(encoding="utf-8"))["runs"]]
    for fold, run in enumerate(together):
        outputs = tmp_path / str(fold)
        programs.run_here("train", f"outputs={outputs}", f"split.fold={fold}", *given)
        alone = programs.only_run(outputs)
        assert alone.name == run.name
        for name in ("attempts.jsonl", "verdicts.jsonl", "metrics.jsonl", "steps.jsonl"):
            assert (alone / name).read_bytes() == (run / name).read_bytes(), name
    again = programs.run_here("train", f"outputs={tmp_path / 'all'}", "split.fold=all", *given)
    assert again.count("already finished") == 3


def test_training_seeds_on_one_split_are_repeats_of_a_setting(tmp_path: Path) -> None:
    given = ["seed=1,2", "split.seed=5", "optimizer.attempts=2,3", "optimizer.batch_size=20", "optimizer.epochs=1"]
    printed = programs.run_here("train", "-m", f"outputs={tmp_path}", *given, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert "this test part has been read by 4 runs" in printed
    results = [programs.result_of(p.parent) for p in sorted((tmp_path / "train").glob("*/result.json"))]
    results = list({r["id"]: r for r in results}.values())
    assert len({r["split"]["hash"] for r in results}) == 1 and {r["seed"] for r in results} == {1, 2}
    table = (tmp_path / "sweep" / "sweep.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:3] for line in table[1:]] == [
        [attempts, system, "12"] for attempts in "23" for system in ("without", "best", "last")
    ]
    # The same by hand: a list is one system over its seeds.
    by_attempts: dict[str, list[str]] = {}
    for r in results:
        config = json.loads((Path(r["directory"]) / "config.json").read_text(encoding="utf-8"))
        by_attempts.setdefault(str(config["optimizer"]["attempts"]), []).append(f"{r['directory']}@last")
    two, three = ("[" + ",".join(sorted(by_attempts[n])) + "]" for n in "23")
    programs.run_here("eval", f"outputs={tmp_path}", f"compare=[{two},{three}]")
    (kept,) = (tmp_path / "eval" / "comparisons").glob("*.json")
    compared = json.loads(kept.read_text(encoding="utf-8"))
    assert [(s["runs"], s["parts"]["overall"]["questions"]) for s in compared["systems"]] == [(2, 12), (2, 12)]
    assert [(p["runs"], p["questions"]) for p in compared["pairs"]] == [([2, 2], 12)]


def test_every_run_that_reads_a_test_part_is_in_the_ledger(tmp_path: Path) -> None:
    programs.run_here("train", f"outputs={tmp_path}", *SMALL)
    run = programs.only_run(tmp_path)
    printed = programs.run_here("train", f"outputs={tmp_path}", *SMALL, "optimizer.attempts=2")
    assert "this test part has been read by 2 runs" in printed
    programs.run_here("eval", f"outputs={tmp_path}", f"meta_memory={run}", "part=validation")
    programs.run_here("eval", f"outputs={tmp_path}", f"meta_memory={run}")
    (part,) = parts_read(tmp_path)
    assert len(part.runs) == part.reads == 3


VARIANTS = [
    [],
    ["optimizer.epochs=2", "eval_every=3", "evaluation.attempts=2"],
    ["optimizer.filter=false", "optimizer.reflect=false", "optimizer.consolidate=false"],
    ["split.validation=0", "evaluator=[token_f1,llm_judge]", "train_questions=25", "test_steps=true"],
    ["optimizer=none", "evidence.budget=200"],
]


@pytest.mark.parametrize("overrides", VARIANTS, ids=[" ".join(v) or "defaults" for v in VARIANTS])
def test_a_dry_run_says_what_the_run_then_does(tmp_path: Path, overrides: list[str]) -> None:
    chosen = config(f"outputs={tmp_path}", *SMALL[: 0 if "optimizer=none" in overrides else 2], *overrides)
    plan = plan_job(chosen, train)
    assert not list(tmp_path.iterdir()), "nothing was written"
    result = train(chosen, Frame())
    asked: Counter[str] = Counter()
    prompts: Counter[str] = Counter()
    for stage in plan.stages:
        asked[stage.role] += stage.calls
        prompts[stage.role] += stage.prompt
        assert stage.most is None or stage.calls <= stage.most
    # The stand-in plays itself here, so that the counts are those of the run.
    for role, counts in result["calls"].items():
        assert asked[role] == counts.get("delivered", 0), role
        assert prompts[role] == counts.get("prompt_tokens", 0), role
    kinds = Counter(a["scope"].split("/")[0] for a in read_rows(Path(str(result["directory"])) / "attempts.jsonl"))
    steps = {"training steps": result["steps"]}
    assert plan.exact == {
        **steps,
        "training attempts": kinds["train"],
        "evaluation answers": kinds["validation"] + kinds["test"],
    }
    assert all(stage.most is not None for stage in plan.stages if stage.role != "builder")
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def roles_of(plans: Sequence[Plan]) -> Counter[str]:
    """The calls of each role over several plans."""
    return sum((Counter({s.role: s.calls}) for plan in plans for s in plan.stages), Counter())


def test_the_dry_runs_of_a_sweep_ask_together_for_what_its_jobs_then_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memories and equal answers count once, as they are paid for once."""
    given = [f"outputs={tmp_path / 'o'}", *SMALL, "memory=lightmem", "limit=40"]
    jobs = [config(*given, f"train_questions={count}") for count in (8, 16)]
    (tmp_path / "ledger").mkdir()
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    plans = [plan_job(job, train) for job in jobs]
    monkeypatch.delenv(LEDGER)
    written = [roles_of([plan])["builder"] for plan in plans]
    assert written[0] > written[1] > 0, "the second job's questions are those of the first, and more"
    asked: Counter[str] = Counter()
    for job in jobs:
        asked.update({role: counts.get("delivered", 0) for role, counts in train(job, Frame())["calls"].items()})
    assert roles_of(plans) == +asked


def test_a_dry_run_does_one_of_the_trainings_that_differ_in_seed_or_fold_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def counted(chosen: TrainConfig, frame: Frame) -> dict[str, Any]:
        done.append((chosen.seed, chosen.split.fold))
        return train(chosen, frame)

    monkeypatch.setenv(LEDGER, str(tmp_path))
    given = [f"outputs={tmp_path / 'o'}", *SMALL, "split.folds=3", "split.seed=1", "memory=lightmem"]
    first, second = (plan_job(config(*given, f"seed={seed}", "split.fold=all"), counted) for seed in (1, 2))
    assert {seed for seed, _ in done} == {1}, "what the first seed asks for, the second does, too"
    assert first.exact == second.exact and first.sample == second.sample
    kept = [s for s in first.stages if s.role != "builder"]
    assert kept != list(first.stages) and [s for s in second.stages if s.calls] == kept
    before = len(done)
    other = plan_job(config(*given, "seed=1", "split.fold=0", "optimizer.attempts=2"), counted)
    assert len(done) == before + 1, "with other options it is another training"
    assert other.exact["training attempts"] * 3 == first.exact["training attempts"] / 3 * 2


def test_a_dry_run_of_a_study_adds_its_jobs_up_and_calls_nothing(tmp_path: Path) -> None:
    printed = programs.run_here(
        "train", "experiment=data_scale", f"outputs={tmp_path}", "train_questions=10,20", "dry_run=true"
    )
    assert "dry run of 6 jobs: nothing was called" in printed
    assert "3 trainings a setting: seed=42 makes one" in printed
    assert not list(tmp_path.glob("*/journal")) and not list(tmp_path.glob("*/*/manifest.json"))


def test_a_dry_run_of_the_papers_study_needs_no_weights_and_names_its_35_steps(tmp_path: Path, shared: Path) -> None:
    given = ["experiment=[main_table,paper]", "baseline=metamem", "split.fold=0", "dry_run=true"]
    place = [f"dataset.path={shared / 'longmemeval_s_sample.json'}", "dataset.limit=12", f"outputs={tmp_path / 'o'}"]
    printed = " ".join(programs.run("train", *given, *place).split())
    assert "35 training steps on all 500 questions of longmemeval, for each fold and seed" in printed
    assert "memory=lightmem is planned without the weights of its model" in printed
    assert "exactly 5 training steps" in printed, "five epochs of the one batch that twelve questions make"
    assert not list(tmp_path.glob("o/*/*/manifest.json"))


def test_a_dry_run_of_stored_replies_reads_them_and_keeps_nothing(tmp_path: Path) -> None:
    trained = train(config(f"outputs={tmp_path / 'kept'}", *SMALL, "train_questions=10"), Frame())
    run = str(trained["directory"])
    before = sorted(p for p in tmp_path.rglob("*"))
    given = (f"outputs={tmp_path / 'kept'}", "dry_run=true")
    again = perform(config(*given, f"from={run}", "evaluator=[llm_judge,token_f1]", program="eval"))
    assert {(s["stage"], s["role"]) for s in again["plan"]["stages"]} == {("judging", "judge")}
    scored = perform(config(*given, f"perplexity={run}", "backbone=simulated", program="eval"))
    assert [(s["role"], s["calls"] == s["most"]) for s in scored["plan"]["stages"]] == [("policy", True)]
    assert sorted(p for p in tmp_path.rglob("*")) == before

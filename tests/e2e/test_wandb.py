"""tracker=wandb, read back from its offline files: groups, tags, lineage, one run however often it was killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.server import Server
from tests.simulated_server import simulated_reply
from tests.wandb_files import artifacts, config_of, history, records, summary_of

pytestmark = pytest.mark.slow
SMALL = ["optimizer.batch_size=20", "optimizer.attempts=2", "optimizer.epochs=1", "tracker=wandb"]


def logs(run: Path) -> list[list[Any]]:
    """The records of each start of a run, in order."""
    return [list(records(p)) for p in sorted(run.glob("wandb/offline-run-*/run-*.wandb"))]


def tracked(server: Server, data: Path, outputs: Path) -> list[str]:
    """Arguments for a run that asks a local server, and is tracked."""
    small = ["split.validation=0.15", "backbone.max_concurrency=4", "optimizer.batch_size=8", "optimizer.attempts=2"]
    return programs.served(server, data, outputs, *small, "tracker=wandb")


def begun(found: list[Any]) -> Any:
    return next(r.run for r in found if r.WhichOneof("record_type") == "run")


def test_a_sweep_is_a_group_and_its_overrides_are_tags(tmp_path: Path) -> None:
    programs.run("train", "-m", f"outputs={tmp_path}", "seed=1,2", "tracker.tags=[mine]", *SMALL)
    runs = [p.parent for p in sorted((tmp_path / "train").glob("seed*/result.json"))]
    found = [logs(run)[0] for run in runs]
    assert {begun(f).run_group for f in found} == {"train: seed"}
    assert [sorted(begun(f).tags) for f in found] == [["mine", "seed=1"], ["mine", "seed=2"]]
    assert [config_of(f)["swept"] for f in found] == [{"seed": "1"}, {"seed": "2"}]
    for run, log in zip(runs, found, strict=True):
        result, summary = programs.result_of(run), summary_of(log)
        best = next(label for label in result["figures"]["llm_judge"] if label.startswith("best"))
        assert summary["score"] == result["score"]
        expected = result["figures"]["llm_judge"][best]["overall"]["accuracy"]
        assert summary["test/llm_judge/best/overall/accuracy"] == expected, "the same name in every run"
        tables = {p.name.split("_")[0] for p in run.glob("wandb/offline-run-*/files/media/table/*.json")}
        assert tables == {"attempts", "learned", "lineage"}
        (table,) = run.glob("wandb/offline-run-*/files/media/table/attempts*.json")
        rows = json.loads(table.read_text(encoding="utf-8"))
        assert {"evidence", "raw verdict", "reply", "verdict"} <= set(rows["columns"])
        assert len(rows["data"]) == 3 * result["split"]["test"]


def test_an_evaluation_uses_what_a_training_logged(tmp_path: Path) -> None:
    programs.run("train", f"outputs={tmp_path}", *SMALL)
    trained = programs.only_run(tmp_path)
    (logged,) = [a for a in artifacts(logs(trained)[0]) if a.type == "meta-memory"]
    programs.run("eval", f"outputs={tmp_path}", f"meta_memory=[null,{trained}]", "tracker=wandb")
    evaluated = programs.only_run(tmp_path, "eval")
    found = logs(evaluated)[0]
    (used,) = [a for a in artifacts(found) if a.use_after_commit]
    assert (used.name, used.digest, used.type) == (logged.name, logged.digest, "meta-memory")
    assert not logged.use_after_commit
    (reads,) = config_of(found)["reads"].values()
    assert reads == {"artifact": logged.name, "digest": logged.digest}
    (left,) = [a for a in artifacts(found) if a.type == "evaluation"]
    assert {e.path for e in left.manifest.contents} == {"manifest.json", "result.json"}
    # Judging again reads the evaluation.
    given = [f"from={evaluated}", "judge.seed=3", "backbone@judge=simulated", "name=again", "tracker=wandb"]
    programs.run("eval", f"outputs={tmp_path}", *given)
    (source,) = [a for a in artifacts(logs(programs.only_run(tmp_path, "again"))[0]) if a.use_after_commit]
    assert (source.name, source.digest) == (left.name, left.digest)


def test_a_study_s_evaluations_are_tracked_with_their_lineage(tmp_path: Path) -> None:
    given = ["experiment=cross_backbone", "seed=42", "split.fold=0", f"outputs={tmp_path}", *SMALL]
    programs.run("train", *given)
    folder = tmp_path / "cross_backbone"
    trained = [p.parent for p in folder.glob("simulated*/result.json")]
    logged = {a.digest for run in trained for a in artifacts(logs(run)[0]) if a.type == "meta-memory"}
    assert len(trained) == len(logged) == 2
    for run in folder.glob("evaluate-*"):
        (log,) = logs(run)
        assert begun(log).run_group == "cross_backbone"
        assert {a.digest for a in artifacts(log) if a.use_after_commit} == logged


def test_a_run_that_is_killed_and_continued_is_one_run_with_every_step(tmp_path: Path, prepared_file: Path) -> None:
    def given(server: Server) -> list[str]:
        return tracked(server, prepared_file, tmp_path)

    assert programs.run_killed("train", given, simulated_reply(), [60, 150]) == 2
    run = programs.only_run(tmp_path)
    # W&B keeps what it is told in memory for a while: of a start that was killed nothing need be there.
    found = [f for f in logs(run) if f]
    assert len(list(run.glob("wandb/offline-run-*"))) == 3
    assert {begun(f).run_id for f in found} == {programs.result_of(run)["id"]}
    scores = {p["step"]: p["score"] for p in programs.result_of(run)["validation"]}
    rows = [row for f in found for row in history(f) if "validation" in row]
    assert {row["step"]: row["validation"] for row in rows} == scores
    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    changes = {row["step"]: row["changes"] for row in rows}
    assert changes == {0: 0, **{s["step"]: len(s["changes"]) for s in steps}}
    assert all(scores[row["step"]] == row["validation"] for row in rows), "twice is the same"
    # Killed between its result and the last word to W&B, it is told when the command is given again, and once.
    told = run / "wandb" / "told.json"
    told.write_text(json.dumps({"step": 0, "complete": False}), encoding="utf-8")
    with Server(simulated_reply()) as server:
        for _ in range(2):
            programs.run("train", *given(server))
        assert not server.calls
    assert len(list(run.glob("wandb/offline-run-*"))) == 4
    last = logs(run)[-1]
    assert [r["step"] for r in history(last) if "validation" in r] == [p for p in scores if p > 0]
    assert summary_of(last)["score"] == summary_of(found[-1])["score"]
    assert summary_of(found[-1])["score"] == programs.result_of(run)["score"]


def test_a_run_that_was_stopped_in_order_tells_no_step_twice(tmp_path: Path, prepared_file: Path) -> None:
    with Server(simulated_reply(), keep_calls=False) as server:
        command = tracked(server, prepared_file, tmp_path)
        server.hold_after = 80
        process = programs.start("train", *command)
        assert server.held.wait(120)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 143, printed
        server.release()
        programs.run("train", *command)
    run = programs.only_run(tmp_path)
    first, second = logs(run)
    rows = [[row["step"] for row in history(f) if "validation" in row] for f in (first, second)]
    assert rows[0] and rows[1]
    assert rows[0] + rows[1] == list(range(programs.result_of(run)["steps"] + 1))
    assert begun(first).run_id == begun(second).run_id == programs.result_of(run)["id"]

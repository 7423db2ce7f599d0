"""The tables that a finished run leaves at W&B."""

from __future__ import annotations

import json
from pathlib import Path

from metamem.tracking.wandb_lineage import made_by, read_from
from metamem.tracking.wandb_tables import ATTEMPT_COLUMNS, tables
from tests import made_run


def test_attempts_stand_with_their_evidence_and_verdicts(tmp_path: Path) -> None:
    run = made_run.write(tmp_path / "run", questions=3)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    found = {name: (columns, rows) for name, columns, rows in tables(result, run)}
    assert set(found) == {"learned_guidelines", "lineage", "attempts"}
    rows = [dict(zip(ATTEMPT_COLUMNS, row, strict=True)) for row in found["attempts"][1]]
    assert len(rows) == 6
    assert rows[0]["evidence"].splitlines() == ["a memory 0 of 0", "a memory 1 of 0", "a memory 2 of 0"]
    assert (rows[0]["verdict"], rows[0]["raw verdict"], rows[1]["verdict"]) == ("right", "verdict text", "wrong")


def test_a_training_leaves_what_an_evaluation_then_reads(tmp_path: Path) -> None:
    run = made_run.write(tmp_path / "run")
    checkpoint = run / "checkpoints" / "step_0001.json"
    checkpoint.parent.mkdir()
    checkpoint.write_text("{}", encoding="utf-8")
    made, read = made_by({"best_step": 1, "steps": 4}, run), read_from(checkpoint)
    assert made is not None and read is not None
    assert (made.name, made.kind, made.files) == (read.name, read.kind, read.files)
    assert (made.name, made.kind) == ("meta-memory-abc", "meta-memory")
    assert [f.name for f in made.files] == ["manifest.json", "step_0001.json"]
    again = read_from(run)
    assert again is not None and again.files == made.files, "judging again reads the run"


def test_guidelines_of_no_run_and_evaluations_are_artifacts_too(tmp_path: Path) -> None:
    alone = tmp_path / "my own: advice.json"
    alone.write_text("[]", encoding="utf-8")
    found = read_from(alone)
    assert found is not None and (found.name, found.files) == ("guidelines-my-own-advice", (alone,))
    run = made_run.write(tmp_path / "run")
    made = made_by({"kind": "eval"}, run)
    assert made is not None and made.kind == "evaluation"
    assert [f.name for f in made.files] == ["manifest.json", "result.json"]
    assert read_from(tmp_path / "nothing") is None

"""The tables that a finished run leaves at W&B."""

from __future__ import annotations

import json
from pathlib import Path

from metamem.tracking.wandb_tables import ATTEMPT_COLUMNS, artifact_files, sources, tables
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


def test_an_artifact_holds_the_chosen_checkpoint_and_the_manifest(tmp_path: Path) -> None:
    run = made_run.write(tmp_path / "run")
    assert [f.name for f in artifact_files({"best_step": 1, "steps": 4}, run)] == ["manifest.json"]
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step_0001.json").write_text("{}", encoding="utf-8")
    assert [f.name for f in artifact_files({"best_step": 1, "steps": 4}, run)] == ["manifest.json", "step_0001.json"]


def test_an_evaluation_names_the_trainings_that_it_read() -> None:
    systems = [{"label": "without", "step": None}, {"label": "run-abc step 3", "step": 3}]
    assert sources({"kind": "eval", "systems": systems}) == ["run-abc step 3"]
    assert sources({"kind": "train", "systems": systems}) == []

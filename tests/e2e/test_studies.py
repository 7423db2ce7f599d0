"""Every study runs whole on a small slice, ends with its table, figure and report, and is continued when killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metamem.config import STUDY_NAMES
from tests import programs

pytestmark = pytest.mark.slow
SMALL = ["optimizer.batch_size=12", "optimizer.attempts=3"]
SLICES = {
    "ablation": ["ablation=full,no_filter,other_fold"],
    "cost": ["evidence.budget=128,512"],
    "cross_backbone": [],
    "cross_domain": ["backbone=simulated", "split.folds=2"],
    "data_scale": ["train_questions=12,24"],
    "guidelines": [],
    "main_table": ["memory=rounds,turns"],
    "perplexity": ["train_questions=12,24"],
    "training_steps": ["seed=42,43", "optimizer.epochs=1"],
}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def locomo(conversations: int) -> list[dict[str, Any]]:
    """Conversations about pets, three questions each."""
    made = []
    for i in range(conversations):
        turns = [
            {"speaker": "Ann", "dia_id": "D1:1", "text": f"I adopted a dog. My dog is called Rex{i}."},
            {"speaker": "Bob", "dia_id": "D1:2", "text": f"Nice. I live in Town{i}."},
            {"speaker": "Ann", "dia_id": "D1:3", "text": f"I work as a Baker{i}."},
        ]
        asked = [("What is Ann's dog called?", f"Rex{i}"), ("Where does Bob live?", f"Town{i}")]
        asked.append(("What does Ann work as?", f"Baker{i}"))
        qa = [{"question": q, "answer": a, "evidence": [f"D1:{n}"], "category": 4} for n, (q, a) in enumerate(asked, 1)]
        conversation = {"speaker_a": "Ann", "speaker_b": "Bob", "session_1_date_time": "1:56 pm on 8 May, 2023"}
        made.append({"sample_id": f"conv-{i}", "qa": qa, "conversation": {**conversation, "session_1": turns}})
    return made


@pytest.mark.parametrize("study", STUDY_NAMES)
def test_a_study_ends_with_its_table_figure_and_report_and_repeats_nothing(tmp_path: Path, study: str) -> None:
    paths = {
        "LONGMEMEVAL": str(programs.ROOT / "metamem" / "datasets" / "data" / "sample.json"),
        "LOCOMO": str(tmp_path / "locomo.json"),
    }
    Path(paths["LOCOMO"]).write_text(json.dumps(locomo(6)), encoding="utf-8")
    command = [f"experiment={study}", f"outputs={tmp_path / 'o'}", *SMALL, *SLICES[study]]
    printed = programs.run("train", *command, **paths)
    assert "simulated" in printed
    folder = tmp_path / "o" / study
    assert rows_of(folder / "study.csv")
    assert {r["status"] for r in rows_of(folder / "results.csv")} == {"done"}
    for name in ("study.md", "study.tex", "study.parquet", "results.parquet", "report.html"):
        assert (folder / name).stat().st_size > 0, name
    assert list(folder.glob("*.png")) and len(list(folder.glob("*.pdf"))) == len(list(folder.glob("*.png")))
    keys, table = programs.journal_keys(tmp_path), (folder / "study.csv").read_bytes()
    programs.run("train", *command, **paths)
    assert programs.journal_keys(tmp_path) == keys
    assert (folder / "study.csv").read_bytes() == table


def test_a_failed_job_is_in_the_table_and_the_study_is_made_of_the_others(tmp_path: Path) -> None:
    given = ["experiment=data_scale", "train_questions=12,5000", f"outputs={tmp_path}", *SMALL]
    printed = programs.run("train", *given, code=2)
    assert "the training part has" in printed
    rows = rows_of(tmp_path / "data_scale" / "results.csv")
    (failed,) = [r for r in rows if r["status"] == "failed"]
    assert failed["train_questions"] == "5000" and "the training part has" in failed["error"]
    assert [r["training questions"] for r in rows_of(tmp_path / "data_scale" / "study.csv")] == ["0", "12"]
    assert "the training part has" in (tmp_path / "data_scale" / "report.html").read_text(encoding="utf-8")


def test_a_sweep_of_24_jobs_killed_three_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    given = ["-m", "seed=range(0,12)", "optimizer.attempts=2,3", "optimizer.batch_size=20", "hydra.sweep.dir=table"]
    command = [sys.executable, str(programs.ROOT / "experiments" / "train.py"), *given]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        place.mkdir()
    environment = programs.environment()
    subprocess.run(command, cwd=whole, env=environment, check=True, capture_output=True, timeout=500)
    for finished in (3, 11, 19):
        process = subprocess.Popen(
            command, cwd=killed, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while len(list(killed.glob("outputs/train/*/result.json"))) < finished and time.monotonic() < deadline:
            assert process.poll() is None, "the sweep ended before it could be killed"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=killed, env=environment, check=True, capture_output=True, timeout=500)
    tables = [rows_of(p / "table" / "results.csv") for p in (whole, killed)]
    # What a process asked for depends on what it found in the journal; what came of it does not.
    counted = [[{k: v for k, v in r.items() if not k.endswith(("_calls", "_tokens"))} for r in t] for t in tables]
    assert counted[0] == counted[1]
    assert {r["job"] for r in tables[0]} == {str(i) for i in range(24)}

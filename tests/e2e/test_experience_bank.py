"""A policy and a recall of another package: from the command line, in a sweep, after a kill, and in an evaluation."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from metamem.core.files import read_rows
from tests import programs
from tests.plugins import FOLDER, installed

pytestmark = pytest.mark.slow
CHOSEN = ["optimizer=experience_bank", "recall=experiences", "recall.least=-1", "embedder=hashing", "split.folds=3"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the package is installed, as a program's environment."""
    return installed("experience_bank", tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, path: dict[str, str]) -> Path:
    """The outputs of a training that was not disturbed."""
    outputs = tmp_path_factory.mktemp("whole")
    programs.run("train", *CHOSEN, f"outputs={outputs}", **path)
    return outputs


def test_experiences_are_kept_with_their_questions_and_shown_k_at_a_time(outputs: Path) -> None:
    place = programs.only_run(outputs)
    result = programs.result_of(place)
    (last,) = sorted((place / "checkpoints").glob("*.json"))[-1:]
    held = json.loads(last.read_text(encoding="utf-8"))["meta_memory"]["guidelines"]
    assert held and all({"question_id", "question", "outcome", "utility"} == set(g["about"]) for g in held)
    assert any(g["about"]["utility"] != 0 for g in held), "what was shown is credited"
    tested = [r for r in read_rows(place / "attempts.jsonl") if r["scope"].startswith("test/last/")]
    assert tested and all(len(r["shown"]) == 3 for r in tested) and len({tuple(r["shown"]) for r in tested}) > 1
    assert "question_id" not in json.dumps(result["guidelines"]), "what is kept beside is in no table"


def test_an_evaluation_shows_by_the_recall_that_was_learned_with(
    outputs: Path, tmp_path: Path, path: dict[str, str]
) -> None:
    run = programs.only_run(outputs)
    checkpoint = run / "checkpoints" / "step_0002.json"
    given = ["embedder=hashing", f"meta_memory={checkpoint}", f"outputs={tmp_path}"]
    programs.run("eval", *given, "name=same", **path)
    shown = [r["shown"] for r in read_rows(programs.only_run(tmp_path, "same") / "attempts.jsonl")]
    assert {len(names) for names in shown} == {3}
    printed = programs.run("eval", *given, "name=all", "recall=all", **path)
    assert "was learned with recall=experiences k=3" in " ".join(printed.split())
    everything = [r["shown"] for r in read_rows(programs.only_run(tmp_path, "all") / "attempts.jsonl")]
    assert len({tuple(names) for names in everything}) == 1 and len(everything[0]) > 3


def test_killed_in_the_middle_it_ends_the_same(outputs: Path, tmp_path: Path, path: dict[str, str]) -> None:
    given = [*CHOSEN, f"outputs={tmp_path}"]
    process = programs.start("train", *given, "backbone=simulated", "backbone.latency=0.05", **path)
    until = time.monotonic() + 120
    while not list((tmp_path / "train").glob("*/checkpoints/step_0001.json")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (programs.only_run(tmp_path) / "result.json").exists(), "killed before its end"
    programs.run("train", *given, **path)
    assert programs.state(programs.only_run(tmp_path)) == programs.state(programs.only_run(outputs))


def test_a_sweep_over_policies_runs_it_beside_the_projects_own(tmp_path: Path, path: dict[str, str]) -> None:
    given = ["-m", "optimizer=experience_bank,none", "recall=experiences", "embedder=hashing", "split.folds=3"]
    printed = programs.run("train", *given, f"outputs={tmp_path}", **path)
    done = [p for p in (tmp_path / "train").glob("*/result.json") if not p.parent.is_symlink()]
    assert len(done) == 2 and "failed" not in printed


def test_its_template_is_in_the_identity(outputs: Path, tmp_path: Path, path: dict[str, str]) -> None:
    other = tmp_path / "experience.jinja"
    text = (FOLDER / "experience_bank" / "experience_bank" / "templates" / "experience.jinja").read_text(
        encoding="utf-8"
    )
    other.write_text(text.replace("Write the note", "Write a note"), encoding="utf-8")
    printed = programs.run("train", *CHOSEN, f"outputs={outputs}", f"prompts.experience={other}", "name=other", **path)
    assert "already finished" not in printed
    ids = {programs.result_of(programs.only_run(outputs, name))["id"] for name in ("train", "other")}
    assert len(ids) == 2

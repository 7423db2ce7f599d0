"""Sweeps: every job runs whatever happens to another, and all of them are in the summary."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import programs

BAD_AND_GOOD = ["optimizer.batch_size=7,8", "optimizer.attempts=2,1"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_failed_job_does_not_stop_the_others_and_is_named_at_the_end(tmp_path: Path, launcher: str) -> None:
    more = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    run = programs.run if launcher == "joblib" else programs.run_here
    printed = run("train", "-m", f"outputs={tmp_path}", *BAD_AND_GOOD, *more, code=2)
    assert "Traceback" not in printed
    done = [p for p in (tmp_path / "train").glob("*/result.json") if not p.parent.is_symlink()]
    assert len(done) == 2
    summary = printed[printed.rindex("override") :] if "override" in printed else printed
    assert summary.count("done") >= 2
    assert summary.count("failed") >= 2
    assert "optimizer.attempts must be at least 2" in " ".join(printed.split())


@pytest.mark.slow
def test_a_sweep_given_again_finishes_what_is_missing_and_repeats_nothing(tmp_path: Path) -> None:
    given = ["-m", f"outputs={tmp_path}", "optimizer.attempts=2,3"]
    programs.run_here("train", *given)
    keys = programs.journal_keys(tmp_path)
    assert len(keys) == len(set(keys)), "three attempts extend two"
    printed = programs.run_here("train", *given)
    assert printed.count("already finished") == 2
    assert programs.journal_keys(tmp_path) == keys
    (folder,) = (tmp_path / "train" / "sweeps").iterdir()
    assert {"multirun.yaml", "results.csv", "report.html"} <= {file.name for file in folder.iterdir()}


PLUGIN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "metamem-shouting"
version = "1"
[project.entry-points."metamem.components"]
shouting = "shouting"
[tool.hatch.build.targets.wheel]
only-include = ["shouting.py"]
""",
    "shouting.py": '''
from dataclasses import dataclass
from metamem.core.records import Status, Verdict
from metamem.core.registry import option, register


@register("evaluator", "shouting")
class Shouting:
    """Right when the reply shouts."""

    @dataclass
    class Config:
        """How loud."""

        marks: int = option(1, "exclamation marks that make a shout")

    name, threshold = "shouting", 0.5

    def __init__(self, config):
        self.config = config

    async def evaluate(self, question, attempt, repeat=0):
        loud = attempt.response.count("!") >= self.config.marks
        return Verdict(attempt.id, question.id, self.name, Status.scored, float(loud), loud)
''',
}


@pytest.mark.slow
def test_an_installed_package_adds_a_component_with_its_options_and_help(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name, text in PLUGIN.items():
        (source / name).write_text(text)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(source)], check=True, capture_output=True)
    path: dict[str, Any] = {"PYTHONPATH": str(site), "afresh": True}
    assert "Right when the reply shouts." in programs.run("train", "--help", **path)
    given = [f"outputs={tmp_path / 'o'}", "evaluator=[shouting,llm_judge]", "optimizer=none"]
    programs.run("train", *given, "evaluator.shouting.marks=2", **path)
    figures = programs.result_of(programs.only_run(tmp_path / "o"))["figures"]
    assert set(figures) == {"shouting", "llm_judge"}
    assert "Choices: evaluator.shouting.marks" in programs.run(
        "train", *given, "evaluator.shouting.mark=2", code=2, **path
    )
    broken = tmp_path / "site" / "shouting.py"
    broken.write_text("raise ValueError('boom')")
    printed = programs.run("train", *given, code=2, **path)
    assert "shouting" in printed
    assert "boom" in printed

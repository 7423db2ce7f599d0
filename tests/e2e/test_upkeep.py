"""`metamem ls | du | verify | rm` on real runs: filters, sizes, damage; nothing that another run needs is removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import metamem
from metamem.cli.inspect import run as inspect
from metamem.runs.directory import PROGRESS
from tests import programs

JOB = ["part=validation", "evaluator=[token_f1]", "limit=20"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations that ask the same (the second takes the first one's replies), and one with a retriever of its
    own.
    """
    place = tmp_path_factory.mktemp("runs")
    for name, more in (("a", []), ("a", ["part=train"]), ("b", ["retriever=hybrid", "embedder=hashing", "name=b"])):
        metamem.run("eval", [f"outputs={place}", f"name={name}", *JOB, *more])
    return place


def listed(outputs: Path, capsys: pytest.CaptureFixture[str], *filters: str) -> list[str]:
    capsys.readouterr()
    assert inspect(["--outputs", str(outputs), "ls", *filters]) == 0
    return [line for line in capsys.readouterr().out.splitlines()[1:] if line]


@pytest.mark.slow
def test_filters_are_columns_and_options(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(listed(outputs, capsys)) == 3
    assert len(listed(outputs, capsys, "experiment=b")) == 1
    assert len(listed(outputs, capsys, "dataset=sample", "state=finished", "seed>=42")) == 3
    assert len(listed(outputs, capsys, "dataset=sample", "seed<42")) == 0
    assert len(listed(outputs, capsys, "retriever=hybrid")) == 1
    assert len(listed(outputs, capsys, "retriever!=hybrid", "part=train")) == 1
    assert len(listed(outputs, capsys, "policy~SIMUL")) == 3
    scores = [json.loads(p.read_text())["score"] for p in outputs.glob("*/*-*/result.json")]
    assert len(listed(outputs, capsys, f"score>{min(s for s in scores if s is not None)}")) < 3
    for wrong, told in (("scor>1", "Did you mean 'score'"), ("score>high", "cannot read the filter"), ("=", "filter")):
        assert inspect(["--outputs", str(outputs), "ls", wrong]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.slow
def test_sizes_are_told_of_every_run_and_of_all(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(["--outputs", str(outputs), "du"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and str(outputs) in lines[-1] and "0 B" not in lines[-1]


@pytest.mark.slow
def test_damage_is_found_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(metamem.run("eval", [f"outputs={tmp_path}", *JOB])["directory"])
    (run / PROGRESS).touch()  # as a kill in the middle of its writing leaves it
    assert inspect(["verify", str(run)]) == 0
    (segment,) = (tmp_path / "eval" / "journal" / run.name.rpartition("-")[2]).glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b'"finish_reason":"stop"', b'"finish_reason":"stup"', 1) + b'{"key":"torn')
    (run / "verdicts.jsonl").write_bytes(b"{}\n{\n" + (run / "verdicts.jsonl").read_bytes())
    capsys.readouterr()
    assert inspect(["verify", str(run)]) == 1
    printed = capsys.readouterr().out
    assert "verdicts.jsonl, line 2" in printed and f"{segment}, line " in printed and "2 damaged places" in printed


@pytest.mark.slow
def test_what_other_runs_use_stays_and_the_rest_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"outputs={tmp_path}", "evaluator=[token_f1]", "limit=20", "memory=chunks"]
    first = Path(metamem.run("eval", [*given, "part=validation"])["directory"])
    # The second asks what the first asked, and more; the third embeds their memories.
    second = Path(metamem.run("eval", [*given, "part=all"])["directory"])
    other = Path(metamem.run("eval", [*given, "name=other", "retriever=dense", "embedder=hashing"])["directory"])
    stored = set((tmp_path / "memory").rglob("*.json"))
    assert inspect(["--outputs", str(tmp_path), "rm", first.name]) == 2, "nobody there to be asked"
    assert first.exists() and "--yes" in capsys.readouterr().err
    assert inspect(["--outputs", str(tmp_path), "rm", first.name, "--yes"]) == 0
    assert not first.exists() and "another run may use its replies" in capsys.readouterr().out
    keys = programs.journal_keys(tmp_path)
    again = metamem.run("eval", [*given, "part=all", "run.force=true"])
    assert programs.journal_keys(tmp_path) == keys and Path(again["directory"]) == second
    assert inspect(["--outputs", str(tmp_path), "rm", other.name, "--yes"]) == 0
    left = set((tmp_path / "memory").rglob("*.json"))
    assert left < stored and any("banks" in str(p) for p in left)
    assert not list((tmp_path / "other").rglob("*.jsonl"))
    assert inspect(["--outputs", str(tmp_path), "rm", second.name, "--yes"]) == 0
    assert not list((tmp_path / "memory").rglob("*.json"))
    assert not (tmp_path / "eval" / "latest").is_symlink()

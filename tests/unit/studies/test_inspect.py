"""`metamem ls | show | diff | report` find runs by their names and say what differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metamem.cli.inspect import find_run, run, runs_in
from tests import made_run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    made_run.write(tmp_path / "x" / "first-aaa", questions=12)
    second = made_run.write(tmp_path / "x" / "second-bbb", questions=12)
    result = json.loads((second / "result.json").read_text(encoding="utf-8"))
    result["meta_memory"]["guidelines"][0]["text"] = "another text"
    (second / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (second / "config.json").write_text(json.dumps({"seed": 2, "split": {"fold": "0"}}), encoding="utf-8")
    # The second run's guidelines answer one question less.
    verdicts = (second / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in verdicts]
    for row in rows:
        if row["attempt_id"].startswith("test/best/q00002"):
            row |= {"correct": False, "score": 0.0}
    (second / "verdicts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (tmp_path / "x" / "latest").symlink_to("second-bbb")
    return tmp_path


def test_a_run_is_found_by_directory_name_and_id_and_latest_is_not_a_run_of_its_own(outputs: Path) -> None:
    assert {p.name for p in runs_in(outputs)} == {"first-aaa", "second-bbb"}
    for name in ("second-bbb", "bbb", "x/second-bbb", str(outputs / "x" / "second-bbb")):
        assert find_run(outputs, name).name == "second-bbb"


def test_an_unknown_run_is_refused_with_the_nearest(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--outputs", str(outputs), "show", "frist-aaa"]) == 2
    assert "Did you mean 'first-aaa'?" in capsys.readouterr().err


def test_ls_names_every_run(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--outputs", str(outputs), "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["first-aaa", "second-bbb"]
    assert all("finished" in line for line in lines[1:])


def test_diff_says_options_guidelines_and_flipped_questions(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--outputs", str(outputs), "diff", "aaa", "bbb"]) == 0
    printed = capsys.readouterr().out
    assert "seed: 1 → 2" in printed
    assert "update G1   another text" in printed
    assert "right only in a: q00002" in printed
    assert "right only in b: none" in printed
    assert "no difference shown" in printed


def test_show_prints_the_figures_and_where_guidelines_came_from(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--outputs", str(outputs), "show", "aaa"]) == 0
    printed = capsys.readouterr().out
    assert "overall" in printed
    assert "step   1  add    G1   guideline text" in printed

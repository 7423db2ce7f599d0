"""Tables hold every job and override, and say the same in every form."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet
from hypothesis import given
from hypothesis import strategies as st

from metamem.reporting.table_files import job_rows, latex, latex_escaped, markdown, write_tables
from tests import made_run


def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": None, "c": [1]}, {"a": 0.5, "b": 'x, "y"\nz', "d": True}, {"a": None, "b": 3}]
    write_tables(rows, tmp_path)
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    table = pyarrow.parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [list(r) for r in read] == [list(r) for r in table] == [["a", "b", "c", "d"]] * 3
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in table] == read


def test_every_job_has_a_row_and_every_override_a_column(tmp_path: Path) -> None:
    run = made_run.write(tmp_path / "run")
    done = {"number": 0, "status": "done", "overrides": ["seed=1", "+x=2"], "runs": [str(run)]}
    failed = {"number": 1, "status": "failed", "overrides": ["seed=2", "y.z=3"], "error": "why"}
    rows = job_rows([done, failed])
    assert {r["job"] for r in rows} == {0, 1}
    assert {"x", "y.z", "seed", "accuracy", "part", "system"} <= set(rows[0])
    assert [r["system"] for r in rows if r["job"] == 0] == ["without", "best (step 1)"]
    (last,) = [r for r in rows if r["job"] == 1]
    assert (last["status"], last["error"], last["accuracy"], last["y.z"]) == ("failed", "why", None, "3")


@given(st.text(max_size=40))
def test_latex_cells_hold_no_bare_special_character(text: str) -> None:
    escaped = latex_escaped(text)
    stripped = escaped
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", *(f"\\{c}" for c in "&%$#_{}")):
        stripped = stripped.replace(command, "")
    assert not set(stripped) & set("\\~^&%$#_{}")


def test_a_pipe_or_line_end_does_not_break_a_markdown_row() -> None:
    text = markdown([{"a": "x|y\nz", "b": 0.5}])
    assert text.splitlines()[2] == r"| x\|y z | 0.500 |"
    assert r"\toprule" in latex([{"a": 1}])

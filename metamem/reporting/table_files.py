"""Tables as files: CSV and Parquet for programs, Markdown and LaTeX for papers.

In: rows with plain values. Out: files written whole. Cells that a program would take for a formula are defused in no
way here: a CSV is data, and its readers are programs; the audit file for spreadsheets is `reporting.audit`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.core.files import write_atomically, write_bytes
from metamem.statistics.tidy import tidy_table

# Characters that LaTeX gives a meaning, and what stands for each.
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def job_rows(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A sweep's tidy table: a row per run, part and system; a job that failed has one row without figures.

    Every override is a column by its key, beside the options that differ between the runs (`statistics.tidy`).
    """
    owners = [(job, run) for job in jobs for run in job.get("runs") or ()]
    measured: dict[str, list[dict[str, Any]]] = {}
    for row in tidy_table(dict.fromkeys(run for _, run in owners)):
        measured.setdefault(row["directory"], []).append(row)
    rows: list[dict[str, Any]] = []
    for job in jobs:
        given = overrides(job)
        about = {"job": job.get("number"), "status": job.get("status"), "error": job.get("error") or None}
        found = [row for run in job.get("runs") or () for row in measured.get(run, ())]
        rows += [{**about, **given, **row} for row in found or [{}]]
    columns = dict.fromkeys(k for row in rows for k in row)
    return [{k: row.get(k) for k in columns} for row in rows]


def overrides(job: Mapping[str, Any]) -> dict[str, str]:
    """A job's overrides, key → value as typed."""
    pairs = (str(o).lstrip("+~").partition("=") for o in job.get("overrides") or ())
    return {key: value for key, _, value in pairs}


def write_tables(rows: Sequence[Mapping[str, Any]], folder: Path, name: str = "results") -> None:
    """Write `name.csv` and `name.parquet`. Columns of several types become text in both."""
    columns = {k: _column([row.get(k) for row in rows]) for k in dict.fromkeys(k for row in rows for k in row)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomically(folder / f"{name}.csv", text.getvalue())
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    write_bytes(folder / f"{name}.parquet", sink.getvalue())


def _column(values: Sequence[Any]) -> list[Any]:
    plain = [json.dumps(v, ensure_ascii=False) if isinstance(v, (list, dict, tuple)) else v for v in values]
    types = {type(v) for v in plain if v is not None}
    if types <= {int, float} and len(types) == 2:
        return [None if v is None else float(v) for v in plain]
    if len(types) > 1:
        return [None if v is None else str(v) for v in plain]
    return plain


def markdown(rows: Sequence[Mapping[str, Any]], note: str = "") -> str:
    """A Markdown table with the rows' keys as its heading; `note` below it."""
    if not rows:
        return f"No rows.\n{note}"
    columns = list(rows[0])
    numeric = [all(_number(row.get(c)) for row in rows) for c in columns]
    lines = [
        columns,
        ["---:" if n else "---" for n in numeric],
        *([shown(row.get(c)) for c in columns] for row in rows),
    ]
    escaped = ([markdown_escaped(str(c)).replace("|", "\\|") for c in line] for line in lines)
    said = "\n".join(map(markdown_escaped, note.split("\n")))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + (f"\n\n{said}" if note else "") + "\n"


def markdown_escaped(text: str) -> str:
    """Text on one line that Markdown shows as it is: no HTML, no link and no picture comes of it."""
    line = " ".join(text.splitlines()) if text.splitlines() != [text] else text
    return line.replace("\\", "\\\\").replace("<", "\\<").replace("](", "]\\(").replace("`", "\\`")


def latex(rows: Sequence[Mapping[str, Any]], note: str = "") -> str:
    """The same table in LaTeX, for the package booktabs; every cell is escaped."""
    if not rows:
        return f"% No rows. {note}\n"
    columns = list(rows[0])
    aligned = "".join("r" if all(_number(row.get(c)) for row in rows) else "l" for c in columns)
    lines = [columns, *([shown(row.get(c)) for c in columns] for row in rows)]
    body = [" & ".join(latex_escaped(str(c)) for c in line) + r" \\" for line in lines]
    noted = [f"% {line}" for line in note.splitlines()]
    head = [rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", body[0], r"\midrule"]
    return "\n".join([*noted, *head, *body[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex_escaped(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def shown(value: Any) -> str:
    """A cell as a reader sees it: shares with three digits, large numbers without fractions, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def setting(value: Any) -> str:
    """The value of an option as somebody would give it: 150.2, 1e-06, yes."""
    return f"{value:g}" if isinstance(value, float) else shown(value)


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def write_page_and_table(
    directory: Path, name: str, page: str, rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> list[Path]:
    """Write a run's page as report.html, and its rows with the result's stamps as NAME.md and NAME.tex; return the
    paths.
    """
    note = "; ".join(map(str, result.get("stamps") or ()))
    texts = {"report.html": page, f"{name}.md": markdown(rows, note), f"{name}.tex": latex(rows, note)}
    for file, text in texts.items():
        write_atomically(directory / file, text)
    return [directory / file for file in texts]

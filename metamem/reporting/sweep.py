"""The report of a sweep: its study's answer, its figures, every run, and the questions behind each cell.

In: jobs, rows of the tidy table, a study's finding. Out: `report.html` in the sweep's folder, which needs no other
file, and `audit.csv` for people who check verdicts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from metamem.core.files import write_atomically
from metamem.reporting.audit import write_audit
from metamem.reporting.embed import Embedded, Place
from metamem.reporting.figures import svg
from metamem.reporting.findings import Finding, RowSystems
from metamem.reporting.page import packed, page
from metamem.reporting.run import run_data
from metamem.reporting.table_files import overrides, setting, shown
from metamem.statistics.systems import System

# Columns of the tidy table that say little to a reader of the page; all are in results.csv.
_SHOWN = ("part", "system", "guidelines", "questions")
# The columns of a study's table that are measured: those before them name the row.
_MEASURED = ("questions", "accuracy", "runs", "points")
# What the ends of an interval belong to, and what a cell opens beside the questions that flip.
_WITH_INTERVAL = ("accuracy", "validation", "points")
_OPENS = {
    **dict.fromkeys((*_WITH_INTERVAL, "difference"), "flips"),
    **{"gained": "gained", "lost": "lost", "questions": ""},
    **{"right only with it": "gained", "right only without it": "lost"},
}
# A page with more than so many characters of data is slow to open on a phone.
_MOST = 24_000_000


def write_sweep_report(
    folder: Path, jobs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], finding: Finding | None
) -> Path:
    """Write the report and the audit file; returns the report's path."""
    done = Counter(str(job["status"]) for job in jobs)
    given = [overrides(job) for job in jobs]
    differing = [k for k in dict.fromkeys(k for g in given for k in g) if len({g.get(k) for g in given}) > 1]
    everything = [*jobs, *(finding.evaluations if finding else ())]
    stamps = dict.fromkeys(s for job in everything for s in job.get("stamps") or ())
    columns = [*differing, *_SHOWN]
    study = any(job.get("study") for job in jobs)
    read = cache(lambda directory: run_data(Path(directory)))
    data, table, filters, left_out = _embedded(rows, finding, read)
    path = folder / "report.html"
    text = page(
        "sweep.html.jinja",
        data,
        title=finding.title if finding and study else folder.name,
        kind="study" if study else "sweep",
        finding=finding,
        table=table,
        counts=", ".join(f"{n} {status}" for status, n in sorted(done.items())),
        failed=[job for job in everything if job["status"] != "done"],
        stamps=list(stamps),
        figures=[{"title": f.title, "svg": svg(f)} for f in (finding.figures if finding else ())],
        columns=columns,
        parts=sorted({str(row["part"]) for row in rows if row.get("part")}),
        rows=[_row(folder, row, columns, opens) for row, opens in zip(rows, filters, strict=True)],
        left_out=left_out,
    )
    write_atomically(path, text)
    directories = dict.fromkeys(str(row["directory"]) for row in rows if row.get("directory"))
    write_audit(folder / "audit.csv", {Path(d).name: read(d) for d in directories})
    return path


def _embedded(
    rows: Sequence[Mapping[str, Any]], finding: Finding | None, read: Any
) -> tuple[str, dict[str, Any], list[dict[str, Any] | None], str]:
    """The page's data, the study's table, what each row of the table of runs opens, and a word on what is left out:
    answers to validation questions, where all of them would make the page too large.
    """
    for with_validation in (True, False):
        made = Embedded(read)
        table = _study_table(made, finding)
        filters = _runs(made, rows, with_validation)
        data = packed({**made.data(), "several": True})
        if len(data) <= _MOST:
            break
    left_out = "" if with_validation else "Answers to validation questions are in the runs' own reports."
    return data, table, filters, left_out


def _study_table(made: Embedded, finding: Finding | None) -> dict[str, Any]:
    """The study's table with what each cell opens: columns, and rows of cells."""
    rows = finding.rows if finding else []
    compared = [*finding.compared, *[RowSystems()] * (len(rows) - len(finding.compared))] if finding else []
    columns = [k for k in dict.fromkeys(k for row in rows for k in row) if k not in ("low", "high")]
    numeric = {c for c in columns if all(isinstance(r.get(c), (int, float, type(None))) for r in rows)}
    labels = [b.label or _label(row) for row, b in zip(rows, compared, strict=True)]
    own: dict[Any, str] = {}
    for i, b in enumerate(compared):
        if b.system is not None and b.system.places:
            own.setdefault(b.system.places, f"s{i}")

    def other(system: System | None, i: int, kind: str) -> str:
        """The key of the group on the other side: that of its own row, else one that is made for it."""
        if system is None or not system.places:
            return ""
        label = system.label if compared[i].label else f"{labels[i]}: {system.label}"
        return own.get(system.places) or made.group(f"s{i}-{kind}", label, system.places)

    cells = []
    for i, (row, b) in enumerate(zip(rows, compared, strict=True)):
        group = ""
        if b.system is not None and b.system.places:
            base, then = other(b.base, i, "base"), other(b.then, i, "then")
            group = made.group(f"s{i}", labels[i], b.system.places, base, then)
        cells.append([_cell(row, c, group, c in numeric, b.kind) for c in columns])
    return {"columns": [{"name": c, "number": c in numeric} for c in columns], "rows": cells}


def _label(row: Mapping[str, Any]) -> str:
    """What a row is of, in words: its columns before the measured ones."""
    names = list(row)
    first = next((i for i, name in enumerate(names) if name in _MEASURED), len(names))
    about = [(k, row[k]) for k in names[:first] if k != "text"]
    return ", ".join(v if isinstance(v, str) else f"{k} {setting(v)}" for k, v in about) or "all"


def _cell(row: Mapping[str, Any], column: str, group: str, number: bool, kind: str) -> dict[str, Any]:
    value = row.get(column)
    made: dict[str, Any] = {"text": shown(value), "value": value if number else None, "number": number}
    made |= {"filter": None, "more": ""}
    if column in _WITH_INTERVAL and row.get("low") is not None and value is not None:
        made["more"] = f"[{shown(row['low'])}, {shown(row['high'])}]"
    if group and column.startswith("type ") and value is not None:
        made["filter"] = {"system": group, "type": column.removeprefix("type "), "flip": "flips"}
    elif group and column in _OPENS and value not in (None, "") and (value or column in _WITH_INTERVAL):
        made["filter"] = {"system": group, "flip": _OPENS[column], **({"type": kind} if kind else {})}
    return made


def _runs(made: Embedded, rows: Sequence[Mapping[str, Any]], with_validation: bool) -> list[dict[str, Any] | None]:
    """Add a group for every row of the table of runs; returns what each opens."""
    counted = Counter[str]()
    places = []
    for row in rows:
        places.append(_place(row, counted[str(row.get("directory"))]))
        counted[str(row.get("directory"))] += 1
    known: dict[Place, str] = {}
    first: dict[tuple[str, str], str] = {}
    second: dict[str, str] = {}
    kept = [p if p and (with_validation or p[1] != "validation") else None for p in places]
    for i, place in enumerate(kept):
        if place is not None and place not in known:
            known[place] = f"r{i}"
            base = first.setdefault(place[:2], f"r{i}")
            if base != f"r{i}":
                second.setdefault(base, f"r{i}")
    for i, place in enumerate(kept):
        if place is not None and known[place] == f"r{i}":
            base = first[place[:2]]
            label = f"{Path(place[0]).name}: {rows[i].get('system')}"
            then = second.get(base, "") if base == f"r{i}" and place[1] != "validation" else ""
            made.group(f"r{i}", label, [place], "" if base == f"r{i}" else base, then)
    return [{"system": known[p], "flip": "flips"} if p else None for p in kept]


def _place(row: Mapping[str, Any], number: int) -> Place | None:
    """Where a row's answers stand: trainings name their systems by the label's first word, evaluations by their number
    among the run's rows.
    """
    directory, part = row.get("directory"), row.get("part")
    if not directory or not part or not row.get("system") or row.get("kind") in ("perplexity", "likelihood"):
        return None
    if row.get("kind") == "train":
        return str(directory), str(part), str(row["system"]).removeprefix("step ").split(" ")[0]
    return str(directory), str(part), str(number)


def _row(
    folder: Path, row: Mapping[str, Any], columns: Sequence[str], opens: Mapping[str, Any] | None
) -> dict[str, Any]:
    directory = row.get("directory")
    href = None
    if directory and (Path(directory) / "report.html").exists():
        href = quote(Path(os.path.relpath(Path(directory) / "report.html", folder)).as_posix())
    return {
        "name": Path(directory).name if directory else f"job {row.get('job')}: {row.get('status')}",
        "href": href,
        "part": str(row.get("part") or ""),
        "cells": [shown(row.get(c)) for c in columns],
        "accuracy": row.get("accuracy"),
        "low": row.get("low"),
        "high": row.get("high"),
        "filter": opens,
    }

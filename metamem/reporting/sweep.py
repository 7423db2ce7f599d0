"""The report of a sweep: its study's answer, its figures, and every run with a way to the run's own report.

In: jobs, rows of the tidy table, a study's finding. Out: `report.html` in the sweep's folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from metamem.files import write_atomically
from metamem.reporting.figures import svg
from metamem.reporting.write import page
from metamem.studies.tables import shown

if TYPE_CHECKING:
    from metamem.studies.findings import Finding

# Columns of the tidy table that say little to a reader of the page; all are in results.csv.
_SHOWN = ("part", "system", "guidelines", "questions")


def write_sweep_report(
    folder: Path, jobs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], finding: Finding | None
) -> Path:
    """Write the report; returns its path."""
    from metamem.studies.tables import overrides

    done = Counter(str(job["status"]) for job in jobs)
    given = [overrides(job) for job in jobs]
    differing = [k for k in dict.fromkeys(k for g in given for k in g) if len({g.get(k) for g in given}) > 1]
    everything = [*jobs, *(finding.evaluations if finding else ())]
    stamps = dict.fromkeys(s for job in everything for s in job.get("stamps") or ())
    columns = [*differing, *_SHOWN]
    found = finding.rows if finding else []
    path = folder / "report.html"
    text = page(
        "sweep.html.jinja",
        {},
        title=finding.title if finding else folder.name,
        finding=finding,
        finding_columns=list(dict.fromkeys(k for row in found for k in row)),
        finding_rows=[[shown(row.get(c)) for c in dict.fromkeys(k for r in found for k in r)] for row in found],
        counts=", ".join(f"{n} {status}" for status, n in sorted(done.items())),
        failed=[job for job in everything if job["status"] != "done"],
        stamps=list(stamps),
        figures=[{"title": f.title, "svg": svg(f)} for f in (finding.figures if finding else ())],
        columns=columns,
        parts=sorted({str(row["part"]) for row in rows if row.get("part")}),
        rows=_rows(folder, rows, columns),
    )
    write_atomically(path, text)
    return path


def _rows(folder: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    places = Counter[str]()
    found = []
    for row in rows:
        directory = str(row.get("directory") or "")
        found.append(_row(folder, row, columns, places[directory]))
        places[directory] += 1
    return found


def _row(folder: Path, row: Mapping[str, Any], columns: Sequence[str], place: int) -> dict[str, Any]:
    """One row; `place` is its number among those of its run, by which evaluations name their systems."""
    directory = row.get("directory")
    href = None
    if directory and (Path(directory) / "report.html").exists():
        href = quote(Path(os.path.relpath(Path(directory) / "report.html", folder)).as_posix())
    label = str(row.get("system") or "")
    trained = row.get("kind") == "train"
    key = label.removeprefix("step ").split(" ")[0] if trained else str(place)
    first = key == "without" if trained else place == 0
    return {
        "name": Path(directory).name if directory else f"job {row.get('job')}: {row.get('status')}",
        "href": href,
        "part": str(row.get("part") or ""),
        "system": key,
        "cells": [shown(row.get(c)) for c in columns],
        "accuracy": row.get("accuracy"),
        "low": row.get("low"),
        "high": row.get("high"),
        "flips": bool(href and not first and row.get("part") != "validation" and row.get("kind") != "perplexity"),
    }

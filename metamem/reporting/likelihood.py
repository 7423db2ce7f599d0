"""Likelihoods of reference answers as a table and a page of their own.

In: a result's cells (`statistics.likelihood`), the directory of a run in which no reply was asked for. Out: rows for
pages, files and the console; report.html, and with `write_all` the table (Markdown, LaTeX) too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metamem.core.files import read_object, read_rows
from metamem.reporting.page import page
from metamem.reporting.table_files import write_page_and_table

# More questions than this are left to the file: a page of tens of thousands of rows is slow to open.
_MOST_QUESTIONS = 5000


def likelihood_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per evaluator and system, in nats a token."""
    cells = result.get("likelihood") or ()
    several = len({c["evaluator"] for c in cells}) > 1
    return [{**({"evaluator": c["evaluator"]} if several else {}), "system": c["system"], **columns(c)} for c in cells]


def columns(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell as columns of a table."""
    change, correlation = cell.get("difference") or {}, cell.get("correlation") or {}
    judged = (
        {} if cell["accuracy"] is None else {"accuracy": cell["accuracy"], "rank correlation": correlation.get("rank")}
    )
    if judged:
        judged["correlation, 95 %"] = _interval(correlation.get("interval"))
    return {
        "questions": cell["questions"],
        "nats a token": cell["log_probability"],
        "95 %": _interval(cell["interval"]),
        "difference": change.get("log_probability"),
        "difference, 95 %": _interval(change.get("interval")),
        "p (Holm)": change.get("p_holm"),
        "verdict": change.get("verdict", ""),
        **judged,
        "left out": ", ".join(f"{count} {reason}" for reason, count in cell["left_out"].items()),
    }


def likelihood_page(directory: Path) -> str:
    """Return the page of a run as text."""
    result = read_object(directory / "result.json")
    rows = sorted(read_rows(directory / "likelihood.jsonl"), key=lambda r: r["log_probability"] or 0.0)
    return page(
        "likelihood.html.jinja",
        "",
        name=directory.name,
        result=result,
        config=read_object(directory / "config.json"),
        manifest=read_object(directory / "manifest.json"),
        cells=likelihood_rows(result),
        rows=rows if len(rows) <= _MOST_QUESTIONS else [],
        count=len(rows),
    )


def write_all(directory: Path) -> list[Path]:
    """Write the report and the table; return the paths."""
    result = read_object(directory / "result.json")
    return write_page_and_table(directory, "likelihood", likelihood_page(directory), likelihood_rows(result), result)


def _interval(ends: Any) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""

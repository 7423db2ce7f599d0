"""Writing a run's report and everything beside it.

In: the directory of a finished run. Out: `report.html` (`write_report`, at the end of every run), and with
`write_everything` the figures, tables and the audit file too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metamem.core.files import read_object, write_atomically
from metamem.reporting.embed import of_run
from metamem.reporting.figures import svg
from metamem.reporting.page import packed, page
from metamem.reporting.perplexity import analysis_page, write_all
from metamem.reporting.plots import write_figures
from metamem.reporting.run import RunReport, read_run
from metamem.reporting.table_files import latex, markdown

_AUDIT = (
    *(
        "question_id",
        "type",
        "question",
        "accepted",
        "run",
        "system",
        "draw",
        "reply",
        "evaluator",
        "judge",
        "verdict",
        "raw",
    ),
    *("your verdict", "your remark"),
)

# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_report(directory: Path) -> Path:
    """Write a finished run's report.html; returns its path. Raises `DataError` when the run is not finished."""
    path = directory / "report.html"
    write_atomically(path, analysis_page(directory) if _is_analysis(directory) else run_page(read_run(directory)))
    return path


def _is_analysis(directory: Path) -> bool:
    """Whether a run is a finished analysis of perplexity, which has a page of its own."""
    path = directory / "result.json"
    return path.exists() and read_object(path).get("kind") == "perplexity"


def write_everything(directory: Path) -> list[Path]:
    """The report, figures (PNG, PDF), the table of accuracies (Markdown, LaTeX) and audit.csv; returns the paths."""
    if _is_analysis(directory):
        return write_all(directory)
    report = read_run(directory)
    rows = accuracy_rows(report)
    note = "; ".join(map(str, report.result.get("stamps") or ()))
    texts = {
        "report.html": run_page(report),
        "accuracy.md": markdown(rows, note),
        "accuracy.tex": latex(rows, note),
        "audit.csv": audit({directory.resolve().name: report.data}),
    }
    for name, text in texts.items():
        write_atomically(directory / name, text)
    return [*(directory / name for name in texts), *write_figures(report.figures, directory / "figures")]


def run_page(report: RunReport) -> str:
    """A run's page as text."""
    data = of_run(str(report.directory), report.data)
    return page("run.html.jinja", packed(data), report=report, figures=[svg(f) for f in report.figures])


def accuracy_rows(report: RunReport) -> list[dict[str, Any]]:
    """The report's table for papers: a row per type and summary, accuracy and interval per system."""
    rows = []
    for row in report.table:
        cells: dict[str, Any] = {"question type": row["name"], "n": row["count"]}
        for system in report.systems:
            cell = row["cells"].get(system["key"]) or {}
            interval = cell.get("interval")
            text = "" if cell.get("accuracy") is None else f"{cell['accuracy']:.3f}"
            cells[system["label"]] = text + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval and text else "")
        rows.append(cells)
    return rows


def audit(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """A CSV for people who check verdicts (`runs`: name → `run_data`): the attempts of the evaluated part with
    question, accepted answers, reply and verdict, and two empty columns for their own. A verdict that several systems
    share, for the same reply to the same question, stands there once, with the first of them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_AUDIT)
    seen = set()
    for name, data in runs.items():
        labels = {s["key"]: s["label"] for s in data["systems"]}
        for a in data["attempts"]:
            if a["part"] != data["part"]:
                continue
            q = data["questions"][a["q"]]
            about = [q["id"], q.get("type", ""), q.get("text", ""), " | ".join(q.get("answers") or ())]
            reply = a["reply"] or a["error"]
            for v in a["verdicts"]:
                verdict = {True: "right", False: "wrong", None: "invalid"}[v["right"]]
                judged = (v["by"], v["judge"], verdict, v["raw"] or v["reason"])
                if (data.get("dataset"), q["id"], reply, judged) in seen:
                    continue
                seen.add((data.get("dataset"), q["id"], reply, judged))
                given = [name, labels.get(a["system"], a["system"]), a["draw"], reply]
                writer.writerow([_cell(c) for c in [*about, *given, *judged]] + ["", ""])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

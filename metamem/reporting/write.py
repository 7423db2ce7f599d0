"""Writing a run's report and everything beside it.

In: the directory of a finished run. Out: `report.html` (`write_report`, at the end of every run), and with
`write_everything` the figures, tables and the audit file too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metamem.core.files import read_object, write_atomically
from metamem.reporting.audit import SAMPLE, write_audit
from metamem.reporting.drafts import drafts_page
from metamem.reporting.drafts import write_all as write_drafts
from metamem.reporting.embed import of_run
from metamem.reporting.figures import svg
from metamem.reporting.likelihood import likelihood_page
from metamem.reporting.likelihood import write_all as write_likelihood
from metamem.reporting.page import packed, page
from metamem.reporting.perplexity import analysis_page
from metamem.reporting.perplexity import write_all as write_perplexity
from metamem.reporting.plots import write_figures
from metamem.reporting.run import RunReport, read_run
from metamem.reporting.table_files import latex, markdown


def write_report(directory: Path) -> Path:
    """Write a finished run's report.html; returns its path. Raises `DataError` when the run is not finished."""
    path = directory / "report.html"
    own = _OF_ITS_OWN.get(_kind(directory))
    write_atomically(path, own[0](directory) if own else run_page(read_run(directory)))
    return path


# Kinds of runs that have a page of their own, for they hold no replies that were judged: the page, all files.
_OF_ITS_OWN: Mapping[str, tuple[Callable[[Path], str], Callable[[Path], list[Path]]]] = {
    "perplexity": (analysis_page, write_perplexity),
    "likelihood": (likelihood_page, write_likelihood),
    "questions": (drafts_page, write_drafts),
}


def _kind(directory: Path) -> str:
    path = directory / "result.json"
    return str(read_object(path).get("kind")) if path.exists() else ""


def write_everything(directory: Path, sample: int = SAMPLE, seed: int = 0) -> list[Path]:
    """The report, figures (PNG, PDF), the table of accuracies (Markdown, LaTeX) and audit.csv with `sample` answers
    drawn by `seed`; returns the paths.
    """
    if own := _OF_ITS_OWN.get(_kind(directory)):
        return own[1](directory)
    report = read_run(directory)
    rows = accuracy_rows(report)
    note = "; ".join(map(str, report.result.get("stamps") or ()))
    texts = {
        "report.html": run_page(report),
        "accuracy.md": markdown(rows, note),
        "accuracy.tex": latex(rows, note),
    }
    for name, text in texts.items():
        write_atomically(directory / name, text)
    write_audit(directory / "audit.csv", {directory.resolve().name: report.data}, sample, seed)
    return [
        *(directory / name for name in (*texts, "audit.csv")),
        *write_figures(report.figures, directory / "figures", report.result.get("stamps") or ()),
    ]


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

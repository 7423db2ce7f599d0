"""The report of an analysis of perplexity: its table, a figure for each kind of text, and every text with its change.

In: the directory of a finished analysis. Out: report.html; with `write_all` the table (Markdown, LaTeX) and the figures
(PNG, PDF) too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.core.files import read_object, read_rows
from metamem.reporting.figures import Figure, Series, svg
from metamem.reporting.page import page
from metamem.reporting.plots import write_figures
from metamem.reporting.table_files import write_page_and_table
from metamem.statistics.perplexity import WITH, WITHOUT

# More texts than this are left to the file: a page of tens of thousands of rows is slow to open.
_MOST_TEXTS = 5000


def analysis_page(directory: Path) -> str:
    """The page as text."""
    result = read_object(directory / "result.json")
    rows = list(read_rows(directory / "perplexity.jsonl"))
    texts = text_rows(rows)
    return page(
        "perplexity.html.jinja",
        "",
        name=directory.name,
        result=result,
        config=read_object(directory / "config.json"),
        manifest=read_object(directory / "manifest.json"),
        cells=table_rows(result),
        texts=texts if len(texts) <= _MOST_TEXTS else [],
        count=len(texts),
        figures=[{"title": f.title, "svg": svg(f)} for f in figures(result)],
    )


def write_all(directory: Path) -> list[Path]:
    """The report, the table and the figures; returns the paths."""
    result = read_object(directory / "result.json")
    written = write_page_and_table(directory, "perplexity", analysis_page(directory), table_rows(result), result)
    return [*written, *write_figures(figures(result), directory / "figures", result.get("stamps") or ())]


def table_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The analysis as a table: a row per system and kind of text."""
    rows = []
    for cell in result["perplexity"]:
        change = cell.get("difference") or {}
        row = {"text": cell["what"], "system": cell["system"], "texts": cell["texts"], "tokens": cell["tokens"]}
        for given in ("without", "with"):
            found = cell.get(given) or {}
            row[f"{given} E"] = found.get("perplexity")
            row[f"{given} E, 95 %"] = interval(found.get("interval"))
            row[f"{given} E, average question"] = found.get("mean_perplexity")
        row |= {"ratio": change.get("ratio"), "ratio, 95 %": interval(change.get("interval"))}
        row |= {"p (Holm)": change.get("p_holm"), "verdict": change.get("verdict", "")}
        row["left out"] = ", ".join(f"{count} {reason}" for reason, count in cell["left_out"].items())
        rows.append(row)
    return rows


def interval(ends: Sequence[float] | None) -> str:
    """An interval of perplexities as text; empty where it is unknown."""
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else ""


def figures(result: Mapping[str, Any]) -> list[Figure]:
    """Perplexity without and with guidelines: by step where every system is one, else by system."""
    found = []
    for what in dict.fromkeys(cell["what"] for cell in result["perplexity"]):
        cells = [c for c in result["perplexity"] if c["what"] == what]
        steps = len(cells) > 1 and all(c["system"] == f"step {c['step']}" for c in cells)
        x = tuple(float(c["step"]) if steps else str(c["system"]) for c in cells)
        series = tuple(
            line(given, x, [c.get(key) for c in cells]) for key, given in (("without", WITHOUT), ("with", WITH))
        )
        name, title = what.replace(" ", "_"), f"Perplexity of {what}s on {result.get('part') or 'test'}"
        kind, axis = ("lines", "step") if steps else ("bars", "system")
        found.append(Figure(f"perplexity_{name}", title, axis, "perplexity", series, kind, share=False))
    return found


def line(name: str, x: tuple[str | float, ...], cells: Sequence[Mapping[str, Any] | None]) -> Series:
    """A series of perplexities with their intervals; a cell that is missing leaves a gap."""
    ends = [(c or {}).get("interval") or (None, None) for c in cells]
    values = tuple((c or {}).get("perplexity") for c in cells)
    return Series(name, x, values, tuple(e[0] for e in ends), tuple(e[1] for e in ends))


def text_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per text with its perplexity under each condition, and the gain in nats a token, the greatest first."""
    texts: dict[tuple[str, str, str], dict[str, Any]] = {}
    for r in rows:
        about = {k: r[k] for k in ("question_id", "type", "system", "what", "tokens")}
        text = texts.setdefault((r["system"], r["what"], r["text"]), {**about, "left_out": ""})
        text[r["given"]] = r
        text["tokens"] = max(text["tokens"], r["tokens"])
        text["left_out"] = text["left_out"] or r["reason"] or r["left_out"]
    for text in texts.values():
        without, guided = ((text.get(given) or {}).get("log_probability") for given in (WITHOUT, WITH))
        text["gain"] = None if without is None or guided is None else guided - without
    return sorted(texts.values(), key=lambda t: -(t["gain"] or 0.0))

"""The leaderboard as a page, a table file and tables on the console.

In: `statistics.leaderboard.board`. Out: leaderboard.html, which opens anywhere, leaderboard.csv and .parquet; text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from metamem.core.files import write_atomically
from metamem.reporting.console.text import WARNING, count, plain_table, safe, say, several, share, stamp_sentence
from metamem.reporting.figures import Figure, Series, svg
from metamem.reporting.page import page
from metamem.reporting.table_files import setting, write_tables
from metamem.statistics.plain_language import number, points

# What the rows of a page are filtered by.
_FILTERS = ("data", "reader", "budget")
_NO_BUDGET = "none"


def write_board(
    folder: Path, board: Mapping[str, Any], left_out: Sequence[str], title: str = "All finished runs"
) -> list[Path]:
    """Write the page and the table's files into a folder; returns their paths."""
    rows = [
        {"table": n, **{k: v for k, v in row.items() if k != "options"}, **row["options"]}
        for n, table in enumerate(board["tables"], 1)
        for row in table["rows"]
    ]
    write_tables(rows, folder, "leaderboard")
    write_atomically(folder / "leaderboard.html", board_page(board, left_out, title, lambda run: _beside(folder, run)))
    return [folder / f"leaderboard.{suffix}" for suffix in ("html", "csv", "parquet")]


def board_page(
    board: Mapping[str, Any], left_out: Sequence[str], title: str, href: Any, layout: str = "base.html.jinja"
) -> str:
    """Return the page as text, in a frame; `href` gives the address of a run's report (None: it has none)."""
    every = [row for table in board["tables"] for row in table["rows"]]
    return page(
        "leaderboard.html.jinja",
        "",
        layout=layout,
        title=title,
        systems=f"{several(len(every), 'system')} in {several(len(board['tables']), 'table')}",
        stamps=_stamps(every),
        choices={name: sorted({_filtered(row, name) for row in every}) for name in _FILTERS},
        tables=[_shown_table(table, href) for table in board["tables"]],
        left_out=left_out,
    )


def print_board(board: Mapping[str, Any], left_out: Sequence[str], console: Console) -> None:
    """Print the tables, what keeps them apart, and what is left out."""
    rows = [row for table in board["tables"] for row in table["rows"]]
    if not rows:
        say(console, "no finished run that answers questions")
    for stamp in _stamps(rows):
        say(console, stamp, WARNING)
    for n, table in enumerate(board["tables"], 1):
        console.print()
        say(console, f"table {n}: {_title(table)}", "bold")
        say(console, _conditions(table), "dim")
        if table["differs"]:
            say(console, f"not ranked against table 1: it differs in {'; '.join(table['differs'])}", WARNING)
        beside = [k for k in ("reader", "budget") if len({_filtered(r, k) for r in table["rows"]}) > 1]
        invalid = any(row["invalid"] for row in table["rows"])
        drawn = plain_table(
            "",
            ["", "system", *beside],
            [
                *(table["measure"], "95 %", "from the best, 95 %", "p, Holm"),
                *(["invalid", "verdict"] if invalid else []),
                "tokens",
            ],
            _family(table),
        )
        for row in table["rows"]:
            drawn.add_row(
                str(row["place"]),
                safe(row_name(row)),
                *(safe(_filtered(row, k)) for k in beside),
                share(row[table["measure"]]),
                _ends(row["low"], row["high"], share),
                _behind(row),
                "" if row["p_holm"] is None else number(row["p_holm"]),
                *([count(row["invalid"]), row["verdict"] or ""] if invalid else []),
                count(row["tokens"]),
                style="bold" if row["place"] == 1 else "",
            )
        console.print(drawn)
    for line in left_out:
        say(console, f"left out: {line}", "dim")


def row_name(row: Mapping[str, Any]) -> str:
    """What a row is of, in words: memory, retriever, what taught the guidelines, and options without a column."""
    words = [row["memory"], row["retriever"]]
    words += [f"{row['optimizer']} {row['guidelines']}".strip()] if row["guidelines"] else ["no guidelines"]
    return ", ".join([*filter(None, words), *(f"{k}={setting(v)}" for k, v in row["options"].items())])


def _stamps(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(stamp_sentence(stamp) for row in rows for stamp in row["stamps"]))


def _filtered(row: Mapping[str, Any], name: str) -> str:
    return _NO_BUDGET if row[name] is None else str(row[name])


def _title(table: Mapping[str, Any]) -> str:
    of = table["conditions"]
    first = table["rows"][0]["data"] or "data unknown"
    measured = "mean score " if table["measure"] == "score" else ""
    asked = several(table["questions"], "question")
    return f"{first}, {of.get('part', '')}, {asked}, {measured}by {of.get('evaluator', '')}"


def _conditions(table: Mapping[str, Any]) -> str:
    return " · ".join(f"{name} {value}" for name, value in table["conditions"].items())


def _family(table: Mapping[str, Any]) -> str:
    compared = len(table["rows"]) - 1
    if not compared:
        return ""
    corrected = f"Holm's correction over the {compared} comparisons of this table" if compared > 1 else "one comparison"
    return f"p: paired, clustered; {corrected}"


def _ends(low: float | None, high: float | None, of: Any) -> str:
    return "" if low is None or high is None else f"[{of(low)}, {of(high)}]"


def _behind(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return "the best"
    ends = _ends(row["difference_low"], row["difference_high"], lambda v: points(v, True))
    return f"{points(row['difference'], True)} {ends}"


def _shown_table(table: Mapping[str, Any], href: Any) -> dict[str, Any]:
    """A table as the page's template takes it."""
    measure = table["measure"]
    priced = any(row["usd"] is not None for row in table["rows"])
    built = any(row["building"] for row in table["rows"])
    names = ["place", "system", "reader", "budget", measure, "from the best", "p, Holm", "verdict"]
    names += ["tokens a question", *(["$ a 1,000"] if priced else []), *(["tokens to build"] if built else [])]
    numbers = {"place", measure, "from the best", "p, Holm", "tokens a question", "$ a 1,000", "tokens to build"}
    rows = []
    for row in table["rows"]:
        invalid = f", {row['invalid']} invalid" if row["invalid"] else ""
        trained = f"{several(row['trainings'], 'training')}" if row["trainings"] else ""
        selected = ", ".join(s for s in row["stamps"] if s.startswith("selected on"))
        cells: dict[str, dict[str, Any]] = {
            "place": {"text": str(row["place"]), "value": row["place"]},
            "system": {"text": row_name(row), "more": "; ".join(filter(None, (trained, selected)))},
            "reader": {"text": row["reader"]},
            "budget": {"text": _filtered(row, "budget"), "value": row["budget"] or 0},
            measure: {
                "text": share(row[measure]),
                "value": row[measure],
                "more": _ends(row["low"], row["high"], share) + invalid,
            },
            "from the best": {
                "text": "the best" if row["difference"] is None else points(row["difference"], True),
                "value": row["difference"] or 0,
                "more": _ends(row["difference_low"], row["difference_high"], lambda v: points(v, True)),
            },
            "p, Holm": {"text": "" if row["p_holm"] is None else number(row["p_holm"]), "value": row["p_holm"]},
            "verdict": {"text": row["verdict"] or ""},
            "tokens a question": {"text": count(row["tokens"]), "value": row["tokens"]},
            "$ a 1,000": {"text": "–" if row["usd"] is None else f"{row['usd']:.2f}", "value": row["usd"]},
            "tokens to build": {
                "text": "–" if row["building"] is None else count(row["building"]),
                "value": row["building"],
            },
        }
        links = [{"name": Path(run).name, "href": href(Path(run))} for run in row["runs"]]
        made = [{"value": None, "more": "", **cells[n], "number": n in numbers} for n in names]
        made.append({"text": "", "value": None, "more": "", "number": False, "links": links})
        rows.append({"cells": made, **{k: _filtered(row, k) for k in _FILTERS}})
    return {
        "title": _title(table),
        "conditions": _conditions(table),
        "differs": table["differs"],
        "columns": [{"name": n, "number": n in numbers} for n in (*names, "runs")],
        "rows": rows,
        "family": _family(table),
        "measure": measure,
        "figure": svg(_figure(table)) if len(table["rows"]) > 1 else "",
    }


def _figure(table: Mapping[str, Any]) -> Figure:
    rows, measure = table["rows"], table["measure"]
    series = Series(
        "systems",
        tuple(row["tokens"] for row in rows),
        tuple(row[measure] for row in rows),
        tuple(row["low"] for row in rows),
        tuple(row["high"] for row in rows),
        tuple(str(row["place"]) for row in rows),
    )
    return Figure("cost", f"{measure.capitalize()} by tokens", "tokens a question", measure, (series,), "points")


def _beside(folder: Path, run: Path) -> str | None:
    """The address of a run's report from a folder."""
    report = run / "report.html"
    return quote(Path(os.path.relpath(report, folder)).as_posix()) if report.exists() else None

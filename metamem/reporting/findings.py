"""What a study found: its table, its figures, what to say of them, and the evaluations that were made for it.

In: a study's rows and series. Out: `study.csv`, `study.md`, `study.tex`, and each figure as PNG and PDF, in the sweep's
folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.files import write_atomically
from metamem.reporting.console.text import safe, say, several, stamp_sentence, with_interval
from metamem.reporting.figures import Figure
from metamem.reporting.plots import write_figures
from metamem.reporting.table_files import latex, markdown, shown, write_tables
from metamem.statistics.paired import FEWEST_CLUSTERS
from metamem.statistics.systems import System

if TYPE_CHECKING:
    from rich.console import Console


_NOT_ON_A_CONSOLE = ("type ", "right only")
_WHOLE = 8  # characters of a cell's words that are kept together
_LESS = (
    *("calls", "p (Holm)", "lost", "gained", "questions", "95 % interval", "completion tokens per question"),
    *("average", "conflict resolution", "compression", "memory tokens"),
)


@dataclass(frozen=True)
class RowSystems:
    """The systems that a row of a study's table compares: the one that it is of, the one that this is compared with
    (`base`), or the one that is compared with it (`then`).

    The report opens the questions that flip between the two. `label` is the system's, where the row's own words would
    not do; `kind` the question type that the row is of, where it is of one.
    """

    system: System | None = None
    base: System | None = None
    then: System | None = None
    label: str = ""
    kind: str = ""


@dataclass
class Finding:
    """A study's answer. `compared` has an entry for every row that was added; `stamps` are those of its runs,
    `evaluations` job rows as a sweep's ledger has them.

    `files_only` names columns that a console has no room for.
    """

    title: str
    question: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stamps: list[str] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    files_only: tuple[str, ...] = ()
    compared: list[RowSystems] = field(default_factory=list)

    def add(
        self,
        row: dict[str, Any],
        system: System | None = None,
        base: System | None = None,
        then: System | None = None,
        label: str = "",
        kind: str = "",
    ) -> None:
        """Add a row with the systems that it compares (see `RowSystems`)."""
        # Rows that were given without any compare nothing.
        self.compared += [RowSystems()] * (len(self.rows) - len(self.compared))
        self.rows.append(row)
        self.compared.append(RowSystems(system, base, then, label, kind))

    def show(self, console: Console) -> None:
        """Print the table and the notes."""
        from rich import box
        from rich.table import Table

        rows = [_joined(row) for row in even(self.rows)]
        names = [
            n for n in (rows[0] if rows else ()) if not n.startswith(_NOT_ON_A_CONSOLE) and n not in self.files_only
        ]
        for less in _LESS:
            # The files have every column; a console has the ones that fit.
            if sum(max(len(n), *(len(shown(r[n])) for r in rows)) + 3 for n in names) > console.width:
                names = [n for n in names if n != less]
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
        table.title, table.title_justify = safe(self.title, "bold"), "left"
        # A number or a word of a cell that is cut in two is hard to read; a heading may be, and long ones are.
        words = {name: [word for row in rows for word in shown(row[name]).split()] for name in names}
        whole = {name: min(max(map(len, words[name]), default=0), _WHOLE) for name in names}
        fits = sum(whole.values()) + 3 * len(names) <= console.width
        for name in names:
            table.add_column(safe(name), overflow="fold", min_width=whole[name] if fits else None)
        for row in rows:
            table.add_row(*(safe(shown(row[name])) for name in names))
        console.print()
        console.print(table)
        for note in (*stamp_sentences(self.stamps), *self.notes):
            say(console, note, "dim")


def note_few_groups(finding: Finding) -> None:
    """Say where the questions are of so few conversations that an interval over them tells little."""
    groups = [len({row.group for row in b.system.rows}) for b in finding.compared if b.system is not None]
    if groups and min(groups) < FEWEST_CLUSTERS:
        finding.notes.append(
            f"The questions come from {several(min(groups), 'independent group')} (such as conversations), too few for "
            f"a difference to be shown; {FEWEST_CLUSTERS} are the fewest."
        )


def stamp_sentences(stamps: Sequence[str]) -> list[str]:
    """What the stamps of a table's runs say, a sentence each."""
    return [stamp_sentence(stamp) for stamp in stamps]


def write_finding(finding: Finding, folder: Path, name: str = "study") -> None:
    """Write the study's table in every form as `name`.csv and so on, and its figures."""
    uniform = even(finding.rows)
    note = "\n".join([*stamp_sentences(finding.stamps), *finding.notes])
    write_tables(uniform, folder, name)
    write_atomically(folder / f"{name}.md", markdown(uniform, note))
    write_atomically(folder / f"{name}.tex", latex(uniform, note))
    write_figures(finding.figures, folder, finding.stamps)


def _joined(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its accuracy and the interval in one cell."""
    if row.get("low") is None or row.get("accuracy") is None:
        return {k: v for k, v in row.items() if k not in ("low", "high") or "accuracy" not in row}
    text = with_interval(row["accuracy"], (row["low"], row["high"]))
    return {k: text if k == "accuracy" else v for k, v in row.items() if k not in ("low", "high")}


def even(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the same columns each."""
    names = dict.fromkeys(k for row in rows for k in row)
    return [{k: row.get(k) for k in names} for row in rows]

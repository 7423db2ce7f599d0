"""What a study is: the table, figures and words that are made of a sweep's finished jobs.

In: jobs. Out: a `Finding`, with intervals, corrected tests and the evaluations it needed. A study takes whatever jobs
there are, so a failed job leaves a gap and no more. Jobs that differ in seed or fold only are repeats of one setting
(`studies.settings`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.records import Question
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.statistics.systems import System
from metamem.studies.settings import Jobs


class Study(ABC):
    """A study, registered under the name of its experiment. `program` is the one whose jobs it is made of."""

    program = "train"

    @dataclass
    class Config:
        """No options: what a study varies stands in its experiment's file."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def conclude(self, jobs: Jobs) -> Finding:
        """Put finished jobs together."""

    @classmethod
    def refuses(cls, questions: Sequence[Question]) -> str:
        """Say why the study cannot be made of these questions; empty where it can. Asked before anything starts."""
        return ""

    @classmethod
    def takes(cls, group: str, name: str) -> bool:
        """Whether `GROUP=all` means a component, too, where this study sweeps over a group (`optimizer`, `memory`)."""
        return True

    def after(self, jobs: Jobs) -> str:
        """Say in words which evaluations it makes after its jobs; empty when none."""
        return ""


def by_type(system: System) -> dict[str, float]:
    """Return a system's strict accuracy by question type, as columns of a table."""
    kinds: dict[str, list[float]] = {}
    for row in system.rows:
        kinds.setdefault(row.type, []).append(row.strict)
    return {f"type {kind}": sum(v) / len(v) for kind, v in sorted(kinds.items())}


def line(name: str, rows: Sequence[Mapping[str, Any]], x: str) -> Series:
    """Draw the accuracy of rows, with its interval, as a line over `x`."""
    ordered = sorted((r for r in rows if r.get(x) is not None), key=lambda r: r[x])
    return Series(name, *(tuple(r[k] for r in ordered) for k in (x, "accuracy", "low", "high")))


def bars(name: str, title: str, rows: Sequence[Mapping[str, Any]], x: str, series: str | None) -> Figure:
    """Draw the accuracy of rows, with its interval, as bars over `x`, a colour for every value of `series`."""
    kinds = list(dict.fromkeys(str(r[series]) for r in rows)) if series else ["accuracy"]
    made = []
    for kind in kinds:
        of_kind = [r for r in rows if series is None or r[series] == kind]
        made.append(Series(kind, *(tuple(r[k] for r in of_kind) for k in (x, "accuracy", "low", "high"))))
    return Figure(name, title, x, "accuracy", tuple(made), "bars")

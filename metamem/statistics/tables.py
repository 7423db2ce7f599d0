"""A run's files as tables of pandas, for notebooks and scripts: `metamem.load(RUN)`.

In: the directory of a run. Out: a `RunTables`, each of its tables read when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.errors import DataError
from metamem.core.files import read_object, read_rows
from metamem.runs.directory import read_result
from metamem.runs.systems import system_names

if TYPE_CHECKING:
    import pandas


def load(run: str | Path) -> RunTables:
    """Read a finished run. Raises `DataError` for a directory that is not one."""
    place = Path(run)
    if not place.is_dir():
        raise DataError(f"no such run: {run}")
    return RunTables(place, read_result(place), read_object(place / "config.json"))


class RunTables:
    """What a finished run holds: `result` and `config` as in their files, all else as tables."""

    def __init__(self, directory: Path, result: dict[str, Any], config: dict[str, Any]) -> None:
        self.directory, self.result, self.config = directory, result, config

    def __repr__(self) -> str:
        return f"<{self.result.get('kind')} run {self.directory}: {self.result.get('headline')}>"

    @cached_property
    def attempts(self) -> pandas.DataFrame:
        """A row an attempt: question, part, system, draw, response, tokens, searches."""
        return _frame(
            {**{k: v for k, v in row.items() if k != "usage"}, **(row.get("usage") or {})}
            for row in self._placed("attempts.jsonl", "id")
        )

    @cached_property
    def verdicts(self) -> pandas.DataFrame:
        """A row a verdict: attempt, question, part, system, evaluator, judge, score, correct, reason."""
        return _frame(
            {**{k: v for k, v in row.items() if k != "usage"}, **(row.get("usage") or {})}
            for row in self._placed("verdicts.jsonl", "attempt_id")
        )

    @cached_property
    def metrics(self) -> pandas.DataFrame:
        """A row a step of training."""
        return _frame(self._rows("metrics.jsonl"))

    @cached_property
    def questions(self) -> pandas.DataFrame:
        """A row a question: text, type, date, accepted answers, and the evidence that it was answered from."""
        return _frame(self._rows("cases.jsonl"))

    @cached_property
    def guidelines(self) -> pandas.DataFrame:
        """A row a guideline of the meta-memory that was chosen."""
        return _frame(iter(self.result.get("guidelines") or ()))

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.directory / name
        yield from read_rows(path) if path.exists() else ()

    def _placed(self, name: str, key: str) -> Iterator[dict[str, Any]]:
        """The rows of a log with the part and the label of the system that they are of, as their attempt's id says."""
        labels: dict[tuple[str, str], str] = {}
        for row in self._rows(name):
            part, system, _ = row[key].split("/", 2)
            if (part, system) not in labels:
                labels[part, system] = system_names(self.directory, part, {system: ()})[system]
            yield {**row, "part": part, "system": labels[part, system]}


def _frame(rows: Iterator[dict[str, Any]]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(list(rows))

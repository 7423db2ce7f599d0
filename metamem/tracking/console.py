"""What is shown while a run goes on: a live display on a terminal, plain lines elsewhere, the tables at the end.

In: the calls of `contracts.Tracker`. Out: text on standard output. Counting (`advance`) is a dictionary's addition and
a look at the clock; all drawing is done by a thread of rich's, four times a second, or when a line is due.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console
from rich.live import Live

from metamem.core.files import read_rows
from metamem.core.meta_memory import Action, Change, MetaMemory
from metamem.reporting.console.tables import print_result
from metamem.reporting.console.text import (
    WARNING,
    count,
    dataset_label,
    duration,
    join,
    model_label,
    one_line,
    open_console,
    rate,
    say,
    several,
    share,
    stamp_sentence,
)
from metamem.runs.sweep import LEDGER
from metamem.tracking.live import LiveStage, Watch, frame, table_of

_REFRESHES_PER_SECOND = 4
_LINE_EVERY = 10.0
_NEVER = float("inf")


class Console:
    """Shows a run; implements `contracts.Tracker`. `clock` gives seconds.

    On a `board` it is one of several that share the terminal: lines that begin with its `label`, a common live display.
    """

    def __init__(
        self,
        console: rich.console.Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        board: Board | None = None,
        label: str = "",
    ) -> None:
        self._console = console or open_console()
        self._clock = clock
        self._watch = Watch(clock)
        self._totals = self._watch.totals
        # A sweep's jobs in other processes share the terminal: two live displays would overwrite each other.
        self._alone = multiprocessing.current_process().name == "MainProcess"
        self._live: Live | None = None
        self._board = board
        self._prefix = f"{label}: " if label else ""
        self._line_due = _NEVER
        self._open = False
        self._in_step = False
        self._step_began: float | None = None
        self._step_figures: dict[str, Any] = {}
        self._measured: Mapping[str, Any] | None = None

    def started(self, about: Mapping[str, Any]) -> None:
        """See `contracts.Tracker`. Opens the live display on a terminal."""
        watch = self._watch
        name = Path(str(about.get("directory") or "")).name or str(about.get("id", ""))
        watch.name = one_line(f"{about.get('name', 'run')} · {name}")
        watch.subject = join((dataset_label(about), model_label(about)), " · ")
        watch.stamps = tuple(one_line(stamp) for stamp in about.get("stamps") or ())
        watch.steps = int(about.get("steps") or 0)
        resumed_at = about.get("resumed_at")
        if resumed_at is not None:
            watch.step = int(resumed_at)
            watch.rows = _earlier_rows(about.get("directory"), watch.step)
        if self._board is not None:
            self._board.open(self._prefix, watch)
        elif self._console.is_interactive and self._alone:
            self._live = Live(
                console=self._console,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
                get_renderable=lambda: frame(watch, *self._console.size),
            )
            self._live.start()
            return
        if not self._alone:
            self._prefix = f"[{one_line(about.get('id', ''))}] {self._prefix}"
        steps = several(watch.steps, "step") if watch.steps else ""
        continued = f"continued after step {watch.step}" if resumed_at is not None else ""
        self._say(join((watch.name, watch.subject, steps, continued)))
        for stamp in watch.stamps:
            self._say(f"note: {stamp_sentence(stamp)}")

    def stage(self, name: str, total: int, unit: str) -> None:
        """See `contracts.Tracker`."""
        self._end_stage()
        self._flush()
        now = self._clock()
        stage = LiveStage(one_line(name), total, one_line(unit), now, dict(self._totals))
        stage.samples.append((now, 0))
        self._watch.stage, self._open = stage, True
        if stage.name.startswith("step "):
            self._in_step, self._step_began, self._step_figures = True, now, {}
        if self._live is None:
            self._line_due = now + _LINE_EVERY
            if not self._in_step:
                self._say(f"{stage.name}: {several(total, stage.unit)}")

    def advance(self, what: str, count: int = 1) -> None:
        """See `contracts.Tracker`. Called thousands of times a second: a line every ten seconds is all it prints."""
        self._totals[what] += count
        if self._live is None and self._clock() >= self._line_due:
            self._progress_line()

    def measured(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """See `contracts.Tracker`."""
        self._end_stage()
        self._flush()
        watch = self._watch
        row = {**metrics, "step": step}
        if self._step_began is not None:
            seconds = self._clock() - self._step_began
            watch.step_seconds.append(seconds)
            row["seconds"] = seconds
        watch.rows = [*watch.rows, row]
        watch.step = step
        self._measured = {**self._step_figures, **row}
        self._in_step, self._step_began = False, None

    def changed(self, step: int, meta_memory: MetaMemory, changes: Sequence[Change]) -> None:
        """See `contracts.Tracker`."""
        watch = self._watch
        watch.learned, watch.changes, watch.changed_at = meta_memory.items, tuple(changes), step
        self._flush(changes)

    def note(self, text: str) -> None:
        """See `contracts.Tracker`. On a terminal the line stands above the live display and stays."""
        self._say(f"note: {one_line(text)}", WARNING)

    def finished(self, result: Mapping[str, Any]) -> None:
        """See `contracts.Tracker`. Ends the live display and prints the tables."""
        self.close()
        if LEDGER in os.environ:
            # A job of a sweep: the sweep's table at the end says how it compares.
            self._say(join((str(result.get("headline", "")), str(result.get("directory", "")))))
        else:
            print_result(result, self._console)

    def close(self) -> None:
        """See `contracts.Tracker`."""
        self._end_stage()
        self._flush()
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._board is not None:
            self._board.close(self._watch)
        self._line_due = _NEVER

    def _end_stage(self) -> None:
        """Close the stage that runs: keep a step's figures, or say what came out of another."""
        watch, stage = self._watch, self._watch.stage
        if stage is None or not self._open:
            return
        self._open = False
        right, wrong, invalid = (watch.done(what) for what in ("right", "wrong", "invalid"))
        judged = right + wrong + invalid
        if stage.name.startswith("step "):
            self._step_figures = {"questions": stage.total, "teaches": watch.done("teaches")}
            if judged:
                self._step_figures |= {"right": right / judged, "invalid": invalid}
        elif self._live is None and not self._in_step:
            parts = [f"{stage.name}: {count(watch.done(stage.unit))}/{several(stage.total, stage.unit)}"]
            if judged:
                parts.append(f"right {share(right / judged, 2)}")
            if invalid:
                parts.append(f"invalid {invalid}")
            self._say(join([*parts, duration(self._clock() - stage.began)]))
        self._line_due = _NEVER

    def _flush(self, changes: Sequence[Change] = ()) -> None:
        """Print the line of a step that was measured, once it is known what it changed."""
        row, self._measured = self._measured, None
        if row is None or self._live is not None:
            return
        watch = self._watch
        parts = [f"step {row['step']}/{watch.steps}" if watch.steps else f"step {row['step']}"]
        if row.get("right") is not None:
            parts.append(f"right {share(row['right'], 2)}")
        if "questions" in row:
            parts.append(f"teaches {count(row['teaches'])}/{count(row['questions'])}")
        if row.get("invalid"):
            parts.append(f"invalid {count(row['invalid'])}")
        tally = {action: sum(c.action is action for c in changes) for action in Action}
        added = f" (+{tally[Action.add]} ~{tally[Action.update]} -{tally[Action.delete]})" if changes else ""
        texts = f", texts {count(row['texts'])}" if row.get("texts") else ""
        parts.append(f"guidelines {count(row.get('guidelines') or 0)}{texts}{added}")
        if row.get("validation") is not None:
            parts.append(f"validation {share(row['validation'], 2)}{' best' if watch.best() == row['step'] else ''}")
        if row.get("accepted") == 0:
            parts.append("refused by validation")
        if "seconds" in row:
            parts.append(duration(row["seconds"]))
        self._say(join(parts))

    def _progress_line(self) -> None:
        watch, stage, now = self._watch, self._watch.stage, self._clock()
        self._line_due = now + _LINE_EVERY
        if stage is None:
            return
        done = watch.done(stage.unit)
        speed = done / (now - stage.began) if now > stage.began else 0.0
        left = (
            f"{duration((stage.total - done) / speed)} left" if speed > 0 and 100 * done >= stage.total > done else ""
        )
        attempts = f"{rate(watch.done('attempt') / (now - stage.began))} attempts/s" if watch.done("attempt") else ""
        read = several(watch.done("chunk"), "chunk") if watch.done("chunk") else ""
        embedded = f"{several(watch.done('embedded'), 'text')} embedded" if watch.done("embedded") else ""
        self._say(
            join((f"{stage.name}: {count(done)}/{several(stage.total, stage.unit)}", read, embedded, attempts, left))
        )

    def _say(self, text: str, style: str = "") -> None:
        say(self._console, self._prefix + text, style)


class Board:
    """The display of runs that go on side by side: on a terminal a live table of them below the lines they print."""

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self._console = console or open_console()
        self._watches: dict[str, Watch] = {}
        self._live: Live | None = None

    def console_of(self, label: str, clock: Callable[[], float] = time.monotonic) -> Console:
        """Return what shows one of the runs, under its label."""
        return Console(self._console, clock, self, label)

    def open(self, label: str, watch: Watch) -> None:
        """A run begins."""
        self._watches[label.rstrip(": ")] = watch
        if self._live is None and self._console.is_interactive:
            self._live = Live(
                console=self._console,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
                get_renderable=lambda: table_of(dict(self._watches)),
            )
            self._live.start()

    def close(self, watch: Watch) -> None:
        """A run ends; the display goes with the last one."""
        self._watches = {label: w for label, w in self._watches.items() if w is not watch}
        if not self._watches and self._live is not None:
            self._live.stop()
            self._live = None


def _earlier_rows(directory: Any, step: int) -> list[Mapping[str, Any]]:
    """The metrics of the steps before a run was continued."""
    path = Path(str(directory)) / "metrics.jsonl"
    return [row for row in read_rows(path) if row["step"] <= step] if directory and path.is_file() else []

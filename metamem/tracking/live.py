"""The picture of a run while it goes on: one frame of the terminal's live display.

In: a `Watch`, what is known of the run so far (the console keeps it up to date), and the terminal's size. Out: a `rich`
group of at most that size. Reading a `Watch` changes nothing but the samples its rates are made of, so that a thread
may draw while the run counts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metamem.core.meta_memory import Action, Change, Guideline
from metamem.reporting.console.text import WARNING, count, duration, one_line, rate, safe, several, share

# Rates and the ETA look so many seconds back: long enough for steady figures, short enough to see a server slow down.
_WINDOW = 30.0
_ROWS = 6
# A no-break space: a figure stays beside its name where the line of figures is wrapped.
_TOGETHER = "\u00a0"
_MARKS = {Action.add: ("+", "green"), Action.update: ("~", "yellow"), Action.delete: ("-", "red")}


@dataclass
class LiveStage:
    """What is being done. `base` are the run's totals when it began, `samples` (seconds, done) for its rate."""

    name: str
    total: int
    unit: str
    began: float
    base: dict[str, int]
    samples: deque[tuple[float, int]] = field(default_factory=deque)


@dataclass
class Watch:
    """What is known of a run so far. `totals` only grow; `rows` are the metrics of the steps, oldest first."""

    clock: Callable[[], float]
    name: str = ""
    subject: str = ""
    stamps: tuple[str, ...] = ()
    steps: int = 0
    step: int = 0
    totals: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    stage: LiveStage | None = None
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    learned: tuple[Guideline, ...] = ()
    changes: tuple[Change, ...] = ()
    changed_at: int | None = None
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    samples: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)

    def done(self, what: str) -> int:
        """How much of something was finished in the stage."""
        return self.totals.get(what, 0) - (self.stage.base.get(what, 0) if self.stage else 0)

    def per_second(self, what: str) -> float:
        """The recent rate of something over the whole run."""
        return _rate(self.samples.setdefault(what, deque()), self.clock(), self.totals.get(what, 0))

    def held(self) -> int:
        """How many guidelines and texts there are; of a run that was continued, what its last step counted."""
        if self.changed_at is not None or not self.rows:
            return len(self.learned)
        return sum(int(self.rows[-1].get(what) or 0) for what in ("guidelines", "texts"))

    def best(self) -> int | None:
        """The step of the highest validation score, the earliest of equals."""
        scores = [(-float(r["validation"]), int(r["step"])) for r in list(self.rows) if r.get("validation") is not None]
        return min(scores)[1] if scores else None


def _rate(samples: deque[tuple[float, int]], now: float, value: int) -> float:
    samples.append((now, value))
    while len(samples) > 2 and samples[1][0] < now - _WINDOW:
        samples.popleft()
    (start, before) = samples[0]
    return (value - before) / (now - start) if now > start else 0.0


def frame(watch: Watch, width: int, height: int) -> Group:
    """One picture of the run, at most `width` columns and `height` rows (a terminal of 12 rows or more)."""
    airy = [Text()] if height >= 24 else []
    bars = _bars(watch, max(8, min(36, width - 66)))
    parts: list[RenderableType] = [_header(watch, width), *airy, bars, *airy, _figures(watch)]
    left = height - 8 - 2 * len(airy)
    if watch.rows and left > 4:
        shown = watch.rows[-min(_ROWS, left - 3) :]
        parts += [Text(), _steps(watch, shown)]
        left -= len(shown) + 2
    if (watch.learned or watch.changes) and left > 2:
        parts += [Text(), _guidelines(watch, left - 2)]
    return Group(*parts)


def table_of(watches: Mapping[str, Watch]) -> RenderableType:
    """Several runs that go on side by side, a row each (label → run): what each does and has reached."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("", "stage", "", "done", "step", "guidelines", "best validation"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("done", "guidelines") else "left")
    for label, watch in watches.items():
        stage = watch.stage
        scores = [row["validation"] for row in watch.rows if row.get("validation") is not None]
        table.add_row(
            safe(label, "bold"),
            safe(stage.name if stage else "starting"),
            _bar(watch.done(stage.unit), stage.total, 20) if stage else "",
            f"{count(watch.done(stage.unit))}/{several(stage.total, stage.unit)}" if stage else "",
            f"{watch.step}/{watch.steps}" if watch.steps else "",
            count(watch.held()),
            share(max(scores), 2) if scores else "",
        )
    return table


def _header(watch: Watch, width: int) -> RenderableType:
    """The run's name with its stamps beside it, where there is room for both, and what it works on."""
    name, subject = _cut(Text(watch.name, "bold")), _cut(Text(watch.subject, "dim"))
    if not watch.stamps:
        return Group(name, subject)
    stamps = Text(" ").join(Text(f" {stamp.upper()} ", "bold black on yellow") for stamp in watch.stamps)
    if name.cell_len + stamps.cell_len + 2 > width:
        return Group(name, _cut(stamps))
    return Group(Text.assemble(name, "  ", stamps), subject)


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _bars(watch: Watch, length: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2), collapse_padding=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", min_width=12, max_width=24)
    grid.add_column(width=length)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, style="dim")
    stage, now = watch.stage, watch.clock()
    if stage is None:
        grid.add_row("starting", ProgressBar(pulse=True, width=length, animation_time=now), "", "")
    else:
        done, speed = watch.done(stage.unit), _rate(stage.samples, now, watch.done(stage.unit))
        remaining = max(stage.total - done, 0)
        eta = f"{duration(remaining / speed)} left" if speed > 0 and remaining and now - stage.began > 3 else ""
        amount = f"{count(done)}/{several(stage.total, stage.unit)}"
        detail = f"{rate(speed)}/s  {eta}" if speed > 0 else duration(now - stage.began)
        grid.add_row(safe(stage.name), _bar(done, stage.total, length), amount, detail)
    if watch.steps:
        partial = min(watch.done(stage.unit) / stage.total, 1.0) if stage and stage.total and _is_step(stage) else 0.0
        eta = ""
        if watch.step_seconds and watch.step < watch.steps:
            mean = sum(watch.step_seconds) / len(watch.step_seconds)
            eta = f"{duration(mean)} each  {duration(mean * (watch.steps - watch.step - partial))} left"
        bar = _bar(watch.step + partial, watch.steps, length)
        grid.add_row("all steps", bar, f"{watch.step}/{several(watch.steps, 'step')}", eta)
    return grid


def _is_step(stage: LiveStage) -> bool:
    return stage.name.startswith("step ")


def _bar(done: float, total: int, length: int) -> ProgressBar:
    share_done = min(done / total, 1.0) if total else 1.0
    return ProgressBar(total=1.0, completed=share_done, width=length, complete_style="cyan", finished_style="green")


def _figures(watch: Watch) -> Text:
    """The live figures: rates of the run, shares of the current stage, invalid ones of both."""
    right, wrong, invalid = (watch.done(what) for what in ("right", "wrong", "invalid"))
    judged = right + wrong + invalid
    all_invalid = watch.totals.get("invalid", 0)
    shown = str(invalid) if invalid == all_invalid else f"{invalid} ({all_invalid} in all)"
    figures = [
        ("attempts/s", rate(watch.per_second("attempt")), ""),
        ("tokens/s", rate(watch.per_second("tokens")), ""),
        ("right", share(right / judged if judged else None, 2), "bold"),
        ("invalid", shown, WARNING if all_invalid else ""),
    ]
    if watch.stage and _is_step(watch.stage):
        figures.append(("teach", f"{count(watch.done('teaches'))}/{count(watch.done(watch.stage.unit))}", ""))
    if watch.steps:
        figures.append(("guidelines", count(watch.held()), "bold"))
    # What a policy asked the reflector for, by template; pieces of conversations that memories have read.
    asked = [what for what in list(watch.totals) if what.startswith("asked ")]
    figures += [
        (what.removeprefix("asked "), count(watch.done(what)), "")
        for what in (*asked, "chunk", "embedded", "reused")
        if watch.done(what)
    ]
    return Text("   ").join(Text.assemble((name, "dim"), _TOGETHER, (value, style)) for name, value, style in figures)


def _steps(watch: Watch, rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", pad_edge=False)
    for title in ("step", "right in training", "validation", "guidelines"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    best = watch.best()
    for row in rows:
        mark = "best" if row["step"] == best else ("refused by validation" if row.get("accepted") == 0 else "")
        table.add_row(
            str(row["step"]),
            share(row.get("right"), 2),
            share(row.get("validation")),
            count(row.get("guidelines") or 0),
            Text(f"← {mark}" if mark else "", "green" if mark == "best" else "yellow"),
            style="bold" if row["step"] == best else "",
        )
    return table


def _guidelines(watch: Watch, room: int) -> RenderableType:
    """The guidelines, one a line; what the last step changed comes first when there is no room for all."""
    marks = {c.id: _MARKS[c.action] for c in watch.changes}
    held = {g.id for g in watch.learned}
    lines = [(g.id, g.text, *marks.get(g.id, (" ", ""))) for g in watch.learned]
    lines += [(c.id, c.before or "", *_MARKS[Action.delete]) for c in watch.changes if c.id not in held and c.before]
    hidden = 0
    if len(lines) > room:
        lines.sort(key=lambda line: line[2] == " ")
        hidden = len(lines) - (room - 1)
        lines = lines[: room - 1]
    # Lines of text instead of a grid: measuring a grid's cells four times a second costs more than all the rest.
    margin = max(len(line[0]) for line in lines) + 1
    rows = []
    for identity, text, mark, style in lines:
        sentence = safe(text, "dim strike" if mark == "-" else "")
        rows.append(_cut(Text.assemble((f"{mark} {one_line(identity):<{margin}}", style or "cyan"), sentence)))
    title = "guidelines" if watch.changed_at is None else f"guidelines after step {watch.changed_at}"
    more: list[RenderableType] = [Text(f"  … and {hidden} more", "dim")] if hidden else []
    return Group(Text(title, "dim"), *rows, *more)

"""Who is told how a run goes: the console and the chosen tracker, closed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from metamem.config.options import BaseConfig
from metamem.core.contracts import Tracker
from metamem.core.registry import build
from metamem.runs.directory import Run
from metamem.tracking.console import Console
from metamem.tracking.trackers import Trackers


@contextmanager
def open_trackers(
    config: BaseConfig, run: Run, about: Mapping[str, Any], console: Tracker | None = None
) -> Iterator[Tracker]:
    """The console (its own, where none is given) and the chosen tracker as one; closed also after an error."""
    watching: list[Tracker] = [console or Console()]
    if config.tracker is not None:
        watching.append(build("tracker", config.tracker, run_directory=run.directory))
    trackers = Trackers(watching)
    try:
        yield trackers
    finally:
        trackers.close()

"""What watches a run besides the console: the registered trackers, and the fan-out that tells all of them.

In: the calls of `contracts.Tracker`. Out: the same calls, to each tracker in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metamem.core.contracts import Tracker
from metamem.core.meta_memory import Change, MetaMemory
from metamem.core.registry import register

# Registers tracker=wandb; the package of that name is imported when a run starts.
from metamem.tracking.wandb import WandbTracker

__all__ = ["NoTracker", "Trackers", "WandbTracker"]


class Trackers:
    """Several trackers as one; implements `contracts.Tracker`."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def started(self, about: Mapping[str, Any]) -> None:
        """See `contracts.Tracker`."""
        for tracker in self._trackers:
            tracker.started(about)

    def stage(self, name: str, total: int, unit: str) -> None:
        """See `contracts.Tracker`."""
        for tracker in self._trackers:
            tracker.stage(name, total, unit)

    def advance(self, what: str, count: int = 1) -> None:
        """See `contracts.Tracker`."""
        for tracker in self._trackers:
            tracker.advance(what, count)

    def measured(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """See `contracts.Tracker`."""
        for tracker in self._trackers:
            tracker.measured(step, metrics)

    def changed(self, step: int, meta_memory: MetaMemory, changes: Sequence[Change]) -> None:
        """See `contracts.Tracker`."""
        for tracker in self._trackers:
            tracker.changed(step, meta_memory, changes)

    def note(self, text: str) -> None:
        """See `contracts.Tracker`."""
        for tracker in self._trackers:
            tracker.note(text)

    def finished(self, result: Mapping[str, Any]) -> None:
        """See `contracts.Tracker`."""
        for tracker in self._trackers:
            tracker.finished(result)

    def close(self) -> None:
        """See `contracts.Tracker`. Each is closed, whatever another raises; the first error is raised at the end."""
        errors: list[Exception] = []
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


@register("tracker", "none")
class NoTracker:
    """Nothing besides the console."""

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config, *, run_directory: Path) -> None:
        del config, run_directory

    def started(self, about: Mapping[str, Any]) -> None:
        """Nothing."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, what: str, count: int = 1) -> None:
        """Nothing."""

    def measured(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Nothing."""

    def changed(self, step: int, meta_memory: MetaMemory, changes: Sequence[Change]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def finished(self, result: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

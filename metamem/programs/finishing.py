"""What a program does with a run that is already finished."""

from __future__ import annotations

from typing import Any

from metamem.core.contracts import Tracker
from metamem.runs.directory import Run


def already_finished(run: Run, tracker: Tracker) -> dict[str, Any]:
    """Report a run that needs nothing more."""
    tracker.note(f"already finished: {run.directory} (start over with run.force=true)")
    result = run.result()
    tracker.finished(result)
    return result

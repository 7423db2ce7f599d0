"""How the meta-memory of a run came about: the changes that its steps made and that were taken.

In: a run's directory. Out: the changes, in the order of steps, as `steps.jsonl` keeps them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metamem.core.files import read_rows


def changes_of(directory: Path, until: int | None = None) -> list[dict[str, Any]]:
    """Return the changes of the accepted steps, up to the step `until`; none for a run that did not train."""
    path = directory / "steps.jsonl"
    steps = [row for row in read_rows(path) if row["accepted"]] if path.exists() else []
    return [change for row in steps if until is None or row["step"] <= until for change in row["changes"]]

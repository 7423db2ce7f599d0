"""Where a training stands, kept in its checkpoints and read back from them.

In: a run's directory. Out: a `State` at the last checkpoint, with the run's logs cut back to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metamem.core.contracts import Tracker
from metamem.core.errors import DataError
from metamem.core.files import read_object
from metamem.core.json_form import from_json
from metamem.core.meta_memory import MetaMemory, save
from metamem.runs.directory import Run


@dataclass
class State:
    """Where a run stands: the meta-memory in use, the last finished step, and every validation score so far (step →
    score).
    """

    meta_memory: MetaMemory = field(default_factory=MetaMemory)
    step: int = -1
    scores: dict[int, float] = field(default_factory=dict)
    rejected: tuple[int, ...] = ()

    def best(self) -> int | None:
        """The step of the highest validation score, the earliest of equals; None without validation."""
        return min(self.scores, key=lambda s: (-self.scores[s], s)) if self.scores else None


def keep_step(
    run: Run,
    state: State,
    step: int,
    score: float | None,
    row: dict[str, Any],
    tracker: Tracker,
    changes: Sequence[Any] = (),
) -> None:
    """End a step: its metrics row, then its checkpoint, which makes all of it count."""
    state.step = step
    if score is not None:
        state.scores[step] = score
    row |= {"validation": score}
    run.append("metrics.jsonl", [row])
    extra = {
        "step": step,
        "validation": score,
        "scores": {str(s): v for s, v in state.scores.items()},
        "rejected": list(state.rejected),
    }
    run.keep_sizes(step)
    save(state.meta_memory, run.checkpoint_path(step), extra)
    tracker.measured(step, row)
    tracker.changed(step, state.meta_memory, changes)


def restore(run: Run) -> State:
    """The state at the last checkpoint, with the logs cut back to it."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        run.rewind({})
        return State()
    state = read_checkpoint(checkpoints[-1])
    for step in range(state.step):
        # The best step is read back at the end: better to learn now that it is gone.
        read_checkpoint(run.checkpoint_path(step))
    run.rewind(run.kept_sizes(state.step))
    return state


def read_checkpoint(path: Path) -> State:
    """Return the state that a checkpoint keeps. Raises `DataError` when the file is missing, damaged or no
    checkpoint.
    """
    advice = "Start over with run.force=true; stored replies are used again"
    try:
        data = read_object(path)
    except DataError as error:
        raise DataError(f"{error}. {advice}") from None
    try:
        return State(
            from_json(MetaMemory, data["meta_memory"]),
            int(data["step"]),
            {int(s): float(v) for s, v in data["scores"].items()},
            tuple(int(s) for s in data["rejected"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no checkpoint of this version: {error}. {advice}") from None

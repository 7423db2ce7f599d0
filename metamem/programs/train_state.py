"""Where a training stands, kept in its checkpoints and read back from them.

In: a run's directory. Out: a `State` at the last checkpoint, with the run's logs cut back to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from metamem.config.identity import plain
from metamem.core.checkpoints import save
from metamem.core.contracts import Tracker
from metamem.core.errors import UserError
from metamem.core.learned import Position
from metamem.core.meta_memory import Change, from_dict
from metamem.runs.directory import Run


@dataclass
class State:
    """Where a run stands: the policy's position (None before anything was kept), and every validation score so far
    (step → score).
    """

    at: Position | None = None
    scores: dict[int, float] = field(default_factory=dict)
    rejected: tuple[int, ...] = ()

    @property
    def position(self) -> Position:
        """The position, once there is one."""
        assert self.at is not None, "nothing was kept yet"
        return self.at

    def best(self) -> int | None:
        """The step of the highest validation score, the earliest of equals; None without validation."""
        return min(self.scores, key=lambda s: (-self.scores[s], s)) if self.scores else None


def keep_step(
    run: Run,
    state: State,
    at: Position,
    score: float | None,
    row: dict[str, Any],
    tracker: Tracker,
    changes: Sequence[Change] = (),
) -> None:
    """End a step: its metrics row, then its checkpoint, which makes all of it count."""
    state.at = at
    if score is not None:
        state.scores[at.step] = score
    if not at.accepted:
        state.rejected += (at.step,)
    row |= {"validation": score}
    run.append("metrics.jsonl", [row])
    extra = {
        "step": at.step,
        "state": at.state,
        "recall": plain(run.config.recall),
        "validation": score,
        "scores": {str(s): v for s, v in state.scores.items()},
        "rejected": list(state.rejected),
    }
    run.keep_sizes(at.step)
    save(at.meta_memory, run.checkpoint_path(at.step), extra)
    tracker.measured(at.step, row)
    tracker.changed(at.step, at.meta_memory, changes)


def restore(run: Run) -> State:
    """The state at the last checkpoint, with the logs cut back to it."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        run.rewind({})
        return State()
    data = read_checkpoint(checkpoints[-1])
    step = int(data["step"])
    for earlier in range(step):
        # The best step is read back at the end: better to learn now that it is gone.
        read_checkpoint(run.checkpoint_path(earlier))
    run.rewind(run.kept_sizes(step))
    rejected = tuple(data["rejected"])
    at = Position(step, from_dict(data["meta_memory"]), data.get("state"), step not in rejected)
    return State(at, {int(s): float(v) for s, v in data["scores"].items()}, rejected)


def read_checkpoint(path: Any) -> dict[str, Any]:
    """Read a checkpoint file. Raises `UserError` when it is missing or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is missing or damaged: {error}. Start over with run.force=true; stored replies are used again."
        ) from None

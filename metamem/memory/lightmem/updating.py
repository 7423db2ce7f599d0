"""LightMem's sleep-time update: which memories later ones may have overtaken, and what becomes of them.

In: units in the order of time, their vectors, and decisions of the builder. Out: for each unit the later ones that
queue it, and the units after update, delete and ignore. Queues and thresholds are LightMem's (arXiv 2510.18866, section
3.3). Every decision is made from the units as they were, so all can be asked for at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from metamem.core.records import MemoryUnit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DECIMALS = 5
_BLOCK = 512


def time_order(units: Sequence[MemoryUnit]) -> list[int]:
    """Positions of the units, oldest first; equal times, and units without one, keep their places in the bank.

    A unit without a time counts as said when the one before it was.
    """
    times: list[datetime] = []
    for unit in units:
        times.append(unit.time or (times[-1] if times else datetime.min))
    return sorted(range(len(units)), key=lambda i: (times[i], i))


def queues(vectors: NDArray[Any], nearest: int = 20, keep: int = 10) -> list[list[tuple[int, float]]]:
    """Each unit's queue: of its `nearest` nearest among the units before it, the `keep` nearest, with their cosines.

    `vectors` (n, d) are unit vectors in the order of time. Ties go to the earlier unit. Memory stays bounded: a block
    of rows at a time.
    """
    import numpy as np

    made: list[list[tuple[int, float]]] = []
    size = min(nearest, keep)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK].astype(np.float64)
        cosines = np.round(block @ vectors[: start + len(block)].astype(np.float64).T, _DECIMALS)
        for row in range(len(block)):
            before = cosines[row, : start + row]
            best = np.argsort(-before, kind="stable")[:size]
            made.append([(int(i), float(before[i])) for i in best])
    return made


def sources(queued: Sequence[Sequence[tuple[int, float]]], threshold: float) -> dict[int, list[int]]:
    """Unit → the later units that queue it with a cosine of at least `threshold`, in their order; units without any
    are left out.
    """
    found: dict[int, list[int]] = {}
    for later, queue in enumerate(queued):
        for earlier, cosine in queue:
            if cosine >= threshold:
                found.setdefault(earlier, []).append(later)
    return dict(sorted(found.items()))


def apply_decisions(
    units: Sequence[MemoryUnit],
    decisions: Mapping[int, tuple[str, str]],
    behind: Mapping[int, Sequence[int]],
) -> tuple[MemoryUnit, ...]:
    """The units after the decisions, in their old order: position → (update, delete or ignore; the new text).

    An updated unit keeps its id and time, and its turns are joined by those of the units `behind` the update. Vectors
    belong to texts, so a new text gets a new vector.
    """
    kept = []
    for i, unit in enumerate(units):
        action, text = decisions.get(i, ("ignore", ""))
        if action == "delete":
            continue
        if action == "update" and text != unit.text:
            turns = dict.fromkeys([*unit.turn_ids, *(t for s in behind[i] for t in units[s].turn_ids)])
            unit = replace(unit, text=text, turn_ids=tuple(turns))
        kept.append(unit)
    return tuple(kept)

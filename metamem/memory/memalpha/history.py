"""The history of a Mem-α memory: from the effects that a bank keeps back to the memory at any point.

In: the `Effect`s of a bank. Out: the `Memory` that they rebuild, whole or up to some change.
"""

from __future__ import annotations

from collections.abc import Iterable

from metamem.core.banks import Effect
from metamem.memory.memalpha.state import Limits, Memory, MemoryPart, Operation, StateChange


def changes_in(history: Iterable[Effect]) -> list[StateChange]:
    """The memory's changes alone, in order."""
    return [
        StateChange(e.change, e.chunk, Operation(e.operation), MemoryPart(e.part), e.id, e.before, e.after)
        for e in history
        if e.change is not None
    ]


def replayed(limits: Limits, history: Iterable[Effect], changes: int | None = None) -> Memory:
    """The memory as it stood after so many changes (None: all). Raises `ValueError` for a history with a gap."""
    return Memory.replay(limits, changes_in(history)[:changes])

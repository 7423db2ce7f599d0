"""The history of a Mem-α memory: from an episode to the effects that a bank keeps, and back to the memory at any point.

In: an `Episode`, or the `Effect`s of a stored bank. Out: an effect for every call, in order, and one for every reply
that calls nothing; the `Memory` that they rebuild, whole or up to some change.
"""

from __future__ import annotations

from collections.abc import Iterable

from metamem.core.banks import NO_CALL, Effect
from metamem.memory.memalpha.episode import Episode, Exchange
from metamem.memory.memalpha.state import Change, Limits, Memory, Operation, Part
from metamem.memory.memalpha.tools import Outcome


def effects_of(episode: Episode) -> tuple[Effect, ...]:
    """What every reply of an episode did."""
    return tuple(effect for exchange in episode.exchanges for effect in _effects(exchange, episode.memory))


def changes_in(history: Iterable[Effect]) -> list[Change]:
    """The memory's changes alone, in order."""
    return [
        Change(e.change, e.chunk, Operation(e.operation), Part(e.part), e.id, e.before, e.after)
        for e in history
        if e.change is not None
    ]


def replayed(limits: Limits, history: Iterable[Effect], changes: int | None = None) -> Memory:
    """The memory as it stood after so many changes (None: all). Raises `ValueError` for a history with a gap."""
    return Memory.replay(limits, changes_in(history)[:changes])


def _effects(exchange: Exchange, memory: Memory) -> list[Effect]:
    if not exchange.outcomes:
        return [Effect(exchange.chunk, exchange.turn, exchange.key, NO_CALL)]
    return [_effect(outcome, exchange.key, memory) for outcome in exchange.outcomes]


def _effect(outcome: Outcome, key: str, memory: Memory) -> Effect:
    change = None if outcome.change is None else memory.changes[outcome.change - 1]
    return Effect(
        chunk=outcome.chunk,
        turn=outcome.turn,
        key=key,
        result=outcome.result.value,
        call=outcome.call,
        reply=outcome.reply,
        part=outcome.part.value if outcome.part else "",
        id=outcome.id,
        text="" if change else outcome.text,
        change=outcome.change,
        operation=change.operation.value if change else "",
        before=change.before if change else None,
        after=change.after if change else None,
    )

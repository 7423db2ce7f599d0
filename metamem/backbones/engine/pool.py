"""The pool: which engines live, on which GPUs, and whose turn it is. One per process, so that engines outlive jobs.

In: the engine specs that a run needs, and how they may be placed. Out: one engine per distinct spec, which several
roles, folds and the jobs of a sweep share; and `turn`, in which a request waits until its engine may work.

Engines that do not fit side by side take turns: an engine keeps its turn until nothing of its requests is under way. So
a batch goes from policy to judge and back once, however its questions flow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Protocol

from metamem.backbones.engine.engine import Engine
from metamem.backbones.engine.placement import Placement, place_engines
from metamem.backbones.engine.spec import EngineSpec

# Seconds for which an engine that has nothing left to do keeps its turn: what a reply gives rise to comes within them.
_IDLE_SECONDS = 0.05


class PooledEngine(Protocol):
    """An engine as the pool handles it."""

    spec: EngineSpec
    device_ids: Sequence[int] | None

    @property
    def running(self) -> bool:
        """Whether it can be asked without being started first."""

    async def start(self) -> None:
        """Start it, or wake it up; nothing when it runs."""

    async def suspend(self) -> None:
        """Give its memory up for another's turn, to be started again later."""

    async def stop(self) -> None:
        """End its processes."""


class EnginePool:
    """Engines by spec. Used from one event loop at a time; `make` builds an engine for a spec and GPUs."""

    def __init__(self, make: Callable[[EngineSpec, Sequence[int] | None], PooledEngine]) -> None:
        self._make = make
        # All by the key of an engine's spec.
        self._engines: dict[str, PooledEngine] = {}  # least recently used first
        self._started_before: set[str] = set()
        # Of the present run: the engines that take turns, whose turn it is, the requests in each, those that wait for
        # each, and the change that is under way.
        self._taking_turns: frozenset[str] = frozenset()
        self._current: str | None = None
        self._busy: Counter[str] = Counter()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._switch: asyncio.Task[None] | None = None
        self.switches = 0

    async def prepare(self, specs: Sequence[EngineSpec], gpus: Sequence[int], placement: Placement) -> None:
        """Make room for a run's engines and start them, one after another; those that live already are kept.

        Engines of earlier jobs go, the least recently used first, only where their GPUs are needed.
        """
        chosen = place_engines(specs, gpus, placement)
        for key, devices in chosen.devices.items():
            engine = self._engines.get(key)
            if engine is not None and devices is not None and not chosen.turns:
                # Moving an engine costs a start: one that lives stays where it is when no other wants its GPUs.
                others = {g for k, d in chosen.devices.items() if k != key and d for g in d}
                if engine.device_ids is not None and not set(engine.device_ids) & others:
                    chosen.devices[key] = tuple(engine.device_ids)
        wanted = {g for d in chosen.devices.values() if d for g in d}
        for key, engine in list(self._engines.items()):
            mine = chosen.devices.get(key)
            moved = key in chosen.devices and mine is not None and tuple(engine.device_ids or ()) != mine
            in_the_way = key not in chosen.devices and bool(set(engine.device_ids or ()) & wanted)
            if moved or in_the_way:
                await engine.stop()
                del self._engines[key]
                self._started_before.discard(key)
        self._taking_turns = frozenset(chosen.devices) if chosen.turns else frozenset()
        # A run that was interrupted leaves requests and a change of turns behind, on an event loop that is gone.
        self._current, self._busy, self._waiting, self._switch = None, Counter(), {}, None
        by_key = {s.key: s for s in specs}
        for key, devices in chosen.devices.items():
            # Taken out and put back: the order of the dictionary is that of the last use.
            engine = self._engines.pop(key, None) or self._make(by_key[key], devices)
            self._engines[key] = engine
            if not chosen.turns:
                await engine.start()
        if chosen.turns:
            await self._start_each_once(list(chosen.devices))
        self._started_before.update(chosen.devices)

    async def _start_each_once(self, keys: Sequence[str]) -> None:
        """Start each of those that take turns once, unless it has started before, and leave the first one running.

        An engine that cannot start is known before anything is paid for.
        """
        running = [k for k in keys if self._engines[k].running]
        for key in running[1:]:
            await self._engines[key].suspend()
        self._current = running[0] if running else None
        new = [k for k in keys[1:] if k not in running and k not in self._started_before]
        for key in [*new, keys[0]]:
            await self._give_turn_to(key)

    def engine(self, spec: EngineSpec) -> PooledEngine | None:
        """Return the engine of a spec that was prepared; None for one that was not."""
        return self._engines.get(spec.key)

    @asynccontextmanager
    async def turn(self, spec: EngineSpec) -> AsyncIterator[None]:
        """Wait until the engine of `spec` may work, and keep its turn while inside; at once where none take turns."""
        key = spec.key
        if key not in self._taking_turns:
            yield
            return
        if key != self._current or self._switch is not None:
            arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, []).append(arrived)
            self._change_turn_when_idle()
            try:
                await arrived
            except asyncio.CancelledError:
                # Cancelled in the moment in which its turn came: it counts as busy already, and would block the turn.
                if arrived.done() and not arrived.cancelled():
                    self._finish_one(key)
                else:
                    self._waiting[key].remove(arrived)
                raise
        else:
            self._busy[key] += 1
        try:
            yield
        finally:
            self._finish_one(key)

    async def release(self, spec: EngineSpec) -> None:
        """End the engine of a spec that nothing asks any more; does nothing where there is none."""
        engine = self._engines.pop(spec.key, None)
        if engine is not None:
            self._started_before.discard(spec.key)
            self._taking_turns -= {spec.key}
            if self._current == spec.key:
                self._current = None
            await engine.stop()

    async def close(self) -> None:
        """End every engine."""
        for engine in self._engines.values():
            await engine.stop()
        self._engines.clear()
        self._started_before.clear()

    def _finish_one(self, key: str) -> None:
        self._busy[key] -= 1
        self._change_turn_when_idle()

    def _change_turn_when_idle(self) -> None:
        """Change turns when the present engine has nothing under way and another is waited for."""
        if self._switch is None and not self._working() and self._most_waited_for() is not None:
            self._switch = asyncio.get_running_loop().create_task(self._change_turn())
            self._switch.add_done_callback(_raise_in_waiting(self))

    def _working(self) -> bool:
        return self._current is not None and self._busy[self._current] > 0

    def _most_waited_for(self) -> str | None:
        """Return the engine that most requests wait for; between equals its key decides, so that runs repeat."""
        waited = {k: len(f) for k, f in self._waiting.items() if f}
        return min(waited, key=lambda k: (-waited[k], k)) if waited else None

    async def _give_turn_to(self, key: str) -> None:
        if key != self._current:
            if self._current is not None:
                await self._engines[self._current].suspend()
                self._current = None
            await self._engines[key].start()
            self._current = key

    async def _change_turn(self) -> None:
        # A reply often gives rise to the next request for the same engine, and a change costs seconds: wait for it.
        await asyncio.sleep(_IDLE_SECONDS)
        # Requests that arrived meanwhile for the present engine go first: its turn is not over.
        stays = self._current is not None and self._waiting.get(self._current)
        key = self._current if stays else self._most_waited_for()
        if key is not None and key != self._current:
            await self._give_turn_to(key)
            self.switches += 1
        # From here on nothing awaits: no request can slip in between the end of the change and those let in here.
        self._switch = None
        for arrived in self._waiting.pop(key, []) if key is not None else []:
            if not arrived.done():
                self._busy[key or ""] += 1
                arrived.set_result(None)
        self._change_turn_when_idle()


@cache
def shared_pool() -> EnginePool:
    """Return the pool of this process: it outlives runs, and its engines end with the process."""
    return EnginePool(Engine)


def _raise_in_waiting(pool: EnginePool) -> Callable[[asyncio.Task[None]], None]:
    """Return a callback that hands the error of a failed change to every request that waits for a turn."""

    def done(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        pool._switch = None
        error = task.exception()
        assert error is not None
        for waiting in pool._waiting.values():
            for arrived in waiting:
                if not arrived.done():
                    arrived.set_exception(error)
        pool._waiting.clear()

    return done

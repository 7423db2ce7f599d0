"""The pool: which engines live, on which GPUs, and whose turn it is. One per process, so that engines outlive jobs.

In: the engine specs that a run needs, and how they may be placed. Out: one engine per distinct spec, which several
roles, folds and the jobs of a sweep share; and `turn`, in which a request waits until its engine may work.

Engines that do not fit side by side take turns: the one whose turn it is keeps it until nothing of it is under way, so
a batch goes from policy to judge and back once, however its questions flow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Protocol

from metamem.backbones.engine.engine import Engine
from metamem.backbones.engine.spec import EngineSpec
from metamem.core.errors import ConfigError

# Seconds for which an engine that has nothing left to do keeps its turn: what a reply gives rise to comes within them.
_SETTLE = 0.05


class Placement(StrEnum):
    """`disjoint`: side by side, each on its own GPUs. `turns`: one at a time. `auto`: side by side where they fit."""

    auto = "auto"
    disjoint = "disjoint"
    turns = "turns"


class PooledEngine(Protocol):
    """What the pool needs of an engine."""

    spec: EngineSpec
    device_ids: Sequence[int] | None

    @property
    def running(self) -> bool:
        """True while it can be asked without being started first."""

    async def start(self) -> None:
        """Start it, or wake it up; nothing when it runs."""

    async def rest(self) -> None:
        """Give its memory up for another's turn, to be started again later."""

    async def stop(self) -> None:
        """End its processes."""


@dataclass(frozen=True)
class Plan:
    """Where a run's engines go: spec key → GPUs (None: no GPUs here), and whether they take turns."""

    devices: dict[str, tuple[int, ...] | None]
    turns: bool


def plan(specs: Sequence[EngineSpec], gpus: Sequence[int], placement: Placement) -> Plan:
    """Deal the GPUs out to a run's distinct specs, in their order; without GPUs nothing is dealt out, nor to engines
    that ray places.

    Raises `ConfigError` when one of them alone needs more GPUs than there are, or when `placement=disjoint` cannot be.
    """
    distinct = list({s.key: s for s in specs}.values())
    if not gpus:
        return Plan(dict.fromkeys((s.key for s in distinct), None), placement is Placement.turns and len(distinct) > 1)
    local = [s for s in distinct if not s.elsewhere]
    given = {s.key: tuple(s.arguments["device_ids"]) for s in local if s.arguments.get("device_ids")}
    for spec in local:
        if spec.processes > len(gpus):
            raise ConfigError(
                f"backbone.tensor_parallel_size: {spec.model} is to be spread over {spec.processes} GPUs, and this "
                f"machine shows {len(gpus)}"
            )
        absent = sorted(set(given.get(spec.key, ())) - set(gpus))
        if absent:
            raise ConfigError(f"backbone.engine.device_ids: no GPU {absent[0]}; there are {', '.join(map(str, gpus))}")
    taken = [g for devices in given.values() for g in devices]
    needed = sum(s.processes for s in local if s.key not in given)
    fits = len(taken) == len(set(taken)) and needed <= len(set(gpus) - set(taken))
    if placement is Placement.disjoint and not fits:
        wanted = ", ".join(f"{s.model}: {s.processes}" for s in local)
        raise ConfigError(
            f"placement=disjoint: the engines need {sum(s.processes for s in local)} GPUs side by side ({wanted}), "
            f"and there are {len(gpus)}. Use placement=turns, or lower a tensor_parallel_size"
        )
    turns = len(distinct) > 1 and (placement is Placement.turns or not fits)
    devices: dict[str, tuple[int, ...] | None] = dict.fromkeys((s.key for s in distinct), None)
    free = [g for g in gpus if g not in taken]
    for spec in local:
        if spec.key in given:
            devices[spec.key] = given[spec.key]
        elif turns:
            devices[spec.key] = tuple(gpus[: spec.processes])
        else:
            devices[spec.key], free = tuple(free[: spec.processes]), free[spec.processes :]
    return Plan(devices, turns)


class Pool:
    """Engines by spec. Used from one event loop at a time; `make` builds an engine for a spec and GPUs."""

    def __init__(self, make: Callable[[EngineSpec, Sequence[int] | None], PooledEngine]) -> None:
        self._make = make
        self._engines: dict[str, PooledEngine] = {}  # least recently used first
        self._taking_turns: frozenset[str] = frozenset()
        self._proven: set[str] = set()  # those that have started before
        self._current: str | None = None
        self._busy: Counter[str] = Counter()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._switch: asyncio.Task[None] | None = None
        self.switches = 0

    async def prepare(self, specs: Sequence[EngineSpec], gpus: Sequence[int], placement: Placement) -> None:
        """Make room for a run's engines and start them, one after another; those that live already are kept.

        Engines of earlier jobs go, the least recently used first, only where their GPUs are needed.
        """
        chosen = plan(specs, gpus, placement)
        for key, devices in chosen.devices.items():
            engine = self._engines.get(key)
            if engine is not None and devices is not None and not chosen.turns:
                # A living engine stays where it is when nobody of this run wants its GPUs.
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
                self._proven.discard(key)
        self._taking_turns = frozenset(chosen.devices) if chosen.turns else frozenset()
        self._current, self._busy, self._waiting, self._switch = None, Counter(), {}, None
        by_key = {s.key: s for s in specs}
        for key, devices in chosen.devices.items():
            engine = self._engines.pop(key, None) or self._make(by_key[key], devices)
            self._engines[key] = engine
            if not chosen.turns:
                await engine.start()
        if chosen.turns:
            await self._introduce(list(chosen.devices))
        self._proven.update(chosen.devices)

    async def _introduce(self, keys: Sequence[str]) -> None:
        """Leave the first of those that take turns awake, after each was started that has not been so far: what cannot
        start is known before anything is paid for.
        """
        awake = [k for k in keys if self._engines[k].running]
        for key in awake[1:]:
            await self._engines[key].rest()
        self._current = awake[0] if awake else None
        new = [k for k in keys[1:] if k not in awake and k not in self._proven]
        for key in [*new, keys[0]]:
            await self._turn_to(key)

    def engine(self, spec: EngineSpec) -> PooledEngine | None:
        """The engine of a spec that was prepared; None for one that was not."""
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
            self._consider()
            try:
                await arrived
            except asyncio.CancelledError:
                if arrived.done() and not arrived.cancelled():
                    self._leave(key)
                else:
                    self._waiting[key].remove(arrived)
                raise
        else:
            self._busy[key] += 1
        try:
            yield
        finally:
            self._leave(key)

    async def close(self) -> None:
        """End every engine."""
        for engine in self._engines.values():
            await engine.stop()
        self._engines.clear()
        self._proven.clear()

    def _leave(self, key: str) -> None:
        self._busy[key] -= 1
        self._consider()

    def _consider(self) -> None:
        """Change turns when the present engine has nothing under way and another is waited for."""
        if self._switch is None and not self._working() and self._next() is not None:
            self._switch = asyncio.get_running_loop().create_task(self._change())
            self._switch.add_done_callback(_raise_in_waiting(self))

    def _working(self) -> bool:
        return self._current is not None and self._busy[self._current] > 0

    def _next(self) -> str | None:
        """Whom to turn to: the engine that most wait for (its spec's key decides between equals)."""
        waited = {k: len(f) for k, f in self._waiting.items() if f}
        return min(waited, key=lambda k: (-waited[k], k)) if waited else None

    async def _turn_to(self, key: str) -> None:
        if key != self._current:
            if self._current is not None:
                await self._engines[self._current].rest()
                self._current = None
            await self._engines[key].start()
            self._current = key

    async def _change(self) -> None:
        await asyncio.sleep(_SETTLE)
        # Requests that arrived meanwhile for the present engine go first: its turn is not over.
        key = self._current if self._current is not None and self._waiting.get(self._current) else self._next()
        if key is not None and key != self._current:
            await self._turn_to(key)
            self.switches += 1
        self._switch = None
        for arrived in self._waiting.pop(key, []) if key is not None else []:
            if not arrived.done():
                self._busy[key or ""] += 1
                arrived.set_result(None)
        self._consider()


@cache
def shared_pool() -> Pool:
    """The pool of this process: it outlives runs, and its engines end with the process."""
    return Pool(Engine)


def _raise_in_waiting(pool: Pool) -> Callable[[asyncio.Task[None]], None]:
    """An engine that cannot be started is an error of every request that waits for a turn."""

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

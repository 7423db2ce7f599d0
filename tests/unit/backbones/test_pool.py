"""The pool: equal specs share an engine, GPUs are dealt out without overlap, and turns change at most twice a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.backbones.engine.placement import Placement, place_engines
from metamem.backbones.engine.pool import EnginePool
from metamem.backbones.engine.spec import EngineSpec
from metamem.core.errors import ConfigError


class Engine:
    """An engine that records what is done with it; `alive` counts those that hold memory at a time."""

    alive: ClassVar[set[str]] = set()
    most = 0

    def __init__(self, spec: EngineSpec, device_ids: Sequence[int] | None) -> None:
        self.spec, self.device_ids = spec, device_ids
        self.log: list[str] = []
        self.fails = False

    @property
    def running(self) -> bool:
        return self.spec.key in Engine.alive

    async def start(self) -> None:
        if not self.running:
            await asyncio.sleep(0.001)
            if self.fails:
                raise ConfigError("cannot start")
            self.log.append("start")
            Engine.alive.add(self.spec.key)
            Engine.most = max(Engine.most, len(Engine.alive))

    async def suspend(self) -> None:
        self.log.append("rest")
        Engine.alive.discard(self.spec.key)

    async def stop(self) -> None:
        self.log.append("stop")
        Engine.alive.discard(self.spec.key)


@pytest.fixture(autouse=True)
def nothing_alive() -> None:
    Engine.alive, Engine.most = set(), 0


def spec(model: str, tp: int = 1, **arguments: object) -> EngineSpec:
    return EngineSpec(model, {"tensor_parallel_size": tp, **arguments})


specs = st.lists(st.builds(spec, st.sampled_from("abcd"), st.integers(1, 4)), min_size=1, max_size=4)


@given(specs, st.integers(1, 8), st.sampled_from(Placement))
def test_gpus_are_dealt_out_whole_and_never_twice_side_by_side(
    wanted: list[EngineSpec], count: int, placement: Placement
) -> None:
    try:
        made = place_engines(wanted, range(count), placement)
    except ConfigError:
        assert max(s.device_count for s in wanted) > count or placement is Placement.disjoint
        return
    by_key = {s.key: s for s in wanted}
    assert set(made.devices) == set(by_key)
    dealt = [g for d in made.devices.values() for g in d or ()]
    assert all(len(set(d or ())) == by_key[k].device_count for k, d in made.devices.items())
    assert made.turns or len(dealt) == len(set(dealt))
    assert not (made.turns and placement is Placement.disjoint)
    assert set(dealt) <= set(range(count))


def test_auto_goes_side_by_side_where_it_fits_and_takes_turns_where_not() -> None:
    assert not place_engines([spec("a", 2), spec("b", 4)], range(6), Placement.auto).turns
    assert place_engines([spec("a", 2), spec("b", 4)], range(4), Placement.auto).turns


def test_given_devices_are_kept_and_checked() -> None:
    made = place_engines([spec("a", 1, device_ids=[1]), spec("b")], range(2), Placement.auto)
    assert sorted(made.devices.values(), key=str) == [(0,), (1,)]
    with pytest.raises(ConfigError, match="no GPU 7"):
        place_engines([spec("a", 1, device_ids=[7])], range(2), Placement.auto)


def test_an_engine_outlives_its_run_and_equal_specs_share_it() -> None:
    async def main() -> None:
        pool = EnginePool(Engine)
        await pool.prepare([spec("a"), spec("a")], (), Placement.auto)
        first = pool.engine(spec("a"))
        assert first is not None
        await pool.prepare([spec("a"), spec("b")], (), Placement.auto)
        assert pool.engine(spec("a")) is first
        assert isinstance(first, Engine)
        assert first.log == ["start"]
        await pool.close()
        assert not Engine.alive

    asyncio.run(main())


def test_engines_of_earlier_jobs_go_only_where_their_gpus_are_needed() -> None:
    async def main() -> None:
        pool = EnginePool(Engine)
        await pool.prepare([spec("a"), spec("b")], range(3), Placement.auto)
        a, b = pool.engine(spec("a")), pool.engine(spec("b"))
        await pool.prepare([spec("b"), spec("c", 2)], range(3), Placement.auto)
        assert isinstance(a, Engine)
        assert isinstance(b, Engine)
        c = pool.engine(spec("c", 2))
        assert c.device_ids is not None
        assert pool.engine(spec("b")).device_ids is not None
        assert not set(c.device_ids) & set(pool.engine(spec("b")).device_ids or ())
        assert "stop" in a.log

    asyncio.run(main())


async def batch(pool: EnginePool, questions: int, retries: int) -> list[str]:
    """A batch as the stages run it: answers, verdicts, then reflections and one consolidation."""
    done: list[str] = []

    async def call(model: str) -> None:
        async with pool.turn(spec(model)):
            assert spec(model).key in Engine.alive
            assert len(Engine.alive) == 1
            await asyncio.sleep(0.001)
            done.append(model)

    async def question(number: int) -> None:
        await asyncio.gather(*(attempt(number) for _ in range(3)))
        await asyncio.gather(*(call("policy") for _ in range(3)))
        await call("policy")

    async def attempt(number: int) -> None:
        await call("policy")
        await call("judge")
        for _ in range(retries if number % 2 else 0):
            await call("judge")

    await asyncio.gather(*(question(i) for i in range(questions)))
    await call("policy")
    return done


@pytest.mark.parametrize("retries", [0, 2])
def test_a_batch_changes_turn_twice_and_never_has_two_engines_awake(retries: int) -> None:
    async def main() -> None:
        pool = EnginePool(Engine)
        await pool.prepare([spec("policy"), spec("judge")], (), Placement.turns)
        assert Engine.most == 1
        for _ in range(3):
            before = pool.switches
            done = await batch(pool, 8, retries)
            assert len(done) == 8 * (3 + 3 + 3 + 1) + 1 + 4 * 3 * retries
            assert pool.switches - before == 2
        assert Engine.most == 1

    asyncio.run(main())


def test_each_engine_is_started_before_a_run_begins_and_once_in_a_sweep_that_takes_turns() -> None:
    async def main() -> None:
        pool = EnginePool(Engine)
        await pool.prepare([spec("policy"), spec("judge")], (), Placement.turns)
        policy, judge = pool.engine(spec("policy")), pool.engine(spec("judge"))
        assert isinstance(policy, Engine) and isinstance(judge, Engine)
        assert (policy.log, judge.log) == (["start"], ["start", "rest"])
        await pool.prepare([spec("policy"), spec("judge")], (), Placement.turns)
        assert (policy.log, judge.log) == (["start"], ["start", "rest"])

    asyncio.run(main())


def test_a_cancelled_request_gives_its_turn_back() -> None:
    async def main() -> None:
        pool = EnginePool(Engine)
        await pool.prepare([spec("a"), spec("b")], (), Placement.turns)

        async def hold(model: str, seconds: float) -> None:
            async with pool.turn(spec(model)):
                await asyncio.sleep(seconds)

        for model in ("a", "b", "a"):
            task = asyncio.create_task(hold(model, 60))
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(asyncio.gather(hold("a", 0), hold("b", 0)), 5)

    asyncio.run(main())


def test_an_engine_that_cannot_start_is_an_error_of_all_that_wait_for_it() -> None:
    async def main() -> None:
        pool = EnginePool(Engine)
        await pool.prepare([spec("a"), spec("b")], (), Placement.turns)
        for model in "ab":
            engine = pool.engine(spec(model))
            assert isinstance(engine, Engine)
            engine.fails = True
        idle = next(m for m in "ab" if spec(m).key not in Engine.alive)

        async def ask() -> None:
            async with pool.turn(spec(idle)):
                pass

        with pytest.raises(ConfigError, match="cannot start"):
            await asyncio.wait_for(ask(), 5)

    asyncio.run(main())


def test_an_engine_that_is_released_has_ended_and_the_others_go_on_with_their_turns() -> None:
    async def main() -> tuple[bool, bool, int]:
        pool, (one, other) = EnginePool(Engine), (spec("a"), spec("b"))
        await pool.prepare([one, other], [0], Placement.turns)
        async with pool.turn(other):
            pass
        released = pool.engine(other)
        await pool.release(other)
        await pool.release(other)
        async with pool.turn(one):
            return released is not None and released.running, pool.engine(other) is None, len(Engine.alive)

    assert asyncio.run(main()) == (False, True, 1)

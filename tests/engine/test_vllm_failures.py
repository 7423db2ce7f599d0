"""When an engine cannot start, dies, or is to go: one clear message, one new life, and no process left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.engine.engine import EngineDied
from metamem.errors import ConfigError
from metamem.records import Draw, Message, Request, Sampling
from tests.engine.conftest import build

psutil = pytest.importorskip("psutil", reason="comes with vLLM")

SAMPLED = Sampling(temperature=0.8, max_tokens=200)


def ask(i: int) -> Request:
    return Request((Message("user", f"Question {i}?"),), SAMPLED, (Draw(f"7/deaths/{i}"),))


def processes(name: str = "") -> list[Any]:
    """The engines' processes below this one: cores and workers."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:  # it left, or is left for its parent to notice
            continue
        if name in command and "resource_tracker" not in command:
            found.append(process)
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": {"kv_cache_memory_bytes": 1 << 20}}, r"KV cache.*Try this: .*backbone\.max_model_len"),
        ({"dtype": "float7"}, "dtype"),
        ({"engine": {"max_num_seqs": "many"}}, "max_num_seqs"),
    ],
)
def test_an_engine_that_cannot_start_gives_the_cause_and_leaves_no_process(
    model: Path, options: dict[str, Any], message: str
) -> None:
    before = {p.pid for p in processes()}
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        asyncio.run(build(model, **options).start())
    assert {p.pid for p in processes()} <= before


def test_an_engine_that_dies_is_built_again_once_and_the_second_death_ends_the_run(model: Path) -> None:
    backbone = build(model)
    environment, shared = dict(os.environ), set(Path("/dev/shm").glob("psm_*"))

    async def batch(kill: str | None) -> list[Any]:
        tasks = [asyncio.create_task(backbone.generate(ask(i))) for i in range(60)]
        if kill:
            # In the middle: some are finished, others are not.
            await until(lambda: sum(t.done() for t in tasks) >= 5)
            next(p for p in processes(kill) if p.pid in mine).kill()
            assert not all(t.done() for t in tasks)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    async def job() -> None:
        nonlocal mine
        await backbone.start()
        mine = {p.pid for p in processes()} - before
        expected = await batch(None)
        served = await batch("Worker")
        assert served == expected, "what was under way is asked again, with the same result"
        assert backbone.engine.deaths == 1
        mine = {p.pid for p in processes()} - before
        last = await batch("EngineCore")
        died = [x for x in last if isinstance(x, EngineDied)]
        assert died
        assert all(x in expected or isinstance(x, EngineDied) for x in last)
        assert "died again" in str(died[0]) and "the same command continues" in str(died[0])
        assert "INFO" in str(died[0]), "with the end of the log"
        await backbone.close()

    mine: set[int] = set()
    before = {p.pid for p in processes()}
    asyncio.run(job())
    assert {p.pid for p in processes()} <= before
    assert dict(os.environ) == environment
    assert set(Path("/dev/shm").glob("psm_*")) <= shared, "shared memory is given back"


def test_an_engine_serves_one_event_loop_after_another_and_stops_while_it_starts(model: Path) -> None:
    before = {p.pid for p in processes()}
    backbone = build(model)

    async def interrupted() -> None:
        starting = asyncio.create_task(backbone.start())
        await until(lambda: bool({p.pid for p in processes()} - before))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(interrupted())
    deadline = time.monotonic() + 5
    while {p.pid for p in processes()} - before:
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
    asyncio.run(backbone.start())
    assert len({p.pid for p in processes()} - before) == 2, "a core and a worker"
    first = asyncio.run(backbone.generate(ask(1)))
    assert asyncio.run(backbone.generate(ask(1))) == first
    asyncio.run(backbone.close())
    asyncio.run(backbone.close())
    assert {p.pid for p in processes()} <= before

"""When an engine cannot start, dies, or is to go: one clear message, one new life, and no process left."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metamem.backbones.engine.engine import Engine, EngineDied
from metamem.backbones.engine.processes import shared_memory
from metamem.core.calls import Draw, Message, Request, Sampling
from metamem.core.errors import ConfigError
from metamem.core.registry import REGISTRY, load_components
from tests.engine.conftest import build
from tests.engine.conftest import engine_processes as processes

SAMPLED = Sampling(temperature=0.8, max_tokens=200)


def ask(i: int) -> Request:
    return Request((Message("user", f"Question {i}?"),), SAMPLED, (Draw(f"7/deaths/{i}"),))


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "vllm", "model": "/no/such/model"}, "backbone.model: there is no folder /no/such/model"),
        ({"name": "tiny", "path": "HERE"}, "backbone.path: HERE is there and holds no tiny checkpoint"),
        (
            {"name": "tiny", "path": "MODEL", "tensor_parallel_size": 3},
            "backbone.tensor_parallel_size=3 does not divide the 4 attention heads of tiny. Choices: 1, 2, 4",
        ),
    ],
)
def test_what_cannot_be_started_is_told_before_any_process_is(
    model: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    load_components()
    places = {"HERE": str(tmp_path), "MODEL": str(model)}
    before = {p.pid for p in processes()}
    made = REGISTRY.build("backbone", {name: places.get(value, value) for name, value in options.items()})
    with pytest.raises(ConfigError, match=re.escape(message.replace("HERE", str(tmp_path)))):
        asyncio.run(made.start())
    assert {p.pid for p in processes()} == before


@pytest.fixture(scope="module")
def alone(model: Path) -> Iterator[Any]:
    """A backbone whose engine only these tests ask, not started, and the processes of other engines."""
    made = build(model, max_model_len=4096)
    yield SimpleNamespace(backbone=made, others={p.pid for p in processes()})
    asyncio.run(made.close())


def test_an_engine_stops_while_it_starts_and_then_serves_one_event_loop_after_another(alone: Any) -> None:
    backbone, before = alone.backbone, alone.others

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


def test_an_engine_that_dies_is_built_again_once_and_the_second_death_ends_the_run(
    alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, before = alone.backbone, alone.others
    environment, shared = dict(os.environ), set[Path]()
    asked: Counter[tuple[int, ...]] = Counter()
    ask_engine = Engine._ask

    async def counted(self: Engine, llm: Any, tokens: list[int], parameters: Any, changes: Any) -> Any:
        asked[tuple(tokens)] += 1
        return await ask_engine(self, llm, tokens, parameters, changes)

    monkeypatch.setattr(Engine, "_ask", counted)

    async def batch(kill: str | None) -> list[Any]:
        asked.clear()
        requests = [ask(i) for i in range(60)]
        tasks = [asyncio.create_task(backbone.generate(r)) for r in requests]
        finished: list[Request] = []
        if kill:
            # In the middle: some are finished, others are not.
            await until(lambda: sum(t.done() for t in tasks) >= 5)
            next(p for p in processes(kill) if p.pid in mine).kill()
            finished = [r for r, t in zip(requests, tasks, strict=True) if t.done()]
            assert len(finished) < len(tasks)
        replies = list(await asyncio.gather(*tasks, return_exceptions=True))
        times = [asked[tuple(backbone.engine.renderer.prompt(r.messages, False).tokens)] for r in requests]
        assert all(n == 1 for r, n in zip(requests, times, strict=True) if r in finished), "finished, yet asked again"
        assert set(times) == ({1, 2} if kill == "Worker" else {1})
        return replies

    async def job() -> None:
        nonlocal mine
        await backbone.start()
        mine = {p.pid for p in processes()} - before
        shared.update(shared_memory(frozenset((pid, 0.0) for pid in mine)))
        expected = await batch(None)
        served = await batch("Worker")
        assert served == expected, "what was under way is asked again, with the same result"
        assert backbone.engine.deaths == 1
        mine = {p.pid for p in processes()} - before
        shared.update(shared_memory(frozenset((pid, 0.0) for pid in mine)))
        last = await batch("EngineCore")
        died = [x for x in last if isinstance(x, EngineDied)]
        assert died
        assert all(x in expected or isinstance(x, EngineDied) for x in last)
        assert "died again" in str(died[0]) and "the same command continues" in str(died[0])
        assert "INFO" in str(died[0]), "with the end of the log"
        await backbone.close()
        await backbone.close()

    mine: set[int] = set()
    asyncio.run(job())
    assert {p.pid for p in processes()} <= before
    assert dict(os.environ) == environment
    assert shared
    assert not [place for place in shared if place.exists()], "shared memory is given back"

"""The event loop that engines live on: one, in a daemon thread, for as long as the process lives.

vLLM's AsyncLLM belongs to the loop it was first used on, and a run's own loop ends with the run. So engines are only
ever touched from this one: a run's coroutine hands its call over, waits, and hands its cancellation over too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def engine_loop() -> asyncio.AbstractEventLoop:
    """Return the loop, started when it is first asked for."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="metamem-engines", daemon=True).start()
        return _loop


async def call(job: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the engines' loop and wait for it here. A cancellation here cancels it there."""
    loop = engine_loop()
    if asyncio.get_running_loop() is loop:
        return await job
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(job, loop))


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Run blocking work in a daemon thread of its own, which a process that ends does not wait for."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await outcome

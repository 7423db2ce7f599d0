"""Gathers the model work of many conversations into batches, and does it beside the event loop.

In: items from any number of tasks. Out: each task's results. While one batch is worked on in a thread, what arrives
waits and becomes the next: the busier the run, the bigger the batches, and calls to the builder go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Order(Generic[R]):
    """What one task wants: the results so far, how many are missing, and where it waits for them."""

    results: list[R | None]
    missing: int
    future: asyncio.Future[list[R]]


class Batcher(Generic[T, R]):
    """`await batcher(items)` gives `work(items)`, worked on together with what other tasks want, `limit` at a time.

    `work` gets a list and gives one result per item; it runs in one thread at a time. What it raises goes to every task
    whose items were in the batch. Belongs to one event loop.
    """

    def __init__(self, work: Callable[[list[T]], Sequence[R]], limit: int = 256) -> None:
        self._work = work
        self._limit = limit
        self._waiting: deque[tuple[T, int, _Order[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, items: Sequence[T]) -> list[R]:
        """The results of these items, in their order. Raises what the work raises."""
        if not items:
            return []
        loop = asyncio.get_running_loop()
        order: _Order[R] = _Order([None] * len(items), len(items), loop.create_future())
        self._waiting.extend((item, place, order) for place, item in enumerate(items))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._run())
        return await order.future

    async def _run(self) -> None:
        # Tasks that are ready now put their items in first: the first batch is then not that of one task alone.
        await asyncio.sleep(0)
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
            # A task that was cancelled, or that had an error, wants nothing any more.
            wanted = [(item, place, order) for item, place, order in taken if not order.future.done()]
            if not wanted:
                continue
            try:
                results = await asyncio.to_thread(self._work, [item for item, _, _ in wanted])
            except Exception as error:
                for _, _, order in wanted:
                    if not order.future.done():
                        order.future.set_exception(error)
            else:
                for (_, place, order), result in zip(wanted, results, strict=True):
                    order.results[place] = result
                    order.missing -= 1
                    if not order.missing and not order.future.done():
                        order.future.set_result(order.results)  # type: ignore[arg-type]

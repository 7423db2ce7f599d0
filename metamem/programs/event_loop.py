"""The event loop of a program: signals stop it, and a group of errors shows its first cause."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from metamem.core.errors import Interrupted

T = TypeVar("T")


def run_async(job: Coroutine[Any, Any, T]) -> T:
    """Run a job to its end. SIGTERM and SIGUSR1 cancel it (`Interrupted`); an exception group shows its first cause."""
    stopped = False

    async def main() -> T:
        nonlocal stopped
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGUSR1):
            if "SUBMITIT_EXECUTOR" in os.environ and callable(signal.getsignal(number)):
                # Its launcher asks a scheduler to continue the job: by a signal of its own, until which it stays.
                continue
            try:
                loop.add_signal_handler(number, stop)
            except (NotImplementedError, RuntimeError, ValueError):
                # Not the main thread, or a system without these signals: the default handling stays.
                break
        return await job

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if stopped:
            raise Interrupted from None
        raise
    except BaseExceptionGroup as group:
        raise first_cause(group) from None


def first_cause(error: BaseException) -> BaseException:
    """The first exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

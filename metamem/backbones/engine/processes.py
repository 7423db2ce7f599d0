"""The processes below this one: seen before and after an engine starts, and ended for certain when it goes.

In: nothing. Out: process ids with their times of birth, so that an id that the system gave out again is never mistaken.
An engine keeps no state that its end could harm, and its own way out takes seconds: it is killed, and what it leaves in
shared memory is removed here.
"""

from __future__ import annotations

import sys
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

Process = tuple[int, float]

_SHARED = Path("/dev/shm")


def below() -> frozenset[Process]:
    """Return every process below this one but multiprocessing's resource trackers, which leave by themselves."""
    import psutil

    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if not any("resource_tracker" in part for part in process.cmdline()):
                found.add((process.pid, process.create_time()))
        except psutil.Error:  # it left meanwhile
            continue
    return frozenset(found)


def kill(processes: frozenset[Process], wait: float = 2.0) -> None:
    """Kill those that still live, wait until they are gone, at most so many seconds, and remove what they shared."""
    import psutil

    dying: list[Any] = []
    left = shared_memory(processes)
    for pid, born in processes:
        try:
            process = psutil.Process(pid)
            if process.create_time() == born:
                process.kill()
                dying.append(process)
        except psutil.Error:
            continue
    deadline = time.monotonic() + wait
    while any(map(_lives, dying)) and time.monotonic() < deadline:
        time.sleep(0.01)
    remove(left)


def _lives(process: Any) -> bool:
    import psutil

    try:
        # Whoever inherits a dead worker may take a while to notice.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def expect_kills() -> None:
    """Have this process's resource tracker, when it is not there yet, not warn of what killed processes leave to it."""
    quiet = "ignore::UserWarning:multiprocessing.resource_tracker"
    sys.warnoptions.append(quiet)  # it is started with this process's options
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def shared_memory(processes: frozenset[Process]) -> set[Path]:
    """Return the shared memory that processes use (queues, collectives) and the semaphores named after it."""
    found: set[Path] = set()
    for pid, _ in processes:
        found.update(_SHARED.glob(f"sem.loky-{pid}-*"))
        try:
            lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # another system, or it left meanwhile
            continue
        found.update(Path(line.split(maxsplit=5)[-1]) for line in lines if f" {_SHARED}/" in line)
    return {place for place in found if place.exists()}


def remove(files: set[Path]) -> None:
    """Remove blocks of shared memory whose processes are gone."""
    for file in files:
        file.unlink(missing_ok=True)

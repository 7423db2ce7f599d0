"""How often Python looks for cycles of garbage among records, which have none.

In: work that makes very many objects. Out: the same work, with the search left out or made rarer; as it was before,
afterwards.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# New objects after which the youngest are searched, and how many of those searches make one of the older ones: Python's
# own 700 means a search with every few calls of a model, each through the records of all that were asked at once.
_PACE = (50_000, 20, 10)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Leave out the search while files are read: walking all that was read again and again takes a quarter of the time
    of a file of gigabytes.
    """
    at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if at_work:
            if gc.get_freeze_count() == 0:
                # Among the old at once, or the next two searches would walk it all.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@contextmanager
def collector_paced() -> Iterator[None]:
    """Search rarely while a run's calls are made; a pace that is slower already stays."""
    before = gc.get_threshold()
    if 0 < before[0] < _PACE[0]:
        gc.set_threshold(*_PACE)
    try:
        yield
    finally:
        gc.set_threshold(*before)

"""Batches of a training part: epochs of shuffled questions."""

from __future__ import annotations

import random
from collections.abc import Iterable


def schedule(
    ids: Iterable[str], epochs: int, batch_size: int, drop_last: bool, seed: int
) -> list[tuple[int, list[str]]]:
    """The batches of a run: (epoch from 0, question ids). Each epoch has a shuffle of its own; a batch larger than
    the part is clipped.
    """
    ordered = sorted(ids)
    batch_size = min(batch_size, len(ordered))
    batches = []
    for epoch in range(epochs):
        shuffled = list(ordered)
        random.Random(f"{seed}/batches/{epoch}").shuffle(shuffled)
        for start in range(0, len(shuffled), batch_size):
            batch = shuffled[start : start + batch_size]
            if len(batch) == batch_size or not drop_last:
                batches.append((epoch, batch))
    return batches

"""Batches of a training part: epochs of shuffled questions."""

from __future__ import annotations

import random
from collections.abc import Sequence

from metamem.core.records import Question


def shuffled(
    train: Sequence[Question], epochs: int, batch_size: int, drop_last: bool, seed: int
) -> list[list[Question]]:
    """Return the questions of each step, every epoch in an order of its own. A batch larger than the part is clipped;
    `drop_last` leaves out an epoch's last batch where it is not full.
    """
    ordered = sorted(train, key=lambda q: q.id)
    batch_size = min(batch_size, len(ordered))
    batches = []
    for epoch in range(epochs):
        order = list(ordered)
        random.Random(f"{seed}/batches/{epoch}").shuffle(order)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            if len(batch) == batch_size or not drop_last:
                batches.append(batch)
    return batches

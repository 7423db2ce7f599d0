"""`none`: no learning; the meta-memory stays empty, and train.py only evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.learned import Bounds, Laboratory, Position, Update
from metamem.core.records import Question
from metamem.core.registry import register


@register("optimizer", "none")
class NoOptimizer:
    """No learning: the baseline without meta-memory."""

    prompts = ()

    @dataclass
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        del config

    def batches(self, train: Sequence[Question], seed: int) -> list[list[Question]]:
        """Return no step."""
        return []

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that nothing is asked for."""
        return Bounds(0)

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Return the meta-memory as it was."""
        return Update(at.meta_memory, at.state)

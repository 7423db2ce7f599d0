"""`none`: no learning; the meta-memory stays empty, and train.py only evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.contracts import Laboratory, Update
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Question
from metamem.core.registry import option, register


@register("optimizer", "none")
class NoOptimizer:
    """No learning: the baseline without meta-memory."""

    @dataclass
    class Config:
        """A schedule of no steps."""

        epochs: int = option(0, "passes over the training part (0: no step is made)")
        batch_size: int = option(1, "questions per step")
        drop_last: bool = option(True, "leave out a last batch that is not full")

    def __init__(self, config: Config) -> None:
        self.config = config

    async def step(
        self, meta_memory: MetaMemory, batch: Sequence[Question], laboratory: Laboratory, scope: str, step: int
    ) -> Update:
        """The meta-memory as it was."""
        return Update(meta_memory, ())

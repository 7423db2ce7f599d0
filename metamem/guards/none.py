"""`none`: everything passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.guarded import Guard, Guarded, GuardedQuestion, GuardTools
from metamem.core.registry import register


@register("guard", "none")
class NoGuard(Guard):
    """Everything that is retrieved is shown."""

    open = True

    @dataclass
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        del config

    async def evidence(self, cases: Sequence[GuardedQuestion], tools: GuardTools) -> list[Guarded]:
        """Return all evidence."""
        return [Guarded(case.evidence) for case in cases]

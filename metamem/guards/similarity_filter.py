"""`similarity_filter`: by embeddings alone: copies, echoes of the question, and what is far from it.

In: evidence and its question. Out: of units that are nearly the same only the best; none that is nearly the question
itself, as what was planted to be found by it is; none that is too far from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.guarded import Guard, Guarded, GuardedQuestion, GuardTools, without
from metamem.core.registry import option, register

# A cosine differs by about 1e-7 with the batch that a vector was computed in.
_DECIMALS = 5


@register("guard", "similarity_filter")
class SimilarityFilter(Guard):
    """Copies of other evidence, echoes of the question and what is far from it are held back, by embeddings."""

    needs = ("embedder",)

    @dataclass
    class Config:
        """The cosines that count."""

        copies: float = option(0.9, "of units at least so similar to each other the best is kept", least=-1, most=1)
        echo: float = option(0.95, "units at least so similar to the question are held back", least=-1, most=1)
        least: float = option(-1.0, "units less similar to the question are held back", least=-1, most=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    async def evidence(self, cases: Sequence[GuardedQuestion], tools: GuardTools) -> list[Guarded]:
        """Compare each case's evidence with its question and with itself."""
        return [await tools.policy.run(self._one, case, tools) for case in cases]

    def _one(self, case: GuardedQuestion, tools: GuardTools) -> Guarded:
        import numpy as np

        ranked = sorted(case.evidence, key=lambda e: e.rank)
        if not ranked:
            return Guarded(())
        vectors, owners = tools.policy.vectors([case.question.text, *(e.unit.text for e in ranked)])
        windows = [vectors[owners == i].astype(np.float64) for i in range(len(ranked) + 1)]

        def alike(first: int, second: int) -> float:
            return round(float((windows[first] @ windows[second].T).max()), _DECIMALS)

        c, dropped, kept = self.config, dict[str, str](), list[int]()
        for number, evidence in enumerate(ranked, 1):
            asked = alike(number, 0)
            same = next((k for k in kept if alike(number, k) >= c.copies), None)
            if asked >= c.echo:
                dropped[evidence.unit.id] = f"it repeats the question (similarity {asked:.2f})"
            elif asked < c.least:
                dropped[evidence.unit.id] = f"it is far from the question (similarity {asked:.2f})"
            elif same is not None:
                dropped[evidence.unit.id] = f"it repeats {ranked[same - 1].unit.id}"
            else:
                kept.append(number)
        return without(case, dropped)

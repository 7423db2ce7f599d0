"""What retrievers share: ranking in a thread, and a stable order of scores.

In: a bank and questions. Out: for every question its evidence, best first; ties go to the unit that stands first in the
bank. A ranking depends on the bank and the question alone, never on which questions are asked together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metamem.core.banks import MemoryBank
from metamem.core.contracts import RetrievalTools
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.retrieved import Retrieved

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Scores are rounded before they are ranked: a float32 vector differs by about 1e-7 with the batch that it was computed
# in, and what is nearer than this is a tie.
DECIMALS = 5


class RankingRetriever:
    """Base of retrievers that only compute: `rank` is a plain function, which runs in a thread."""

    needs: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()

    def identity(self) -> Mapping[str, Any]:
        """Return nothing: the options say it all."""
        return {}

    def rank(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[list[Evidence]]:
        """Return each question's evidence, best first. Any number of threads may ask at once."""
        raise NotImplementedError

    async def retrieve(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[Retrieved]:
        """Rank the units of a bank that may be shown for each question. Raises what `rank` raises."""
        ranked = await tools.run(self.rank, bank.evidence, questions, tools)
        return [Retrieved(tuple(evidence)) for evidence in ranked]


def order_of(scores: NDArray[np.float64]) -> list[int]:
    """Return unit positions, best first, of scores (units,)."""
    import numpy as np

    return [int(i) for i in np.argsort(-np.round(scores, DECIMALS), kind="stable")]


def best(bank: MemoryBank, scores: NDArray[np.float64], k: int) -> list[Evidence]:
    """Return the k units of the highest scores (units,), with their rounded scores."""
    return [Evidence(bank.units[i], rounded(scores[i]), rank) for rank, i in enumerate(order_of(scores)[:k])]


def rounded(score: float) -> float:
    """Return a score as it is ranked and shown."""
    return round(float(score), DECIMALS)


def as_evidence(units: Sequence[MemoryUnit], score: float) -> list[Evidence]:
    """Return units in their order as evidence, all of one score."""
    return [Evidence(unit, score, rank) for rank, unit in enumerate(units)]

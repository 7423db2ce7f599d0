"""Similarity of embeddings: the cosine of every unit to a question, and the retriever that ranks by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metamem.core.banks import MemoryBank
from metamem.core.contracts import RetrievalTools
from metamem.core.records import Evidence, Question
from metamem.core.registry import option, register
from metamem.retrieval.base import RankingRetriever, best

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_PART = 1024  # windows


def dense_scores(bank: MemoryBank, texts: Sequence[str], tools: RetrievalTools) -> NDArray[np.float64]:
    """Return the cosine of each question to each unit (questions, units): that of their best windows.

    Blocks; raises what the embedder and the store raise.
    """
    import numpy as np

    scores = np.full((len(texts), len(bank.units)), -1.0)
    if bank.units and texts:
        held, owners = tools.vectors([unit.found_by for unit in bank.units])
        asked, askers = tools.vectors(texts)
        # A part at a time: all of a large bank in double precision, for each that is under way, takes hundreds of MiB.
        for start in range(0, len(held), _PART):
            windows, whose = held[start : start + _PART].astype(np.float64), owners[start : start + _PART]
            # A product for each question alone: one for all would round differently with the number of questions.
            for row, vector in zip(askers, asked.astype(np.float64), strict=True):
                np.maximum.at(scores[row], whose, windows @ vector)
    return scores


def first_vectors(texts: Sequence[str], tools: RetrievalTools) -> NDArray[np.float32]:
    """Return the vector of each text's first window (n, d). Blocks; raises what the embedder and the store raise.

    Those of a bank's texts are kept by these alone: ask for a question's by themselves.
    """
    import numpy as np

    vectors, owners = tools.vectors(texts)
    return vectors[np.unique(owners, return_index=True)[1]]


@register("retriever", "dense")
class Dense(RankingRetriever):
    """Exact cosine similarity of embeddings; a unit counts with its best window."""

    needs: tuple[str, ...] = ("embedder",)

    @dataclass
    class Config:
        """How much is retrieved."""

        k: int = option(20, "units retrieved per question", least=1)

    def __init__(self, config: Config) -> None:
        self.config = config

    def rank(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[list[Evidence]]:
        """Return the k most similar units of each question. Raises what the embedder and the store raise."""
        scores = dense_scores(bank, [q.text for q in questions], tools)
        return [best(bank, row, self.config.k) for row in scores]

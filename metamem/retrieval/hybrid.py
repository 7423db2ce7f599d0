"""Reciprocal rank fusion of the rankings by embeddings and by words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.banks import MemoryBank
from metamem.core.contracts import RetrievalTools
from metamem.core.records import Evidence, Question
from metamem.core.registry import option, register
from metamem.retrieval.base import RankingRetriever, order_of, rounded
from metamem.retrieval.bm25 import Bm25Scores
from metamem.retrieval.dense import dense_scores


@register("retriever", "hybrid")
class Hybrid(RankingRetriever):
    """Reciprocal rank fusion of `dense` and `bm25`.

    A unit's score is the sum of 1 / (constant + rank), ranks from 1, over the rankings that hold it (Cormack, Clarke
    and Buettcher, 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods"). The dense
    ranking holds the whole bank, BM25's the units that share a word with the question.
    """

    needs: tuple[str, ...] = ("embedder",)

    @dataclass
    class Config:
        """How much is retrieved, and the parameters of both rankings and their fusion."""

        k: int = option(20, "units retrieved per question", least=1)
        rrf_constant: int = option(60, "the larger, the less the very first ranks count for", least=0)
        k1: float = option(1.5, "BM25: how soon repetitions of a word stop counting", least=0)
        b: float = option(0.75, "BM25: how far long units are held back", least=0, most=1)
        stopwords: bool = option(True, "BM25: leave English function words out")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._bm25 = Bm25Scores(config.k1, config.b, config.stopwords)

    def rank(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[list[Evidence]]:
        """Return the k best units of each question by fused rank. Raises what the embedder and the store raise."""
        texts = [q.text for q in questions]
        evidence = []
        for dense, bm25 in zip(dense_scores(bank, texts, tools), self._bm25(bank, texts), strict=True):
            matching = [i for i in order_of(bm25) if rounded(bm25[i]) > 0]
            fused = fuse([order_of(dense), matching], len(bank.units), self.config.rrf_constant)
            # Sums of exact ranks need no rounding: equal ranks give equal sums.
            positions = sorted(range(len(fused)), key=lambda i: (-fused[i], i))[: self.config.k]
            evidence.append([Evidence(bank.units[i], fused[i], rank) for rank, i in enumerate(positions)])
        return evidence


def fuse(rankings: Sequence[Sequence[int]], units: int, constant: int) -> list[float]:
    """Return each unit's score by reciprocal rank fusion of rankings of unit positions, best first."""
    scores = [0.0] * units
    for ranking in rankings:
        for rank, position in enumerate(ranking, start=1):
            scores[position] += 1.0 / (constant + rank)
    return scores

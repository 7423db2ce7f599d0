"""Retrievers: from a memory bank and its questions to each question's best units.

In: a `MemoryBank` and questions about its conversation. Out: for every question its `Evidence`, best first; ties go to
the unit that stands first in the bank. A ranking depends on the bank and the question's text alone (`oracle`: on the
evidence that the data set names), never on which questions are asked together. Scores: `metamem.retrieval.scoring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from metamem.core.banks import MemoryBank
from metamem.core.contracts import Embedder
from metamem.core.errors import ConfigError
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.registry import option, register
from metamem.retrieval.scoring import Bm25Scores, DenseScores, fuse
from metamem.store.store import MemoryStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Vectors differ by about 1e-7 with the batch they were computed in: what is nearer than this is a tie.
_DECIMALS = 5


@register("retriever", "dense")
class Dense:
    """Exact cosine similarity of embeddings; a unit counts with its best window."""

    @dataclass
    class Config:
        """How much is retrieved."""

        k: int = option(20, "units retrieved per question")

        def __post_init__(self) -> None:
            _check_k(self.k)

    def __init__(self, config: Config, *, embedder: Embedder, store: MemoryStore | None = None) -> None:
        self.config = config
        self._scores = DenseScores(embedder, store or MemoryStore())

    def identity(self) -> Mapping[str, Any]:
        """The embedder's identity."""
        return {"embedder": dict(self._scores.embedder.identity())}

    def retrieve(self, bank: MemoryBank, questions: Sequence[Question]) -> list[list[Evidence]]:
        """The k most similar units of each question. Raises what the embedder and the store raise."""
        return [_best(bank, scores, self.config.k) for scores in self._scores(bank, [q.text for q in questions])]


@register("retriever", "bm25")
class Bm25:
    """BM25 over words (bm25s)."""

    @dataclass
    class Config:
        """How much is retrieved, and BM25's parameters."""

        k: int = option(20, "units retrieved per question")
        k1: float = option(1.5, "how soon repetitions of a word stop counting")
        b: float = option(0.75, "how far long units are held back, from 0 (not) to 1")
        stopwords: bool = option(True, "leave English function words out")

        def __post_init__(self) -> None:
            _check_k(self.k)
            _check_bm25(self.k1, self.b)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._scores = Bm25Scores(config.k1, config.b, config.stopwords)

    def identity(self) -> Mapping[str, Any]:
        """Nothing beyond the options."""
        return {}

    def retrieve(self, bank: MemoryBank, questions: Sequence[Question]) -> list[list[Evidence]]:
        """The k best units of each question; those that share no word with it come last, at 0, in bank order."""
        return [_best(bank, scores, self.config.k) for scores in self._scores(bank, [q.text for q in questions])]


@register("retriever", "hybrid")
class Hybrid:
    """Reciprocal rank fusion of `dense` and `bm25`.

    A unit's score is the sum of 1 / (constant + rank), ranks from 1, over the rankings that hold it (Cormack, Clarke
    and Buettcher, 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods"). The dense
    ranking holds the whole bank, BM25's the units that share a word with the question.
    """

    @dataclass
    class Config:
        """How much is retrieved, and the parameters of both rankings and their fusion."""

        k: int = option(20, "units retrieved per question")
        rrf_constant: int = option(60, "the larger, the less the very first ranks count for")
        k1: float = option(1.5, "BM25: how soon repetitions of a word stop counting")
        b: float = option(0.75, "BM25: how far long units are held back, from 0 (not) to 1")
        stopwords: bool = option(True, "BM25: leave English function words out")

        def __post_init__(self) -> None:
            _check_k(self.k)
            _check_bm25(self.k1, self.b)
            if self.rrf_constant < 0:
                raise ConfigError(f"retriever.rrf_constant must be at least 0, got {self.rrf_constant}")

    def __init__(self, config: Config, *, embedder: Embedder, store: MemoryStore | None = None) -> None:
        self.config = config
        self._dense = DenseScores(embedder, store or MemoryStore())
        self._bm25 = Bm25Scores(config.k1, config.b, config.stopwords)

    def identity(self) -> Mapping[str, Any]:
        """The embedder's identity."""
        return {"embedder": dict(self._dense.embedder.identity())}

    def retrieve(self, bank: MemoryBank, questions: Sequence[Question]) -> list[list[Evidence]]:
        """The k best units of each question by fused rank. Raises what the embedder and the store raise."""
        texts = [q.text for q in questions]
        evidence = []
        for dense, bm25 in zip(self._dense(bank, texts), self._bm25(bank, texts), strict=True):
            every, matching = _order(dense), [i for i in _order(bm25) if round(float(bm25[i]), _DECIMALS) > 0]
            fused = fuse([every, matching], len(bank.units), self.config.rrf_constant)
            # Sums of exact ranks need no rounding: equal ranks give equal sums.
            positions = sorted(range(len(fused)), key=lambda i: (-fused[i], i))[: self.config.k]
            evidence.append([Evidence(bank.units[i], fused[i], rank) for rank, i in enumerate(positions)])
        return evidence


@register("retriever", "full")
class Full:
    """Everything in the bank, in time order; the evidence budget alone limits it."""

    @dataclass
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Nothing beyond the options."""
        return {}

    def retrieve(self, bank: MemoryBank, questions: Sequence[Question]) -> list[list[Evidence]]:
        """All units for each question, oldest first (undated ones last, ties in the bank's order), with score 0."""
        units = sorted(bank.units, key=lambda u: (u.time is None, u.time or datetime.min))
        return [_all(units, 0.0) for _ in questions]


@register("retriever", "oracle")
class Oracle:
    """The units that hold a question's evidence, as the data set names it: an upper bound for retrieval."""

    @dataclass
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Nothing beyond the options."""
        return {}

    def retrieve(self, bank: MemoryBank, questions: Sequence[Question]) -> list[list[Evidence]]:
        """All units that hold an evidence turn (an evidence session where turns are not known), in the bank's order.

        A question whose evidence is not known, or in no unit, gets none.
        """
        return [_all([u for u in bank.units if _holds_evidence(u, question)], 1.0) for question in questions]


def _holds_evidence(unit: MemoryUnit, question: Question) -> bool:
    if unit.turn_ids and question.evidence_turns:
        return not set(unit.turn_ids).isdisjoint(question.evidence_turns)
    return unit.session_id is not None and unit.session_id in question.evidence_sessions


def _order(scores: NDArray[np.float64]) -> list[int]:
    """Unit positions, best first."""
    import numpy as np

    return [int(i) for i in np.argsort(-np.round(scores, _DECIMALS), kind="stable")]


def _best(bank: MemoryBank, scores: NDArray[np.float64], k: int) -> list[Evidence]:
    positions = _order(scores)[:k]
    return [Evidence(bank.units[i], round(float(scores[i]), _DECIMALS), rank) for rank, i in enumerate(positions)]


def _all(units: Sequence[MemoryUnit], score: float) -> list[Evidence]:
    return [Evidence(unit, score, rank) for rank, unit in enumerate(units)]


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigError(f"retriever.k must be at least 1, got {k}")


def _check_bm25(k1: float, b: float) -> None:
    if not k1 >= 0:
        raise ConfigError(f"retriever.k1 must be at least 0, got {k1}")
    if not 0 <= b <= 1:
        raise ConfigError(f"retriever.b must be between 0 and 1, got {b}")

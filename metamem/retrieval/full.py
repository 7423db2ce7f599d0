"""Everything that a memory holds, as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from metamem.core.banks import MemoryBank
from metamem.core.contracts import RetrievalTools
from metamem.core.records import Evidence, Question
from metamem.core.registry import register
from metamem.retrieval.base import RankingRetriever, as_evidence


@register("retriever", "full")
class Full(RankingRetriever):
    """Everything in the bank, in time order; the evidence budget alone limits it."""

    @dataclass
    class Config:
        """Nothing to choose."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def rank(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[list[Evidence]]:
        """Return all units for each question, oldest first (undated ones last, ties in bank order), with score 0."""
        units = sorted(bank.units, key=lambda u: (u.time is None, u.time or datetime.min))
        return [as_evidence(units, 0.0) for _ in questions]

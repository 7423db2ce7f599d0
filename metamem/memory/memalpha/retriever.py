"""`retriever=memalpha`: what of a Mem-α memory is shown for a question.

In: a bank of core, semantic and episodic units. Out: core always; the lists whole when everything fits, else the best
of each list by BM25 (arXiv 2509.25911, section 3). Units of other kinds, of other memories, count as lists of their
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.errors import ConfigError
from metamem.core.records import Evidence, Question
from metamem.core.registry import option, register
from metamem.memory.memalpha.state import Part
from metamem.retrieval.evidence import cost
from metamem.retrieval.scoring import Bm25Scores


@register("retriever", "memalpha")
class MemAlphaRetriever:
    """Mem-α's view: core always, the lists whole when they fit, else the best of each by BM25."""

    @dataclass
    class Config:
        """How much is shown."""

        k: int = option(15, "units of each list that are shown when not all of them fit")
        whole_tokens: int = option(30720, "show everything when it has at most so many tokens (0: never)")
        tokenizer: str = option("words", "the tokenizer that counts them: words, or a Hugging Face tokenizer")
        k1: float = option(1.5, "BM25: how soon repetitions of a word stop counting")
        b: float = option(0.75, "BM25: how far long units are held back, from 0 (not) to 1")
        stopwords: bool = option(True, "BM25: leave English function words out")

        def __post_init__(self) -> None:
            if self.k < 1:
                raise ConfigError(f"retriever.k must be at least 1, got {self.k}")
            if self.whole_tokens < 0:
                raise ConfigError(f"retriever.whole_tokens must be at least 0, got {self.whole_tokens}")
            if not self.k1 >= 0 or not 0 <= self.b <= 1:
                raise ConfigError(f"retriever.k1 must be at least 0 and b from 0 to 1, got {self.k1} and {self.b}")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._scores = Bm25Scores(config.k1, config.b, config.stopwords)

    def identity(self) -> Mapping[str, Any]:
        """Nothing beyond the options."""
        return {}

    def retrieve(self, bank: MemoryBank, questions: Sequence[Question]) -> list[list[Evidence]]:
        """Core first, then each list: whole in the bank's order, or its best by BM25, best first."""
        config, units = self.config, bank.units
        kinds = list(dict.fromkeys(u.kind for u in units if u.kind != Part.core))
        core = [i for i, unit in enumerate(units) if unit.kind == Part.core]
        lists = {kind: [i for i, unit in enumerate(units) if unit.kind == kind] for kind in kinds}
        if sum(cost(unit, config.tokenizer) for unit in units) <= config.whole_tokens:
            order = [*core, *(i for held in lists.values() for i in held)]
            return [[Evidence(units[i], 0.0, rank) for rank, i in enumerate(order)] for _ in questions]
        found = []
        for scores in self._scores(bank, [q.text for q in questions]):
            chosen = [(i, 0.0) for i in core]
            for held in lists.values():
                ranked = sorted(held, key=lambda i: (-round(float(scores[i]), 5), i))[: config.k]
                chosen += [(i, round(float(scores[i]), 5)) for i in ranked]
            found.append([Evidence(units[i], score, rank) for rank, (i, score) in enumerate(chosen)])
        return found

"""`retriever=memalpha`: what of a Mem-α memory is shown for a question.

In: a bank of core, semantic and episodic units. Out: core always; the lists whole when everything fits, else the best
of each list by BM25 (arXiv 2509.25911, section 3). Units of other kinds, of other memories, count as lists of their
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.banks import MemoryBank
from metamem.core.contracts import RetrievalTools
from metamem.core.records import Evidence, Question
from metamem.core.registry import option, register
from metamem.memory.memalpha.state import MemoryPart
from metamem.retrieval.base import RankingRetriever, as_evidence, order_of, rounded
from metamem.retrieval.bm25 import Bm25Scores
from metamem.retrieval.evidence import cost


@register("retriever", "memalpha")
class MemAlphaRetriever(RankingRetriever):
    """Mem-α's view: core always, the lists whole when they fit, else the best of each by BM25."""

    reads: tuple[str, ...] = tuple(MemoryPart)
    pinned: tuple[str, ...] = (MemoryPart.core,)

    @dataclass
    class Config:
        """How much is shown."""

        k: int = option(15, "units of each list that are shown when not all of them fit", least=1)
        whole_tokens: int = option(30720, "show everything when it has at most so many tokens (0: never)", least=0)
        tokenizer: str = option("words", "the tokenizer that counts them: words, or a Hugging Face tokenizer")
        k1: float = option(1.5, "BM25: how soon repetitions of a word stop counting", least=0)
        b: float = option(0.75, "BM25: how far long units are held back", least=0, most=1)
        stopwords: bool = option(True, "BM25: leave English function words out")

    def __init__(self, config: Config) -> None:
        self.config = config
        self._scores = Bm25Scores(config.k1, config.b, config.stopwords)

    def rank(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[list[Evidence]]:
        """Return core first, then each list: whole in the bank's order, or its best by BM25, best first."""
        config, units = self.config, bank.units
        kinds = list(dict.fromkeys(u.kind for u in units if u.kind != MemoryPart.core))
        core = [i for i, unit in enumerate(units) if unit.kind == MemoryPart.core]
        lists = {kind: [i for i, unit in enumerate(units) if unit.kind == kind] for kind in kinds}
        if config.whole_tokens and sum(cost(unit, config.tokenizer) for unit in units) <= config.whole_tokens:
            order = [*core, *(i for held in lists.values() for i in held)]
            return [as_evidence([units[i] for i in order], 0.0) for _ in questions]
        found = []
        for scores in self._scores(bank, [q.text for q in questions]):
            chosen = [(i, 0.0) for i in core]
            for held in lists.values():
                ranked = [held[place] for place in order_of(scores[held])[: config.k]]
                chosen += [(i, rounded(scores[i])) for i in ranked]
            found.append([Evidence(units[i], score, rank) for rank, (i, score) in enumerate(chosen)])
        return found

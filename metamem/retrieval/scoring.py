"""How well every unit of a bank fits a question: cosine of embeddings, BM25, and the fusion of rankings.

In: a `MemoryBank` and question texts. Out: one row of scores per question, one score per unit in the bank's order. Any
number of threads may ask at once.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metamem.core.banks import MemoryBank
from metamem.core.contracts import Embedder
from metamem.store.store import MemoryStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Words with an inner apostrophe stay whole ("don't"); letters of any script.
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")

# English function words: articles, pronouns, prepositions, conjunctions, auxiliaries and question words;
# without "may" and "us", which lower case makes of a month and a country.
_STOPWORDS = (
    "a an the this that these those i me my mine we our ours you your yours he him his she her hers it "
    "its they them their theirs who whom whose which what when where why how of in on at by for with from "
    "to into onto about as than and or but nor so if then because while am is are was were be been being "
    "do does did doing have has had having will would shall should can could might must not no "
)
STOPWORDS = frozenset(_STOPWORDS.split())

_INDEXES_KEPT = 16


class DenseScores:
    """Cosine similarity of each question to each unit: that of the unit's best window."""

    def __init__(self, embedder: Embedder, store: MemoryStore) -> None:
        self.embedder = embedder
        self._store = store

    def __call__(self, bank: MemoryBank, texts: Sequence[str]) -> NDArray[np.float64]:
        """Scores (questions, units). Vectors that were ever computed come from the store, without loading the model."""
        import numpy as np

        scores = np.full((len(texts), len(bank.units)), -1.0)
        if bank.units and texts:
            identity = self.embedder.identity()
            held = self._store.index(identity, [unit.text for unit in bank.units], self._embed)
            asked = self._store.index(identity, texts, self._embed)
            windows = held["vectors"].astype(np.float64)
            # A product for each question alone: one for all would round differently with the number of questions.
            for row, vector in zip(asked["owners"], asked["vectors"].astype(np.float64), strict=True):
                # The best window counts, of a unit and of a question that is longer than a window.
                np.maximum.at(scores[row], held["owners"], windows @ vector)
        return scores

    def _embed(self, texts: list[str]) -> dict[str, NDArray[Any]]:
        vectors, owners = self.embedder.embed(texts)
        return {"vectors": vectors, "owners": owners}


class Bm25Scores:
    """BM25 of each unit for each question (bm25s, its Lucene variant); without a known word all scores are 0."""

    def __init__(self, k1: float, b: float, stopwords: bool) -> None:
        self._k1, self._b = k1, b
        self._skipped = STOPWORDS if stopwords else frozenset()
        self._guard = threading.Lock()
        self._indexes: OrderedDict[str, tuple[MemoryBank, Any]] = OrderedDict()

    def __call__(self, bank: MemoryBank, texts: Sequence[str]) -> NDArray[np.float64]:
        """Scores (questions, units)."""
        import numpy as np

        scores = np.zeros((len(texts), len(bank.units)))
        index = self._index(bank) if texts else None
        if index is not None:
            for row, text in enumerate(texts):
                known = index.get_tokens_ids(self.words(text))
                if known:
                    scores[row] = index.get_scores_from_ids(known)
        return scores

    def words(self, text: str) -> list[str]:
        """The words that count: lower case, without function words."""
        return [word for word in _WORDS.findall(text.lower()) if word not in self._skipped]

    def _index(self, bank: MemoryBank) -> Any:
        """The bank's index, None when no unit holds a word. The latest few are kept: questions may come one by one."""
        with self._guard:
            if (kept := self._indexes.get(bank.id)) and kept[0].units == bank.units:
                self._indexes.move_to_end(bank.id)
                return kept[1]
        import bm25s

        words = [self.words(unit.text) for unit in bank.units]
        index = None
        if any(words):
            index = bm25s.BM25(k1=self._k1, b=self._b, method="lucene", backend="numpy")
            index.index(words, show_progress=False)
        with self._guard:
            self._indexes[bank.id] = (bank, index)
            while len(self._indexes) > _INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return index


def fuse(rankings: Sequence[Sequence[int]], units: int, constant: int) -> list[float]:
    """Reciprocal rank fusion: each unit's score from rankings of unit positions, best first."""
    scores = [0.0] * units
    for ranking in rankings:
        for rank, position in enumerate(ranking, start=1):
            scores[position] += 1.0 / (constant + rank)
    return scores

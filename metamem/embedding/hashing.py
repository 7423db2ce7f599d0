"""An embedder without a model: hashed bags of words and of letter triples.

In: texts. Out: unit vectors of their windows, as every embedder gives. It finds shared words and word stems, nothing
that needs understanding: for tests, and for machines without the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from metamem.core.errors import ConfigError
from metamem.core.registry import option, register

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORDS = re.compile(r"\w+")
# A triple of letters says less than a whole word.
_TRIPLE_WEIGHT = 0.5


@register("embedder", "hashing")
class Hashing:
    """Hashed bag of words and letter triples: no model, no meaning; for tests and machines without one.

    The signed hashing trick (Weinberger et al., 2009, "Feature Hashing for Large Scale Multitask Learning").
    """

    @dataclass
    class Config:
        """Size of the vectors and windows."""

        dimensions: int = option(512, "length of a vector")
        window: int = option(256, "words of a window")

        def __post_init__(self) -> None:
            if self.dimensions < 2:
                raise ConfigError(f"embedder.dimensions must be at least 2, got {self.dimensions}")
            if self.window < 1:
                raise ConfigError(f"embedder.window must be at least 1, got {self.window}")

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """The options, which decide everything, and a version of the features."""
        return {"embedder": "hashing", "version": 1, "dimensions": self.config.dimensions, "window": self.config.window}

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Unit vectors (w, d) of all windows in the order of the texts, and each one's text (w,), at least one."""
        import numpy as np

        known: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        vectors, owners = [], []
        for owner, text in enumerate(texts):
            words = _WORDS.findall(text.lower())
            for start in range(0, max(1, len(words)), self.config.window):
                vector = np.zeros(self.config.dimensions, np.float32)
                for word in words[start : start + self.config.window]:
                    if word not in known:
                        known[word] = self._features(word)
                    np.add.at(vector, *known[word])
                norm = float(np.linalg.norm(vector))
                if norm == 0:  # no words: a direction of its own, which no word is hashed to
                    vector[0] = norm = 1.0
                vectors.append(vector / np.float32(norm))
                owners.append(owner)
        if not vectors:
            return np.zeros((0, self.config.dimensions), np.float32), np.zeros(0, np.int64)
        return np.stack(vectors), np.asarray(owners, np.int64)

    def _features(self, word: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        import numpy as np

        marked = f"<{word}>"
        triples = [marked[i : i + 3] for i in range(len(marked) - 2)]
        hashes = [crc32(feature.encode("utf-8", "surrogatepass")) for feature in (f"word {word}", *triples)]
        places = np.asarray([1 + (h >> 1) % (self.config.dimensions - 1) for h in hashes], np.int64)
        weights = np.full(len(hashes), _TRIPLE_WEIGHT, np.float32)
        weights[0] = 1.0
        return places, weights * np.asarray([1.0 if h & 1 else -1.0 for h in hashes], np.float32)

"""How similar texts are, by an embedder that sees each text once.

In: a question and texts. Out: cosines of their best windows, rounded, so that the batch in which a text was embedded
changes no ranking.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metamem.core.contracts import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DECIMALS = 4


class Similarity:
    """Cosines by one embedder. Any number of threads may ask at once; the vectors of every text are kept."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._windows: dict[str, NDArray[np.float64]] = {}
        self._guard = threading.Lock()

    def identity(self) -> Mapping[str, Any]:
        """Return the embedder's identity."""
        return dict(self._embedder.identity())

    def __call__(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return for each text the cosine of its best window to the best window of the question."""
        asked, *held = self.windows([question, *texts])
        return [round(float((own @ asked.T).max()), _DECIMALS) for own in held]

    def windows(self, texts: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return the unit vectors of the windows of each text (w, d)."""
        import numpy as np

        with self._guard:
            missing = [text for text in dict.fromkeys(texts) if text not in self._windows]
            if missing:
                vectors, owners = self._embedder.embed(missing)
                for i, text in enumerate(missing):
                    self._windows[text] = vectors[owners == i].astype(np.float64)
            return [self._windows[text] for text in texts]

    def directions(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a unit vector for each text (n, d): the direction of the sum of its windows."""
        import numpy as np

        if not texts:
            return np.zeros((0, 0), np.float32)
        summed = np.stack([own.sum(axis=0) for own in self.windows(texts)])
        lengths = np.linalg.norm(summed, axis=1, keepdims=True)
        directions: NDArray[np.float32] = (summed / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
        return directions

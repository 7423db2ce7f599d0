"""Where a buffer of exchanges is cut into topics: pure functions over attention and similarity.

In: the attention of the compressor's tokens and which tokens each sentence has, the cosine of neighbouring exchanges.
Out: boundaries, each the position of the exchange that begins a new topic. The rules and figures are LightMem's (arXiv
2510.18866, section 3.1): a boundary is where similarity drops, near a local maximum of a sentence's attention to the
one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Attention and cosines differ by about 1e-7 with the batch they were computed in: what is nearer than this is equal.
DECIMALS = 5


def sentence_attention(
    attention: NDArray[Any], spans: Sequence[tuple[int, int]], sinks: int = 3
) -> NDArray[np.float64]:
    """How much each sentence attends to each earlier one: (n, n), rows normalised to 1 (0 where nothing counts).

    `attention` (s, s) is of tokens to tokens, `spans` the tokens [start, end) of each sentence. The first and the last
    `sinks` tokens of the sequence attract attention whatever they say, and are left out; of a sequence too short for
    that, a tenth at each end. An entry is the mean over a sentence's tokens of what each gives the other sentence.
    """
    import numpy as np

    length = len(attention)
    margin = sinks if length >= 2 * sinks else length // 10
    counted = [np.arange(max(start, margin), min(end, length - margin)) for start, end in spans]
    made = np.zeros((len(spans), len(spans)))
    for i, own in enumerate(counted):
        if not len(own):
            continue
        for j in range(i):
            if len(counted[j]):
                made[i, j] = float(attention[np.ix_(own, counted[j])].sum(axis=1).mean())
        total = made[i, :i].sum()
        if total > 0:
            made[i, :i] /= total
    return made


def attention_boundaries(matrix: NDArray[Any]) -> list[int]:
    """Sentences whose attention to the one before is higher than that of both neighbours: local maxima, ends never."""
    steps = [round(float(matrix[i, i - 1]), DECIMALS) for i in range(1, len(matrix))]
    return [k + 1 for k in range(1, len(steps) - 1) if steps[k - 1] < steps[k] > steps[k + 1]]


def similarity_boundaries(
    cosines: Sequence[float], threshold: float = 0.2, step: float = 0.05, ceiling: float = 0.5
) -> list[int]:
    """Exchanges unlike the one before. `cosines[i]` is that of exchange i and i + 1.

    The threshold is raised by `step`, up to `ceiling`, until some cosine lies below it.
    """
    tried = 0
    while (bar := round(threshold + tried * step, DECIMALS)) <= ceiling:
        found = [i + 1 for i, cosine in enumerate(cosines) if round(float(cosine), DECIMALS) < bar]
        if found:
            return found
        tried += 1
    return []


def topic_boundaries(attention: Sequence[int] | None, similarity: Sequence[int], tolerance: int = 3) -> list[int]:
    """The boundaries that both name: drops of similarity within `tolerance` exchanges of a maximum of attention.

    Without any maximum there is no boundary; where all lie further apart, similarity decides alone, and so it does
    when no attention is known (None: there is no compressor).
    """
    if attention is None:
        return list(similarity)
    if not attention:
        return []
    near = [s for s in similarity if any(abs(s - a) <= tolerance for a in attention)]
    return near or list(similarity)

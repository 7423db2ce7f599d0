"""How likely the simulated backbone finds a text: its own words, and those that its prompt holds, are likelier.

In: the prompt's messages, the stand-in's own greedy reply to them, and a text. Out: a natural log-probability for each
word of the text, from a mixture of word frequencies. Evidence acts through its words, guidelines through the reply that
they lead to. No language model, so nothing is known of language.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from metamem.backbones.simulation.reading import section
from metamem.core.calls import Message

# What a word's probability is mixed of: the stand-in's own reply, the fragments of memory, the question, any word.
_SHARES = (0.5, 0.25, 0.15, 0.1)
_ANY_WORD = 50_000


def word_scores(messages: Sequence[Message], own: str, text: str) -> list[float]:
    """The log-probability of each word of `text`, parted at white space. `own` is the stand-in's reply to the prompt.

    The share of a source without words is nobody's: its words are that much less likely.
    """
    prompt = "\n".join(m.content for m in messages)
    texts = (own, section(messages, "memories") or prompt, section(messages, "question") or "")
    sources = [_counts(t) for t in texts]
    totals = [max(source.total(), 1) for source in sources]
    scores = []
    for word in _words(text):
        chance = _SHARES[-1] / _ANY_WORD
        chance += sum(s * c[word] / n for s, c, n in zip(_SHARES, sources, totals, strict=False))
        scores.append(math.log(chance))
    return scores


@lru_cache(maxsize=64)
def _counts(text: str) -> Counter[str]:
    # The same evidence stands in many prompts.
    return Counter(_words(text))


def _words(text: str) -> list[str]:
    """The words of a text without case and the marks around them; a word of marks alone stays as it is."""
    return ["".join(c for c in w.casefold() if c.isalnum()) or w for w in text.split()]

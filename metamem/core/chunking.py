"""Cuts a long text into chunks of at most so many tokens, at sentence ends, so that the chunks joined are the text.

In: a text, a limit and a way to count tokens. Out: the chunks, in order; nothing of the text is lost, moved or doubled.
A sentence that is too long is cut at words, a word at characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# A sentence ends with its mark, closing quotes and the space after it, or at a line's end.
_SENTENCES = re.compile(r".*?(?:[.!?。！？]+[\"'”’)\]]*(?:\s+|(?<=[。！？]))|\n+|\Z)", re.DOTALL)

_WORDS = re.compile(r"\s*\S+\s*|\s+")


def chunked(text: str, most: int, count: Callable[[str], int]) -> list[str]:
    """The chunks of a text. Raises `ValueError` for a limit below 1 token."""
    if most < 1:
        raise ValueError(f"a chunk needs at least 1 token, got {most}")
    chunks: list[str] = []
    held: list[str] = []
    tokens = 0
    for piece, size in _fitting(text, most, count):
        if held and tokens + size > most:
            chunks.append("".join(held))
            held, tokens = [], 0
        held.append(piece)
        tokens += size
    if held:
        chunks.append("".join(held))
    # Sub-word tokenizers may count a joined text otherwise than its pieces: halve what came out too long.
    return [part for chunk in chunks for part in _halved(chunk, most, count)]


def _fitting(text: str, most: int, count: Callable[[str], int]) -> Iterator[tuple[str, int]]:
    """Pieces with their tokens, none above `most` as far as text can be cut."""
    for sentence in _found(_SENTENCES, text):
        size = count(sentence)
        if size <= most:
            yield sentence, size
            continue
        for word in _found(_WORDS, sentence):
            for part in _halved(word, most, count):
                yield part, count(part)


def _found(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    return (match[0] for match in pattern.finditer(text) if match[0])


def _halved(text: str, most: int, count: Callable[[str], int]) -> list[str]:
    if len(text) < 2 or count(text) <= most:
        return [text]
    half = len(text) // 2
    return [*_halved(text[:half], most, count), *_halved(text[half:], most, count)]


DOCUMENT = "document"

TASK = "task"

"""Reads prompt text: its sections, the fragments of memory in it, and their sentences as sets of stems.

In: the text of a prompt. Out: `Memory`, an index over the sentences of the fragments, weighted by how rare each stem is
in them. A block of fragments is parsed once for the prompts that hold it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from metamem.backbones.simulation.vocabulary import IRREGULAR, NUMBER_WORDS, STOPWORDS
from metamem.core.calls import Message

# Blocks are kept parsed because several attempts read the same one; few, because a block can be a whole conversation.
_KEPT_BLOCKS = 64
_KEPT_FRAGMENTS = 1024

_NUMERAL = r"\$?\d+(?:[.,:]\d+)*%?"
_WORD = re.compile(rf"{_NUMERAL}|[^\W\d_]+(?:['’][^\W\d_]+)*")
_END = re.compile(r"[.!?]+[\"'”’)]?\s+")
_ABBREVIATIONS = (" Dr", " Mr", " Mrs", " Ms", " St", " vs", " No")
_FRAGMENT = re.compile(r"^\[(\d{1,6})\][ \t]*", re.MULTILINE)
_WEEKDAY = r"\(?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\)?"
_STAMP = re.compile(
    r"\s*\[?(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    rf"(?:[T ,]*(?:{_WEEKDAY}|\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?))*[\s\]:,-]*"
)
_SPEAKER = re.compile(r"\s*(user|assistant):\s+", re.IGNORECASE)

# Plurals first, so that 'sailings' and 'sailing' meet.
_ENDINGS = ((("ies", "i"), ("sses", "ss"), ("s", "")), (("ied", "i"), ("ing", ""), ("ed", ""), ("ly", "")))


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a fragment. `by_assistant` tells who speaks where the text shows it."""

    text: str
    stems: frozenset[str]
    fragment: int
    by_assistant: bool

    @property
    def asks(self) -> bool:
        """Whether it is a question."""
        return self.text.endswith("?")


@dataclass(frozen=True, slots=True)
class Fragment:
    """A fragment of memory: the number it is shown under, the day it was said (None: not shown) and all its stems."""

    number: int
    day: date | None
    stems: frozenset[str]


@dataclass(frozen=True, slots=True)
class Memory:
    """The fragments of a prompt. `index` leads from a stem to the places of its sentences, `rarity` to its weight."""

    fragments: tuple[Fragment, ...]
    sentences: tuple[Sentence, ...]
    index: dict[str, tuple[int, ...]]
    rarity: dict[str, float]

    def weight(self, stem: str) -> float:
        """How much a stem tells fragments apart; stems in none of them weigh most."""
        return self.rarity.get(stem, math.log(2.0 + len(self.fragments)))

    def day(self, sentence: Sentence) -> date | None:
        """The day on which a sentence was said."""
        return self.fragments[sentence.fragment].day


def section(messages: Sequence[Message], tag: str) -> str | None:
    """The text of the last section `<tag>` of a prompt, None when it has none."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    for message in reversed(messages):
        start = message.content.rfind(opening)
        if start >= 0:
            start += len(opening)
            end = message.content.find(closing, start)
            return message.content[start : end if end >= 0 else None].strip("\n")
    return None


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its inflection, numbers as digits. Light: it only has to make forms of one word meet."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    if word in NUMBER_WORDS:
        return NUMBER_WORDS[word]
    if word in IRREGULAR:
        return IRREGULAR[word]
    if not word.isalpha() or len(word) < 4:
        return word
    for endings in _ENDINGS:
        for ending, instead in endings:
            if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith(("ss", "us", "is", "eed")):
                word = word[: -len(ending)] + instead
                if ending in ("ing", "ed") and word[-1] == word[-2] and word[-1] not in "lsz":
                    word = word[:-1]
                break
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1] + ("i" if word[-1] == "y" else "")
    return IRREGULAR.get(word, word)


def words(text: str) -> list[str]:
    """The words and numerals of a text, in order, as written."""
    return _WORD.findall(text)


@lru_cache(maxsize=65536)
def _telling(word: str) -> str:
    """The stem of a word that carries content, empty for others."""
    plain = word.lower().replace("’", "'")
    stopped = plain.split("'")[0] in STOPWORDS or (len(plain) < 2 and not plain.isdigit())
    return "" if stopped else stem(word)


def content(text: str) -> list[str]:
    """The stems of a text's words that carry content, in order."""
    return [found for found in map(_telling, _WORD.findall(text)) if found]


@lru_cache(maxsize=_KEPT_BLOCKS)
def parse(block: str) -> Memory:
    """The fragments of a `<memories>` section: `[n]`, a date where there is one, then the text up to the next `[n]`."""
    marks: list[re.Match[str]] = []
    for mark in _FRAGMENT.finditer(block):
        # A fragment's own text may have lines that begin with such a number.
        if not marks or int(mark.group(1)) == int(marks[-1].group(1)) + 1:
            marks.append(mark)
    fragments: list[Fragment] = []
    sentences: list[Sentence] = []
    for position, mark in enumerate(marks):
        end = marks[position + 1].start() if position + 1 < len(marks) else len(block)
        day, text = _dated(block[mark.end() : end])
        own = [Sentence(said, stems, position, spoken) for said, stems, spoken in _sentences(text)]
        sentences += own
        fragments.append(Fragment(int(mark.group(1)), day, frozenset().union(*(s.stems for s in own))))
    index: dict[str, list[int]] = {}
    for place, sentence in enumerate(sentences):
        for found in sentence.stems:
            index.setdefault(found, []).append(place)
    counts: dict[str, int] = {}
    for fragment in fragments:
        for found in fragment.stems:
            counts[found] = counts.get(found, 0) + 1
    rarity = {found: math.log(1.0 + (1 + len(fragments)) / (0.5 + count)) for found, count in counts.items()}
    return Memory(tuple(fragments), tuple(sentences), {k: tuple(v) for k, v in index.items()}, rarity)


def read_day(text: str) -> date | None:
    """The day of a date as prompts show it (`2024-03-09 (Sat) 18:20`), None when the text begins with none."""
    return _dated(text)[0]


def _dated(text: str) -> tuple[date | None, str]:
    match = _STAMP.match(text)
    if not match:
        return None, text
    try:
        return date(*map(int, match.groups())), text[match.end() :]
    except ValueError:
        return None, text


# The questions of one conversation share many of their fragments.
@lru_cache(maxsize=_KEPT_FRAGMENTS)
def _sentences(text: str) -> tuple[tuple[str, frozenset[str], bool], ...]:
    """The sentences of a fragment, each with its stems and whether the assistant says it."""
    found = []
    by_assistant = False
    for line in text.split("\n"):
        if speaker := _SPEAKER.match(line):
            by_assistant = speaker.group(1).lower() == "assistant"
            line = line[speaker.end() :]
        for part in _split(line):
            found.append((part, frozenset(content(part)), by_assistant))
    return tuple(found)


def _split(line: str) -> list[str]:
    parts, start = [], 0
    for end in _END.finditer(line):
        if not f" {line[start : end.start()]}".endswith(_ABBREVIATIONS):
            parts.append(line[start : end.end()].strip())
            start = end.end()
    parts.append(line[start:].strip())
    return [part for part in parts if part]

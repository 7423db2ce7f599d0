"""Finds the sentences of a memory that match a question, and what kinds of things sentences hold.

In: a parsed `Memory` and the stems to look for. Out: sentences with scores, best first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from metamem.backbones.simulation import vocabulary
from metamem.backbones.simulation.reading import Memory, Sentence, content, stem, words

Hits = list[tuple[float, Sentence]]

# Someone else's words, and questions, tell less about what is so.
_OTHER_SPEAKER = 0.55
_ASKING = 0.75
# What the rest of a fragment adds to each of its sentences.
_CONTEXT = 0.25
_KIND_BONUS = 1.25
_GENERIC_WEIGHT = 0.4
_CONSIDERED = 12

_CLAUSE = re.compile(r"[,;:]\s+(?:and |but |so |or )?| - | – | — | (?:and then|but|so|because) ")
_KINDS = {
    "number": vocabulary.NUMBER,
    "time": vocabulary.CLOCK,
    "weekday": vocabulary.WEEKDAY,
    "money": vocabulary.MONEY,
}
GENERIC = frozenset(map(stem, vocabulary.GENERIC))


@lru_cache(maxsize=16384)
def kinds(text: str) -> frozenset[str]:
    """The kinds of things that a sentence holds: number, time, weekday, money, name."""
    found = {kind for kind, pattern in _KINDS.items() if pattern.search(text)}
    return frozenset(found | {"name"} if _names(text) else found)


@lru_cache(maxsize=16384)
def change(text: str) -> int:
    """How strongly a sentence shows that something is no longer as it was: 2 for change, 1 for the present, 0."""
    return 2 if vocabulary.CHANGE.search(text) else 1 if vocabulary.PRESENT.search(text) else 0


def took_place(sentence: Sentence, stems: Iterable[str], own: bool) -> bool:
    """Whether a sentence tells, in the clause that shares most with `stems`, of what happened: no plan, not called off.

    What `stems` themselves name may be told (a question about cancellations). With `own` it must be in the first
    person.
    """
    wanted = frozenset(stems)
    clauses = _CLAUSE.split(sentence.text)
    clause = max(clauses, key=lambda part: len(wanted.intersection(content(part))))
    if own and not vocabulary.FIRST_PERSON.search(clause):
        return False
    return all(wanted.intersection(stem(w) for w in words(found)) for found in vocabulary.UNREAL.findall(clause))


@lru_cache(maxsize=16384)
def preference(text: str) -> int:
    """How many words of liking, wanting or avoiding a sentence in the first person holds."""
    return len(vocabulary.PREFERENCE.findall(text)) * bool(vocabulary.FIRST_PERSON.search(text))


def match(memory: Memory, stems: Iterable[str], wants: str = "", speaker: str = "user") -> Hits:
    """The sentences that share a stem with `stems`, best first; ties by position.

    Each shared stem counts by its rarity, in the sentence and, less, in the rest of its fragment. `wants` is a kind of
    thing that a good sentence holds; `speaker` is whose words count in full (user, assistant or any).
    """
    weights = {found: memory.weight(found) for found in stems}
    scores: dict[int, float] = {}
    for found, weight in weights.items():
        for position in memory.index.get(found, ()):
            scores[position] = scores.get(position, 0.0) + weight
    context: dict[int, float] = {}
    hits = []
    for position, own in scores.items():
        sentence = memory.sentences[position]
        if sentence.fragment not in context:
            shared = memory.fragments[sentence.fragment].stems
            context[sentence.fragment] = sum(weight for found, weight in weights.items() if found in shared)
        score = own + _CONTEXT * (context[sentence.fragment] - own)
        if speaker != "any":
            score *= _OTHER_SPEAKER if sentence.by_assistant is (speaker == "user") else 1.0
            score *= _ASKING if sentence.asks else 1.0
        if wants and wants in kinds(sentence.text):
            score *= _KIND_BONUS
        hits.append((-score, position))
    hits.sort()
    return [(-score, memory.sentences[position]) for score, position in hits]


@lru_cache(maxsize=8192)
def numbers(text: str) -> tuple[tuple[float, tuple[str, ...]], ...]:
    """The numbers of a sentence, each with the stems of the three words after it."""
    found = []
    listed = words(text)
    for place, word in enumerate(listed):
        # 'One' is a pronoun more often than a number.
        if word.lower() == "one":
            continue
        plain = vocabulary.NUMBER_WORDS.get(word.lower(), word).lstrip("$").rstrip("%").replace(",", "")
        try:
            value = float(plain) if plain[:1].isdigit() else None
        except ValueError:
            value = None
        if value is None:
            continue
        found.append((value, tuple(stem(w) for w in listed[place + 1 : place + 4])))
    return tuple(found)


def stated(text: str, noun: tuple[str, ...]) -> float | None:
    """The number that stands before `noun` in a sentence, None when none does."""
    return next((value for value, after in numbers(text) if noun and noun[-1] in after), None)


def names(text: str, apart_from: Iterable[str] = ()) -> frozenset[str]:
    """The stems of the capitalised words inside a sentence."""
    return frozenset(stem(w) for name in _names(text) for w in words(name)).difference(apart_from)


def _names(text: str) -> list[str]:
    return [name for name in vocabulary.NAME.findall(text) if not vocabulary.NOT_A_NAME.fullmatch(name)]


def coverage(memory: Memory, stems: Iterable[str]) -> tuple[float, Sentence | None]:
    """The sentence that holds most of `stems`, and the share of their weight that it holds.

    What only the rest of its fragment holds counts half, and words that are chosen freely count little.
    """
    weights = {s: memory.weight(s) * (_GENERIC_WEIGHT if s in GENERIC else 1.0) for s in stems if not s.isdigit()}
    total = sum(weights.values())
    best, held = None, 0.0
    for _, sentence in match(memory, weights)[:_CONSIDERED]:
        own = sum(w for s, w in weights.items() if s in sentence.stems)
        near = sum(w for s, w in weights.items() if s in memory.fragments[sentence.fragment].stems)
        if not sentence.by_assistant and (own + near) / 2 > held:
            best, held = sentence, (own + near) / 2
    return (held / total if total else 1.0), best

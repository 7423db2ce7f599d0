"""Judges a response by comparing normalised text with the accepted answers: no meaning is read, only words.

In: a rubric prompt with `<truth>` (one accepted answer per line) and `<response>`. Out: right or wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from metamem.backbones.simulation.reading import content, section, stem
from metamem.backbones.simulation.vocabulary import MONTHS
from metamem.core.calls import Message

_DATES = (
    (re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b"), lambda m: f"{int(m[2])}~{int(m[3])} {m[1]}"),
    (
        re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({'|'.join(MONTHS)})\b"),
        lambda m: f"{MONTHS.index(m[2]) + 1}~{int(m[1])}",
    ),
    (
        re.compile(rf"\b({'|'.join(MONTHS)}) (?:the )?(\d{{1,2}})(?:st|nd|rd|th)?\b"),
        lambda m: f"{MONTHS.index(m[1]) + 1}~{int(m[2])}",
    ),
)
UNKNOWN = re.compile(
    r"(?:cannot|can't|can not) be known|no (?:information|mention|record|evidence)"
    r"|not (?:be )?(?:mention|enough|known|stated|said|provided|contain|specif|in memory)\w*"
    r"|(?:do|does|did)(?: not|n't) (?:mention|say|know|contain|provide|tell|state|have)|unknown|insufficient"
)
_FILLERS = frozenset("a an the is are was were be my your his her their our of to in on at by for it i you and".split())
_WISHES = frozenset(
    content(
        "user prefer responses response suggestions suggest recommendations recommend would might may prefers preferred"
    )
)
_REFUSED = re.compile(r"\b(?:not|n't|nor) (?:be )?(?:prefer|want|be interested|like|interested|appreciate)")
_WISH = re.compile(r"\bwould (?:prefer|like|want|appreciate)\b")
# How much of a truth a response must hold: of a long one that is not there word for word, and of a description of
# wishes, of which a response need not meet every point.
_RECALL = 0.6
_WISH_RECALL = 0.3
_LONG = 4


def correct(messages: Sequence[Message]) -> bool:
    """Whether the response of a rubric prompt is right by that prompt's rules."""
    rules = _rules(messages)
    response = section(messages, "response") or ""
    final = response.rpartition("Answer:")[2] if "Answer:" in response else response
    abstains = bool(UNKNOWN.search(final.lower().replace("’", "'")))
    if "cannot be known" in rules:
        return abstains
    truths = [line.strip() for line in (section(messages, "truth") or "").split("\n") if line.strip()]
    return not abstains and any(_agrees(truth, final, response, rules) for truth in truths)


def _rules(messages: Sequence[Message]) -> str:
    """What the prompt says outside of its sections, in lower case."""
    text = "\n".join(m.content for m in messages)
    for tag in ("question", "truth", "response"):
        start, end = text.rfind(f"<{tag}>"), text.rfind(f"</{tag}>")
        if 0 <= start < end:
            text = text[:start] + text[end:]
    return " ".join(text.lower().split())


def _agrees(truth: str, final: str, response: str, rules: str) -> bool:
    answer, wanted = normalise(final), normalise(truth)
    if not wanted:
        return False
    if len(wanted) > 1 and _contains(answer, wanted):
        return True
    if (number := _leading_number(wanted)) is not None:
        found = [value for w in answer if (value := _number(w)) is not None]
        # A small number turns up by accident in what is told around an answer; there the first one counts.
        found = found if number >= 100 or number % 1 else found[:1]
        return any(abs(value - number) <= ("by one" in rules) for value in found)
    if _contains(answer, wanted):
        return True
    if "suited to the user" in rules or _WISH.search(truth.lower()):
        liked = " ".join(part for part in re.split(r"[;.]", truth) if not _REFUSED.search(part.lower()))
        return any(
            _recall([s for s in content(text) if s not in _WISHES], final) >= _WISH_RECALL for text in (truth, liked)
        )
    parts = [part for part in re.split(r"[()]|[.;] |\bor\b", truth) if part.strip()]
    if len(parts) > 1 and any(_contains(answer, normalise(part)) for part in parts):
        return True
    stems = set(content(truth))
    if stems and stems <= set(content(final)):
        return True
    return len(stems) >= _LONG and _recall(stems, response) >= _RECALL


def normalise(text: str) -> list[str]:
    """A text as comparable stems: numbers as digits, dates in one form, without articles and other fillers."""
    lowered = text.lower().replace("’", "'")
    for pattern, write in _DATES:
        lowered = pattern.sub(write, lowered)
    found = re.findall(r"\d+~\d+|" + r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*", lowered)
    return [stem(w).replace(",", "") for w in found if w not in _FILLERS]


def _number(word: str) -> float | None:
    try:
        return float(word) if word[:1].isdigit() else None
    except ValueError:
        return None


def _leading_number(wanted: list[str]) -> float | None:
    """The number of a truth that is a number with at most a unit or the thing counted after it."""
    if len(wanted) > 3 or any(w[0].isdigit() for w in wanted[1:]):
        return None
    return _number(wanted[0])


def _contains(answer: list[str], wanted: list[str]) -> bool:
    size = len(wanted)
    return bool(wanted) and any(answer[i : i + size] == wanted for i in range(len(answer) - size + 1))


def _recall(stems: Iterable[str], text: str) -> float:
    found = set(content(text))
    unique = set(stems)
    return len(unique & found) / len(unique) if unique else 0.0

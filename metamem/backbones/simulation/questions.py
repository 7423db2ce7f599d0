"""Reads a question: what form it has, what kind of thing it wants, and the phrases and span of time that it names.

In: the question's text and date. Out: `Asked`, which decides the strategies that a question calls for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import Enum
from functools import lru_cache

from metamem.backbones.simulation.reading import content
from metamem.backbones.simulation.strategies import Strategy
from metamem.backbones.simulation.vocabulary import MONTHS, any_of


class Form(Enum):
    """What a question asks for."""

    fact = "a fact"
    number = "a number that may be stated or may have to be counted"
    total = "a sum of amounts"
    difference = "the time between two days"
    order = "which of several came first or last, or their order"
    when = "a date"
    advice = "a recommendation"


_STRATEGIES = {
    Form.fact: (Strategy.latest, Strategy.abstain),
    Form.number: (Strategy.count, Strategy.latest, Strategy.abstain),
    Form.total: (Strategy.count, Strategy.abstain),
    Form.difference: (Strategy.dates, Strategy.abstain),
    Form.order: (Strategy.dates, Strategy.abstain),
    Form.when: (Strategy.dates, Strategy.latest, Strategy.abstain),
    Form.advice: (Strategy.preferences,),
}

_ADVICE = any_of(
    r"suggest|recommend|advi[cs]e|tips?|ideas?|suggestions?|recommendations?|do you think|any thoughts",
    r"(?:what|where) (?:could|should|might|can) (?:i|we)|which \w+ should (?:i|we)|help me (?:choose|decide|pick|plan)",
)
_TOLD = any_of(
    r"did you|you (?:once |had |have |just )?(?:told|gave|said|made|suggested|recommended|mentioned|described)",
    r"you (?:once |had |have |just )?(?:provided|called|worked out|listed|created|explained)|remind me",
    r"(?:previous|last|earlier|our) (?:chat|conversation|discussion)",
)
_PAST = any_of(
    r"previous(?:ly)?|initial(?:ly)?|original(?:ly)?|used to|formerly|former|at first|old|before i",
    r"when i (?:just |first )?(?:started|began)",
)
_DURATION = re.compile(r"\bhow (?:many|much) (?P<unit>day|week|month|year)s?\b|\bhow long\b")
_SPANNED = any_of(
    r"between|after|before|ago|since|until|till|passed|elapsed|did it take|from .+ to|been using|been working"
)
_ORDER = (
    re.compile(r"\b(?:first|earlier|earliest|last|latest|later|sooner)\b[^?]*(?:[,:]|\bor\b)"),
    re.compile(r"\border\b[^?]*\b(?:earliest|latest|happen|occur|events|trips|visit)|chronolog|earliest to latest"),
)
_TOTAL = (
    any_of("total|altogether|combined|in all|all told|sum"),
    re.compile(r"\bhow much (?:money|have i|did i|do i)\b.*\b(?:spen[dt]|paid|earned|raised|saved|cost)"),
)
_WHEN = any_of(r"when (?:did|was|were|do|is|will)", r"(?:what|which) (?:date|day|month)(?! of the week)")
_OF_MONEY = re.compile(r"\$|how much (?:money|.*\b(?:spen[dt]|pa(?:y|id)|cost|raised|earned|saved)\b)")
_WANTS = (
    ("weekday", any_of("day of the week|which day|what day")),
    ("time", any_of("what time|at what hour")),
    ("number", any_of(r"how (?:much|long|often|old|far|big|tall)|amount|what (?:price|speed|was my .*(?:time|score))")),
    ("name", any_of(r"who|whose|whom|where|name of|called|(?:what|which) (?:town|city|company|brand|country|place)")),
)
_COUNTED = re.compile(
    r"\bhow (?:many|much|often) (?:of (?:my|the|our) )?(?:different |distinct |types of |kinds of |total |more )?"
    r"(?P<noun>(?:[\w'-]+ ){0,3}?[\w'-]+?)(?=\?|$| (?:do|did|does|have|has|had|am|are|is|was|were|can|could|will|would"
    r"|in|on|at|of|that|there|i|we|my|passed)\b)"
)
_PARTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bbetween (?P<a>.+?) and (?P<b>.+)",
        r"\bfrom (?P<a>.+?) (?:to|until|till) (?P<b>.+)",
        r"\b(?:after|before|since) (?P<a>.+?),? did (?P<b>.+)",
        r"\b(?:after|before|since) (?P<a>.+?),? (?:was|were|had|have|until|when) (?P<b>.+)",
        r"\b(?:did|was|were|had|have|has|is) (?P<b>.+?) (?:after|before|since|until|till|when) (?P<a>.+)",
    )
)
_AGO = re.compile(r"\bago (?:did |was |were |had |have )?(?P<a>.+)")
_SINCE = re.compile(r"\b(?:been|passed|elapsed) since (?P<a>.+)")
_LISTED = (
    re.compile(r"[:,—–]\s*(?P<list>[^?]*?\bor\b[^?]*)"),
    re.compile(r"\b(?:first|last|earlier|later|did i|did we) (?P<list>[^?]*?\bor\b[^?]*)"),
    re.compile(r":\s*(?P<list>[^?]*)"),
)
_BETWEEN_ITEMS = re.compile(r",\s*(?:and |or )?|\band\b(?=[^,]*$)|\bor\b")
# What belongs to the form of a question or places it in time, and so is not to be looked for in the fragments.
_FRAME = any_of(
    r"how (?:many|much|often|long)|of the week|so far|(?:in )?total|altogether|combined|all told",
    r"(?:(?:in|over|during|for|within) )?(?:the |this |last |past |next |these |a |\d+ |two |three |four |five |six "
    r"|few |couple of )+(?:few |couple of |\d+ |\w+ )?(?:days?|weeks?|weekends?|months?|years?)(?: ago)?",
    r"days|weeks|months|years|(?:from )?earliest to latest",
    r"(?:this|last|past) (?:spring|summer|autumn|fall|winter|season)",
    r"order|number|amount|date|name|types?|kinds?|different|distinct|average|approximate(?:ly)?|current(?:ly)?",
    rf"(?:in|since|during|of) (?:the )?(?:(?:start|beginning|end|month) of |mid-|early |late )?(?:{'|'.join(MONTHS)})",
    r"(?:happen(?:ed|s)?|pass(?:ed)?|elapsed) (?:first|last|since|between)",
)
_LEAD = re.compile(r"^the (?:day|time|date|moment) (?:when |that |on which )?")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was read.

    `stems` are its content words, in order; `parts` the phrases it sets against each other; `noun` what it counts;
    `unit` the unit of a duration; `wants` the kind of thing in the answer (number, time, weekday, money, name or "").
    `told` says that it asks for what the assistant said, `past` that it asks for how things were, `reverse` that the
    last is asked for instead of the first, `own` that it is about the person who asks.
    """

    text: str
    form: Form
    stems: tuple[str, ...]
    parts: tuple[str, ...]
    noun: tuple[str, ...]
    unit: str
    wants: str
    told: bool
    past: bool
    reverse: bool
    own: bool
    date: date | None

    def calls_for(self) -> tuple[Strategy, ...]:
        """The strategies that fit the question's form."""
        if self.told:
            return ()
        return tuple(s for s in _STRATEGIES[self.form] if not (self.past and s is Strategy.latest))


@lru_cache(maxsize=1024)
def ask(text: str, asked: date | None) -> Asked:
    """Read a question that is asked on a day."""
    lowered = text.lower().replace("’", "'").strip()
    told = bool(_TOLD.search(lowered))
    counted = _COUNTED.search(lowered)
    form, parts, unit = _form(lowered, told)
    return Asked(
        text=text,
        form=form,
        stems=tuple(dict.fromkeys(content(_FRAME.sub(" ", lowered)) or content(text))),
        parts=parts,
        noun=tuple(content(counted.group("noun"))) if counted else (),
        unit=unit,
        wants=_wanted(lowered, form),
        told=told,
        past=bool(_PAST.search(lowered)),
        reverse="first" not in lowered and bool(re.search(r"\b(?:last|latest|later|most recent\w*)\b", lowered)),
        own=bool(re.search(r"\b(?:i|my|we|our|me)\b", lowered)),
        date=asked,
    )


def _form(lowered: str, told: bool) -> tuple[Form, tuple[str, ...], str]:
    """The form of a question, with its parts and unit where the form has them."""
    if _ADVICE.search(lowered) and not told:
        return Form.advice, (), ""
    duration = _DURATION.search(lowered)
    if duration and _SPANNED.search(lowered) and (parts := _phrases(lowered)):
        return Form.difference, parts, duration.group("unit") or "day"
    if any(p.search(lowered) for p in _ORDER) and not re.search(r"\bhow (?:many|much|often)\b", lowered):
        return Form.order, _choices(lowered), ""
    if any(p.search(lowered) for p in _TOTAL):
        return Form.total, (), ""
    if "how many" in lowered:
        return Form.number, (), ""
    return (Form.when if _WHEN.search(lowered) else Form.fact), (), ""


def _wanted(lowered: str, form: Form) -> str:
    if form in (Form.number, Form.total) or "how much" in lowered:
        return "money" if _OF_MONEY.search(lowered) else "number"
    return next((kind for kind, pattern in _WANTS if pattern.search(lowered)), "")


def _phrases(lowered: str) -> tuple[str, ...]:
    """The two phrases of a question about a duration; one where the other is the day of the question; none."""
    rest = lowered.rstrip("?. ")
    if match := _AGO.search(rest):
        return (_clean(match.group("a")),)
    for pattern in _PARTS:
        match = pattern.search(rest)
        if match and content(match.group("a")) and content(match.group("b")):
            return _clean(match.group("a")), _clean(match.group("b"))
    match = _SINCE.search(rest)
    return (_clean(match.group("a")),) if match else ()


def _choices(lowered: str) -> tuple[str, ...]:
    """The things that a question about order sets side by side; none where it names no list."""
    match = next((m for pattern in _LISTED if (m := pattern.search(lowered))), None)
    if not match:
        return ()
    items = (
        re.sub(r"\b(?:first|last|earlier|later)$", "", i.strip()) for i in _BETWEEN_ITEMS.split(match.group("list"))
    )
    return tuple(_clean(item) for item in items if content(item))


def _clean(phrase: str) -> str:
    return _LEAD.sub("", phrase.strip(" ,?.'\"")).strip()

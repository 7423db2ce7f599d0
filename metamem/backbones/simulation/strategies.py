"""The reading strategies that guidelines ask for: how they are recognised in a sentence, and how they are worded.

In: a sentence in natural language (a guideline, a review's lesson, the steps of an attempt). Out: the strategies that
it asks for or speaks of.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

from metamem.backbones.simulation.vocabulary import any_of


class Strategy(Enum):
    """A way to use fragments beyond answering from the one that matches best."""

    latest = "latest"
    count = "count"
    dates = "dates"
    abstain = "abstain"
    preferences = "preferences"


_FRAGMENTS = (
    r"(?:fragment|memory|memories|mention|entry|entries|statement|item|instance|occurrence|record|piece|event|occasion"
    r"|match(?:es|ing)?)s?"
)
_LATER = r"(?:information|version|fact|statement|fragment|entry|mention|value|one)s?"
_TIMES = r"(?:differences?|intervals?|dates?|days|durations?|gaps?|time)"

# What a sentence that speaks of a strategy holds.
_SIGNS = {
    Strategy.latest: any_of(
        r"latest|newest|freshest|recency|(?:most|more) (?:recent|current)(?:ly)?|up[- ]to[- ]date",
        r"superse\w+|overrid\w+|outdated|out of date|stale|obsolete|chang(?:e[sd]?|ing) over time",
        r"last (?:said|stated|mentioned|known|word)|(?:been|was|were|is|are) updated",
        rf"(?:later|newer|updated) {_LATER}|(?:current|present) (?:value|state|one|version)",
    ),
    Strategy.count: any_of(
        r"count(?:ed|ing)?|counts (?:each|every|all|the)|enumerat\w+|tall(?:y|ies|ied|ying)|aggregat\w+|number of",
        r"how many times|add(?:s|ed|ing)? (?:them |these |it )?(?:all )?(?:up|together)",
        r"sum(?:s|med|ming)?(?: up)?|total(?:s|led|ling)?|list each",
        r"(?:list|gather|collect|find|go through|combine|include|consider|check|scan|use|read)(?:s|ed|ing)? (?:out )?"
        rf"(?:every|each|all)(?: of)?(?: the)?(?: \w+)? {_FRAGMENTS}",
    ),
    Strategy.dates: any_of(
        r"chronolog\w+|timelines?|time order|elapsed|calendar|days between|earli(?:er|est) (?:\w+ )?(?:event|date)s?",
        r"(?:sort|order|arrang|rank|compar|line up|put)\w* (?:\w+ ){0,4}(?:dates?|time|days)",
        r"(?:by|of|in order of) (?:their |its )?dates?|relative (?:dates?|times?|expressions?|words?)",
        rf"(?:comput|calculat|subtract|work(?:ed|ing|s)? out|measur|determin)\w* (?:\w+ ){{0,6}}{_TIMES}",
        r"differences? between (?:\w+ ){0,2}(?:dates?|days)",
        r"(?:resolv|convert|translat|turn)\w* (?:\w+ ){0,5}(?:dates?|days)",
    ),
    Strategy.abstain: any_of(
        r"abstain(?:s|ed|ing)?|not enough|insufficient|unknown|unanswerable|admit(?:s|ting)?",
        r"(?:cannot|can't|can not|could not) be (?:known|answered|told|determined)",
        r"(?:not|\w+n't|never|no|avoid|refrain from|instead of|rather than) (?:to )?"
        r"(?:guess|invent|mak(?:e|ing) (?:\w+ )?up|assum|fabricat|speculat|infer)\w*",
        rf"(?:not|never|\w+n't|no fragment|none of the {_FRAGMENTS}|nothing) (?:is |are |was |been )?"
        rf"(?:mention(?:s|ed)?|stated?|covered|supported|in memory|in the {_FRAGMENTS}|found in)",
        r"(?:declin(?:e|es|ed|ing)|refus(?:e|es|ing)) to answer",
        r"(?:say|state|reply|answer|report)(?:s|ing)? (?:so|that (?:it|this|the answer) is (?:missing|absent|not))",
        r"no (?:such )?(?:information|evidence|mention)|lack(?:s|ing)? (?:the |any )?(?:information|evidence|support)",
        r"(?:missing|absent) from",
    ),
    Strategy.preferences: any_of(
        r"preferen\w+|prefers|tastes?|likes|dislikes|likings?|liked|disliked|enjoys?|favou?rites?|aversions?",
        r"hobb(?:y|ies)|wishes|tailor\w*|personali[sz]\w*|personal (?:habits?|interests?|circumstances?|situation)",
        r"(?:their|person's|user's|own) (?:interests?|habits?|situation|circumstances|needs)",
    ),
}
_QUOTED = re.compile(r'"[^"]*"|“[^”]*”')
_NEGATIONS = frozenset("not never avoid without stop cannot don't doesn't didn't isn't nor".split())


def _negated(before: str) -> bool:
    clause = re.split(r"[,;:.()]", before)[-1].split()[-4:]
    joined = " ".join(clause)
    return bool(_NEGATIONS.intersection(clause)) or "instead of" in joined or "rather than" in joined


@lru_cache(maxsize=8192)
def recognise(text: str) -> frozenset[Strategy]:
    """The strategies that a text speaks of. Quotations do not count, and neither does what it advises against."""
    lowered = _QUOTED.sub(" ", text).lower().replace("’", "'")
    return frozenset(
        strategy
        for strategy, pattern in _SIGNS.items()
        if any(not _negated(lowered[: match.start()]) for match in pattern.finditer(lowered))
    )


# How a proposal words a guideline. Each is general and short, and asks for its own strategy only.
GUIDELINES = {
    Strategy.latest: (
        "When several fragments speak of the same thing, answer from the most recent one.",
        "Trust the newest statement over older ones that contradict it, and answer with it alone.",
        "Check whether a later fragment updates what an earlier one said, and use the latest.",
        "Treat older statements as outdated once a newer fragment says how things stand now.",
        "Where values differ between fragments, give the most recent value.",
    ),
    Strategy.count: (
        "For questions about how many or how much, go through all fragments and count each distinct mention once.",
        "List every matching fragment before giving a number, then tally them without counting one thing twice.",
        "Gather all fragments that fit the question and add up what they say, instead of stopping at the first.",
        "When a total is asked for, enumerate the separate occasions in the fragments and sum them.",
        "Count separate occasions over all fragments; one fragment rarely holds the whole number.",
    ),
    Strategy.dates: (
        "Turn words such as yesterday or last week into calendar dates by the fragment's own date before reasoning.",
        "For order or duration, put the events in chronological order and compute the difference between their dates.",
        "Work out the date of each event from its fragment, then compare the dates or subtract them.",
        "Build a timeline of the events asked about and read the order or the elapsed time from it.",
        "Resolve relative dates first, then calculate the interval that the question asks for.",
    ),
    Strategy.abstain: (
        "If no fragment mentions exactly what the question asks about, say that it cannot be known from memory.",
        "Do not guess from a similar thing: if the very thing is missing from the fragments, say it is unknown.",
        "Check that the fragments speak of the very thing asked about; otherwise say there is not enough information.",
        "Rather than guess, abstain when a detail of the question appears nowhere in the fragments.",
        "Say that memory lacks the information when the fragments are about something similar; never invent a fact.",
    ),
    Strategy.preferences: (
        "When advice is asked for, build it on the preferences the person has stated in the fragments.",
        "Before recommending anything, look for the person's likes and dislikes and name them in the answer.",
        "Tailor suggestions to the tastes and circumstances that the person has described, not to people in general.",
        "Recall what the person enjoys or avoids, and let the advice follow from these preferences.",
        "Quote the person's own wishes from the fragments in any suggestion.",
    ),
}
CLOSEST = (
    "Answer from the fragment whose wording fits the question most closely, in its own words.",
    "Read the closest fragment to its end before answering, and keep to what it says.",
    "Pick the fragment that speaks of exactly what is asked, and answer with its own words.",
)

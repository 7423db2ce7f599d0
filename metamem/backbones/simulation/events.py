"""Strategies over several fragments: counting occasions, adding up amounts, and reasoning with dates.

In: a question and a parsed memory. Out: a reply, or None where the fragments give the strategy nothing to work with.
"""

from __future__ import annotations

import re
from datetime import date

from metamem.backbones.simulation import dates
from metamem.backbones.simulation.matching import Hits, match, names, numbers, stated, took_place
from metamem.backbones.simulation.questions import Asked, Form
from metamem.backbones.simulation.reading import Memory, Sentence, content
from metamem.backbones.simulation.wording import as_asked, cited, spoken, trimmed

# How well a sentence must match, beside the best one, to be about another occasion of the same kind; less where it
# names what is counted.
_SAME_KIND = 0.55
_SAME_HEAD = 0.45
# What the rest of the question adds to a phrase of it when the phrase is looked for.
_AROUND = 0.3
_AMOUNT = re.compile(r"[$€£]\s?(\d[\d,]*(?:\.\d+)?)")


def count(asked: Asked, memory: Memory) -> str | None:
    """Counts the occasions that a question is about, or adds up their amounts."""
    found = occasions(asked, memory)
    if asked.form is Form.total:
        amounts = [(value, s) for s in found if (value := _amount(asked, s.text)) is not None]
        if len(amounts) < 2:
            return None
        listed = ", ".join(f"{value:.12g} in {cited(memory, s)}" for value, s in amounts)
        money = "$" if asked.wants == "money" else ""
        total = f"{money}{sum(value for value, _ in amounts):.12g}"
        return f"I add up what every matching fragment says: {listed}.\nAnswer: {total}"
    # A number that someone has stated is no occasion to be counted.
    if not found or any(stated(s.text, asked.noun) is not None for s in found):
        return None
    listed = ", ".join(cited(memory, s) for s in found)
    return f"I count every matching fragment once: {listed}.\nAnswer: {len(found)}"


def reason_with_dates(asked: Asked, memory: Memory, hits: Hits) -> str | None:
    """Tells when something was, which of several things came first, or how long lies between two."""
    if asked.form is Form.when:
        day = day_of(memory, hits[0][1])
        if day is None:
            return None
        return f"I work out the date of {cited(memory, hits[0][1])} from its own words.\nAnswer: {spoken(day)}"
    events = _events(asked, memory)
    if asked.form is Form.difference:
        days = [day for day, _, _ in events] + ([asked.date] if len(events) == 1 and asked.date else [])
        if len(days) != 2:
            return None
        length = dates.between(days[0], days[1], asked.unit)
        unit = asked.unit if length == 1 else f"{asked.unit}s"
        listed = " and ".join(f"{day} for {cited(memory, s)}" for day, _, s in events)
        return f"I work out the dates ({listed}) and compute the difference.\nAnswer: {length} {unit}"
    if len(events) < 2:
        return None
    events.sort(key=lambda event: event[0], reverse=asked.reverse)
    listed = ", then ".join(f"{day} for {cited(memory, s)}" for day, _, s in events)
    answer = events[0][1] if len(asked.parts) == 2 else ", then ".join(name for _, name, _ in events)
    return f"In chronological order: {listed}.\nAnswer: {answer}"


def occasions(asked: Asked, memory: Memory) -> list[Sentence]:
    """One sentence for each separate occasion that a question is about, oldest first."""
    hits = match(memory, asked.stems)
    span = dates.span(asked.text, asked.date) if asked.date else None
    top = max((score for score, s in hits if not s.by_assistant), default=0.0)
    head = asked.noun[-1] if asked.noun and asked.wants != "money" and asked.noun[-1] in memory.index else None
    kept: dict[object, Sentence] = {}
    seen: list[frozenset[str]] = []
    for score, sentence in hits:
        needed = _SAME_HEAD if head in sentence.stems else _SAME_KIND
        if sentence.by_assistant or sentence.asks or score < needed * top:
            continue
        if (head and head not in sentence.stems) or not took_place(sentence, asked.stems, asked.own):
            continue
        said = memory.day(sentence)
        mentioned = dates.mentioned(sentence.text, said) if said else None
        day = mentioned or said
        if day and span and not span[0] <= day <= span[1]:
            continue
        own = names(sentence.text, asked.stems)
        # What is told again without a day of its own is the same occasion.
        if (day or sentence.fragment) in kept or (not mentioned and any(own & other for other in seen)):
            continue
        seen.append(own)
        kept[day or sentence.fragment] = sentence
    return sorted(kept.values(), key=lambda s: (day_of(memory, s) or date.min, s.fragment))


def day_of(memory: Memory, sentence: Sentence) -> date | None:
    """The day that a sentence is about: the one it mentions, or else the one on which it was said."""
    said = memory.day(sentence)
    return (dates.mentioned(sentence.text, said) or said) if said else None


def _amount(asked: Asked, text: str) -> float | None:
    if asked.wants == "money":
        found = _AMOUNT.search(text)
        return float(found.group(1).replace(",", "")) if found else None
    return stated(text, asked.noun) if asked.noun else next((value for value, _ in numbers(text)), None)


def _events(asked: Asked, memory: Memory) -> list[tuple[date, str, Sentence]]:
    """The day, the wording and the sentence of each thing that a question sets side by side."""
    if not asked.parts:
        return [(day, trimmed(s.text), s) for s in occasions(asked, memory) if (day := day_of(memory, s))]
    around = {id(sentence): score for score, sentence in match(memory, asked.stems)}
    events: list[tuple[date, str, Sentence]] = []
    for part in asked.parts:
        hits = match(memory, content(part))
        hits.sort(key=lambda hit: -hit[0] - _AROUND * around.get(id(hit[1]), 0.0))
        chosen = next((s for _, s in hits if all(s is not other for _, _, other in events)), None)
        day = day_of(memory, chosen) if chosen else None
        if chosen and day:
            events.append((day, as_asked(asked.text, part), chosen))
    return events

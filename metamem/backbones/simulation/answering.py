"""Answers a question from fragments of memory by simple reading strategies.

In: an answer prompt's sections and a source of chance. Out: a step or two in prose and a last line `Answer: ...`. Without a guideline that
asks for more, the answer is the sentence that matches the question best. A guideline switches the strategy on that it asks for; it
acts where the question's form calls for it, and is followed most of the time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from metamem.backbones.simulation import dates
from metamem.backbones.simulation.matching import GENERIC, Hits, change, coverage, kinds, match, names, numbers, preference, stated, took_place
from metamem.backbones.simulation.questions import Asked, Form, ask
from metamem.backbones.simulation.reading import Memory, Sentence, content, parse, read_day, section
from metamem.backbones.simulation.strategies import Strategy, recognise
from metamem.records import Message

_ASKED_ON = re.compile(r"The question is asked on (.+)")
_GUIDELINE = re.compile(r"^\[(\w+)\]\s+(.+)$", re.MULTILINE)

# Sentences that match nearly as well as the best one speak of the same thing.
_SAME_THING = 0.72
_SAME_KIND = 0.55
_SAME_HEAD = 0.45
# How much of the question one sentence must hold, its fragment counting half; less where many sentences are to be counted.
_COVERED = 0.74
_COVERED_LOOSELY = 0.5
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Habits:
    """How strategies are switched on: `chance` without a guideline when sampling, `adherence` with one."""

    chance: float
    adherence: float


def guidelines(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Ids and texts of the guidelines in a prompt, in order."""
    return _GUIDELINE.findall(section(messages, "guidelines") or "")


def asked_in(messages: Sequence[Message]) -> Asked:
    """The question of a prompt, with its date where the prompt gives one."""
    dated = _ASKED_ON.search(messages[-1].content, messages[-1].content.rfind("</question>"))
    return ask((section(messages, "question") or "").strip(), read_day(dated.group(1)) if dated else None)


def answer(messages: Sequence[Message], habits: Habits, sampling: bool, rng: random.Random) -> str:
    """The reply to an answer prompt. `rng` decides by chance, in the same order for every prompt."""
    asked = asked_in(messages)
    memory = parse(section(messages, "memories") or "")
    told = frozenset().union(*(recognise(text) for _, text in guidelines(messages)))
    on = set()
    for strategy in Strategy:
        roll = rng.random()
        if strategy in told:
            likely = habits.adherence
        else:
            likely = habits.chance if sampling else 0.0
        if strategy in asked.calls_for() and roll < likely:
            on.add(strategy)
    return respond(asked, memory, frozenset(on))


def respond(asked: Asked, memory: Memory, on: frozenset[Strategy]) -> str:
    """The reply that the strategies `on` give; one that finds nothing to work with gives way to the next."""
    speaker = "assistant" if asked.told else "any" if asked.form is Form.advice else "user"
    hits = match(memory, asked.stems, asked.wants, speaker)
    if not hits:
        return "No fragment shares a word with the question.\nAnswer: The fragments do not say."
    reply: str | None = None
    if Strategy.abstain in on:
        reply = _abstain(asked, memory, hits)
    if reply is None and Strategy.preferences in on:
        reply = _preferences(asked, memory)
    if reply is None and Strategy.dates in on:
        reply = _dates(asked, memory, hits)
    if reply is None and Strategy.count in on:
        reply = _count(asked, memory, hits)
    if reply is None and Strategy.latest in on:
        reply = _latest(asked, memory, hits)
    return reply or _closest(asked, memory, hits)


# --- the strategies -------------------------------------------------------------------------------------------------------


def _closest(asked: Asked, memory: Memory, hits: Hits) -> str:
    best = hits[0][1]
    return f"The fragment closest to the question is {_cite(memory, best)}.\nAnswer: {_short(asked, best)}"


def _latest(asked: Asked, memory: Memory, hits: Hits) -> str | None:
    top, best = hits[0]
    began = memory.day(best)
    if began is None:
        return None
    found = [(score, s) for score, s in hits if score >= _SAME_THING * top and not s.asks and _fits(asked, s)]
    found += _changes(asked, memory, best, began)
    dated = [(memory.day(s) or date.min, score, s) for score, s in found]
    if len({day for day, _, _ in dated}) < 2:
        return None
    newest = max(dated, key=lambda item: (item[0], item[1]))[2]
    return (
        f"Several fragments speak of this, the first on {began}. "
        f"The most recent of them is {_cite(memory, newest)}.\nAnswer: {_short(asked, newest)}"
    )


def _changes(asked: Asked, memory: Memory, best: Sentence, began: date) -> Hits:
    """The later sentence, if any, that seems to tell what has become of the thing without naming it again."""
    if not asked.wants:
        return []
    linked = set(asked.stems) | names(best.text)
    found = []
    for position, sentence in enumerate(memory.sentences):
        day = memory.day(sentence)
        if sentence.by_assistant or sentence.asks or day is None or day <= began or not _fits(asked, sentence):
            continue
        strength = change(sentence.text)
        own = sum(memory.weight(s) for s in linked if s in sentence.stems)
        near = sum(memory.weight(s) for s in linked if s in memory.fragments[sentence.fragment].stems)
        # Names are in many sentences; a number, a time or a day of the week rarely is there by accident.
        if own and strength or strength == 2 and (near or asked.wants != "name"):
            found.append((strength + own + 0.25 * (near - own), -position))
    return [(score, memory.sentences[-position]) for score, position in [max(found)]] if found else []


def _count(asked: Asked, memory: Memory, hits: Hits) -> str | None:
    found = _occasions(asked, memory)
    if asked.form is Form.total:
        amounts = [(_amount(asked, s.text), s) for s in found]
        kept = [(value, s) for value, s in amounts if value is not None]
        if len(kept) < 2:
            return None
        total = f"{sum(value for value, _ in kept):g}"
        listed = ", ".join(f"{value:g} in {_cite(memory, s)}" for value, s in kept)
        money = "$" if asked.wants == "money" else ""
        return f"I add up what every matching fragment says: {listed}.\nAnswer: {money}{total}"
    if not found or any(stated(s.text, asked.noun) is not None for s in found):
        return None
    listed = ", ".join(_cite(memory, s) for s in found)
    return f"I count every matching fragment once: {listed}.\nAnswer: {len(found)}"


def _dates(asked: Asked, memory: Memory, hits: Hits) -> str | None:
    if asked.form is Form.when:
        best = hits[0][1]
        day = _day_of(memory, best)
        return f"The date of {_cite(memory, best)} is worked out from its own words.\nAnswer: {_spoken(day)}" if day else None
    events = _events(asked, memory)
    if asked.form is Form.difference:
        if len(events) == 1 and asked.date:
            days = [events[0][0], asked.date]
        elif len(events) == 2:
            days = [day for day, _, _ in events]
        else:
            return None
        count = dates.between(days[0], days[1], asked.unit)
        unit = asked.unit if count == 1 else f"{asked.unit}s"
        listed = " and ".join(f"{day} for {_cite(memory, s)}" for day, _, s in events)
        return f"I work out the dates ({listed}) and compute the difference.\nAnswer: {count} {unit}"
    if len(events) < 2:
        return None
    events.sort(key=lambda event: event[0], reverse=asked.reverse)
    listed = ", then ".join(f"{day} for {_cite(memory, s)}" for day, _, s in events)
    answer = events[0][1] if len(asked.parts) == 2 else ", then ".join(name for _, name, _ in events)
    return f"In chronological order: {listed}.\nAnswer: {answer}"


def _abstain(asked: Asked, memory: Memory, hits: Hits) -> str | None:
    needed = _COVERED_LOOSELY if asked.form in (Form.number, Form.total) else _COVERED
    for stems in [content(part) for part in asked.parts] if len(asked.parts) > 1 else [asked.stems]:
        covered, best = coverage(memory, stems)
        if covered < needed and best:
            missing = [s for s in stems if s not in best.stems]
            rarest = max(missing, key=lambda s: (s not in GENERIC, memory.weight(s)))
            return (
                f"No fragment mentions all of it; the closest is {_cite(memory, best)}.\n"
                f'Answer: This cannot be known from memory: there is no mention of "{_as_written(asked.text, rarest)}" there.'
            )
    return None


def _preferences(asked: Asked, memory: Memory) -> str | None:
    weights = {s: memory.weight(s) for s in asked.stems}
    scored = []
    for position, sentence in enumerate(memory.sentences):
        if sentence.by_assistant:
            continue
        liking = preference(sentence.text)
        if not liking:
            continue
        own = sum(w for s, w in weights.items() if s in sentence.stems)
        near = sum(w for s, w in weights.items() if s in memory.fragments[sentence.fragment].stems)
        if near:
            scored.append((-(min(liking, 3) + own + 0.5 * near), position))
    if not scored:
        return None
    chosen = [memory.sentences[p] for _, p in sorted(scored)[:3]]
    quoted = "; ".join(_trim(s.text) for s in chosen)
    return (
        f"The person's own preferences stand in {', '.join(_cite(memory, s) for s in chosen)}.\n"
        f"Answer: Something that fits what you told me: {quoted}"
    )


# --- what they share ------------------------------------------------------------------------------------------------------


def _occasions(asked: Asked, memory: Memory) -> list[Sentence]:
    """One sentence for each separate occasion that a counting question is about, oldest first."""
    hits = match(memory, asked.stems)
    span = dates.span(asked.text, asked.date) if asked.date else None
    top = max((score for score, s in hits if not s.by_assistant), default=0.0)
    head = asked.noun[-1] if asked.noun and asked.wants != "money" and asked.noun[-1] in memory.index else None
    kept: dict[object, Sentence] = {}
    seen: list[frozenset[str]] = []
    for score, sentence in hits:
        if sentence.by_assistant or sentence.asks or score < (_SAME_HEAD if head in sentence.stems else _SAME_KIND) * top:
            continue
        if head and head not in sentence.stems or not took_place(sentence, asked.stems, asked.own):
            continue
        said = memory.day(sentence)
        day = dates.mentioned(sentence.text, said) if said else None
        when = day or said
        if when and span and not span[0] <= when <= span[1]:
            continue
        own = names(sentence.text, asked.stems)
        # What is told again without a day of its own is the same occasion.
        if (when or sentence.fragment) in kept or not day and any(own & other for other in seen):
            continue
        seen.append(own)
        kept[when or sentence.fragment] = sentence
    return sorted(kept.values(), key=lambda s: (_day_of(memory, s) or date.min, s.fragment))


def _amount(asked: Asked, text: str) -> float | None:
    if asked.wants == "money":
        found = re.search(r"[$€£]\s?(\d[\d,]*(?:\.\d+)?)", text)
        return float(found.group(1).replace(",", "")) if found else None
    if asked.noun:
        return stated(text, asked.noun)
    return next((value for value, _ in numbers(text)), None)


def _events(asked: Asked, memory: Memory) -> list[tuple[date, str, Sentence]]:
    """The day, the wording and the sentence of each thing that a question sets side by side."""
    events: list[tuple[date, str, Sentence]] = []
    if not asked.parts:
        found = _occasions(asked, memory)
        return [(day, _trim(s.text), s) for s in found if (day := _day_of(memory, s))]
    for part in asked.parts:
        own = content(part)
        merged = match(memory, own)
        around = {id(s): score for score, s in match(memory, asked.stems)}
        merged = sorted(((score + 0.3 * around.get(id(s), 0.0), s) for score, s in merged), key=lambda hit: -hit[0])
        chosen = next((s for _, s in merged if all(s is not other for _, _, other in events)), None)
        day = _day_of(memory, chosen) if chosen else None
        if chosen and day:
            events.append((day, _as_asked(asked.text, part), chosen))
    return events


def _day_of(memory: Memory, sentence: Sentence) -> date | None:
    said = memory.day(sentence)
    return (dates.mentioned(sentence.text, said) or said) if said else None


def _fits(asked: Asked, sentence: Sentence) -> bool:
    return not asked.wants or asked.wants in kinds(sentence.text)


def _short(asked: Asked, sentence: Sentence) -> str:
    """The sentence, after the number alone where one is asked for."""
    text = _trim(sentence.text)
    if asked.form in (Form.number, Form.total):
        value = stated(sentence.text, asked.noun)
        if value is None:
            value = next((v for v, _ in numbers(sentence.text)), None)
        if value is not None:
            return f"{value:g} (\"{text}\")"
    return text


def _spoken(day: date) -> str:
    return f"{day.day} {day:%B} {day.year}"


def _cite(memory: Memory, sentence: Sentence) -> str:
    fragment = memory.fragments[sentence.fragment]
    said = f" of {fragment.day}" if fragment.day else ""
    return f"[{fragment.number}]{said}, \"{_trim(sentence.text)}\""


def _trim(text: str) -> str:
    listed = text.replace('"', "'").split()
    return " ".join(listed) if len(listed) <= _LONGEST else " ".join(listed[:_LONGEST]) + " ..."


def _as_asked(question: str, part: str) -> str:
    start = question.lower().find(part)
    return question[start : start + len(part)] if start >= 0 else part


def _as_written(question: str, wanted: str) -> str:
    from metamem.backbones.simulation.reading import stem, words

    return next((w for w in words(question) if stem(w) == wanted), wanted)

"""Answers a question from fragments of memory by simple reading strategies.

In: an answer prompt's sections and a source of chance. Out: a step or two in prose and a last line `Answer: ...`.
Without a guideline that asks for more, the answer is the sentence that matches the question best. A guideline switches
on the strategy that it asks for; that acts where the question's form calls for it, and is followed most of the time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from metamem.backbones.simulation.events import count, reason_with_dates
from metamem.backbones.simulation.matching import GENERIC, Hits, change, coverage, kinds, match, names, preference
from metamem.backbones.simulation.questions import Asked, Form, ask
from metamem.backbones.simulation.reading import Memory, Sentence, content, parse, read_day, section
from metamem.backbones.simulation.strategies import Strategy, recognise
from metamem.backbones.simulation.wording import as_written, cited, short_answer, trimmed
from metamem.core.calls import Message

_ASKED_ON = re.compile(r"The question is asked on (.+)")
_SEARCH = re.compile(r"^Search .*\n?", re.MULTILINE)
_GUIDELINE = re.compile(r"^\[(\w+)\]\s+(.+)$", re.MULTILINE)

# Sentences that match nearly as well as the best one speak of the same thing.
_SAME_THING = 0.72
# How much of the question one sentence must hold, its fragment counting half; less where many are to be counted.
_COVERED = 0.74
_COVERED_LOOSELY = 0.5
_QUOTED_WISHES = 3


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
    # What searches found may stand in messages after it.
    text = next((m.content for m in reversed(messages) if "<question>" in m.content), "")
    dated = _ASKED_ON.search(text, max(text.rfind("</question>"), 0))
    return ask((section(messages, "question") or "").strip(), read_day(dated.group(1)) if dated else None)


def remembered(messages: Sequence[Message]) -> Memory:
    """The fragments of a prompt, and those that searches found since."""
    found = [_SEARCH.sub("", block) for m in messages if (block := section([m], "results")) is not None]
    return parse("\n".join([section(messages, "memories") or "", *found]))


def answer(messages: Sequence[Message], habits: Habits, sampled: bool, rng: random.Random) -> str:
    """The reply to an answer prompt. `rng` is asked once per strategy, in the same order for every prompt."""
    asked = asked_in(messages)
    memory = remembered(messages)
    wanted = frozenset[Strategy]().union(*(recognise(text) for _, text in guidelines(messages)))
    likely = {s: habits.adherence if s in wanted else habits.chance if sampled else 0.0 for s in Strategy}
    rolls = {s: rng.random() for s in Strategy}
    return respond(asked, memory, frozenset(s for s in asked.calls_for() if rolls[s] < likely[s]))


def respond(asked: Asked, memory: Memory, on: frozenset[Strategy]) -> str:
    """The reply that the strategies `on` give; one that finds nothing to work with gives way to the next."""
    speaker = "assistant" if asked.told else "any" if asked.form is Form.advice else "user"
    hits = match(memory, asked.stems, asked.wants, speaker)
    if not hits:
        return "No word of the question is in the fragments.\nAnswer: The fragments do not say."
    reply: str | None = None
    if Strategy.abstain in on:
        reply = _abstain(asked, memory)
    if reply is None and Strategy.preferences in on:
        reply = _preferences(asked, memory)
    if reply is None and Strategy.dates in on:
        reply = reason_with_dates(asked, memory, hits)
    if reply is None and Strategy.count in on:
        reply = count(asked, memory)
    if reply is None and Strategy.latest in on:
        reply = _latest(asked, memory, hits)
    return reply or _closest(asked, memory, hits)


def _closest(asked: Asked, memory: Memory, hits: Hits) -> str:
    best = hits[0][1]
    return f"The fragment closest to the question is {cited(memory, best)}.\nAnswer: {short_answer(asked, best)}"


def _latest(asked: Asked, memory: Memory, hits: Hits) -> str | None:
    """The newest of the sentences that speak of the same thing, or that seem to tell what has become of it."""
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
        f"Several fragments speak of this, the closest on {began}. "
        f"The most recent of them is {cited(memory, newest)}.\nAnswer: {short_answer(asked, newest)}"
    )


def _changes(asked: Asked, memory: Memory, best: Sentence, began: date) -> Hits:
    """The later sentence, if any, that seems to tell what has become of a thing without naming it again."""
    if not asked.wants:
        return []
    linked = {s: memory.weight(s) for s in (*asked.stems, *sorted(names(best.text)))}
    found = []
    for position, sentence in enumerate(memory.sentences):
        day = memory.day(sentence)
        if sentence.by_assistant or sentence.asks or day is None or day <= began or not _fits(asked, sentence):
            continue
        strength = change(sentence.text)
        if not strength:
            continue
        own = sum(w for s, w in linked.items() if s in sentence.stems)
        near = sum(w for s, w in linked.items() if s in memory.fragments[sentence.fragment].stems)
        # Names are in many sentences; a number, a time or a day of the week is rarely there by accident.
        if own or (strength == 2 and (near or asked.wants != "name")):
            found.append((strength + own + 0.25 * (near - own), -position))
    return [(score, memory.sentences[-position]) for score, position in [max(found)]] if found else []


def _abstain(asked: Asked, memory: Memory) -> str | None:
    """Says that the answer cannot be known when no sentence holds enough of the question, or of a phrase of it."""
    needed = _COVERED_LOOSELY if asked.form in (Form.number, Form.total) else _COVERED
    for stems in [content(part) for part in asked.parts] if len(asked.parts) > 1 else [list(asked.stems)]:
        covered, best = coverage(memory, stems)
        missing = [s for s in stems if not best or s not in best.stems]
        if covered < needed and missing:
            rarest = max(missing, key=lambda s: (s not in GENERIC, memory.weight(s)))
            closest = f"; the closest is {cited(memory, best)}" if best else ""
            thing = as_written(asked.text, rarest)
            return (
                f"No fragment mentions all of it{closest}.\n"
                f'Answer: This cannot be known from memory: there is no mention of "{thing}" there.'
            )
    return None


def _preferences(asked: Asked, memory: Memory) -> str | None:
    """Quotes what the person has said to like, want or avoid, nearest to the question first."""
    weights = {s: memory.weight(s) for s in asked.stems}
    scored = []
    for position, sentence in enumerate(memory.sentences):
        liking = 0 if sentence.by_assistant else preference(sentence.text)
        near = sum(w for s, w in weights.items() if s in memory.fragments[sentence.fragment].stems) if liking else 0.0
        if near:
            own = sum(w for s, w in weights.items() if s in sentence.stems)
            scored.append((-(min(liking, 3) + own + 0.5 * near), position))
    if not scored:
        return None
    chosen = [memory.sentences[position] for _, position in sorted(scored)[:_QUOTED_WISHES]]
    return (
        f"The person's own preferences stand in {', '.join(cited(memory, s) for s in chosen)}.\n"
        f"Answer: Something that fits what you told me: {'; '.join(trimmed(s.text) for s in chosen)}"
    )


def _fits(asked: Asked, sentence: Sentence) -> bool:
    return not asked.wants or asked.wants in kinds(sentence.text)

"""Reviews attempts, proposes changes to the guidelines from the reviews, and merges the proposals of a batch.

In: the sections of a reflect, propose or consolidate prompt. Out: a review in four parts, or prose with a fenced JSON
list of operations. What an attempt did is told from its own words; what a question would have needed, from its form and
the accepted answer.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metamem.backbones.simulation.answering import asked_in, guidelines
from metamem.backbones.simulation.judging import UNKNOWN
from metamem.backbones.simulation.questions import Form
from metamem.backbones.simulation.reading import content, section
from metamem.backbones.simulation.strategies import CLOSEST, GUIDELINES, Strategy, recognise
from metamem.core.calls import Message

_FORM_NEEDS = {
    Form.total: Strategy.count,
    Form.number: Strategy.count,
    Form.difference: Strategy.dates,
    Form.order: Strategy.dates,
    Form.when: Strategy.dates,
    Form.advice: Strategy.preferences,
    Form.fact: Strategy.latest,
}
_STEPS = {
    Strategy.latest: "It compared the fragments that speak of the same thing and took the most recent one.",
    Strategy.count: "It went through all matching fragments and counted or added up what they say.",
    Strategy.dates: "It worked out the dates of the events and compared them in chronological order.",
    Strategy.abstain: "It checked whether the fragments cover the question and said that this cannot be known.",
    Strategy.preferences: "It recalled the preferences that the person has stated and built the answer on them.",
}
_PLAIN_STEPS = "It read the fragment closest to the question and answered from it alone."
_JUDGED = re.compile(r"judged (RIGHT|WRONG)[^<]*<attempt>")
_CITED = re.compile(r"\[(\d+)\]")
_REVIEW = re.compile(r"^Attempt \d+, judged (RIGHT|WRONG):\n", re.MULTILINE)
_PROPOSAL = re.compile(r"^\[(\w+)\] (add|update|delete)(?: (\w+))?(?:: (.+))?$", re.MULTILINE)
_CAP = re.compile(r"at most (\d+) guidelines")

# Wordings this alike say the same.
_ALIKE = 0.5
# How often a guideline that exists already is put in other words, and one that misled is given up.
_REWORDED = 0.25
_GIVEN_UP = 0.1


def used(attempt: str) -> frozenset[Strategy]:
    """The strategies that an attempt's steps speak of; quotations and the answer itself do not count."""
    return recognise(attempt.rpartition("Answer:")[0] or attempt)


def reflect(messages: Sequence[Message], rng: random.Random) -> str:
    """The review of one attempt, in the four parts that the prompt asks for."""
    attempt = section(messages, "attempt") or ""
    judged = _JUDGED.search(messages[-1].content)
    right = bool(judged and judged.group(1) == "RIGHT")
    strategies = sorted(used(attempt), key=list(Strategy).index)
    cited = list(dict.fromkeys(_CITED.findall(attempt)))
    relied = (
        f"It relied on {', '.join(f'[{n}]' for n in cited)}." if cited else "It relied on no fragment in particular."
    )
    steps = " ".join(_STEPS[s] for s in strategies) or _PLAIN_STEPS
    if right:
        lesson = rng.choice(GUIDELINES[strategies[-1]] if strategies else CLOSEST)
        turning = (
            "That step was what the question called for." if strategies else "The closest fragment held the answer."
        )
    else:
        needed = _needed(messages)
        tried = needed in strategies
        lesson = rng.choice(CLOSEST if tried else GUIDELINES[needed])
        turning = (
            f"It {'took the wrong fragments for that step' if tried else 'stopped before the step that mattered'}."
        )
        relied += " It passed over others that mattered."
    return f"1. Fragments: {relied}\n2. Steps: {steps}\n3. Turning point: {turning}\n4. Lesson: {lesson}"


def _needed(messages: Sequence[Message]) -> Strategy:
    """The strategy that the question called for, as the accepted answer and the question's form tell."""
    if UNKNOWN.search((section(messages, "truth") or "").lower()):
        return Strategy.abstain
    return _FORM_NEEDS[asked_in(messages).form]


# --- proposing --------------------------------------------------------------------------------------------------------


def propose(messages: Sequence[Message], rng: random.Random) -> str:
    """Changes that would have every attempt do what the right ones did and the wrong ones did not."""
    reviews = _reviews(section(messages, "reflections") or "")
    existing = [(id, text, recognise(text)) for id, text in guidelines(messages)]
    did: dict[bool, Counter[Strategy]] = {True: Counter(), False: Counter()}
    lessons: Counter[Strategy] = Counter()
    sizes = Counter(right for right, _ in reviews)
    for right, text in reviews:
        did[right].update(recognise(_part(text, 2)))
        lessons.update(recognise(_part(text, 4)))

    def lead(strategy: Strategy) -> float:
        share = {right: did[right][strategy] / sizes[right] if sizes[right] else 0.0 for right in (True, False)}
        return share[True] - share[False]

    helped = max(Strategy, key=lambda s: (lead(s), lessons[s]))
    misled = min(Strategy, key=lead)
    reword, give_up, chosen = rng.random() < _REWORDED, rng.random() < _GIVEN_UP, rng.randrange(1_000_000)
    operations: list[dict[str, Any]] = []
    note = "The attempts differ by luck rather than by method, so nothing needs to change."
    if lead(helped) > 0:
        wordings = GUIDELINES[helped]
        text = wordings[chosen % len(wordings)]
        similar = next((id for id, _, strategies in existing if helped in strategies), None)
        if similar is None:
            operations.append({"action": "add", "text": text})
            note = "The right attempts took a step that the wrong ones left out, and no guideline asks for it yet."
        elif reword and all(text != old for _, old, _ in existing):
            operations.append({"action": "update", "id": similar, "text": text})
            note = f"{similar} asks for what the right attempts did; said more plainly, more attempts would follow it."
        else:
            note = f"{similar} already asks for what the right attempts did."
    if lead(misled) < 0 and give_up:
        target = next((id for id, _, strategies in existing if strategies == {misled}), None)
        if target and all(o.get("id") != target for o in operations):
            operations.append({"action": "delete", "id": target})
            note += f" {target} led the wrong attempts astray."
    return f"{note}\n\n{_fenced(operations)}"


def _reviews(text: str) -> list[tuple[bool, str]]:
    parts = _REVIEW.split(text)[1:]
    return [(parts[i] == "RIGHT", parts[i + 1]) for i in range(0, len(parts) - 1, 2)]


def _part(review: str, number: int) -> str:
    """A numbered part of a review; all of it where the review has no such parts."""
    match = re.search(rf"^\W*{number}\.(.*?)(?=^\W*{number + 1}\.|\Z)", review, re.MULTILINE | re.DOTALL)
    return match.group(1) if match else review


# --- consolidating ----------------------------------------------------------------------------------------------------


@dataclass
class _Change:
    """One change that several proposals may stand behind."""

    action: str
    target: str | None
    texts: Counter[str]
    sources: list[str]


def consolidate(messages: Sequence[Message]) -> str:
    """One change for proposals that say the same; what a guideline says is dropped, contradictions go by number."""
    existing = guidelines(messages)
    changes: list[_Change] = []
    for id, action, target, text in _PROPOSAL.findall(section(messages, "proposals") or ""):
        same = next((c for c in changes if _same(c, action, target, text)), None)
        if same is None:
            same = _Change(action, target or None, Counter(), [])
            changes.append(same)
        same.sources.append(id)
        if text:
            same.texts[text] += 1
    kept: list[_Change] = []
    for change in sorted(changes, key=lambda c: -len(c.sources)):
        if change.action == "add":
            if not any(_alike(text, old) for text in change.texts for _, old in existing):
                kept.append(change)
        elif change.target in {id for id, _ in existing} and all(k.target != change.target for k in kept):
            kept.append(change)
    cap = _CAP.search(messages[-1].content)
    if cap:
        room = int(cap.group(1)) - len(existing) + sum(c.action == "delete" for c in kept)
        adds = [c for c in kept if c.action == "add"][: max(room, 0)]
        kept = [c for c in kept if c.action != "add" or c in adds]
    operations = []
    for change in kept:
        operation: dict[str, Any] = {"action": change.action}
        if change.target:
            operation["id"] = change.target
        if change.texts:
            operation["text"] = max(change.texts, key=lambda text: change.texts[text])
        operations.append(operation | {"from": change.sources})
    said = f"{len(operations)} of the proposed changes remain after merging." if operations else "Nothing new remains."
    return f"{said}\n\n{_fenced(operations)}"


def _same(change: _Change, action: str, target: str, text: str) -> bool:
    if change.action != action or change.target != (target or None):
        return False
    return action != "add" or any(_alike(text, other) for other in change.texts)


def _alike(first: str, second: str) -> bool:
    """Whether two guidelines ask for the same: one strategy in common, or much the same words."""
    if recognise(first) or recognise(second):
        return bool(recognise(first) & recognise(second))
    one, other = set(content(first)), set(content(second))
    return len(one & other) >= _ALIKE * len(one | other)


def _fenced(operations: list[dict[str, Any]]) -> str:
    items = ",\n".join("  " + json.dumps(operation, ensure_ascii=False) for operation in operations)
    return f"```json\n[\n{items}\n]\n```" if operations else "```json\n[]\n```"

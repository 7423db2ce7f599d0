"""Builds memories as a language model would be asked to: writes down what messages say, and keeps memories in order.

In: the sections of an extraction or an update prompt. Out: JSON in the form that the prompt asks for. A fact is what a
message says in its first telling sentences, in its own words; an update joins what two memories say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from metamem.backbones.simulation.reading import content, section
from metamem.core.calls import Message

_MARK = re.compile(r"^\[(\d{1,6})\] ?", re.MULTILINE)
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2} \([A-Z][a-z]{2}\) \d{2}:\d{2}\s+")
_SPEAKER = re.compile(r"([^:\n]{1,60}):\s+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'A-Z0-9(])|\n+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

# How much of a message is told, and how alike two memories are to be about one thing.
_SENTENCES = {"user": 4, "assistant": 2}
_WORDS = 70
_ALIKE = 0.5


def extract(messages: Sequence[Message]) -> str:
    """A fact for each message that says something, with the message's number, as a JSON object."""
    facts = []
    for number, text in entries(section(messages, "messages") or ""):
        said = _STAMP.sub("", text, count=1)
        speaker = _SPEAKER.match(said)
        name = speaker.group(1) if speaker else "user"
        told = _told(said[speaker.end() :] if speaker else said, _SENTENCES.get(name, _SENTENCES["user"]))
        if told:
            facts.append({"source": number, "fact": f"{name}: {told}"})
    return json.dumps({"facts": facts}, ensure_ascii=False)


def update(messages: Sequence[Message]) -> str:
    """What becomes of a memory: deleted when a later one says it all, updated when the latest says it otherwise."""
    entry = _STAMP.sub("", section(messages, "entry") or "", count=1).strip()
    newer = [_STAMP.sub("", text, count=1).strip() for _, text in entries(section(messages, "newer") or "")]
    own = set(content(entry))
    action, text = "ignore", ""
    for later in newer:
        theirs = set(content(later))
        if own <= theirs:
            action, text = "delete", ""
            break
        alike = len(own & theirs) / max(1, len(own | theirs))
        if alike >= _ALIKE and _NUMBER.findall(entry) != _NUMBER.findall(later):
            action, text = "update", f"{later} Before that: {entry}"
    return json.dumps({"action": action, "text": text}, ensure_ascii=False)


def entries(block: str) -> list[tuple[int, str]]:
    """The numbered entries of a section: `[n]`, then the text up to the next number in turn."""
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(block):
        # An entry's own text may have lines that begin with such a number.
        if not marks or int(mark.group(1)) == int(marks[-1].group(1)) + 1:
            marks.append(mark)
    ends = [*(mark.start() for mark in marks[1:]), len(block)]
    return [(int(m.group(1)), block[m.end() : end].strip()) for m, end in zip(marks, ends, strict=False)]


def _told(text: str, sentences: int) -> str:
    """The first sentences that say something, at most so many; questions only where nothing else is said."""
    parts = [p.strip() for p in _SENTENCE.split(text) if content(p)]
    telling = [p for p in parts if not p.endswith("?")] or parts[:1]
    return " ".join(" ".join(telling[:sentences]).split()[:_WORDS])

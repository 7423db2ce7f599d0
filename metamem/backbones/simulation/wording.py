"""How the simulated backbone cites fragments and words its answers.

In: sentences of a memory, and the question. Out: pieces of prose. What is quoted stands in double quotes and holds
none, so that a reader can tell an attempt's own words from those of the fragments.
"""

from __future__ import annotations

from datetime import date

from metamem.backbones.simulation.matching import numbers, stated
from metamem.backbones.simulation.questions import Asked, Form
from metamem.backbones.simulation.reading import Memory, Sentence, stem, words
from metamem.backbones.simulation.vocabulary import MONTHS

_LONGEST = 60


def trimmed(text: str) -> str:
    """A sentence without double quotes and line breaks, cut after 60 words."""
    listed = text.replace('"', "'").split()
    return " ".join(listed[:_LONGEST]) + (" ..." if len(listed) > _LONGEST else "")


def cited(memory: Memory, sentence: Sentence) -> str:
    """A sentence with its fragment's number and day."""
    fragment = memory.fragments[sentence.fragment]
    said = f" of {fragment.day}" if fragment.day else ""
    return f'[{fragment.number}]{said}, "{trimmed(sentence.text)}"'


def short_answer(asked: Asked, sentence: Sentence) -> str:
    """The sentence; where a number is asked for and it holds one, that number and then the sentence."""
    text = trimmed(sentence.text)
    if asked.form in (Form.number, Form.total):
        value = stated(sentence.text, asked.noun)
        if value is None:
            value = next((v for v, _ in numbers(sentence.text)), None)
        if value is not None:
            return f'{value:.12g} ("{text}")'
    return text


def spoken(day: date) -> str:
    """A day as people write it, `8 March 2024`."""
    return f"{day.day} {MONTHS[day.month - 1].title()} {day.year}"


def as_asked(question: str, part: str) -> str:
    """A phrase of a question, in the question's own spelling."""
    start = question.lower().find(part)
    return question[start : start + len(part)] if start >= 0 else part


def as_written(question: str, wanted: str) -> str:
    """The first word of a question that has a stem."""
    return next((word for word in words(question) if stem(word) == wanted), wanted)

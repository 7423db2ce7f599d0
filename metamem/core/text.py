"""Memory units and dates as prompts show them."""

from __future__ import annotations

import re
from datetime import datetime

from metamem.core.records import Attempt, MemoryUnit


def told(attempt: Attempt) -> str:
    """An attempt as a reader is told of it: its searches with what they found, then the answer."""
    lines = []
    for search in attempt.searches:
        lines += [f"Searched the memory, {search.call}: {search.reply}", *(f"- {line}" for line in search.lines)]
    return "\n".join([*lines, attempt.response])


# Every line end that a reader may see as one.
_NUMBERED = re.compile(r"(?:(?<=[\n\r\v\f\x85\u2028\u2029])|^)\[(?=\s*\d+\s*\])")

CUT_MARK = " [...]"

# Ends the kind of a unit whose text was cut: it no longer vouches for all of its turns.
CUT_KIND = "/cut"

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def format_date(date: datetime | None) -> str:
    """Return a date as prompts show it, `2023-05-20 (Sat) 02:21`; English whatever the locale. Empty for none."""
    if date is None:
        return ""
    written = date.isoformat(" ", "minutes")
    return f"{written[:10]} ({_WEEKDAYS[date.weekday()]}) {written[11:16]}"


def on_one_line(text: str) -> str:
    """Return a text without line ends, so that a list of lines has no line that the text made up."""
    return " ".join(text.split())


def render_unit(unit: MemoryUnit) -> str:
    """A unit as prompts show it: its date and weekday when known, then its text, on a new line when it has several.

    A line of the text that is numbered as units are is none of its own: its bracket becomes `⁅`.
    """
    text = _NUMBERED.sub("⁅", unit.text) if "\n" in unit.text else unit.text
    if unit.time is None:
        return text
    gap = "\n" if "\n" in text else " "
    return f"{format_date(unit.time)}{gap}{text}"

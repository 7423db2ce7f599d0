"""Guidelines that are kept apart: what no guideline on the use of memory is, whoever wrote it.

In: a proposed text, and the texts of the data that it was learned from. Out: why it is kept apart, or nothing; and
which names and numbers of the data it holds, which is measured only. What is
kept apart is recorded and shown to people, never to a model: it would stand among the instructions of every later
prompt. Only what no honest guideline says is caught; what is vague or wrong is for the validation part to tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_ANY = "(?:all|any|the|your|every|these|those|of|other|previous|prior|earlier|above|preceding|given)"
# Pattern → what it shows.
_FOREIGN = (
    (
        re.compile(r"</\s*\w|<\s*(?:script|iframe|img|svg|style|object|embed|form|a\s)\b|<\||<<\s*\w|\[/?INST\]", re.I),
        "it holds markup or a mark of a chat template",
    ),
    (re.compile(r"\{\{|\}\}|\{%|%\}|\$\{"), "it holds the code of a template"),
    (re.compile(r"\b(?:https?|ftp|file|javascript|data):\S", re.I), "it holds an address"),
    (
        re.compile(
            rf"\b(?:ignore|disregard|forget|override|bypass)\s+(?:{_ANY}\s+)+"
            r"(?:instructions?|rules?|prompts?|guidelines?|messages?|context)\b"
            r"|\b(?:reveal|repeat|print|show|output)\s+(?:\w+\s+){0,2}(?:system\s+prompt|instructions|api\s+keys?)\b"
            r"|\byou\s+are\s+(?:now|no\s+longer)\b|\bdeveloper\s+mode\b",
            re.I,
        ),
        "it gives orders about the prompt itself",
    ),
    (
        re.compile(
            r"(?:^|[.;:,]\s*|\b(?:always|just|only|simply)\s+)(?:answer|say|reply|respond|output|write)\s+"
            rf"(?:with\s+)?[{_QUOTES}]?(?:yes|no|correct|true|false)[{_QUOTES}]?"
            r"(?:\s+(?:always|regardless|(?:to|for)\s+(?:every|each|all|any)\b.*|(?:whatever|no\s+matter)\b.*))?\s*[.!]*$",
            re.I,
        ),
        "it gives the answer away, whatever the question",
    ),
)
# So many words in a row that stand in the data are no coincidence; fewer are turns of phrase.
_RUN = 8
_WORD = re.compile(r"\w+")


class Data:
    """The texts that guidelines are learned from, as what a guideline must not repeat of them."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        held = list(texts)
        self._runs = {run for text in held for run in _runs(text)}
        self._named = {word for text in held for word in _named(text)}

    def facts(self, text: str) -> list[str]:
        """Return the names and numbers of a text that stand in the data, too; sorted."""
        return sorted(self._named.intersection(_named(text)))

    def repeated(self, text: str) -> str:
        """Return the first words of a text that stand in the data just so; empty where there are none."""
        return next((" ".join(run) for run in _runs(text) if run in self._runs), "")


NO_DATA = Data()


def why_apart(text: str, data: Data = NO_DATA) -> str:
    """Say why a proposed guideline is kept apart; empty for one that is not."""
    reason = next((reason for pattern, reason in _FOREIGN if pattern.search(text)), "")
    if not reason and (words := data.repeated(text)):
        reason = f"it repeats the data: {words}"
    return reason


# The same memories are shown step after step.
@lru_cache(maxsize=4096)
def _named(text: str) -> frozenset[str]:
    """Return the numbers of a text and its capitalised words that do not begin a sentence, in lower case."""
    found = set()
    for match in _WORD.finditer(text):
        before = text[max(0, match.start() - 3) : match.start()].rstrip()[-1:]
        inside = before.isalnum() or before in (",", ";")
        if match[0].isdigit() or (inside and len(match[0]) > 1 and match[0][0].isupper()):
            found.add(match[0].casefold())
    return frozenset(found)


def _runs(text: str) -> Iterable[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return (tuple(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1))

"""Keeps data inside its prompt section: text from models, memories and data sets cannot open or close one.

In: any text that goes into a prompt. Out: `neutralise`, the same text with look-alikes of section tags defused, and
`environment`, the Jinja environment that does this to everything a template inserts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

# Tags that prompts outside of the catalogue use, and those around calls of tools; templates bring their own.
_RESERVED = frozenset(
    ("memory", "answer", "attempts", "reflection", "operations", "rubric", "verdict", "tool_call", "tool_response")
)

# Characters that no one sees (zero width, direction, variation, fillers) do not hide a tag, nor do blanks before it.
_UNSEEN = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_unseen = re.compile(f"[{_UNSEEN}]+")
_gap = re.compile(rf"[\s{_UNSEEN}]*")
# `<` as it is, fullwidth and small.
_OPENING = re.compile("[<\uff1c\ufe64]")
# What any tag or token begins with: most texts hold none of these.
_BEGINNINGS = ("<", "[", "\uff1c", "\ufe64")
# No tag is longer, whatever stands between its letters.
_LONGEST = 200
# What chat templates mark turns with; a server reads such text as the mark itself.
_CONTROL = re.compile(
    r"<(?=\|[^|<>\n]{1,40}\|>|/?s>|/?(?:start|end)_of_turn>|</?SYS>>|/?(?:bos|eos|pad|unk|think)>)"
    r"|\[(?=/?(?:INST|SYS|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\])",
    re.IGNORECASE,
)


class _Sections:
    """The section tags that data must not hold, and what finds them."""

    def __init__(self) -> None:
        self.tags = _RESERVED
        self.protect(())

    def protect(self, tags: Iterable[str]) -> None:
        self.tags |= frozenset(tags)
        self.named = re.compile(rf"(?:{'|'.join(sorted(self.tags))})\b")

    def defuse(self, text: str) -> str:
        """The text with `‹` where one of these tags begins."""

        def opening(found: re.Match[str]) -> str:
            place = _gap.match(text, found.end()).end()  # type: ignore[union-attr]
            if text[place : place + 1] in ("/", "\uff0f"):
                place = _gap.match(text, place + 1).end()  # type: ignore[union-attr]
            # Fullwidth and other forms of a letter read as the letter.
            name = unicodedata.normalize("NFKC", _unseen.sub("", text[place : place + _LONGEST])).casefold()
            return "‹" if self.named.match(name) else found.group()

        return _OPENING.sub(opening, text)


_sections = _Sections()


def protect(tags: Iterable[str]) -> None:
    """From now on, neutralise these section tags, too."""
    _sections.protect(tags)


def sections() -> frozenset[str]:
    """The section tags that are neutralised: those of all registered templates, and some reserved ones."""
    return _sections.tags


def neutralise(text: str) -> str:
    """`text` with `<` replaced by `‹` wherever it begins one of the project's section tags or a chat template's control
    token (there `[` by `⁅`, too); all else stays as it is.
    """
    if not any(mark in text for mark in _BEGINNINGS):
        return text
    return _CONTROL.sub(lambda m: "‹" if m.group() == "<" else "⁅", _sections.defuse(text))


def environment(loader: BaseLoader, *, sandboxed: bool = False, fenced: bool = True) -> Environment:
    """A Jinja environment for prompts that neutralises every value a template inserts.

    An undefined variable and a None raise `jinja2.UndefinedError`. What a macro returns counts as a value: templates
    that share sections use `include` or `extends`. `sandboxed` is for templates that the project did not write. What is
    not `fenced` is inserted as it is, which only a measurement of the fences wants.
    """
    from jinja2 import Environment, StrictUndefined, UndefinedError
    from jinja2.sandbox import SandboxedEnvironment

    def insert(value: Any) -> Any:
        if value is None:
            raise UndefinedError("a template inserts a value that is None")
        text = str(value)  # also of a list: its repr holds the texts
        return neutralise(text) if fenced else text

    # Prompts are plain text: escaping for HTML would change the data.
    return (SandboxedEnvironment if sandboxed else Environment)(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        autoescape=False,
        finalize=insert,
    )

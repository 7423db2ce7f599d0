"""Keeps data inside its prompt section: text from models, memories and data sets cannot open or close one.

In: any text that goes into a prompt. Out: `neutralise`, the same text with look-alikes of section tags defused, and
`environment`, the Jinja environment that does this to everything a template inserts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

# Tags that prompts outside of the catalogue use, and those around calls of tools; templates bring their own.
_RESERVED = frozenset(
    ("memory", "answer", "attempts", "reflection", "operations", "rubric", "verdict", "tool_call", "tool_response")
)

# Blanks and characters that no one sees (zero width, direction) do not hide a tag.
_GAP = r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]*"
# What chat templates mark turns with; a server reads such text as the mark itself.
_CONTROL = re.compile(r"<(?=\|[^|<>\n]{1,40}\|>|/?s>|/?(?:start|end)_of_turn>)|\[(?=/?(?:INST|SYS)\])", re.IGNORECASE)


class _Sections:
    """The section tags that data must not hold, and the pattern that finds them."""

    def __init__(self) -> None:
        self.tags = _RESERVED
        self.protect(())

    def protect(self, tags: Iterable[str]) -> None:
        self.tags |= frozenset(tags)
        names = "|".join(sorted(self.tags))
        self.opening = re.compile(rf"<(?={_GAP}(?:/{_GAP})?(?:{names})\b)", re.IGNORECASE)


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
    return _CONTROL.sub(lambda m: "‹" if m.group() == "<" else "⁅", _sections.opening.sub("‹", text))


def environment(loader: BaseLoader, *, sandboxed: bool = False) -> Environment:
    """A Jinja environment for prompts that neutralises every value a template inserts.

    An undefined variable and a None raise `jinja2.UndefinedError`. What a macro returns counts as a value: templates
    that share sections use `include` or `extends`. `sandboxed` is for templates that the project did not write.
    """
    from jinja2 import Environment, StrictUndefined, UndefinedError
    from jinja2.sandbox import SandboxedEnvironment

    def insert(value: Any) -> Any:
        if value is None:
            raise UndefinedError("a template inserts a value that is None")
        return neutralise(str(value))  # also of a list: its repr holds the texts

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

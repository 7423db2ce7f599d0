"""Keeps data inside its prompt section: text from models, memories and data sets cannot open or close one.

In: any text that goes into a prompt. Out: `neutralise`, the same text with look-alikes of section tags defused, and
`environment`, the Jinja environment that does this to everything a template inserts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

SECTIONS = (
    "guidelines",
    "memories",
    "memory",
    "question",
    "answer",
    "response",
    "attempt",
    "attempts",
    "reflection",
    "reflections",
    "operations",
    "rubric",
    "truth",
    "forbidden",
    "verdict",
    "proposals",
    "messages",
    "entry",
    "newer",
    "core",
    "semantic",
    "episodic",
    "chunk",
    "written",
    "notes",
    "task",
    "results",
    "tool_call",
    "tool_response",
)

# Blanks and characters that no one sees (zero width, direction) do not hide a tag.
_GAP = r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]*"
_TAG = re.compile(rf"<(?={_GAP}(?:/{_GAP})?(?:{'|'.join(SECTIONS)})\b)", re.IGNORECASE)
# What chat templates mark turns with; a server reads such text as the mark itself.
_CONTROL = re.compile(r"<(?=\|[^|<>\n]{1,40}\|>|/?s>|/?(?:start|end)_of_turn>)|\[(?=/?(?:INST|SYS)\])", re.IGNORECASE)


def neutralise(text: str) -> str:
    """`text` with `<` replaced by `‹` wherever it begins one of the project's section tags or a chat template's control
    token (there `[` by `⁅`, too); all else stays as it is.
    """
    return _CONTROL.sub(lambda m: "‹" if m.group() == "<" else "⁅", _TAG.sub("‹", text))


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

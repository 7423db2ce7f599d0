"""JSON inside the text that a model wrote: in a fence, bare, or with prose around it.

In: a reply. Out: the value that it states, small slips mended, or `UnreadableError` with what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)

OPENING = re.compile(r"\[(?=\s*(?:\{|\]))|\{(?=\s*[\"'])")

_WRAPPERS = ("operations", "actions", "changes", "guidelines", "proposals", "updates")


class UnreadableError(ValueError):
    """A reply that holds no readable list of operations; the message can be shown to the model."""


def last_bare(text: str, opens: re.Pattern[str]) -> list[Any] | None:
    """The last JSON list of objects (or empty list, or lone object) in prose; None without one, or when one is cut
    off.
    """
    last, position = None, 0
    while opening := opens.search(text, position):
        end = _balanced(text, opening.start())
        if end is None:
            return None
        found = parse_json(text[opening.start() : end])
        last = last if found is None else found
        position = end
    return last


def parse_json(text: str) -> list[Any] | None:
    """The JSON list (or single operation, as a list) that `text` begins with; None when there is none or it is cut
    off.
    """
    text = text.strip()
    if not text.startswith(("[", "{")):
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        end = _balanced(text, 0)
        if end is None:
            return None
        from json_repair import repair_json

        try:
            value = repair_json(text[:end], return_objects=True)
        except (ValueError, RecursionError):
            return None
    except RecursionError:
        return None
    if isinstance(value, Mapping):
        inner = next((value[k] for k in _WRAPPERS if isinstance(value.get(k), list)), None)
        return inner if inner is not None else [value]
    return value if isinstance(value, list) else None


def _balanced(text: str, start: int) -> int | None:
    """Where the bracket at `start` is closed (outside double-quoted strings); None when it never is."""
    depth, quoted, escaped = 0, False, False
    for i in range(start, len(text)):
        c = text[i]
        if quoted:
            quoted, escaped = (c != '"' or escaped), (c == "\\" and not escaped)
        elif c == '"':
            quoted = True
        elif c in "[{":
            depth += 1
        elif c in "]}":
            depth -= 1
            if depth == 0:
                return i + 1
    return None

"""Reads a builder's replies: facts with the message each came from, and decisions about single memories.

In: a reply as a model wrote it, in the JSON that its schema asks for, fenced or bare, with prose or reasoning around
it, with slips. Out: validated values, and what was refused. A reply that was cut off gives the whole items before the
cut, and says that it was cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metamem.replies.reasoning import split_reasoning

FACTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "facts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"source": {"type": "integer"}, "fact": {"type": "string"}},
                "required": ["source", "fact"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["facts"],
    "additionalProperties": False,
}
DECISION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"action": {"enum": ["update", "delete", "ignore"]}, "text": {"type": "string"}},
    "required": ["action", "text"],
    "additionalProperties": False,
}
ACTIONS = ("update", "delete", "ignore")

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_LISTS = ("facts", "data", "memories", "memory", "items", "results")
_SOURCES = ("source", "source_id", "message", "index", "id")
_TEXTS = ("fact", "text", "memory", "content")


class UnreadableError(ValueError):
    """A reply that does not hold what was asked for; the message can be shown to the model."""


@dataclass(frozen=True)
class Facts:
    """Facts as (index of the message, text), in the order of the reply; how many items were refused, by reason."""

    facts: tuple[tuple[int, str], ...]
    refused: Mapping[str, int]
    cut: bool = False


def read_facts(text: str, messages: int) -> Facts:
    """The facts of a reply about `messages` messages, counted from 0.

    Items that point at a message that does not exist, that hold no text or that are no fact at all are refused one by
    one; exact repetitions are dropped. Raises `UnreadableError` when there is no list of facts, or none in it.
    """
    value, cut = _value(text)
    if isinstance(value, Mapping):
        value = next((value[k] for k in _LISTS if isinstance(value.get(k), list)), [value])
    if not isinstance(value, list):
        raise UnreadableError("it holds no list of facts")
    facts: list[tuple[int, str]] = []
    refused = {"nowhere": 0, "malformed": 0}
    for item in value:
        source, fact = _fact(item)
        if source is None or not fact:
            refused["malformed"] += 1
        elif not 0 <= source < messages:
            refused["nowhere"] += 1
        elif (source, fact) not in facts:
            facts.append((source, fact))
    if refused["malformed"] and not facts and not refused["nowhere"] and not cut:
        raise UnreadableError('no item of its list is a fact with a "source" and a "fact"')
    return Facts(tuple(facts), refused, cut)


def read_decision(text: str) -> tuple[str, str]:
    """The action (update, delete, ignore) of a reply and, for an update, the new text.

    Raises `UnreadableError` without a known action, and for an update without a text.
    """
    value, cut = _value(text)
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if not isinstance(value, Mapping) or cut:
        raise UnreadableError("the JSON object is cut off or missing")
    action = str(value.get("action", "")).strip().lower()
    if action not in ACTIONS:
        raise UnreadableError(f'its "action" is none of {", ".join(ACTIONS)}')
    new = next((value[k] for k in ("text", "new_memory", "memory", "fact") if isinstance(value.get(k), str)), "")
    new = " ".join(new.split())
    if action == "update" and not new:
        raise UnreadableError('an update needs a "text"')
    return action, new if action == "update" else ""


def _fact(item: Any) -> tuple[int | None, str]:
    if not isinstance(item, Mapping):
        return None, ""
    given = {str(k).strip().lower(): v for k, v in item.items()}
    source = next((given[k] for k in _SOURCES if k in given), None)
    if isinstance(source, str) and re.fullmatch(r"\s*\[?\d{1,6}\]?\s*", source):
        source = int(source.strip().strip("[]"))
    fact = next((given[k] for k in _TEXTS if isinstance(given.get(k), str)), "")
    if isinstance(source, float) and source.is_integer():
        source = int(source)
    number = source if isinstance(source, int) and not isinstance(source, bool) else None
    return number, " ".join(fact.split())


def _value(text: str) -> tuple[Any, bool]:
    """The last JSON value of a reply (a model that corrects itself does so at the end), and whether it was cut off."""
    answer, _, finished = split_reasoning(text)
    if not finished:
        raise UnreadableError("the reasoning was not finished")
    if not answer.strip():
        raise UnreadableError("it is empty")
    blocks = [m.group(2) for m in _FENCE.finditer(answer)]
    for block in (*reversed(blocks), answer):
        found = _last(block)
        if found is not None:
            return found
    raise UnreadableError("it holds no JSON")


def _last(text: str) -> tuple[Any, bool] | None:
    found: tuple[Any, bool] | None = None
    position = 0
    decoder = json.JSONDecoder()
    while opening := _OPENING.search(text, position):
        start = opening.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except ValueError:
            end, kept = _balanced(text, start)
            if end is None:
                # Cut off: what was finished before the cut still counts.
                value = _repaired(text[start:kept] + _closing(text[start:kept])) if kept else None
                if _useful(value):
                    return value, True
                return found
            value, position = _repaired(text[start:end]), end
        except RecursionError:
            return found
        if _useful(value):
            found = (value, False)
    return found


def _useful(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and (not value or any(isinstance(v, Mapping) for v in value))
    )


def _repaired(text: str) -> Any:
    from json_repair import repair_json

    return repair_json(text, return_objects=True)


def _balanced(text: str, start: int) -> tuple[int | None, int]:
    """Where the bracket at `start` is closed, None when it never is; and the end of the last object closed inside."""
    depth, quoted, escaped, kept = 0, False, False, 0
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
                return i + 1, kept
            if c == "}":
                kept = i + 1
    return None, kept


def _closing(text: str) -> str:
    """The brackets that are open at the end of a text, closed."""
    stack: list[str] = []
    quoted, escaped = False, False
    for c in text:
        if quoted:
            quoted, escaped = (c != '"' or escaped), (c == "\\" and not escaped)
        elif c == '"':
            quoted = True
        elif c in "[{":
            stack.append("]" if c == "[" else "}")
        elif c in "]}" and stack:
            stack.pop()
    return "".join(reversed(stack))

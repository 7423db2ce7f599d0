"""Reads a builder's replies: facts with the message each came from, and decisions about single memories.

In: a reply as a model wrote it, in the JSON that its schema asks for, fenced or bare, with prose or reasoning around
it, with slips. Out: validated values, and what was refused. A reply that was cut off gives the whole items before the
cut, and says that it was cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metamem.replies.json_in_text import Form, UnreadableError, read_json

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

_LISTS = ("facts", "data", "memories", "memory", "items", "results")
_SOURCES = ("source", "source_id", "message", "index", "id")
_TEXTS = ("fact", "text", "memory", "content")


@dataclass(frozen=True)
class Facts:
    """Facts as (index of the message, text), in the order of the reply; how many items were refused, by reason."""

    facts: tuple[tuple[int, str], ...]
    refused: Mapping[str, int]
    cut: bool = False


def facts_form(messages: int) -> Form[Facts]:
    """Return the form of the facts of so many messages."""
    return Form(FACTS_SCHEMA, lambda text: read_facts(text, messages), lambda facts: facts.cut)


def read_facts(text: str, messages: int) -> Facts:
    """The facts of a reply about `messages` messages, counted from 0.

    Items that point at a message that does not exist, that hold no text or that are no fact at all are refused one by
    one; exact repetitions are dropped. Raises `UnreadableError` when there is no list of facts, or none in it.
    """
    value, cut = read_json(text)
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
    value, cut = read_json(text)
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


DECISION: Form[tuple[str, str]] = Form(DECISION_SCHEMA, read_decision)


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

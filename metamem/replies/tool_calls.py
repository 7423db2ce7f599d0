"""Calls of tools, read out of replies: whole and valid, or refused with a reason that the model can act on.

In: a `Generation` and the tools that were offered. Out: `Call`s and `Malformed` ones, in the order of the reply. No
call is repaired and none is guessed: one that was cut, or that could mean two things, is never done half. Servers read
calls out of replies themselves (`Generation.calls`); otherwise they stand in the text in the Hermes form, which Qwen's
chat templates teach:

    <tool_call>
    {"name": "insert", "arguments": {"memory": "semantic", "content": "..."}}
    </tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from metamem.core.calls import Generation
from metamem.core.errors import unknown

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FORM = f'{OPEN}{{"name": ..., "arguments": {{...}}}}{CLOSE}'

_OPENS = re.compile(r"<\s*tool_call\s*>", re.IGNORECASE)
_CLOSES = re.compile(r"<\s*/\s*tool_call\s*>", re.IGNORECASE)
_FENCE_OPENS = re.compile(r"\s*(?:```[a-z]*)?\s*", re.IGNORECASE)
_FENCE_CLOSES = re.compile(r"\s*(?:```)?\s*")
# What betrays a call that was not put between the tags: JSON of its shape, or another family's form.
_LOOKS_LIKE_A_CALL = re.compile(
    r"\{[^{}]*\"(?:name|function)\"\s*:\s*|<\s*/\s*tool_call\s*>|<\s*function\s*[=>]|<\|?(?:tool_call|python_tag)\|?>",
    re.IGNORECASE,
)
_KINDS: Mapping[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}
_SHOWN = 400
_SHOWN_AGAIN = 20_000


class ToolsIn(StrEnum):
    """Where tools are shown: `request` (the chat template or the server does it), or `prompt` (as plain text)."""

    request = "request"
    prompt = "prompt"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool that was offered, its arguments checked against the tool's schema."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A call that cannot be done: what was written (its beginning), and what is wrong with it."""

    raw: str
    problem: str


class _Wrong(ValueError):
    """What is wrong with one call."""


def read_calls(generation: Generation, tools: Sequence[Mapping[str, Any]]) -> list[Call | Malformed]:
    """The calls in a reply. `tools` are those of the request."""
    found: list[Call | Malformed] = []
    for sent in generation.calls:
        try:
            arguments, end = _decoded(sent.arguments, _FENCE_OPENS.match(sent.arguments).end())  # type: ignore[union-attr]
            if sent.arguments[end:].strip():
                raise _Wrong(f"text after the JSON of the arguments: {_cut(sent.arguments[end:].strip(), 40)}")
            found.append(_checked({"name": sent.name, "arguments": arguments}, tools))
        except _Wrong as wrong:
            found.append(Malformed(_cut(f"{sent.name}({sent.arguments})"), str(wrong)))
    blocks = list(_blocks(generation.text))
    for raw, value in blocks:
        try:
            if isinstance(value, _Wrong):
                raise value
            found.append(_checked(value, tools))
        except _Wrong as wrong:
            found.append(Malformed(_cut(raw), str(wrong)))
    if not found and _meant_as_a_call(generation.text, tools):
        found.append(Malformed(_cut(generation.text.strip()), f"no call was found; write each as {FORM}"))
    return found


def as_text(said: Generation) -> str:
    """A reply with its calls as text, as a further prompt shows it again."""
    calls = [f'{OPEN}\n{{"name": "{c.name}", "arguments": {c.arguments}}}\n{CLOSE}' for c in said.calls]
    return "\n".join(part for part in (said.text, *calls) if part)[:_SHOWN_AGAIN] or "(empty)"


def offered(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Name → schema of the arguments of each tool."""
    return {str(t["function"]["name"]): t["function"].get("parameters") or {} for t in tools}


def _blocks(text: str) -> Iterator[tuple[str, Any]]:
    """What was written in each pair of tags, and its JSON value or what is wrong with it."""
    at = 0
    while opening := _OPENS.search(text, at):
        start = opening.end()
        try:
            value, end = _decoded(text, _FENCE_OPENS.match(text, start).end())  # type: ignore[union-attr]
        except _Wrong as wrong:
            # A tag inside a call that cannot be read may be part of a text: all up to the next end is refused as one.
            closing = _CLOSES.search(text, start)
            at = closing.end() if closing else len(text)
            yield text[start : closing.start() if closing else at].strip(), wrong
            continue
        after = _FENCE_CLOSES.match(text, end).end()  # type: ignore[union-attr]
        closing, following = _CLOSES.match(text, after), _OPENS.match(text, after)
        if closing or following or after == len(text):
            # The tag that ends a call may be missing where the JSON is whole and nothing else follows.
            at = closing.end() if closing else after
            yield text[start:end].strip(), value
            continue
        closing = _CLOSES.search(text, after)
        at = closing.end() if closing else len(text)
        raw = text[start : closing.start() if closing else at].strip()
        yield raw, _Wrong(f"more than one JSON object between the tags; write each call as {FORM}")


def _decoded(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins at `start`, and where it ends. Raises `_Wrong`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise _Wrong(f"{_cut(repeated, 40)!r} is given twice")
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise _Wrong(f"{name} is not JSON")

    # Not strict: models write line breaks into texts as they are, and that can only mean one thing.
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=unique, parse_constant=no_constant)
    try:
        return decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        ending = "it ends too early" if cut else f"{error.msg} at character {error.pos - start + 1}"
        raise _Wrong(f"not valid JSON: {ending}") from None
    except _Wrong:
        raise
    except (ValueError, RecursionError) as error:  # a number too long to convert, nesting without end
        raise _Wrong(f"not usable JSON: {type(error).__name__}") from None


def _checked(value: Any, tools: Sequence[Mapping[str, Any]]) -> Call:
    """A JSON value as a call. Raises `_Wrong`."""
    if not isinstance(value, dict):
        raise _Wrong(f"expected one JSON object with name and arguments, found {_kind(value)}")
    schemas = offered(tools)
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise _Wrong(f"name is missing; the tools are {', '.join(schemas)}")
    if name not in schemas:
        raise _Wrong(unknown("tool", _cut(name, 40), schemas))
    arguments = value.get("arguments")
    if isinstance(arguments, str):  # some models write the arguments as a JSON text
        written = arguments
        arguments, end = _decoded(written, len(written) - len(written.lstrip()))
        if written[end:].strip():
            raise _Wrong("text after the JSON of the arguments")
    if not isinstance(arguments, dict):
        raise _Wrong(f"arguments must be an object, found {_kind(arguments)}")
    _check_arguments(name, arguments, schemas[name])
    return Call(name, arguments)


def _check_arguments(name: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raises `_Wrong` for an argument that is missing, not known, of another type or not among the choices."""
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties") or {}
    for wanted in schema.get("required") or ():
        if arguments.get(wanted) is None:
            raise _Wrong(f"{name} needs the argument {wanted}")
    for given, value in arguments.items():
        if given not in properties:
            raise _Wrong(unknown(f"argument of {name}", _cut(given, 40), properties))
        allowed = properties[given]
        kinds = _KINDS.get(str(allowed.get("type")), ())
        # None is what models write for an argument that they leave out; that it is not required was checked above.
        if value is None:
            continue
        if kinds and (not isinstance(value, kinds) or isinstance(value, bool)):
            article = "an" if allowed["type"] in ("integer", "object", "array") else "a"
            raise _Wrong(f"{given} must be {article} {allowed['type']}, found {_kind(value)}")
        choices = allowed.get("enum")
        if choices and value not in choices:
            raise _Wrong(unknown(f"{given} of {name}", _cut(str(value), 40), choices))


def _meant_as_a_call(text: str, tools: Sequence[Mapping[str, Any]]) -> bool:
    if _LOOKS_LIKE_A_CALL.search(text):
        return True
    names = "|".join(re.escape(name) for name in offered(tools))
    return bool(names) and re.search(rf"\b(?:{names})\s*\(\s*[\w\"'{{]+\s*[=:]", text) is not None


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


def _cut(text: str, most: int = _SHOWN) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."

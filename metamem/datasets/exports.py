"""Exports of chats as people get them, read as dated sittings: OpenAI's, Anthropic's, ShareGPT's, plain messages.

In: a file that is one JSON list of chats, one chat, or JSON Lines of chats or of messages. Out: `Sitting`s in the order
of the file, and counts of what was left out. What a record is, its fields tell: `mapping` (OpenAI's tree, of which the
branch that was shown last counts), `chat_messages` (Anthropic), `conversations` with from and value (ShareGPT),
`messages` with role and content. The formats are those that public parsers of such exports describe (on GitHub
mitkury/chatgpt-export-parser, Sinity/polylogue; for ShareGPT's axolotl's documentation). Times are in UTC.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from metamem.core.errors import unknown
from metamem.core.json_form import digest
from metamem.datasets.reading import Place, Problems, found, parse_date

EXPECTED = (
    "a chat with mapping (OpenAI), chat_messages (Anthropic), conversations (ShareGPT) or messages, or a message with "
    "role and content"
)
# What is neither the user's nor the assistant's has the role "".
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "claude", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer", "tool", "function", "function_call", "observation"), ""),
}
_IDS = ("conversation_id", "uuid", "session_id", "chat_id", "id")
_TIMES = ("create_time", "created_at", "date", "time", "timestamp")
# Numbers beyond this many are milliseconds since 1970, below it seconds (up to the year 5138).
_MILLISECONDS = 1e11

_NO_TEXT = "messages without text, left out"
_NOT_SAID = "messages of systems and tools, code and reasoning, left out"
_NO_WORDS = "images and files, left out"


@dataclass(frozen=True, slots=True)
class ExportedMessage:
    """A message: who said it (user or assistant), what, and when in UTC, where that is known."""

    role: str
    text: str
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sitting:
    """What was said in one chat without a long pause; its id is made of the chat's own, else of what it holds."""

    id: str
    time: datetime | None
    said: tuple[ExportedMessage, ...]


@dataclass(slots=True)
class _Chat:
    """A chat, or one message in a line of its own (`line`). `own_id` is the export's, empty where it has none."""

    place: Place
    own_id: str
    time: datetime | None
    said: list[ExportedMessage]
    line: bool = False


def sittings(records: Iterable[tuple[Place, Any]], pause: timedelta, notices: Counter[str]) -> Iterator[Sitting]:
    """Yield the sittings of an export's records: a chat is cut wherever nothing was said for so long.

    Messages in lines of their own are a chat as far as they name the same; those that name none, up to a pause, another
    chat or the end of their file. Raises `DataError` in the end for the first record that is broken, saying how many
    more are.
    """
    problems = Problems()
    seen: dict[str, str] = {}
    for chat in _chats(records, pause, problems, notices):
        if not chat.said:
            notices["chats without text, left out"] += 1
            continue
        unnamed = [str(chat.time), [[s.role, s.text, str(s.time)] for s in chat.said]]
        name = digest([chat.own_id or unnamed], 12)
        content = digest([[s.role, s.text] for s in chat.said])
        if name not in seen:
            seen[name] = content
            yield from _cut(chat, name, pause)
        elif seen[name] == content:
            notices["chats that are there twice, left out once"] += 1
        else:
            with problems.collect():
                raise chat.place.error("", f"an earlier chat has the id {found(chat.own_id)} too, and other messages")
    problems.finish()


def _cut(chat: _Chat, name: str, pause: timedelta) -> Iterator[Sitting]:
    sitting: list[ExportedMessage] = []
    last, number = chat.time, 1
    for message in chat.said:
        if sitting and message.time and last and message.time - last >= pause:
            yield _sitting(name, number, sitting, chat.time)
            sitting, number = [], number + 1
        sitting.append(message)
        last = message.time or last
    yield _sitting(name, number, sitting, chat.time)


def _sitting(name: str, number: int, said: list[ExportedMessage], began: datetime | None) -> Sitting:
    own = next((m.time for m in said if m.time is not None), None)
    # A chat's own date is when it began; a later sitting without one was then at the earliest.
    return Sitting(f"{name}-{number}" if number > 1 else name, own or began, tuple(said))


def _chats(
    records: Iterable[tuple[Place, Any]], pause: timedelta, problems: Problems, notices: Counter[str]
) -> Iterator[_Chat]:
    """Yield the chats of records, those of single messages put together."""
    waiting: _Chat | None = None
    for place, raw in records:
        chat: _Chat | None = None
        with problems.collect():
            chat = _read(raw, place, notices)
        if chat is None:
            continue
        if not chat.line:
            if waiting is not None and not waiting.own_id:
                yield waiting
                waiting = None
            yield chat
        elif waiting is not None and _goes_on(waiting, chat, pause):
            waiting.said += chat.said
            waiting.time = waiting.time or chat.time
        else:
            if waiting is not None:
                yield waiting
            waiting = chat
    if waiting is not None:
        yield waiting


def _goes_on(chat: _Chat, line: _Chat, pause: timedelta) -> bool:
    if chat.own_id or line.own_id:
        return chat.own_id == line.own_id
    if chat.place.path != line.place.path:
        return False
    last = chat.said[-1].time if chat.said else chat.time
    return line.time is None or last is None or line.time - last < pause


def _read(raw: Any, place: Place, notices: Counter[str]) -> _Chat:
    """Return the chat or message of a record. Raises `DataError` naming the field that is broken."""
    held = _object(raw, place, "")
    if "mapping" in held:
        return _Chat(place, _id(held), _time_of(held, place, ""), _branch(held, place, notices))
    for key in ("chat_messages", "conversations", "messages"):
        if key in held:
            if not isinstance(held[key], list):
                raise place.error(key, f"expected a list of messages, found {found(held[key])}")
            made = (_message(m, place, f"{key}[{i}]", notices) for i, m in enumerate(held[key]))
            return _Chat(place, _id(held), _time_of(held, place, ""), [m for m in made if m is not None])
    if held.keys() & {"role", "from", "sender"} and held.keys() & {"content", "value", "text"}:
        message = _message(held, place, "", notices)
        # The id of a message is none of a chat.
        own = _id({k: v for k, v in held.items() if k not in ("id", "uuid")})
        said = [message] if message is not None else []
        return _Chat(place, own, said[0].time if said else None, said, line=True)
    raise place.error("", f"expected {EXPECTED}, found {found(raw)}")


def _branch(chat: Mapping[str, Any], place: Place, notices: Counter[str]) -> list[ExportedMessage]:
    """Return what was said on the branch of OpenAI's tree that was shown last, from its root on."""
    nodes = _object(chat["mapping"], place, "mapping")
    at: Any = chat.get("current_node")
    if at is None and nodes:
        notices["chats that do not say which branch was shown: the newest counts"] += 1
        at = max(nodes, key=lambda n: (_made(nodes[n]), n))
    path: dict[str, Mapping[str, Any]] = {}
    field = "current_node"
    while at is not None:
        if not isinstance(at, str) or at not in nodes:
            raise place.error(field, f"expected the name of a node, found {found(at)}")
        if at in path:
            raise place.error(field, f"leads back to the node {found(at)}")
        path[at] = _object(nodes[at], place, f"mapping.{_named(at)}")
        field, at = f"mapping.{_named(at)}.parent", path[at].get("parent")
    others = (node for name, node in nodes.items() if name not in path)
    notices["messages on other branches, left out"] += sum(
        isinstance(n, dict) and bool(n.get("message")) for n in others
    )
    said = [
        _of_tree(_object(node["message"], place, f"mapping.{_named(name)}.message"), place, _named(name), notices)
        for name, node in reversed(path.items())
        if node.get("message") is not None
    ]
    return [message for message in said if message is not None]


def _made(node: Any) -> float:
    message = node.get("message") if isinstance(node, dict) else None
    made = message.get("create_time") if isinstance(message, dict) else None
    return float(made) if isinstance(made, (int, float)) and abs(made) < _MILLISECONDS else -math.inf


def _of_tree(message: Mapping[str, Any], place: Place, name: str, notices: Counter[str]) -> ExportedMessage | None:
    """Return a message of OpenAI's tree; None for what nobody said, or nobody saw."""
    at = f"mapping.{name}.message"
    role = _role(_object(message.get("author"), place, f"{at}.author").get("role"), place, f"{at}.author.role")
    content = _object(message.get("content"), place, f"{at}.content")
    metadata = message.get("metadata")
    hidden = isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation") is True
    spoken = content.get("content_type", "text") in ("text", "multimodal_text")
    if not role or hidden or not spoken or message.get("recipient") not in (None, "all"):
        notices[_NOT_SAID] += 1
        return None
    text = _text(content.get("parts"), place, f"{at}.content.parts", notices)
    return _said(role, text, _time(message.get("create_time"), place, f"{at}.create_time"), notices)


def _message(raw: Any, place: Place, field: str, notices: Counter[str]) -> ExportedMessage | None:
    """Return a message of a list, or of a line of its own; None for what nobody said."""
    held, at = _object(raw, place, field), f"{field}." if field else ""
    who = next((k for k in ("role", "from", "sender") if k in held), "role")
    what = next((k for k in ("content", "value", "text") if k in held), "content")
    role = _role(held.get(who), place, f"{at}{who}")
    if not role:
        notices[_NOT_SAID] += 1
        return None
    text = _text(held.get(what), place, f"{at}{what}", notices)
    if not text.strip() and what == "content" and isinstance(held.get("text"), str):
        text = _text(held["text"], place, f"{at}text", notices)  # older exports of Anthropic's have it there alone
    for key in ("attachments", "files"):
        notices[_NO_WORDS] += len(held[key]) if isinstance(held.get(key), list) else 0
    return _said(role, text, _time_of(held, place, at), notices)


def _said(role: str, text: str, time: datetime | None, notices: Counter[str]) -> ExportedMessage | None:
    if not text.strip():
        notices[_NO_TEXT] += 1
        return None
    return ExportedMessage(role, text, time)


def _text(value: Any, place: Place, field: str, notices: Counter[str]) -> str:
    """Return a content's text: a text, nothing, or a list of pieces, of which those that are text count."""
    if value is None:
        return ""
    if isinstance(value, list):
        pieces = []
        for index, piece in enumerate(value):
            inner = piece.get("text") if isinstance(piece, dict) else piece
            kind = piece.get("type", "text") if isinstance(piece, dict) else "text"
            if isinstance(inner, str) and kind in ("text", "input_text", "output_text"):
                pieces.append(_text(inner, place, f"{field}[{index}]", notices))
            elif isinstance(piece, (dict, str)):
                notices[_NO_WORDS if kind == "text" or "image" in str(kind) else _NOT_SAID] += 1
            else:
                raise place.error(f"{field}[{index}]", f"expected text or an object, found {found(piece)}")
        return "\n".join(piece for piece in pieces if piece.strip())
    if not isinstance(value, str):
        raise place.error(field, f"expected text or a list of texts, found {found(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f"half of a surrogate pair at position {error.start}"
        raise place.error(field, f"expected text that is valid Unicode, found {problem}") from None
    return value


def _role(value: Any, place: Place, field: str) -> str:
    if not isinstance(value, str) or value.lower() not in ROLES:
        raise place.error(field, unknown("role", value if isinstance(value, str) else found(value), ROLES))
    return ROLES[value.lower()]


def _time_of(held: Mapping[str, Any], place: Place, at: str) -> datetime | None:
    key = next((k for k in _TIMES if held.get(k) is not None), None)
    return None if key is None else _time(held[key], place, f"{at}{key}")


def _time(value: Any, place: Place, field: str) -> datetime | None:
    """Return a time in UTC, without its zone: of seconds or milliseconds since 1970, or of a date as text."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = value / 1000 if abs(value) >= _MILLISECONDS else value
            return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=0)
        except (ValueError, OverflowError, OSError):
            raise place.error(field, f"expected seconds since 1970, found {found(value)}") from None
    if not isinstance(value, str):
        raise place.error(field, f"expected a date or seconds since 1970, found {found(value)}")
    try:
        zoned = datetime.fromisoformat(value.strip())
        return (zoned.astimezone(UTC) if zoned.tzinfo else zoned).replace(tzinfo=None, microsecond=0)
    except OverflowError:
        raise place.error(field, f"expected a date, found {found(value)}") from None
    except ValueError:
        pass
    try:
        return parse_date(value)
    except ValueError as error:
        raise place.error(field, str(error)) from None


def _id(held: Mapping[str, Any]) -> str:
    return next((str(held[k]) for k in _IDS if isinstance(held.get(k), (str, int)) and held[k] not in ("", True)), "")


def _object(value: Any, place: Place, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise place.error(field, f"expected {'an object' if field else EXPECTED}, found {found(value)}")
    return value


def _named(node: str) -> str:
    """The name of a node as messages show it."""
    return found(node).removeprefix("the text ")

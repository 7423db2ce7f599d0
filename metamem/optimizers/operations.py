"""The reader of proposed operations: an LLM's reply in, validated operations and what was refused out.

Replies reason before their JSON, which is fenced or bare, in several blocks, a single object, with slips such as
trailing commas, or cut off in the middle. Slips are mended; a list that was cut off is not, since its last sentence may
be half a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from metamem.core.meta_memory import Action, Operation
from metamem.replies.json_in_text import FENCE, OPENING, UnreadableError, last_bare, parse_json
from metamem.replies.reasoning import split_reasoning

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

_OPENING_OF_IDS = re.compile(r"\[(?=\s*(?:\{|\]|[\"']))|\{(?=\s*[\"'])")  # where ids may stand in the list, too

_ACTION_KEYS = ("action", "operation", "op", "type")
_CUT = "its last JSON list is cut off or no JSON"
_NOTHING = {"none", "noop", "no_op", "keep", "skip", "nothing"}


class _Base(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    # "from" names the proposals behind a consolidated change.
    sources: list[str] = Field(default_factory=list, alias="from")


class _Add(_Base):
    action: Literal["add"]
    text: Text


class _Update(_Base):
    action: Literal["update"]
    id: Text
    text: Text


class _Delete(_Base):
    action: Literal["delete"]
    id: Text


_ITEM: TypeAdapter[_Add | _Update | _Delete] = TypeAdapter(
    Annotated[_Add | _Update | _Delete, Field(discriminator="action")]
)


@dataclass(frozen=True)
class ReadOperations:
    """What a reply held. `sources[i]` are the names in the `from` of `operations[i]`; `refused` says why items were
    left out.
    """

    operations: tuple[Operation, ...]
    sources: tuple[tuple[str, ...], ...] = ()
    refused: tuple[str, ...] = ()


def read_operations(text: str, *, cut: bool = False, proposed: Mapping[str, Operation] | None = None) -> ReadOperations:
    """The operations of a reply, in its order. `cut` says that the reply hit its token limit; an item that is only
    the id of one of the `proposed` stands for that operation as it is.

    Of several JSON values the last readable one counts (a model that corrects itself does so at the end). Items that
    are no valid operation are refused one by one; exact repetitions are dropped. Raises `UnreadableError` when no list
    can be read, or when none of its items is an operation.
    """
    answer, _, finished = split_reasoning(text)
    if not finished:
        raise UnreadableError("the reasoning was not finished")
    proposed = proposed or {}
    items = _items(answer, cut, proposed)
    operations: list[Operation] = []
    sources: list[tuple[str, ...]] = []
    refused: list[str] = []
    for item in items:
        if (name := _named(item)) in proposed:
            taken = replace(proposed[name], support=())
            if taken in operations:  # two questions' proposals that say the same: one change, both behind it
                place = operations.index(taken)
                sources[place] = (*sources[place], name)
            else:
                operations.append(taken)
                sources.append((name,))
            continue
        prepared = _prepared(item)
        if prepared is None:
            continue
        try:
            valid = _ITEM.validate_python(prepared)
        except ValidationError as error:
            refused.append(_reason(error))
            continue
        if not isinstance(valid, _Delete) and not any(c.isalnum() for c in valid.text):
            # The example's "..." echoed is no guideline.
            refused.append("text: there is no word in it")
            continue
        operation = Operation(
            Action(valid.action),
            getattr(valid, "id", None),
            " ".join(valid.text.split()) if not isinstance(valid, _Delete) else None,
        )
        if operation not in operations:
            operations.append(operation)
            sources.append(tuple(valid.sources))
    if refused and not operations:
        raise UnreadableError(f"none of its items is a change: {refused[0]}")
    return ReadOperations(tuple(operations), tuple(sources), tuple(refused))


def _items(answer: str, cut: bool, proposed: Mapping[str, Operation]) -> list[Any]:
    """The last list of changes: behind the last fenced block, in the last such block, or bare where there is none."""
    if not answer.strip():
        raise UnreadableError("it is empty")
    opens = _OPENING_OF_IDS if proposed else OPENING
    blocks = list(FENCE.finditer(answer))
    if blocks:
        behind = answer[blocks[-1].end() :]
        found = last_bare(behind, opens)
        if found and _holds_changes(found, proposed):
            return found
        if found is None and opens.search(behind):
            raise UnreadableError(_CUT)
    other = None
    for block in (match.group(2) for match in reversed(blocks)):
        found = parse_json(block)
        if found == [] or (found and _holds_changes(found, proposed)):
            return found
        if found is None and block.lstrip().startswith(("[", "{")):
            # The last list is what counts; an earlier draft must not stand in for one that is cut off.
            raise UnreadableError(_CUT)
        other = other or found
    found = other or last_bare(answer, opens)
    if found is not None:
        return found
    raise UnreadableError("the JSON list is cut off or missing" if cut or "[" in answer else "it holds no JSON list")


def _holds_changes(items: list[Any], proposed: Mapping[str, Operation]) -> bool:
    """Whether some item is meant as a change: what reasoning quotes or sums up is not."""
    return any(
        any(str(key).strip().lower() in _ACTION_KEYS for key in item)
        if isinstance(item, Mapping)
        else _named(item) in proposed
        for item in items
    )


def _named(item: Any) -> str:
    return item.strip().strip("[]") if isinstance(item, str) else ""


def _prepared(item: Any) -> Any:
    """An item with its action in lower case, ids without brackets and a single source as a list; None for an explicit
    'nothing'.
    """
    if not isinstance(item, Mapping):
        return item
    item = {str(k).strip().lower(): v for k, v in item.items()}
    for alias in _ACTION_KEYS[1:]:
        if "action" not in item and alias in item:
            item["action"] = item[alias]
    if isinstance(item.get("action"), str):
        item["action"] = item["action"].strip().lower()
        if item["action"] in _NOTHING:
            return None
    if isinstance(item.get("id"), int) and not isinstance(item["id"], bool):
        item["id"] = f"G{item['id']}"
    if isinstance(item.get("id"), str):
        item["id"] = item["id"].strip().strip("[]").strip()
    origin = item.get("from")
    if not isinstance(origin, list) or not all(isinstance(o, str) for o in origin):
        item["from"] = [origin] if isinstance(origin, str) else []
    item["from"] = [o.strip().strip("[]") for o in item["from"]]
    return item


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(p) for p in first["loc"] if p not in ("add", "update", "delete"))
    return f"{where + ': ' if where else ''}{first['msg']}"

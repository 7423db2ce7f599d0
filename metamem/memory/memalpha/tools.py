"""Mem-α's tools: their schemas as offered to a model, and what a call of one does to the memory.

In: calls read from a reply (`metamem.replies.tool_calls`) and a `Memory`. Out: an `Outcome` for each, with the reply
that tells the model what came of it; what is malformed or refused changes nothing.

The tools have the names of one of the contracts with the builder. `own` is the project's, and `short` writes one of its
calls as numbers (`metamem.memory.memalpha.short`). `published` is that on which
the published Memalpha-4B was trained (new_memory_insert, memory_update, memory_delete; functions.py of
github.com/wangyu-ustc/Mem-alpha); its prompt is the template `memorise_published`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from metamem.memory.builder_contracts import Contract
from metamem.memory.memalpha.state import LISTS, Limits, Memory, MemoryPart, Operation, RefusedOperation
from metamem.replies.tool_calls import Call, Malformed


class Result(StrEnum):
    """What came of a call: `done`, `unchanged` (it was so already), `skipped` (an insert of what the list holds),
    `refused` by the memory, `malformed`.
    """

    done = "done"
    unchanged = "unchanged"
    skipped = "skipped"
    refused = "refused"
    malformed = "malformed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call and what came of it. `change` is the number of its `Change`, None when nothing changed.

    `call` is the call as written where it is malformed, else its name; `text` is the text that it wrote, if any.
    """

    chunk: int
    turn: int
    result: Result
    call: str
    reply: str
    part: MemoryPart | None = None
    id: str = ""
    text: str = ""
    change: int | None = None

    @property
    def failed(self) -> bool:
        """Whether the call asked for what cannot be done."""
        return self.result in (Result.refused, Result.malformed)


@dataclass(frozen=True)
class _Words:
    """The names of one contract: tool names, argument names, and what is put after the name of a part."""

    insert: str
    update: str
    delete: str
    part: str
    id: str
    inserted: str
    updated: str
    suffix: str

    def tool(self, operation: Operation) -> str:
        return str(getattr(self, operation.value))


_WORDS = {
    Contract.own: _Words("insert", "update", "delete", "memory", "id", "content", "content", ""),
    Contract.published: _Words(
        "new_memory_insert",
        "memory_update",
        "memory_delete",
        "memory_type",
        "memory_id",
        "content",
        "new_content",
        "_memory",
    ),
}
_WORDS[Contract.short] = _WORDS[Contract.own]


def schemas(limits: Limits, contract: Contract = Contract.own) -> tuple[dict[str, Any], ...]:
    """The tools of a memory with these limits, as JSON schemas; parts that are disabled are not offered."""
    words = _WORDS[contract]
    parts = [f"{part}{words.suffix}" for part in limits.parts]
    lists = [f"{part}{words.suffix}" for part in limits.parts if part in LISTS]
    core = f"core{words.suffix}" if MemoryPart.core in limits.parts else ""
    which = {"type": "string", "enum": parts, "description": "which memory"}
    # Core is one paragraph and has no items to choose from.
    known = {words.id: {"type": "string", "description": f"the item's id, as shown{f'; none for {core}' * bool(core)}"}}
    item = known if lists else {}
    made = []
    if lists:
        text = {"type": "string", "description": "what to remember, complete in itself"}
        properties: dict[str, Any] = {words.part: {**which, "enum": lists}, words.inserted: text}
        made.append(_tool(words.insert, "Add a new item to a memory.", properties, [words.part, words.inserted]))
    if parts:
        text = {"type": "string", "description": "the whole new text; it replaces the old one"}
        properties = {words.part: which, words.updated: text, **item}
        about = " or ".join(["the text of an item"] * bool(lists) + [f"the whole of {core}"] * bool(core))
        made.append(_tool(words.update, f"Replace {about}.", properties, [words.part, words.updated]))
        about = " or ".join(["Remove an item"] * bool(lists) + [f"clear {core}"] * bool(core))
        made.append(_tool(words.delete, f"{about[0].upper()}{about[1:]}.", {words.part: which, **item}, [words.part]))
    return tuple(made)


def execute(
    memory: Memory,
    calls: Sequence[Call | Malformed],
    chunk: int,
    turn: int = 0,
    contract: Contract = Contract.own,
) -> list[Outcome]:
    """Do the calls of one reply in their order, each wholly or not at all."""
    return [_one(memory, call, chunk, turn, _WORDS[contract]) for call in calls]


def _one(memory: Memory, call: Call | Malformed, chunk: int, turn: int, words: _Words) -> Outcome:
    if isinstance(call, Malformed):
        return Outcome(chunk, turn, Result.malformed, call.raw, call.problem)
    given = call.arguments
    operation = next(o for o in Operation if words.tool(o) == call.name)
    part = MemoryPart(str(given[words.part]).removesuffix(words.suffix))
    id = str(given.get(words.id) or "").strip()
    text = str(given.get(words.inserted if operation is Operation.insert else words.updated) or "")
    try:
        if operation is not Operation.insert and part is not MemoryPart.core and not id:
            raise RefusedOperation(f"{call.name} needs {words.id}: which item of {part}?")
        if operation is Operation.insert:
            change = memory.insert(part, text, chunk)
            id = change.id if change else str(memory.find(part, text))
        elif operation is Operation.update:
            change = memory.update(part, id, text, chunk)
        else:
            change = memory.delete(part, id, chunk)
    except RefusedOperation as refused:
        return Outcome(chunk, turn, Result.refused, call.name, str(refused), part, id, text)
    if part is MemoryPart.core:
        id = "core"
    if change is None:
        result = Result.skipped if operation is Operation.insert else Result.unchanged
        return Outcome(chunk, turn, result, call.name, f"nothing to do: {id} is so already", part, id, text)
    return Outcome(chunk, turn, Result.done, call.name, f"done: {operation} {id}", part, id, text, change.number)


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}

"""The meta-memory: guidelines with their lineage, the operations on them, and their files.

In: validated operations of a policy. Out: a new `MetaMemory` (nothing is changed in place), what was refused and why,
the lines that prompts show, and a JSON file that holds everything, the guidelines that are gone included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from metamem.core.errors import DataError
from metamem.core.files import read_json, write_atomically
from metamem.core.json_form import digest, from_json, to_json


class Action(StrEnum):
    """What an operation does."""

    add = "add"
    update = "update"
    delete = "delete"


class OnLong(StrEnum):
    """What happens to a guideline of more words than asked for: it is taken and counted, or refused and counted."""

    warn = "warn"
    refuse = "refuse"


@dataclass(frozen=True, slots=True)
class Operation:
    """A change to the guidelines. `id` for update and delete, `text` for add and update; `support`: ids of the
    questions behind it.
    """

    action: Action
    id: str | None = None
    text: str | None = None
    support: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation that was not executed, and why."""

    operation: Operation
    reason: str


@dataclass(frozen=True, slots=True)
class Guideline:
    """One sentence on how to use memory. `id` is never reused; `born` and `changed` are steps; `support` are question
    ids.
    """

    id: str
    text: str
    born: int = 0
    changed: int = 0
    support: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One executed operation, with the text before and after it."""

    step: int
    action: Action
    id: str
    before: str | None
    after: str | None
    support: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetaMemory:
    """The guidelines after a step. `next_id` only grows; `history` holds every executed change since the beginning."""

    guidelines: tuple[Guideline, ...] = ()
    next_id: int = 1
    step: int = 0
    history: tuple[Change, ...] = ()

    def __len__(self) -> int:
        return len(self.guidelines)

    @property
    def hash(self) -> str:
        """Digest of what a prompt shows: ids and texts, in order."""
        return digest([[g.id, g.text] for g in self.guidelines])


def words(text: str) -> int:
    """Number of words, by white space."""
    return len(text.split())


def apply(
    meta_memory: MetaMemory,
    operations: Iterable[Operation],
    step: int,
    *,
    max_words: int = 30,
    on_long: OnLong = OnLong.warn,
    max_guidelines: int = 0,
) -> tuple[MetaMemory, tuple[Change, ...], tuple[Refusal, ...]]:
    """Execute operations in order (E_{t+1} = Exec(O, E_t), MetaMem eq. 2). `max_guidelines` 0 is no cap.

    Refused, with the reason: an unknown or already deleted id, an empty text, a text that another guideline holds (case
    and white space aside), an update that changes nothing, a text of more than `max_words` words under
    `on_long=refuse`, an addition above the cap.
    """
    guidelines = {g.id: g for g in meta_memory.guidelines}
    next_id = meta_memory.next_id
    changes: list[Change] = []
    refused: list[Refusal] = []
    for operation in operations:
        text = " ".join((operation.text or "").split())
        old = guidelines.get(operation.id) if operation.id is not None else None
        reason = ""
        if operation.action is not Action.add and old is None:
            reason = f"no guideline {operation.id}"
        elif operation.action is not Action.delete:
            holder = next((g.id for g in guidelines.values() if g.text.casefold() == text.casefold()), None)
            if not text:
                reason = "empty text"
            elif holder is not None:
                reason = f"the same text as {holder}"
            elif on_long is OnLong.refuse and words(text) > max_words:
                reason = f"{words(text)} words, at most {max_words}"
            elif operation.action is Action.add and max_guidelines and len(guidelines) >= max_guidelines:
                reason = f"already {max_guidelines} guidelines"
        if reason:
            refused.append(Refusal(operation, reason))
            continue
        if operation.action is Action.add:
            identity = f"G{next_id}"
            next_id += 1
            guidelines[identity] = Guideline(identity, text, step, step, operation.support)
            changes.append(Change(step, Action.add, identity, None, text, operation.support))
        else:
            assert old is not None
            if operation.action is Action.update:
                support = old.support + tuple(q for q in operation.support if q not in old.support)
                guidelines[old.id] = replace(old, text=text, changed=step, support=support)
                changes.append(Change(step, Action.update, old.id, old.text, text, operation.support))
            else:
                del guidelines[old.id]
                changes.append(Change(step, Action.delete, old.id, old.text, None, operation.support))
    new = MetaMemory(tuple(guidelines.values()), next_id, step, meta_memory.history + tuple(changes))
    return new, tuple(changes), tuple(refused)


def diff(before: MetaMemory, after: MetaMemory) -> list[tuple[Action, Guideline]]:
    """What changed between two meta-memories, by id: additions and updates with their new text, deletions with the
    old one.
    """
    old, new = {g.id: g for g in before.guidelines}, {g.id: g for g in after.guidelines}
    rows = [(Action.delete, g) for i, g in old.items() if i not in new]
    rows += [(Action.update, g) for i, g in new.items() if i in old and old[i].text != g.text]
    rows += [(Action.add, g) for i, g in new.items() if i not in old]
    return rows


def from_texts(texts: Sequence[str]) -> MetaMemory:
    """A meta-memory of given sentences, numbered from G1."""
    guidelines = tuple(Guideline(f"G{i}", text) for i, text in enumerate(texts, 1))
    return MetaMemory(guidelines, len(guidelines) + 1)


def to_dict(meta_memory: MetaMemory) -> dict[str, Any]:
    """The JSON form."""
    form: dict[str, Any] = to_json(meta_memory)
    return form


def save(meta_memory: MetaMemory, path: Path, extra: dict[str, Any] | None = None) -> None:
    """Write a checkpoint file: `{"meta_memory": {...}, **extra}`, whole or not at all."""
    text = json.dumps({"meta_memory": to_dict(meta_memory), **(extra or {})}, indent=1, ensure_ascii=False)
    write_atomically(path, text + "\n")


def load(path: Path, key: str = "meta_memory") -> MetaMemory:
    """Read a checkpoint, a plain JSON list of sentences, or an object of name → sentence (`{"M0": "..."}`).

    Raises `DataError` naming the file; a missing file is an error, never an empty meta-memory.
    """
    if not path.exists():
        raise DataError(f"{key}: no such file: {path}")
    try:
        data = read_json(path)
    except DataError as error:
        raise DataError(f"{key}: {error}") from None
    if isinstance(data, dict) and isinstance(data.get("meta_memory"), dict):
        try:
            return from_json(MetaMemory, data["meta_memory"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{key}: {path} is not a checkpoint of this version: {error}") from None
    texts = list(data.values()) if isinstance(data, dict) else data
    if isinstance(texts, list) and texts and all(isinstance(t, str) and t.strip() for t in texts):
        return from_texts([" ".join(t.split()) for t in texts])
    raise DataError(f"{key}: {path}: expected a checkpoint, a list of sentences or an object of name → sentence")

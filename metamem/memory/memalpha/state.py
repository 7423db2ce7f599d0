"""Mem-α's memory as a plain state machine: three parts, three operations, their limits, and the whole history.

In: operations with texts and ids, as a model asked for them. Out: the items of each part, and a `StateChange` for
everything that became different; an operation that cannot be done raises `RefusedOperation` with a reply that the model
can act on and changes nothing. The changes alone rebuild the memory (`replay`). No model, no prompt and no clock in
here.

Parts and operations are the paper's (arXiv 2509.25911, section 3): core is one paragraph that is updated or cleared;
semantic and episodic are lists whose items are inserted, updated and deleted. Ids count up in each list and are never
given twice, so that none can collide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class MemoryPart(StrEnum):
    """A part of the memory."""

    core = "core"
    semantic = "semantic"
    episodic = "episodic"


class Operation(StrEnum):
    """What a call does to a part."""

    insert = "insert"
    update = "update"
    delete = "delete"


class LongCore(StrEnum):
    """What becomes of a text for core that is too long: `cut` at the limit with a mark, or `refuse`d."""

    cut = "cut"
    refuse = "refuse"


LISTS = (MemoryPart.semantic, MemoryPart.episodic)
_SHOWN_IDS = 10


class RefusedOperation(ValueError):
    """An operation that was not done; its text is the reply to the model."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a list (or core, whose id is `core`): its text and the chunks that first and last wrote it."""

    id: str
    text: str
    born: int
    changed: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """One thing that became different. `before` is None for what was not there, `after` for what no longer is.

    `number` counts the changes of a memory from 1, `chunk` those of its input from 0.
    """

    number: int
    chunk: int
    operation: Operation
    part: MemoryPart
    id: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Limits:
    """What a memory may hold. `count` measures a text in tokens; `disabled` parts are neither written nor offered.

    `core_tokens` bounds core, and `long_core` says what becomes of more; `item_tokens` bounds an item of a list,
    `items` the length of a list (None: no bound).
    """

    count: Callable[[str], int]
    core_tokens: int = 512
    long_core: LongCore = LongCore.cut
    item_tokens: int | None = None
    items: int | None = None
    disabled: frozenset[MemoryPart] = frozenset()

    @property
    def parts(self) -> tuple[MemoryPart, ...]:
        """The parts in use."""
        return tuple(part for part in MemoryPart if part not in self.disabled)


@dataclass
class Memory:
    """The three parts and their history. Texts are kept without space around them; no list holds one text twice."""

    limits: Limits
    core: Item | None = None
    lists: dict[MemoryPart, dict[str, Item]] = field(default_factory=lambda: {part: {} for part in LISTS})
    changes: list[StateChange] = field(default_factory=list)
    _born: dict[MemoryPart, int] = field(default_factory=lambda: dict.fromkeys(LISTS, 0))
    _ids: dict[MemoryPart, dict[str, str]] = field(default_factory=lambda: {part: {} for part in LISTS})

    # --- reading ------------------------------------------------------------------------------------------------------

    def items(self, part: MemoryPart) -> tuple[Item, ...]:
        """The items of a part, oldest first; core has one or none."""
        if part is MemoryPart.core:
            return (self.core,) if self.core else ()
        return tuple(self.lists[part].values())

    def newest(self, part: MemoryPart, most: int) -> tuple[Item, ...]:
        """The `most` items of a list that were inserted last, oldest of them first."""
        return self.items(part)[-most:] if most > 0 else ()

    def find(self, part: MemoryPart, text: str) -> str | None:
        """The id of the item of a list that has this text, or None."""
        return self._ids[part].get(text.strip())

    @property
    def tokens(self) -> int:
        """Tokens of all texts held."""
        return sum(self.limits.count(item.text) for part in MemoryPart for item in self.items(part))

    # --- writing ------------------------------------------------------------------------------------------------------

    def insert(self, part: MemoryPart, text: str, chunk: int = 0) -> StateChange | None:
        """A new item at the end of a list; None, and nothing done, when the list holds this text. Raises
        `RefusedOperation`.
        """
        self._open(part)
        if part is MemoryPart.core:
            raise RefusedOperation(
                "core is one paragraph: nothing is inserted into it; update it with the whole new paragraph"
            )
        text = self._checked(part, text)
        if text in self._ids[part]:
            return None
        most = self.limits.items
        if most is not None and len(self.lists[part]) >= most:
            raise RefusedOperation(f"{part} is full: it holds {most} items; update or delete one instead")
        return self._apply(Operation.insert, part, f"{part[0]}{self._born[part] + 1}", text, chunk)

    def update(self, part: MemoryPart, id: str, text: str, chunk: int = 0) -> StateChange | None:
        """Another text for an item, or for core (whose id does not matter); None when it is the same. Raises
        `RefusedOperation`.
        """
        self._open(part)
        if part is not MemoryPart.core:
            self._known(part, id)
        text = self._checked(part, text)
        if part is MemoryPart.core:
            same = self.core is not None and self.core.text == text
            return None if same else self._apply(Operation.update, part, "core", text, chunk)
        held = self._ids[part].get(text)
        if held == id:
            return None
        if held is not None:
            raise RefusedOperation(
                f"{part} item {held} already says exactly this; delete {id} if it is no longer needed"
            )
        return self._apply(Operation.update, part, id, text, chunk)

    def delete(self, part: MemoryPart, id: str, chunk: int = 0) -> StateChange | None:
        """Take an item out of its list, or clear core; None when core is empty. Raises `RefusedOperation`."""
        self._open(part)
        if part is MemoryPart.core:
            return None if self.core is None else self._apply(Operation.delete, part, "core", None, chunk)
        self._known(part, id)
        return self._apply(Operation.delete, part, id, None, chunk)

    # --- history ------------------------------------------------------------------------------------------------------

    @classmethod
    def replay(cls, limits: Limits, changes: Iterable[StateChange]) -> Memory:
        """The memory that these changes made, from the first on; a part of them gives the memory as it was then.

        Raises `ValueError` when a change does not fit what stands before it.
        """
        memory = cls(limits)
        for change in changes:
            held = memory._text(change.part, change.id)
            if held != change.before or change.number != len(memory.changes) + 1:
                raise ValueError(f"change {change.number} does not follow from those before it")
            if change.operation is Operation.insert and change.id != f"{change.part[0]}{memory._born[change.part] + 1}":
                raise ValueError(f"change {change.number} inserts {change.id}, which is not the next id")
            memory._apply(change.operation, change.part, change.id, change.after, change.chunk)
        return memory

    def _apply(self, operation: Operation, part: MemoryPart, id: str, after: str | None, chunk: int) -> StateChange:
        """The one place where anything changes; what it is given was checked."""
        before = self._text(part, id)
        if part is MemoryPart.core:
            born = self.core.born if self.core else chunk
            self.core = None if after is None else Item("core", after, born, chunk)
        else:
            held, ids = self.lists[part], self._ids[part]
            if before is not None:
                del ids[before]
            if after is None:
                del held[id]
            else:
                born = held[id].born if id in held else chunk
                # An updated item keeps its place: the order is that of insertion.
                held[id] = Item(id, after, born, chunk)
                ids[after] = id
            self._born[part] += operation is Operation.insert
        change = StateChange(len(self.changes) + 1, chunk, operation, part, id, before, after)
        self.changes.append(change)
        return change

    def _text(self, part: MemoryPart, id: str) -> str | None:
        item = self.core if part is MemoryPart.core else self.lists[part].get(id)
        return item.text if item else None

    # --- checks -------------------------------------------------------------------------------------------------------

    def _open(self, part: MemoryPart) -> None:
        if part in self.limits.disabled:
            raise RefusedOperation(f"there is no {part} memory here; choose {_either(self.limits.parts)}")

    def _known(self, part: MemoryPart, id: str) -> None:
        held = self.lists[part]
        if id in held:
            return
        if not held:
            raise RefusedOperation(f"{part} holds no items yet, so there is no {_shown(id)}; insert one first")
        newest = ", ".join(list(held)[-_SHOWN_IDS:])
        rest = f", and {len(held) - _SHOWN_IDS} older" if len(held) > _SHOWN_IDS else ""
        raise RefusedOperation(f"{part} holds no item {_shown(id)}; its ids are {newest}{rest}")

    def _checked(self, part: MemoryPart, text: str) -> str:
        """The text without space around it, when the part may hold it."""
        text = text.strip()
        if not text:
            raise RefusedOperation("the text is empty; to remove what is there, delete it")
        limit = self.limits.core_tokens if part is MemoryPart.core else self.limits.item_tokens
        if limit is not None and (tokens := self.limits.count(text)) > limit:
            if (
                part is MemoryPart.core
                and self.limits.long_core is LongCore.cut
                and (beginning := self._cut(text, limit))
            ):
                return beginning
            what = "core" if part is MemoryPart.core else f"an item of {part}"
            raise RefusedOperation(f"{what} may have {limit} tokens, and this text has {tokens}; write it shorter")
        return text

    def _cut(self, text: str, limit: int) -> str:
        """The longest beginning of a text that fits with the mark, ended at a word where it has several; empty where
        not even the mark fits.
        """
        mark = f" [cut: longer than {limit} tokens]"
        fits, over = -1, len(text)
        while over - fits > 1:
            middle = (fits + over) // 2
            if self.limits.count(text[:middle] + mark) <= limit:
                fits = middle
            else:
                over = middle
        if fits < 1:
            return ""
        kept = text[:fits]
        if not text[fits].isspace():
            kept = re.sub(r"\s\S*\Z", "", kept)
        return kept.rstrip() + mark


def _either(names: Sequence[str]) -> str:
    return " or ".join(names) or "none: all are switched off"


def _shown(id: str) -> str:
    return repr(id if len(id) <= 40 else id[:37] + "...")

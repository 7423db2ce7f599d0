"""The meta-memory: what is learned, as plain data, and the operations on its guidelines.

In: validated operations of a policy. Out: a new `MetaMemory` (nothing is changed in place), what was refused and why,
and its JSON form. How the guidelines came about stands in a run's `steps.jsonl`, change by change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from metamem.core.errors import printable
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
    questions behind it; `about`: what an added or updated one keeps beside its text.
    """

    action: Action
    id: str | None = None
    text: str | None = None
    support: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation that was not executed, and why. `apart`: its text is kept apart, for people to see and no model."""

    operation: Operation
    reason: str
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Guideline:
    """One sentence on how to use memory. `id` is never reused; `born` and `changed` are steps; `support` are question
    ids. `about` is what a policy or a recall keeps of it as JSON (a question, an outcome, a utility), never shown.
    """

    id: str
    text: str
    born: int = 0
    changed: int = 0
    support: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Change:
    """One executed change to a guideline or a learned text, with the text before and after it."""

    step: int
    action: Action
    id: str
    before: str | None
    after: str | None
    support: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Which questions a meta-memory comes from, by their sorted ids: those it was trained on, and those by whose score
    its step was chosen among others.
    """

    trained_on: tuple[str, ...] = ()
    selected_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetaMemory:
    """What is learned. `texts` are learned parts of prompts, by template and variable (`answer.system`); `adapter` is
    the content hash of trained weights; `next_id` only grows. `about` is what a recall keeps of the whole as JSON (the
    small weights of a score), never shown.

    `origin` says which questions it has seen (None: unknown, as of sentences that a person wrote). It stays with every
    copy of a file, and no prompt depends on it: meta-memories that differ in it alone are equal, and so are their
    hashes.
    """

    guidelines: tuple[Guideline, ...] = ()
    next_id: int = 1
    texts: Mapping[str, str] = field(default_factory=dict, hash=False)
    adapter: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)
    origin: Origin | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    def __bool__(self) -> bool:
        """Tell whether anything was learned: trained weights are something, though nothing of them can be counted."""
        return bool(self.items or self.adapter or self.about)

    @property
    def items(self) -> tuple[Guideline, ...]:
        """Everything that has a text of its own: the guidelines, then the learned texts under their names."""
        return (*self.guidelines, *(Guideline(name, text) for name, text in sorted(self.texts.items())))

    @property
    def hash(self) -> str:
        """Digest of what can change a prompt: ids and texts in order, what is kept about them, learned texts."""
        held = [[g.id, g.text, dict(g.about)] if g.about else [g.id, g.text] for g in self.guidelines]
        if not self.texts and self.adapter is None and not self.about:
            return digest(held)
        kept = {"about": dict(self.about)} if self.about else {}
        return digest({"guidelines": held, "texts": dict(self.texts), "adapter": self.adapter, **kept})

    @property
    def learned(self) -> str:
        """A short name of what was learned, for results; empty where nothing was."""
        return self.hash[:12] if self else ""

    def sizes(self) -> dict[str, int]:
        """How many guidelines there are, and learned texts where there are any."""
        return {"guidelines": len(self.guidelines), **({"texts": len(self.texts)} if self.texts else {})}

    def without(self, id: str) -> MetaMemory:
        """The same without one item."""
        guidelines = tuple(g for g in self.guidelines if g.id != id)
        return replace(self, guidelines=guidelines, texts={n: t for n, t in self.texts.items() if n != id})

    def reworded(self, texts: Mapping[str, str]) -> MetaMemory:
        """The same items with other texts, by id."""
        guidelines = tuple(replace(g, text=texts.get(g.id, g.text)) for g in self.guidelines)
        return replace(self, guidelines=guidelines, texts={n: texts.get(n, t) for n, t in self.texts.items()})

    def noted(self, id: str, **about: Any) -> MetaMemory:
        """The same with more kept about one guideline; values that are there already are replaced."""
        kept = (replace(g, about={**g.about, **about}) if g.id == id else g for g in self.guidelines)
        return replace(self, guidelines=tuple(kept))


# Characters of a guideline: beyond any sentence, whatever the policy says of words.
LONGEST_TEXT = 1_000


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
    and white space aside), an update that changes nothing, control characters, a text longer than `LONGEST_TEXT`, a
    text of more than `max_words` words under `on_long=refuse`, an addition above the cap. What is no guideline at all
    is kept apart at the end of a step, whatever the policy (`pipeline.screening`).
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
            elif printable(text) != text:
                reason = "control characters, or some that no one sees"
            elif len(text) > LONGEST_TEXT:
                reason = f"{len(text)} characters, at most {LONGEST_TEXT}"
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
            guidelines[identity] = Guideline(identity, text, step, step, operation.support, dict(operation.about))
            changes.append(Change(step, Action.add, identity, None, text, operation.support))
        else:
            assert old is not None
            if operation.action is Action.update:
                support = old.support + tuple(q for q in operation.support if q not in old.support)
                about = {**old.about, **operation.about}
                guidelines[old.id] = replace(old, text=text, changed=step, support=support, about=about)
                changes.append(Change(step, Action.update, old.id, old.text, text, operation.support))
            else:
                del guidelines[old.id]
                changes.append(Change(step, Action.delete, old.id, old.text, None, operation.support))
    new = replace(meta_memory, guidelines=tuple(guidelines.values()), next_id=next_id)
    return new, tuple(changes), tuple(refused)


def diff(before: MetaMemory, after: MetaMemory, step: int = 0) -> tuple[Change, ...]:
    """What changed between two meta-memories, by id: deletions, updates, additions, of guidelines and of texts."""
    old, new = {i.id: i for i in before.items}, {i.id: i for i in after.items}
    found = [Change(step, Action.delete, i, g.text, None, g.support) for i, g in old.items() if i not in new]
    found += [
        Change(step, Action.update, i, old[i].text, g.text, g.support)
        for i, g in new.items()
        if i in old and old[i].text != g.text
    ]
    return (*found, *(Change(step, Action.add, i, None, g.text, g.support) for i, g in new.items() if i not in old))


def from_texts(texts: Sequence[str]) -> MetaMemory:
    """A meta-memory of given sentences, numbered from G1."""
    guidelines = tuple(Guideline(f"G{i}", text) for i, text in enumerate(texts, 1))
    return MetaMemory(guidelines, len(guidelines) + 1)


def to_dict(meta_memory: MetaMemory) -> dict[str, Any]:
    """The JSON form, without what is empty: what is kept about a guideline or the whole, learned texts, an adapter, the
    origin.
    """
    form: dict[str, Any] = to_json(meta_memory)
    form["guidelines"] = [{k: v for k, v in g.items() if k != "about" or v} for g in form["guidelines"]]
    return {k: v for k, v in form.items() if k not in ("texts", "adapter", "about", "origin") or v}


def from_dict(data: Mapping[str, Any]) -> MetaMemory:
    """The inverse of `to_dict`. Of version 0.1 the step and the history inside are left out.

    Raises `KeyError`, `TypeError` or `ValueError` for what is no meta-memory.
    """
    return from_json(MetaMemory, {k: v for k, v in data.items() if k not in ("step", "history")})


def items_json(meta_memory: MetaMemory) -> list[dict[str, Any]]:
    """The items as tables show them: guidelines with their steps and questions, texts with their names alone."""
    texts = [{"id": name, "text": text, "kind": "text"} for name, text in sorted(meta_memory.texts.items())]
    return [{k: v for k, v in to_json(g).items() if k != "about"} for g in meta_memory.guidelines] + texts

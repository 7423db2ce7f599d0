"""What a policy is given and gives: where a training stands, what a step made of it, and what a reply held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from metamem.core.meta_memory import Change, MetaMemory, Refusal

T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """Where a training stands, which is what its checkpoint holds.

    `step` counts the steps made so far; `state` is what the policy keeps for itself, as JSON (None before its first
    step); `accepted` tells whether the last step's update was taken.
    """

    step: int = 0
    meta_memory: MetaMemory = field(default_factory=MetaMemory)
    state: Any = None
    accepted: bool = True


@dataclass(frozen=True)
class Update:
    """What a policy's step gives: the next meta-memory, and the policy's own state as JSON.

    `changes` are what was executed (the training compares the two meta-memories where there are none), `refused` what
    was not; `counts` are figures to log, `notes` lines to show, `trace` JSON rows that tell how the changes came about.
    """

    meta_memory: MetaMemory
    state: Any = None
    changes: tuple[Change, ...] = ()
    refused: tuple[Refusal, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trace: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Asked:
    """Calls for one template in a step: how many at least, expected and at most, and the new tokens of each."""

    prompt: str
    least: int
    expected: float
    most: int
    tokens: int


@dataclass(frozen=True)
class Bounds:
    """What a step over a batch asks for: answers to its questions, no more and no fewer, and calls for templates.

    `learned_words` is how long the guidelines can get, in words; None where nothing limits them.
    """

    attempts: int
    asked: tuple[Asked, ...] = ()
    learned_words: int | None = None


@dataclass(frozen=True)
class Read(Generic[T]):
    """What a reader made of a reply, or of the one that repaired it; `value` is None where `problem` says why not."""

    value: T | None
    problem: str = ""
    repaired: bool = False

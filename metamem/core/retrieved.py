"""What a retrieval gives for one question, and what a model call of a retrieval gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from metamem.core.banks import Cost, Unread
from metamem.core.records import Evidence

T = TypeVar("T")


@dataclass(frozen=True)
class Retrieved:
    """The evidence for one question, best first, and what having it took.

    `costs` are those of model calls, by stage (`plan`, `rerank`), `unread` the calls that gave nothing or not all.
    `trace` says how the evidence was found, a JSON row for each step (queries planned, an order changed, the journal
    keys of the replies). `effects` are what the retrieval strengthens or forgets: unit id → the entries that it changes
    in what the memory system keeps with the unit. They are told, and nothing is changed by them.
    """

    evidence: tuple[Evidence, ...] = ()
    costs: Mapping[str, Cost] = field(default_factory=dict)
    unread: tuple[Unread, ...] = ()
    trace: tuple[Mapping[str, Any], ...] = ()
    effects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked(Generic[T]):
    """What was read of a model's reply (None: nothing), what that took, the failed call, and the replies' journal
    keys.
    """

    value: T | None
    cost: Cost
    unread: Unread | None = None
    keys: tuple[str, ...] = ()

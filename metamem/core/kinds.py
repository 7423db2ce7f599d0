"""Which contract the components of each kind keep, and what one of them lacks.

In: a kind and a component. Out: the names of the members that it should have and has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metamem.core.contracts import (
    Attack,
    Backbone,
    DatasetLoader,
    Embedder,
    MemoryConstructor,
    Retriever,
    Splitter,
    Tracker,
)
from metamem.core.evaluating import Evaluator, Rubric, ScoresReferences
from metamem.core.guarded import Guard
from metamem.core.learned import Optimizer, Recall

# Kind → what a component of it must have. `prompts` has one class, whose options name the files.
CONTRACTS: Mapping[str, type] = {
    "attack": Attack,
    "backbone": Backbone,
    "dataset": DatasetLoader,
    "embedder": Embedder,
    "evaluator": Evaluator,
    "guard": Guard,
    "memory": MemoryConstructor,
    "optimizer": Optimizer,
    "recall": Recall,
    "retriever": Retriever,
    "rubric": Rubric,
    "split": Splitter,
    "tracker": Tracker,
}

# Kind → the contract that a component may keep instead.
INSTEAD: Mapping[str, type] = {"evaluator": ScoresReferences}


def lacks(kind: str, component: Any) -> list[str]:
    """The members of its kind's contract that a component does not have, sorted."""
    contract = CONTRACTS.get(kind)
    if contract is None or ((other := INSTEAD.get(kind)) is not None and isinstance(component, other)):
        return []
    members = {n for c in contract.__mro__ for n in (*vars(c).get("__annotations__", ()), *vars(c)) if n[0] != "_"}
    return sorted(name for name in members if not hasattr(component, name))

"""What a backbone that runs in an engine of this process offers beyond `Backbone`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from metamem.backbones.engine.spec import EngineSpec
from metamem.core.calls import Message


@runtime_checkable
class InEngine(Protocol):
    """A backbone that runs in an engine of this process, which the pool places and keeps."""

    def spec(self) -> EngineSpec:
        """Return what its engine is started from; backbones of equal specs share one."""


@runtime_checkable
class Measuring(Protocol):
    """A backbone that knows how long a prompt may be, before it is started."""

    def prompt_room(self) -> tuple[int, int] | None:
        """Return the tokens that a prompt may have beside the reply, and those of both.

        None where none fails for its length, or where nothing is known.
        """

    async def counter(self) -> Callable[[Sequence[Message]], int]:
        """Return a function that counts a prompt's tokens; a prompt that fails for another reason has none."""

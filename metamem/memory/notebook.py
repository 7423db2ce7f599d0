"""The units of a memory in the making: put, updated, deleted, searched, with what each reply changed.

In: the units of a bank that grows, or none. Out: the units in their order, and an `Effect` for every change that a
reply caused. Ids are unique; an update keeps a unit's place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from metamem.core.banks import NO_CALL, Effect
from metamem.core.records import MemoryUnit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Vectors differ by about 1e-7 with the batch they were computed in: what is nearer than this is equally near.
DECIMALS = 5


class Cause(Protocol):
    """A reply of the builder: what a change is owed to."""

    @property
    def key(self) -> str:
        """Return the reply's journal key."""


class Notebook:
    """Units by id, in the order they were put.

    `embed` turns texts into unit vectors (n, d). `chunk` is the piece of the stream that is being read, from 0.
    """

    def __init__(
        self,
        units: Iterable[MemoryUnit] = (),
        history: Iterable[Effect] = (),
        embed: Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]] | None = None,
    ) -> None:
        self._units = {unit.id: unit for unit in units}
        self.history = list(history)
        self.chunk = 0
        self._changes = max((e.change for e in self.history if e.change is not None), default=0)
        self._embed = embed
        self._rows: dict[str, int] = {}  # by text: a unit that is found by something else needs another vector
        self._vectors: NDArray[np.float64] | None = None

    @property
    def units(self) -> tuple[MemoryUnit, ...]:
        """The units, in their order."""
        return tuple(self._units.values())

    def __iter__(self) -> Iterator[MemoryUnit]:
        return iter(self.units)

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, id: object) -> bool:
        return id in self._units

    def __getitem__(self, id: str) -> MemoryUnit:
        return self._units[id]

    def put(self, unit: MemoryUnit, because: Cause | None = None, call: str = "put") -> None:
        """Add a unit at the end. Raises `ValueError` when its id is taken."""
        if unit.id in self._units:
            raise ValueError(f"the memory already holds a unit with the id {unit.id!r}: update it, or give another id")
        self._units[unit.id] = unit
        self._write(because, call, None, unit)

    def update(self, unit: MemoryUnit, because: Cause | None = None, call: str = "update") -> None:
        """Let a unit take the place of the one with its id. Raises `KeyError` when there is none."""
        held = self._units[unit.id]
        self._units[unit.id] = unit
        if held != unit:
            self._write(because, call, held, unit)
        elif because is not None:
            effect = Effect(self.chunk, 0, because.key, "unchanged", call, part=unit.kind, id=unit.id)
            self.history.append(effect)

    def delete(self, id: str, because: Cause | None = None, call: str = "delete") -> None:
        """Take a unit out. Raises `KeyError` when there is none."""
        held = self._units.pop(id)
        self._write(because, call, held, None)

    def replace(self, units: Iterable[MemoryUnit]) -> None:
        """Let these be the units, in this order; the history is not told. Raises `ValueError` when two have one id."""
        found = list(units)
        self._units = {unit.id: unit for unit in found}
        if len(self._units) < len(found):
            repeated = next(u.id for i, u in enumerate(found) if any(u.id == other.id for other in found[:i]))
            raise ValueError(f"the memory would hold several units with the id {repeated!r}")

    def nothing(self, because: Cause) -> None:
        """Write down that a reply changed nothing."""
        self.history.append(Effect(self.chunk, 0, because.key, NO_CALL))

    def called(self, because: Cause, result: str, call: str, reply: str = "") -> None:
        """Write down a call that changed nothing: what came of it, what was called, and what the model is told."""
        self.history.append(Effect(self.chunk, 0, because.key, result, call, reply))

    async def nearest(self, text: str, k: int, kinds: Sequence[str] = ()) -> list[tuple[MemoryUnit, float]]:
        """Return the `k` units nearest to a text with their cosines, nearest first, ties by place.

        Units count that have one of `kinds` (any, when none is named) and are not over (`until`), shown or not.
        """
        import numpy as np

        assert self._embed is not None, "this notebook has no embedder"
        # Asked once or more for every turn that is written: each of these lists is a pass over all units.
        held = [u for u in self._units.values() if u.until is None and (not kinds or u.kind in kinds)]
        if not held or k < 1:
            return []
        texts = [unit.found_by for unit in held]
        rows = [self._rows.get(key) for key in texts]
        if text not in self._rows or None in rows:
            missing = [key for key in dict.fromkeys([text, *texts]) if key not in self._rows]
            self._keep(missing, await self._embed(missing))
            rows = [self._rows[key] for key in texts]
        assert self._vectors is not None
        # A product with every vector there is takes less than gathering those that are asked for.
        products = self._vectors[: len(self._rows)] @ self._vectors[self._rows[text]]
        cosines = np.round(products[rows], DECIMALS)
        best = np.argsort(-cosines, kind="stable")[:k]
        return [(held[int(i)], float(cosines[i])) for i in best]

    def _keep(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep the vectors of texts, in a table that doubles when it is full."""
        import numpy as np

        # Somebody else may have asked for the same meanwhile.
        new = {text: vector for text, vector in zip(texts, vectors, strict=True) if text not in self._rows}
        held, needed = len(self._rows), len(self._rows) + len(new)
        if self._vectors is None or needed > len(self._vectors):
            table = np.zeros((2 * needed, vectors.shape[1]))
            if self._vectors is not None:
                table[:held] = self._vectors[:held]
            self._vectors = table
        for row, (text, vector) in enumerate(new.items(), held):
            self._vectors[row] = vector
            self._rows[text] = row

    def _write(self, because: Cause | None, call: str, before: MemoryUnit | None, after: MemoryUnit | None) -> None:
        """Write a change down; one that no reply caused is not."""
        unit = after or before
        if because is None or unit is None:
            return
        self._changes += 1
        effect = Effect(
            chunk=self.chunk,
            turn=0,
            key=because.key,
            result="done",
            call=call,
            part=unit.kind,
            id=unit.id,
            change=self._changes,
            operation="insert" if before is None else "update" if after is not None else "delete",
            before=before.text if before else None,
            after=after.text if after else None,
        )
        self.history.append(effect)

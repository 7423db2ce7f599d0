"""The history of a memory in words: what each call of its builder did, in order, and what happened to one unit.

In: the `Effect`s of a bank. Out: lines to print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from metamem.core.banks import Effect


def summary(history: Sequence[Effect]) -> str:
    """One line: calls by what came of them, over how many chunks."""
    results = Counter(effect.result for effect in history if effect.result != "none")
    silent = sum(effect.result == "none" for effect in history)
    counted = ", ".join(f"{count:,} {result}" for result, count in sorted(results.items())) or "none"
    chunks = len({effect.chunk for effect in history})
    return f"{results.total():,} calls over {chunks:,} chunks ({counted}), {silent:,} replies without a call"


def lines(history: Sequence[Effect]) -> Iterator[str]:
    """Every call under its chunk, with the journal key of the reply that made it."""
    here: tuple[int, int] | None = None
    for effect in history:
        if (effect.chunk, effect.turn) != here:
            here = (effect.chunk, effect.turn)
            again = f", reply {effect.turn + 1}" if effect.turn else ""
            yield f"chunk {effect.chunk}{again} (journal key {effect.key})"
        yield f"  {described(effect)}"


def of_unit(history: Sequence[Effect], id: str) -> Iterator[str]:
    """What was done to one unit, oldest first."""
    for effect in history:
        if effect.change is not None and effect.id == id:
            yield f"chunk {effect.chunk}: {described(effect)}"


def described(effect: Effect) -> str:
    """A call and its effect on one line."""
    if effect.result == "none":
        return "nothing was called"
    where = f"{effect.part} {effect.id}".strip() if effect.id != effect.part else effect.part
    if effect.change is None:
        what = f"{effect.call} {where}".strip()
        return _line(f"{effect.result}: {what}: {effect.reply}" if effect.reply else f"{effect.result}: {what}")
    if effect.before is None:
        return _line(f"{effect.operation} {where}: {effect.after}")
    if effect.after is None:
        return _line(f"{effect.operation} {where}, which was: {effect.before}")
    return _line(f"{effect.operation} {where}: {effect.after} (before: {effect.before})")


def _line(text: str) -> str:
    return " ".join(text.split())

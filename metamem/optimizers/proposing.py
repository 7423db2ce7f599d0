"""Proposed changes to a list: read from a reviewer's reply, and traced to the questions behind them.

In: replies, and the operations that were proposed before. Out: operations with the questions that support them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from metamem.core.calls import Generation
from metamem.core.meta_memory import Operation, Refusal

if TYPE_CHECKING:
    from metamem.optimizers.operations import ReadOperations


@dataclass(frozen=True)
class Proposal:
    """One question's operations, or the reason why there are none."""

    operations: tuple[Operation, ...] = ()
    refused: tuple[str, ...] = ()
    apart: tuple[Refusal, ...] = ()
    problem: str = ""
    repaired: bool = False
    reflections: tuple[dict[str, Any], ...] = ()


def operations_of(reply: Generation, proposed: Mapping[str, Operation] | None = None) -> ReadOperations:
    """Read the operations of a reply. Raises `UnreadableError` where it holds none."""
    from metamem.optimizers.operations import read_operations  # pydantic, which `--help` need not wait for

    return read_operations(reply.text, cut=reply.finish_reason == "length", proposed=proposed)


def supported(reading: ReadOperations, proposed: Mapping[str, Operation]) -> list[Operation]:
    """Return operations that were merged from proposals, each with the questions behind the proposals that it names.

    Where it names none, those behind the proposals that say the same.
    """
    found = []
    for operation, sources in zip(reading.operations, reading.sources, strict=True):
        support = [q for s in sources if s in proposed for q in proposed[s].support]
        support = support or supporting(operation, proposed.values())
        found.append(replace(operation, support=tuple(dict.fromkeys(support))))
    return found


def supporting(operation: Operation, proposed: Iterable[Operation]) -> list[str]:
    """Return the questions from which the same was proposed, in the order of the proposals."""
    same = [o for o in proposed if (o.action, o.id, o.text) == (operation.action, operation.id, operation.text)]
    return list(dict.fromkeys(question for o in same for question in o.support))


def entries_of(reply: Generation, most: int) -> list[dict[str, str]]:
    """Return the first objects of a reply's JSON list that have a text under `text`, each with its texts on one line;
    of a list that is cut off those that are whole.

    Raises `UnreadableError` without a list, or with a list that has items and none of these.
    """
    from metamem.replies.json_in_text import UnreadableError, read_json

    items, _ = read_json(reply.text)
    items = items if isinstance(items, list) else [items]
    found = []
    for item in (i for i in items if isinstance(i, Mapping)):
        texts = {str(k): " ".join(v.split()) for k, v in item.items() if isinstance(v, str)}
        if any(c.isalnum() for c in texts.get("text", "")) and texts not in found:
            found.append(texts)
    if items and not found:
        raise UnreadableError('no item has a "text"')
    return found[:most]


def texts_of(reply: Generation, most: int) -> list[str]:
    """Return the first texts of a reply's JSON list of objects, each under `text`. Raises as `entries_of`."""
    return list(dict.fromkeys(entry["text"] for entry in entries_of(reply, most)))


def rewritten(reply: Generation, text: str) -> str:
    """Return the text in the last fence of a reply; a list of new sentences instead is added to the old text.

    Raises `UnreadableError` where there is neither.
    """
    from metamem.replies.json_in_text import FENCE, UnreadableError
    from metamem.replies.reasoning import split_reasoning

    answer, _, finished = split_reasoning(reply.text)
    if not finished or reply.finish_reason == "length":
        raise UnreadableError("it was cut off")
    blocks = [match.group(2) for match in FENCE.finditer(answer)]
    lines = blocks[-1].split("\n") if blocks else [*text.split("\n"), *texts_of(reply, 2)]
    found = "\n".join(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not any(c.isalnum() for c in found):
        raise UnreadableError("the text is empty")
    return found

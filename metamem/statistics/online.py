"""Figures of a stream: how accuracy goes over time, when learning begins to pay, what is forgotten.

In: rows of a stream's answers, and the order in which its questions arrived. Out: plain figures, as in Evo-Memory
(arXiv 2511.20857). Streams are told apart by the seed and the fold of their run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metamem.statistics.rows import Row

Stream = tuple[int | None, str | None]
Places = Mapping[tuple[Stream, str], int]


def stream_of(row: Row) -> Stream:
    """Return what tells the stream of an answer from others: the seed and the fold of its run."""
    return row.seed, row.fold


def places(orders: Mapping[Stream, Sequence[str]]) -> Places:
    """Return the place of each question in each stream, from 0."""
    return {(stream, question): n for stream, order in orders.items() for n, question in enumerate(order)}


def stretches(rows: Sequence[Row], at: Places, count: int) -> list[tuple[int, list[Row]]]:
    """Return a stream's rows in so many stretches of time, as equal as can be, each with the number of questions that
    had arrived at its end; stretches without a row are left out.
    """
    length = 1 + max(at.values(), default=-1)
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(at[stream_of(row), row.question_id] * count // length, []).append(row)
    return [(-(-(n + 1) * length // count), held) for n, held in sorted(found.items())]


def until_better(online: Sequence[Row], without: Sequence[Row], at: Places, stream: Stream) -> int | None:
    """Return after how many questions of one stream learning has paid for good: from there on more had been
    right than without it, to the end; None where it never does.
    """
    base = {r.question_id: r.strict for r in without if stream_of(r) == stream}
    mine = sorted((r for r in online if stream_of(r) == stream), key=lambda r: at[stream, r.question_id])
    lead, since = 0.0, None
    for number, row in enumerate(mine, 1):
        lead += row.strict - base[row.question_id]
        since = (since or number) if lead > 1e-9 else None
    return since


def forgotten(online: Sequence[Row], again: Sequence[Row]) -> float | None:
    """Return by how much the first questions were answered better when they arrived than at the end; None without any.

    Below 0: they are answered better at the end.
    """
    late = {(stream_of(r), r.question_id): r.strict for r in again}
    pairs = [(r.strict, late[key]) for r in online if (key := (stream_of(r), r.question_id)) in late]
    return sum(early - end for early, end in pairs) / len(pairs) if pairs else None

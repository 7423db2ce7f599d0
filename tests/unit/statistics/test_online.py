"""Figures of a stream, worked by hand."""

from __future__ import annotations

from metamem.statistics.online import forgotten, places, stream_of, stretches, until_better
from metamem.statistics.rows import Row

ONE, OTHER, BESIDE = (1, None), (2, None), (1, "1")


def rows(system: str, right: str, stream: tuple[int, str | None] = ONE) -> list[Row]:
    """One answer to each of the questions a, b, c ...: right where there is a 1."""
    names, (seed, fold) = [chr(97 + n) for n in range(len(right))], stream
    return [
        Row(system, q, "t", False, q, float(r), float(r), seed=seed, fold=fold)
        for q, r in zip(names, right, strict=True)
    ]


def test_learning_pays_from_where_the_lead_stays_to_the_end() -> None:
    at = places({ONE: "abcdef"})
    # leads: 1, 0, 0, 1, 1, 2: the first lead was lost again
    assert until_better(rows("online", "101111"), rows("without", "011010"), at, ONE) == 4
    assert until_better(rows("online", "000"), rows("without", "000"), places({ONE: "abc"}), ONE) is None
    # Arriving the other way round it leads from the first question on.
    assert until_better(rows("online", "101111"), rows("without", "011010"), places({ONE: "fedcba"}), ONE) == 1


def test_stretches_follow_the_order_of_each_stream() -> None:
    at = places({ONE: "abcde", OTHER: "edcba", BESIDE: "edcba"})
    held = [row for stream in (ONE, OTHER, BESIDE) for row in rows("online", "11000", stream)]
    found = stretches(held, at, 2)
    assert [end for end, _ in found] == [3, 5]
    first = {
        stream: "".join(r.question_id for r in found[0][1] if stream_of(r) == stream) for stream in (ONE, OTHER, BESIDE)
    }
    assert first == {ONE: "abc", OTHER: "cde", BESIDE: "cde"}


def test_what_was_right_and_is_not_at_the_end_is_forgotten() -> None:
    assert forgotten(rows("online", "1101"), rows("again", "100")) == 1 / 3
    assert forgotten(rows("online", "000"), rows("again", "1")) == -1
    assert forgotten(rows("online", "1"), rows("again", "1", OTHER)) is None
    assert forgotten(rows("online", "1"), rows("again", "1", BESIDE)) is None

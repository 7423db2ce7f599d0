"""Segmentation and buffers against slow, separately written references, at every boundary."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.memory.lightmem.buffers import (
    BufferedMessage,
    Exchange,
    SensoryBuffer,
    ShortTermBuffer,
    exchanges_of,
    split_long,
)
from metamem.memory.lightmem.segmentation import (
    attention_boundaries,
    sentence_attention,
    similarity_boundaries,
    topic_boundaries,
)

quick = settings(max_examples=60, deadline=None)


# --- references, in plain loops ---------------------------------------------------------------------------------------


def slow_sentence_attention(
    attention: list[list[float]], spans: list[tuple[int, int]], sinks: int
) -> list[list[float]]:
    length = len(attention)
    edge = sinks if length >= 2 * sinks else length // 10
    inner = [p for p in range(length) if edge <= p < length - edge]
    rows = []
    for i, (start, end) in enumerate(spans):
        own = [p for p in inner if start <= p < end]
        row = []
        for other_start, other_end in spans[:i]:
            theirs = [p for p in inner if other_start <= p < other_end]
            sums = [sum(attention[p][q] for q in theirs) for p in own]
            row.append(sum(sums) / len(sums) if sums and theirs else 0.0)
        total = sum(row)
        rows.append([value / total if total > 0 else value for value in row] + [0.0] * (len(spans) - i))
    return rows


def slow_maxima(matrix: list[list[float]]) -> list[int]:
    found = []
    for sentence in range(2, len(matrix) - 1):
        here = matrix[sentence][sentence - 1]
        before, after = matrix[sentence - 1][sentence - 2], matrix[sentence + 1][sentence]
        if round(here, 5) > round(before, 5) and round(here, 5) > round(after, 5):
            found.append(sentence)
    return found


def slow_similarity(cosines: list[float]) -> list[int]:
    for bar in (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5):
        found = [position + 1 for position, cosine in enumerate(cosines) if round(cosine, 5) < bar]
        if found:
            return found
    return []


def slow_stream(tokens: list[int], capacity: int, boundaries: dict[tuple[int, ...], list[int]]) -> list[list[int]]:
    """The segments of a stream of exchanges, as lists of their numbers; `boundaries` by the exchanges in the buffer."""
    segments: list[list[int]] = []
    buffer: list[int] = []
    waiting = list(range(len(tokens)))
    while waiting:
        if not buffer or sum(tokens[i] for i in buffer) + tokens[waiting[0]] <= capacity:
            buffer.append(waiting.pop(0))
            continue
        cuts = boundaries.get(tuple(buffer), [])
        if not cuts:
            segments.append(buffer)
            buffer = []
        else:
            start = 0
            for cut in cuts:
                segments.append(buffer[start:cut])
                start = cut
            buffer = buffer[start:]
    start = 0
    for cut in boundaries.get(tuple(buffer), []):
        segments.append(buffer[start:cut])
        start = cut
    return [*segments, buffer[start:]] if buffer else segments


def slow_batches(tokens: list[int], capacity: int) -> list[list[int]]:
    batches: list[list[int]] = [[]]
    for number, count in enumerate(tokens):
        if batches[-1] and sum(tokens[i] for i in batches[-1]) + count > capacity:
            batches.append([])
        batches[-1].append(number)
    return [b for b in batches if b]


# --- attention --------------------------------------------------------------------------------------------------------


@st.composite
def attended(draw: st.DrawFn) -> tuple[list[list[float]], list[tuple[int, int]], int]:
    lengths = draw(st.lists(st.integers(0, 5), min_size=0, max_size=7))
    size = sum(lengths) + 2
    rng = random.Random(draw(st.integers(0, 10_000)))
    attention = [[rng.choice([0.0, rng.random()]) for _ in range(size)] for _ in range(size)]
    spans, start = [], 1
    for length in lengths:
        spans.append((start, start + length))
        start += length
    return attention, spans, draw(st.sampled_from([0, 1, 3]))


@quick
@given(attended())
def test_sentence_attention_equals_the_slow_reference(
    case: tuple[list[list[float]], list[tuple[int, int]], int],
) -> None:
    attention, spans, sinks = case
    expected = slow_sentence_attention(attention, spans, sinks)
    made = sentence_attention(np.asarray(attention), spans, sinks)
    assert made.shape == (len(spans), len(spans))
    np.testing.assert_allclose(made, np.asarray(expected).reshape(made.shape), atol=1e-12)
    assert attention_boundaries(made) == slow_maxima(expected)


def test_sinks_at_both_ends_do_not_count() -> None:
    attention = np.full((12, 12), 0.01)
    attention[:, :3] = 5.0
    attention[:, -3:] = 5.0
    made = sentence_attention(attention, [(1, 5), (5, 8), (8, 11)])
    np.testing.assert_allclose(made[2], [2 / 5, 3 / 5, 0.0])  # two and three counted tokens, nothing of the sinks


def chain(*steps: float) -> np.ndarray:  # type: ignore[type-arg]
    """A matrix in which sentence i attends to the one before it by steps[i - 1]."""
    matrix = np.zeros((len(steps) + 1, len(steps) + 1))
    for i, step in enumerate(steps, start=1):
        matrix[i, i - 1] = step
    return matrix


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], []),
        ([1.0], []),
        ([0.1, 0.9], []),
        ([0.1, 0.9, 0.1], [2]),
        ([0.9, 0.1, 0.9], []),
        ([0.1, 0.5, 0.5, 0.1], []),
        ([0.1, 0.5, 0.500001, 0.1], []),
        ([0.1, 0.5, 0.2, 0.6, 0.3], [2, 4]),
        ([0.1, 0.2, 0.3, 0.4], []),
    ],
    ids=["one", "two", "ends never", "a peak", "a dip", "a plateau", "nearer than noise", "two peaks", "rising"],
)
def test_boundaries_are_strict_local_maxima_of_attention_to_the_sentence_before(
    steps: list[float], expected: list[int]
) -> None:
    assert attention_boundaries(chain(*steps)) == expected == slow_maxima(chain(*steps).tolist())


# --- similarity -------------------------------------------------------------------------------------------------------


@quick
@given(st.lists(st.floats(-1, 1), max_size=12))
def test_similarity_boundaries_equal_the_slow_reference(cosines: list[float]) -> None:
    assert similarity_boundaries(cosines) == slow_similarity(cosines)


@pytest.mark.parametrize(
    ("cosines", "expected"),
    [
        ([], []),
        ([0.199], [1]),
        ([0.2, 0.9], [1]),  # not below 0.2, but below 0.25
        ([0.249, 0.199, 0.9], [2]),  # the first threshold that finds any decides
        ([0.499, 0.51], [1]),
        ([0.5, 0.51], []),
        ([0.9, 0.95], []),
    ],
)
def test_the_threshold_is_raised_only_until_a_boundary_appears(cosines: list[float], expected: list[int]) -> None:
    assert similarity_boundaries(cosines) == expected == slow_similarity(cosines)


@pytest.mark.parametrize(
    ("attention", "similarity", "expected"),
    [
        (None, [2, 5], [2, 5]),
        ([], [2, 5], []),
        ([4], [], []),
        ([4], [1, 7, 8], [1, 7]),
        ([20], [1, 5], [1, 5]),
        ([2, 9], [3, 6, 13], [3, 6]),
    ],
    ids=["no attention known", "no maximum", "no drop", "three away and four", "none near", "several"],
)
def test_a_topic_begins_where_both_agree(
    attention: list[int] | None, similarity: list[int], expected: list[int]
) -> None:
    assert topic_boundaries(attention, similarity) == expected


# --- buffers ----------------------------------------------------------------------------------------------------------


def exchange(number: int, tokens: int) -> Exchange:
    return Exchange((BufferedMessage(f"m{number}", "user", str(number), "s", None),), tokens)


def numbers(segments: list[tuple[Exchange, ...]]) -> list[list[int]]:
    return [[int(e.lead.turn_id) for e in segment] for segment in segments]


def stream(tokens: list[int], capacity: int, boundaries: dict[tuple[int, ...], list[int]]) -> list[list[int]]:
    buffer = SensoryBuffer(capacity)
    segments: list[tuple[Exchange, ...]] = []

    def cut(last: bool) -> list[tuple[Exchange, ...]]:
        return buffer.cut(boundaries.get(tuple(int(e.lead.turn_id) for e in buffer.held), []), last)

    for number, count in enumerate(tokens):
        while not buffer.fits(exchange(number, count)):
            segments += cut(False)
        buffer.add(exchange(number, count))
    return numbers(segments + cut(True))


@pytest.mark.parametrize(
    ("tokens", "boundaries", "expected"),
    [
        ([], {}, []),
        ([4], {}, [[0]]),
        ([4, 6], {}, [[0, 1]]),
        ([4, 7], {}, [[0], [1]]),
        ([4, 6, 1], {}, [[0, 1], [2]]),
        ([11, 2], {}, [[0], [1]]),
        ([2, 2, 2, 2, 3], {(0, 1, 2, 3): [1, 3]}, [[0], [1, 2], [3, 4]]),
        ([2, 2, 2, 2, 3], {}, [[0, 1, 2, 3], [4]]),
        ([2, 2, 2], {(0, 1, 2): [2]}, [[0, 1], [2]]),
        ([5, 5, 8], {(0, 1): [1]}, [[0], [1], [2]]),
    ],
    ids="empty one-turn exactly-full one-over then-one over-long several-cuts no-cut forced-last cut-twice".split(),
)
def test_the_sensory_buffer_cuts_at_every_boundary_as_the_slow_reference(
    tokens: list[int], boundaries: dict[tuple[int, ...], list[int]], expected: list[list[int]]
) -> None:
    assert stream(tokens, 10, boundaries) == expected == slow_stream(tokens, 10, boundaries)


@pytest.mark.slow
@quick
@given(st.lists(st.integers(1, 14), max_size=25), st.integers(0, 1000))
def test_no_exchange_is_lost_or_moved_and_the_slow_reference_agrees(tokens: list[int], seed: int) -> None:
    rng = random.Random(seed)
    known: dict[tuple[int, ...], list[int]] = {}

    class Anywhere(dict):  # type: ignore[type-arg]
        def get(self, key: tuple[int, ...], default: object = None) -> list[int]:  # type: ignore[override]
            if key not in known:
                count = rng.randint(0, max(0, len(key) - 1))
                known[key] = sorted(rng.sample(range(1, len(key)), count)) if count else []
            return known[key]

    made = stream(tokens, 10, Anywhere())
    assert [n for segment in made for n in segment] == list(range(len(tokens)))
    assert made == slow_stream(tokens, 10, known)


def batches(tokens: list[int], capacity: int) -> list[list[int]]:
    buffer = ShortTermBuffer(capacity)
    made = [buffer.add((exchange(n, count),), count) for n, count in enumerate(tokens)] + [buffer.flush()]
    assert buffer.flush() is None
    return [[int(segment[0].lead.turn_id) for segment in batch] for batch in made if batch]


@pytest.mark.slow
@quick
@given(st.lists(st.integers(0, 14), max_size=25))
def test_the_short_term_buffer_equals_the_slow_reference(tokens: list[int]) -> None:
    assert batches(tokens, 10) == slow_batches(tokens, 10)


def test_a_segment_longer_than_the_short_term_buffer_is_a_batch_of_its_own() -> None:
    assert batches([3, 25, 7, 3, 1], 10) == slow_batches([3, 25, 7, 3, 1], 10) == [[0], [1], [2, 3], [4]]


# --- exchanges and long messages --------------------------------------------------------------------------------------


def test_every_message_is_in_one_exchange_also_odd_and_opening_ones() -> None:
    roles = ["assistant", "assistant", "user", "assistant", "assistant", "user", "user", "assistant", "user"]
    said = [BufferedMessage(f"t{i}", role, str(i), "s", None) for i, role in enumerate(roles)]
    groups = [[int(m.turn_id) for m in e.messages] for e in exchanges_of(said)]
    assert groups == [[0], [1], [2, 3, 4], [5], [6, 7], [8]]
    assert [e.lead.turn_id for e in exchanges_of(said)] == ["0", "1", "2", "5", "6", "8"]


@quick
@given(st.text(st.sampled_from("ab \n"), max_size=200), st.integers(1, 9))
def test_a_long_message_is_split_and_nothing_of_it_dropped(text: str, capacity: int) -> None:
    for count in (lambda t: len(t.split()), lambda t: len(t) // 3 + 1):
        parts = split_long(text, capacity, count)
        assert "".join("".join(parts).split()) == "".join(text.split())
        assert all(count(p) <= capacity or len(p) < 2 for p in parts)
    assert split_long(text, 10_000, len) == [text]

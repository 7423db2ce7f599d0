"""The sleep-time update: queues against a slow reference, decisions from the state before all of them."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.core.records import MemoryUnit
from metamem.memory.lightmem.updating import apply_decisions, queues, sources, time_order

quick = settings(max_examples=40, deadline=None)


def slow_queues(vectors: np.ndarray, nearest: int, keep: int) -> list[list[tuple[int, float]]]:  # type: ignore[type-arg]
    made = []
    for i in range(len(vectors)):
        hits = [(round(float(np.dot(vectors[i].astype(float), vectors[j].astype(float))), 5), -j) for j in range(i)]
        best = sorted(hits, reverse=True)[:nearest][:keep]
        made.append([(-j, cosine) for cosine, j in best])
    return made


@quick
@given(st.integers(0, 40), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_queues_equal_the_slow_reference(count: int, nearest: int, keep: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (count, 4)).astype(np.float32)
    vectors[:, 0] = 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert queues(vectors, nearest, keep) == slow_queues(vectors, nearest, keep)


def test_queues_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(1).normal(size=(23, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = queues(vectors)
    monkeypatch.setattr("metamem.memory.lightmem.updating._BLOCK", 5)
    assert queues(vectors) == whole


def test_sources_are_the_later_units_that_queue_one_with_enough_similarity() -> None:
    queued = [[], [(0, 0.95)], [(1, 0.9), (0, 0.89)], [(0, 0.91), (2, 0.2)]]
    assert sources(queued, 0.9) == {0: [1, 3], 1: [2]}
    assert sources(queued, 0.96) == {}


def unit(name: str, text: str = "", day: int | None = 1) -> MemoryUnit:
    time = datetime(2024, 1, day) if day else None
    return MemoryUnit(name, text or f"text {name}", time, "s", (f"turn {name}",), "fact")


def test_the_order_is_that_of_time_and_undated_units_follow_the_one_before() -> None:
    units = [unit("a", day=3), unit("b", day=None), unit("c", day=1), unit("d", day=3), unit("e", day=None)]
    assert [units[i].id for i in time_order(units)] == ["c", "a", "b", "d", "e"]


def test_update_delete_and_ignore_do_what_they_say() -> None:
    units = [unit(name) for name in "abcd"]
    decisions = {0: ("update", "new a"), 1: ("delete", ""), 2: ("ignore", "")}
    made = apply_decisions(units, decisions, {0: [2, 3], 1: [2], 2: [3]})
    assert [u.id for u in made] == ["a", "c", "d"]
    assert made[0].text == "new a"
    assert made[0].turn_ids == ("turn a", "turn c", "turn d")
    assert (made[0].time, made[1:]) == (units[0].time, tuple(units[2:]))


def test_an_update_may_rest_on_a_unit_that_is_deleted_itself() -> None:
    units = [unit("a"), unit("b"), unit("c")]
    made = apply_decisions(units, {0: ("update", "new"), 1: ("delete", "")}, {0: [1], 1: [2]})
    assert [(u.id, u.text) for u in made] == [("a", "new"), ("c", "text c")]
    assert made[0].turn_ids == ("turn a", "turn b")

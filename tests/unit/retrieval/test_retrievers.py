"""Retrievers: exact scores, stable order, k, and rankings that do not depend on what else is asked."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.core.banks import MemoryBank
from metamem.core.errors import ConfigError
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.registry import build
from metamem.retrieval.scoring import Bm25Scores, fuse
from metamem.store.store import MemoryStore

WORDS = "cat dog fish bird lamp tree river the of".split()
SEARCHERS = ["dense", "bm25", "hybrid"]


def bank(*texts: str, name: str = "bank") -> MemoryBank:
    return MemoryBank(name, "c", tuple(MemoryUnit(f"u{i}", text) for i, text in enumerate(texts)))


def ask(text: str, **fields: object) -> Question:
    return Question(id=text, text=text, type="t", answers=("a",), **fields)  # type: ignore[arg-type]


def retriever(name: str, store: MemoryStore | None = None, **options: object):  # type: ignore[no-untyped-def]
    embedder = build("embedder", {"name": "hashing", "dimensions": 64, "window": 4})
    return build("retriever", {"name": name, **options}, embedder=embedder, store=store or MemoryStore())


def places(evidence: list[Evidence]) -> list[int]:
    return [int(e.unit.id[1:]) for e in evidence]


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), max_size=8)
quick = settings(max_examples=30, deadline=None)


@pytest.mark.parametrize("name", SEARCHERS)
@quick
@given(units=texts, asked=texts, k=st.integers(1, 5))
def test_a_ranking_has_k_units_in_order_of_score_with_ties_by_position(
    name: str, units: list[str], asked: list[str], k: int
) -> None:
    results = retriever(name, k=k).retrieve(bank(*units), [ask(t) for t in asked])
    assert len(results) == len(asked)
    for evidence in results:
        assert len(evidence) == min(k, len(units))
        assert [e.rank for e in evidence] == list(range(len(evidence)))
        keys = [(-e.score, int(e.unit.id[1:])) for e in evidence]
        assert keys == sorted(keys)
        assert all(math.isfinite(e.score) for e in evidence)


@pytest.mark.parametrize("name", SEARCHERS)
@quick
@given(units=texts, asked=texts)
def test_a_ranking_does_not_depend_on_what_is_asked_beside_it(name: str, units: list[str], asked: list[str]) -> None:
    held, questions = bank(*units), [ask(t) for t in asked]
    together = retriever(name).retrieve(held, questions)
    alone = [retriever(name).retrieve(held, [q])[0] for q in reversed(questions)]
    assert together == alone[::-1]


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_bigger_k_only_adds(name: str) -> None:
    rng = random.Random("units")
    held = bank(*(" ".join(rng.choices(WORDS, k=6)) for _ in range(30)))
    few, many = (retriever(name, k=k).retrieve(held, [ask("cat river")])[0] for k in (4, 20))
    assert many[:4] == few


@pytest.mark.parametrize("name", [*SEARCHERS, "full", "oracle"])
def test_an_empty_bank_gives_no_evidence(name: str) -> None:
    assert retriever(name).retrieve(bank(), [ask("cat"), ask("")]) == [[], []]


@pytest.mark.parametrize("name", [*SEARCHERS, "full", "oracle"])
def test_no_question_gives_no_result(name: str) -> None:
    assert retriever(name).retrieve(bank("cat"), []) == []


@pytest.mark.parametrize("name", SEARCHERS)
def test_the_unit_that_answers_comes_first(name: str) -> None:
    held = bank("we bought a lamp", "the river is cold", "my cat is called Tom", "trees")
    assert places(retriever(name).retrieve(held, [ask("What is my cat called?")])[0])[0] == 2


@pytest.mark.parametrize("name", SEARCHERS)
def test_many_threads_get_the_same_rankings(name: str) -> None:
    rng = random.Random("threads")
    banks = [bank(*(" ".join(rng.choices(WORDS, k=6)) for _ in range(9)), name=f"b{i}") for i in range(6)]
    questions = [ask("cat lamp"), ask("river")]
    one = retriever(name)
    expected = [retriever(name).retrieve(b, questions) for b in banks]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda b: one.retrieve(b, questions), banks * 3)) == expected * 3


@pytest.mark.parametrize("name", SEARCHERS)
def test_k_below_1_is_refused_by_its_key(name: str) -> None:
    with pytest.raises(ConfigError, match=r"retriever\.k must be at least 1, got 0"):
        retriever(name, k=0)


@pytest.mark.parametrize(("option", "value"), [("k1", -1.0), ("b", 1.5), ("b", float("nan"))])
def test_parameters_of_bm25_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"retriever.{option} must be"):
        retriever("bm25", **{option: value})


# --- dense --------------------------------------------------------------------------------------------------------


@quick
@given(units=texts, asked=st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join))
def test_dense_is_the_cosine_of_the_best_window(units: list[str], asked: str) -> None:
    embedder = build("embedder", {"name": "hashing", "dimensions": 64, "window": 4})
    question, _ = embedder.embed([asked])
    best = []
    for text in units:
        windows, _ = embedder.embed([text])
        best.append(max(float(np.dot(q, w)) for q in question.astype(float) for w in windows.astype(float)))
    found = {e.unit.id: e.score for e in retriever("dense").retrieve(bank(*units), [ask(asked)])[0]}
    assert found == {f"u{i}": pytest.approx(score, abs=2e-5) for i, score in enumerate(best)}


def test_scores_nearer_than_the_embedders_noise_are_ties() -> None:
    class Noisy:
        """The second unit is a hair nearer than the first, as in another batch."""

        def identity(self) -> dict[str, str]:
            return {"embedder": "noisy"}

        def embed(self, texts: list[str]):  # type: ignore[no-untyped-def]
            angles = [{"a": 0.5, "b": 0.5 - 3e-7}.get(t, 0.0) for t in texts]
            return np.asarray([[math.cos(x), math.sin(x)] for x in angles], np.float32), np.arange(len(texts))

    dense = build("retriever", {"name": "dense"}, embedder=Noisy(), store=MemoryStore())
    assert places(dense.retrieve(bank("a", "b"), [ask("?")])[0]) == [0, 1]


def test_dense_asks_the_embedder_for_nothing_the_second_time(tmp_path: Path) -> None:
    held, questions = bank("cat dog", "river"), [ask("cat"), ask("dog")]
    first = retriever("dense", MemoryStore(tmp_path)).retrieve(held, questions)

    class Gone:
        def identity(self) -> dict[str, object]:
            return dict(build("embedder", {"name": "hashing", "dimensions": 64, "window": 4}).identity())

        def embed(self, texts: list[str]) -> None:
            raise AssertionError("embedded again")

    again = build("retriever", {"name": "dense"}, embedder=Gone(), store=MemoryStore(tmp_path))
    assert again.retrieve(held, questions) == first


def test_dense_is_identified_by_its_embedder() -> None:
    small, large = (build("embedder", {"name": "hashing", "dimensions": d}) for d in (8, 16))
    identities = [build("retriever", {"name": "dense"}, embedder=e).identity() for e in (small, large)]
    assert identities[0] != identities[1]
    assert identities[0]["embedder"] == small.identity()


# --- bm25 ---------------------------------------------------------------------------------------------------------


def slow_bm25(units: list[list[str]], query: list[str], k1: float, b: float) -> list[float]:
    """BM25 as written down: idf ln(1 + (N - n + 0.5) / (n + 0.5)), saturation tf / (tf + k1 (1 - b + b |d| / avg))."""
    average = sum(map(len, units)) / len(units)
    scores = []
    for unit in units:
        score = 0.0
        for word in query:
            n, tf = sum(word in u for u in units), unit.count(word)
            if tf:
                idf = math.log(1 + (len(units) - n + 0.5) / (n + 0.5))
                score += idf * tf / (tf + k1 * (1 - b + b * len(unit) / average))
        scores.append(score)
    return scores


@quick
@given(units=texts.filter(bool), asked=st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), b=st.floats(0, 1))
def test_bm25_scores_are_the_formulas(units: list[str], asked: str, b: float) -> None:
    scorer = Bm25Scores(1.2, b, stopwords=True)
    expected = slow_bm25([scorer.words(u) for u in units], scorer.words(asked), 1.2, b) if any(
        scorer.words(u) for u in units
    ) else [0.0] * len(units)  # fmt: skip
    assert scorer(bank(*units), [asked])[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("asked", ["", "???", "the of", "zebra", "."])
def test_bm25_without_a_known_word_keeps_the_banks_order_at_0(asked: str) -> None:
    evidence = retriever("bm25", k=2).retrieve(bank("cat", "dog", "fish"), [ask(asked)])[0]
    assert [(e.unit.id, e.score) for e in evidence] == [("u0", 0.0), ("u1", 0.0)]


@pytest.mark.parametrize("units", [("", ""), ("the", "of")])
def test_bm25_of_units_without_words_is_0(units: tuple[str, ...]) -> None:
    assert [e.score for e in retriever("bm25").retrieve(bank(*units), [ask("cat")])[0]] == [0.0, 0.0]


def test_bm25_keeps_function_words_when_told_to() -> None:
    held = bank("cat", "the")
    assert retriever("bm25", stopwords=True).retrieve(held, [ask("the")])[0][0].score == 0
    assert places(retriever("bm25", stopwords=False).retrieve(held, [ask("the")])[0]) == [1, 0]


def test_bm25_does_not_mistake_another_bank_of_the_same_id() -> None:
    one = retriever("bm25")
    assert places(one.retrieve(bank("cat", "dog"), [ask("dog")])[0]) == [1, 0]
    assert places(one.retrieve(bank("dog", "cat"), [ask("dog")])[0]) == [0, 1]


def test_bm25_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    retriever("bm25").retrieve(bank("cat", "dog"), [ask("cat")])
    assert capfd.readouterr() == ("", "")


# --- hybrid, full, oracle -----------------------------------------------------------------------------------------


def test_fusion_sums_the_reciprocal_ranks() -> None:
    assert fuse([[2, 0], [0]], 3, 60) == [1 / 62 + 1 / 61, 0.0, 1 / 61]


def test_hybrid_is_the_fusion_of_dense_and_bm25() -> None:
    rng = random.Random("hybrid")
    # Several units share no word with the question: BM25 does not rank those.
    held = bank(*(" ".join(rng.choices(WORDS, k=2)) for _ in range(12)))
    question = [ask("cat river lamp")]
    dense = places(retriever("dense", k=99).retrieve(held, question)[0])
    lexical = [int(e.unit.id[1:]) for e in retriever("bm25", k=99).retrieve(held, question)[0] if e.score > 0]
    assert 0 < len(lexical) < 12
    expected = {i: 1 / (7 + dense.index(i) + 1) for i in range(12)}
    for rank, i in enumerate(lexical, start=1):
        expected[i] += 1 / (7 + rank)
    found = retriever("hybrid", k=99, rrf_constant=7).retrieve(held, question)[0]
    assert {int(e.unit.id[1:]): e.score for e in found} == pytest.approx(expected)


def test_full_gives_everything_oldest_first_and_undated_last() -> None:
    times = [None, datetime(2023, 2, 1), datetime(2023, 1, 1), None, datetime(2023, 1, 1)]
    units = tuple(MemoryUnit(f"u{i}", "x", time) for i, time in enumerate(times))
    evidence = retriever("full").retrieve(MemoryBank("b", "c", units), [ask("q")])[0]
    assert places(evidence) == [2, 4, 1, 0, 3]
    assert [e.rank for e in evidence] == [0, 1, 2, 3, 4]


SPOKEN = MemoryBank(
    "b",
    "c",
    (
        MemoryUnit("u0", "x", session_id="s1", turn_ids=("1", "2")),
        MemoryUnit("u1", "x", session_id="s1", turn_ids=("3",)),
        MemoryUnit("u2", "x", session_id="s2", turn_ids=("4",)),
        MemoryUnit("u3", "extracted, turns not known", session_id="s1"),
    ),
)


@pytest.mark.parametrize("abstention", [False, True])
@pytest.mark.parametrize(
    ("turns", "sessions", "expected"),
    [
        (("2", "4"), ("s1", "s2"), [0, 2, 3]),
        (("2",), (), [0]),
        ((), ("s1",), [0, 1, 3]),
        (("9",), ("s9",), []),
        ((), (), []),
    ],
)
def test_oracle_gives_the_units_that_hold_the_evidence(
    turns: tuple[str, ...], sessions: tuple[str, ...], expected: list[int], abstention: bool
) -> None:
    question = ask("q", evidence_turns=turns, evidence_sessions=sessions, abstention=abstention)
    assert places(retriever("oracle").retrieve(SPOKEN, [question])[0]) == expected

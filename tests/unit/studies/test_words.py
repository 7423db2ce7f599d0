"""Controls for what guidelines say: the same words, or as many of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metamem.core.meta_memory import MetaMemory, from_texts, words
from metamem.studies.guidelines import generic_advice, shuffled_order, shuffled_words

texts = st.lists(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8).map(" ".join), max_size=8, unique=True
)


def counts(meta_memory: MetaMemory) -> list[int]:
    return [words(g.text) for g in meta_memory.guidelines]


@given(st.integers(0, 700))
def test_generic_advice_has_exactly_the_words_asked_for_and_no_guideline_twice(count: int) -> None:
    advice = generic_advice(count)
    assert sum(counts(advice)) == count
    assert len({g.text for g in advice.guidelines}) >= len(advice) - 1


@given(texts, st.integers(0, 9))
def test_shuffled_words_are_the_same_words_in_guidelines_of_the_same_lengths(given_texts: list[str], seed: int) -> None:
    own = from_texts(given_texts)
    made = shuffled_words(own, seed)
    assert counts(made) == counts(own)
    assert sorted(" ".join(g.text for g in made.guidelines).split()) == sorted(" ".join(given_texts).split())
    assert made == shuffled_words(own, seed)


@given(texts, st.integers(0, 9))
def test_shuffled_order_keeps_every_guideline(given_texts: list[str], seed: int) -> None:
    own = from_texts(given_texts)
    assert sorted(g.text for g in shuffled_order(own, seed).guidelines) == sorted(given_texts)

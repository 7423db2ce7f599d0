"""Recall: what one question's prompt is given, and that an attempt says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from metamem.core.meta_memory import MetaMemory, from_texts
from metamem.core.records import Question
from metamem.embedding.hashing import Hashing
from metamem.embedding.similarity import Similarity
from metamem.recall.all import All
from metamem.recall.similar import Similar

QUESTION = Question("q", "Where does the cat sleep?", "t", ("here",))
MEMORY = from_texts(["Count the dogs.", "Find where the cat sleeps.", "Find where the cat sleeps.", "Add the prices."])


def shown(memory: MetaMemory, **options: Any) -> list[str]:
    recall = Similar(Similar.Config(**options), embedder=Hashing(Hashing.Config()))
    return [g.id for g in asyncio.run(recall.shown(memory, QUESTION))]


def test_all_shows_everything_in_its_order() -> None:
    assert asyncio.run(All(All.Config()).shown(MEMORY, QUESTION)) == MEMORY.guidelines


def test_the_most_similar_come_first_and_of_equals_the_earlier() -> None:
    assert shown(MEMORY, k=2) == ["G2", "G3"]
    assert shown(MEMORY, k=9)[:2] == ["G2", "G3"] and len(shown(MEMORY, k=9)) == 4
    assert shown(MEMORY, k=9, least=0.99) == []
    assert shown(MetaMemory()) == []


def test_what_a_guideline_keeps_can_be_compared_instead_of_its_text() -> None:
    memory = MEMORY.noted("G4", question="Where does the cat sleep?")
    assert shown(memory, k=1, key="question") == ["G4"]
    assert shown(memory, k=2, key="question") == ["G4", "G2"], "one that keeps nothing is compared by its text"


@pytest.mark.parametrize("order", [1, -1])
def test_similarity_does_not_depend_on_what_was_embedded_before_or_together(order: int) -> None:
    texts = [g.text for g in MEMORY.guidelines]
    together = Similarity(Hashing(Hashing.Config()))(QUESTION.text, texts)
    apart = Similarity(Hashing(Hashing.Config()))
    alone = {text: apart(QUESTION.text, [text])[0] for text in texts[::order]}
    assert [alone[text] for text in texts] == together

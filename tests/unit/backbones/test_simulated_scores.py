"""What the stand-in scores depends on evidence, guidelines and text, and repeats."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from metamem.backbones.simulation.scoring import word_scores
from metamem.core.calls import Message, Request
from metamem.core.contracts import Scorer
from metamem.core.errors import BackboneError
from metamem.core.registry import REGISTRY, build, load_components
from metamem.prompts.templates import Prompts

load_components()
MEMORIES = ["2024-03-01 (Fri) I moved to Bergen.", "2024-05-01 (Wed) I have moved on to Oslo now."]


def backbone(**options: Any) -> Any:
    return build("backbone", {"name": "simulated", "adherence": 1.0, **options})


def prompt(memories: list[str] = MEMORIES, *guidelines: str) -> tuple[Message, ...]:
    prompts: Prompts = build("prompts", {"name": "default"})
    listed = [{"id": f"G{i}", "text": text} for i, text in enumerate(guidelines, 1)]
    question = "Where do I live since I moved?"
    return prompts.render("answer", guidelines=listed, memories=memories, question=question, date="")


def mean(messages: tuple[Message, ...], text: str, **options: Any) -> float:
    scores = asyncio.run(backbone(**options).score(messages, text))
    return sum(scores) / len(scores)


def test_a_mixture_of_word_frequencies_worked_by_hand() -> None:
    messages = (Message("user", "<memories>\nred red blue green\n</memories>\n<question>\nblue?\n</question>"),)
    any_word = 0.1 / 50_000
    expected = [
        0.5 * 1 / 2 + 0.25 * 2 / 4 + any_word,  # red: half of the own reply, half of the memories
        0.25 * 1 / 4 + 0.15 * 1 / 1 + any_word,  # blue: a quarter of the memories, all of the question
        any_word,
    ]
    scores = word_scores(messages, "Red, sky", "RED blue unheard-of")
    assert scores == pytest.approx([math.log(p) for p in expected])


def test_every_word_gets_a_negative_number_and_the_same_one_again() -> None:
    text = "I live in Oslo. !!\n"
    scores = asyncio.run(backbone().score(prompt(), text))
    assert len(scores) == len(text.split()) and all(s < 0 for s in scores)
    assert scores == asyncio.run(backbone().score(prompt(), text))
    assert asyncio.run(backbone().score(prompt(), " ")) == []


def test_how_replies_are_sampled_changes_no_score() -> None:
    # The journal's key of a score holds no sampling.
    assert mean(prompt(), "Oslo now") == mean(prompt(), "Oslo now", max_tokens=1, temperature=1.0, stop=["moved"])


def test_words_of_the_evidence_are_likelier_with_it() -> None:
    assert mean(prompt(), "Oslo") > mean(prompt(["2024-03-01 (Fri) I like tea."]), "Oslo")


def test_a_guideline_makes_likelier_what_it_leads_to() -> None:
    advice = "When fragments disagree, take the most recent one as what is true now."
    own = asyncio.run(backbone().generate(Request(prompt(MEMORIES, advice), backbone().sampling())))[0].text
    assert own != asyncio.run(backbone().generate(Request(prompt(), backbone().sampling())))[0].text
    assert mean(prompt(MEMORIES, advice), own) > mean(prompt(), own)


def test_some_texts_fail_at_the_rate_asked_for() -> None:
    with pytest.raises(BackboneError, match="simulated failure"):
        mean(prompt(), "Oslo", error_rate=1.0)


def test_the_engines_and_the_stand_in_can_score_and_servers_cannot() -> None:
    can = {n for n in REGISTRY.names("backbone") if issubclass(REGISTRY.entry("backbone", n).component, Scorer)}
    assert can == {"nano", "simulated", "tiny", "vllm"}

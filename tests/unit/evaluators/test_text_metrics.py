"""Text metrics: normalisation, the best accepted answer, abstention."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.core.errors import ConfigError
from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import build
from metamem.evaluators import text

METRICS = ["exact_match", "substring_match", "token_f1"]


def evaluate(name: str, response: str, *answers: str, abstention: bool = False, **options: Any) -> Verdict:
    evaluator = build("evaluator", {"name": name, **options})
    question = Question("q", "?", "t", answers, abstention=abstention)
    return asyncio.run(evaluator.evaluate(question, Attempt("a", "q", "s", 0, response), 3))


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("The  Blue Car.", "blue car"),
        ("an apple, a day", "apple day"),
        ("“L’été”", "lété"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("$1,000", "1000"),
        ("ＡＢＣ１", "abc1"),
        ("A", "a"),
        ("The", "the"),
        ("!!!", "!!!"),
        ("東京。", "東京"),
        ("", ""),
    ],
)
def test_normalisation(raw: str, normal: str) -> None:
    assert text.normalise(raw) == normal


@given(st.text())
def test_normalising_twice_changes_nothing_of_words(raw: str) -> None:
    once = text.normalise(raw)
    assert once == once.strip()
    assert "  " not in once


@pytest.mark.parametrize(
    ("response", "answers", "score"),
    [
        ("The Blue car.", ("blue car",), 1),
        ("a blue car indeed", ("blue car",), 0),
        ("two", ("2", "Two!"), 1),
        ("B", ("A",), 0),
    ],
)
def test_exact_match(response: str, answers: tuple[str, ...], score: float) -> None:
    assert evaluate("exact_match", response, *answers).score == score


@pytest.mark.parametrize(
    ("response", "answer", "whole", "loose"),
    [
        ("It is a blue car.", "the blue car", 1, 1),
        ("15 days", "5", 0, 1),
        ("It took 5km", "5", 1, 1),
        ("concatenate", "cat", 0, 1),
        ("cat-like: a concatenated cat", "cat", 1, 1),
        ("3.5", "5", 0, 1),
        ("私は東京に住む", "東京", 1, 1),
        ("green", "blue", 0, 0),
        ("blue", "blue car", 0, 0),
    ],
)
def test_substring_match(response: str, answer: str, whole: float, loose: float) -> None:
    assert evaluate("substring_match", response, answer).score == whole
    assert evaluate("substring_match", response, answer, whole_words=False).score == loose


def test_an_answer_without_text_is_never_found() -> None:
    assert evaluate("substring_match", "anything", "").score == 0


@pytest.mark.parametrize(
    ("response", "answer", "score"),
    [
        ("blue car", "The blue car", 1.0),
        ("a red car", "blue car", 0.5),
        ("green", "blue car", 0.0),
        ("car car car", "car", 0.5),
        ("", "car", 0.0),
    ],
)
def test_token_f1(response: str, answer: str, score: float) -> None:
    assert evaluate("token_f1", response, answer).score == pytest.approx(score)


@given(st.text(max_size=40), st.text(max_size=40))
def test_token_f1_is_symmetric_and_in_range(a: str, b: str) -> None:
    assert text.token_f1(a, b) == text.token_f1(b, a)
    assert 0 <= text.token_f1(a, b) <= 1


def test_the_best_accepted_answer_counts() -> None:
    assert evaluate("token_f1", "blue car", "green", "blue car", "blue").score == 1.0
    assert evaluate("exact_match", "blue", "green", "blue").correct is True


@pytest.mark.parametrize(("threshold", "correct"), [(0.5, True), (0.51, False)])
def test_the_threshold_decides_what_is_right(threshold: float, correct: bool) -> None:
    assert evaluate("token_f1", "red car", "blue car", threshold=threshold).correct is correct


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("I don't have that information.", True),
        ("I don’t know.", True),
        ("You did not mention a hamster.", True),
        ("This cannot be known from the conversations.", True),
        ("The information provided is not enough.", True),
        ("No information available", True),
        ("Luna.", False),
        ("You did mention it: Luna.", False),
    ],
)
def test_abstention_is_right_when_the_response_says_so(name: str, response: str, correct: bool) -> None:
    verdict = evaluate(name, response, "You did not mention this information.", abstention=True)
    assert (verdict.correct, verdict.score) == (correct, float(correct))


@pytest.mark.parametrize("name", METRICS)
def test_a_verdict_names_what_it_judged(name: str) -> None:
    verdict = evaluate(name, "blue", "blue")
    assert verdict == Verdict("a", "q", name, Status.scored, 1.0, True, repeat=3)


@pytest.mark.parametrize("name", METRICS)
def test_a_question_without_an_answer_is_invalid(name: str) -> None:
    verdict = evaluate(name, "blue")
    assert (verdict.status, verdict.correct) == (Status.invalid, None)
    assert "no accepted answer" in verdict.reason


def test_phrases_for_unknown_are_normalised_themselves() -> None:
    assert [p for p in text.UNKNOWN_PHRASES if text.normalise(p) != p] == []


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"evaluator\.token_f1\.threshold"):
        build("evaluator", {"name": "token_f1", "threshold": threshold})

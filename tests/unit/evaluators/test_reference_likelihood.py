"""The likelihood of accepted answers: the likeliest counts, token by token, and nothing that was not delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from metamem.core.calls import Failure, Generation, Message
from metamem.core.contracts import Reply
from metamem.core.evaluating import ReferenceAnswer
from metamem.core.records import Question
from metamem.core.registry import build

PROMPT = (Message("user", "What?"),)


class Scores:
    """A caller that has a list of log-probabilities, or a failure, for each text."""

    def __init__(self, held: Mapping[str, Sequence[float] | Failure]) -> None:
        self._held = held

    async def score(self, messages: Sequence[Message], continuation: str) -> Reply:
        assert messages == PROMPT
        found = self._held[continuation]
        return Reply(
            f"key of {continuation}", found if isinstance(found, Failure) else Generation("", scores=tuple(found))
        )


def reference(answers: tuple[str, ...], **held: Sequence[float] | Failure) -> ReferenceAnswer:
    evaluator = build("evaluator", {"name": "reference_likelihood"})
    found: ReferenceAnswer = asyncio.run(
        evaluator.reference(Question("q", "What?", "t", answers), PROMPT, Scores(held))
    )
    return found


def test_the_likeliest_answer_counts_by_its_mean_token_and_the_first_of_equals() -> None:
    # A longer answer is not less likely for being longer: -3 over three tokens beats -2 over one.
    found = reference(("short", "longer", "same"), short=[-2.0], longer=[-0.5, -1.5, -1.0], same=[-1.0])
    assert (found.answer, found.tokens, found.log_probability) == (1, 3, pytest.approx(-1.0))
    assert found.keys == ("key of short", "key of longer", "key of same")


def test_a_question_without_answers_or_with_one_that_failed_has_no_figure_and_says_why() -> None:
    assert reference(("", " ")) == ReferenceAnswer(left_out="no accepted answer")
    found = reference(("good", "lost"), good=[-1.0], lost=Failure("away", passing=True))
    assert (found.log_probability, found.left_out, found.reason) == (None, "not scored", "away")

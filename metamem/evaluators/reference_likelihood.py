"""How likely a model finds the accepted answer after the very prompt that asks the question: graded, without a judge.

In: a question, the messages that ask it, a caller that scores. Out: a `ReferenceAnswer`: the mean natural
log-probability of the tokens of its likeliest accepted answer. One forward pass for each accepted answer; nothing is
sampled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.calls import Failure, Generation, Message
from metamem.core.contracts import ScoringCaller
from metamem.core.evaluating import ReferenceAnswer
from metamem.core.records import Question
from metamem.core.registry import register


@register("evaluator", "reference_likelihood")
class ReferenceLikelihood:
    """Mean log-probability of the likeliest accepted answer, given the prompt: no judge and no replies (eval.py)."""

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config) -> None:
        self.config = config

    async def reference(
        self, question: Question, messages: Sequence[Message], scorer: ScoringCaller
    ) -> ReferenceAnswer:
        """Return the likeliest of a question's accepted answers, the first of those that are equally likely.

        A question of which one answer could not be scored has no figure: the best of the others may be another.
        """
        numbers = [i for i, answer in enumerate(question.answers) if answer.strip()]
        if not numbers:
            return ReferenceAnswer(left_out="no accepted answer")
        replies = await asyncio.gather(*(scorer.score(messages, question.answers[i]) for i in numbers))
        keys = tuple(reply.key for reply in replies)
        means: list[tuple[float, int, int]] = []
        for i, reply in zip(numbers, replies, strict=True):
            if isinstance(reply.outcome, Failure):
                return ReferenceAnswer(left_out="not scored", reason=reply.outcome.reason, keys=keys)
            assert isinstance(reply.outcome, Generation)
            scores = reply.outcome.scores
            means.append((sum(scores) / len(scores), -i, len(scores)))
        mean, number, tokens = max(means)
        return ReferenceAnswer(-number, tokens, mean, keys=keys)

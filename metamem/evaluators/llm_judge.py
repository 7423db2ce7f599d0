"""A language model as judge: asks by a rubric for a verdict in JSON, and asks again when what comes cannot be read.

In: a question and a delivered attempt. Out: a `Verdict`, scored, or invalid with the reason when the backbone failed or
no reply could be read. The backbone retries its own failures; only unreadable replies are asked again here. Where the
score is a probability nothing is read: the model says how likely it finds either verdict.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from metamem.core.calls import Draw, Failure, Generation, Message, Request, Sampling, Usage
from metamem.core.contracts import Caller, Scorer, WeighsWords
from metamem.core.errors import ConfigError, unknown
from metamem.core.evaluating import Rubric
from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import option, register
from metamem.replies import verdicts
from metamem.replies.asking import Messages, ask_until_read
from metamem.replies.verdicts import Form, Path, read_verdict

_MOST_RETRIES = 99


def retries_by_now(retries: int, asked_again: int) -> int:
    """Return how often an unreadable reply is asked again in a run whose judge was asked again so many times since it
    was finished: each time begins where the one before ended, whose replies are stored.
    """
    return min(retries + asked_again * (retries + 1), _MOST_RETRIES)


class JudgeScore(StrEnum):
    """`verdict`: 1 for yes and 0 for no. `probability`: the judge's probability of yes, of the two."""

    verdict = "verdict"
    probability = "probability"


@register("evaluator", "llm_judge")
class LLMJudge:
    """A language model (role: judge) decides by the rubric whether the response is right."""

    name = "llm_judge"
    threshold = 0.5  # a verdict scores 0 or 1; a probability says what is likelier

    @dataclass
    class Config:
        """How the judge is asked."""

        explain: bool = option(False, "have the judge give a reason before its verdict")
        score: JudgeScore = option(
            JudgeScore.verdict,
            "verdict: 1 or 0; probability: of yes against no, for backbones that return log-probabilities",
        )
        repeats: int = option(
            1, "verdicts on each answer of a sample of the evaluated ones, which tell the judge's own noise", least=1
        )
        repeat_sample: int = option(100, "answers in that sample, drawn by the seed", least=1)
        retries: int = option(
            2, "how often an unreadable reply is asked again before the verdict is invalid", least=0, most=_MOST_RETRIES
        )
        max_tokens: int = option(
            512, "longest reply of the judge, in tokens; raise it for a judge that thinks", least=1
        )
        temperature: float = option(0.0, "sampling temperature of the judge", least=0)
        thinking: bool = option(False, "let a thinking model reason before its verdict")

        def __post_init__(self) -> None:
            """Check what goes together. Raises `ConfigError` naming the option as the user types it."""
            try:
                self.score = JudgeScore(self.score)
            except ValueError:
                raise ConfigError(unknown("evaluator.llm_judge.score", str(self.score), list(JudgeScore))) from None
            if self.score is JudgeScore.probability and (self.explain or self.thinking):
                raise ConfigError(
                    "evaluator.llm_judge.score=probability scores the two verdicts as they stand, nothing is written "
                    "before them: leave explain and thinking at false"
                )

    def __init__(self, config: Config, *, judge: Caller, rubric: Rubric, seed: int = 0, asked_again: int = 0) -> None:
        """`asked_again`: see `retries_by_now`. Raise `ConfigError` for a probability from a backbone that does not
        return any.
        """
        weighs = config.score is JudgeScore.probability
        if weighs and not isinstance(judge.backbone, (Scorer, WeighsWords)):
            raise ConfigError(
                "evaluator.llm_judge.score=probability needs log-probabilities, which the judge's backbone does not "
                "return; take another judge (backbone@judge=vllm, backbone@judge=openai) or score=verdict"
            )
        self._config, self._judge, self._rubric, self._seed = config, judge, rubric, seed
        self.repeats, self.repeat_sample = config.repeats, config.repeat_sample
        self._retries = retries_by_now(config.retries, asked_again)
        # A server tells the likeliest first tokens only: the verdict has to be the first word.
        self._words = weighs and not isinstance(judge.backbone, Scorer)
        self._form = verdicts.JSON_WITH_REASON if config.explain else verdicts.WORD if self._words else verdicts.JSON

    @classmethod
    def wants(cls, questions: Sequence[Question]) -> Sequence[Question]:
        """Return all questions: the judge is asked about every one."""
        return questions

    @classmethod
    def asks_at_most(cls, options: Config) -> int | None:
        """Return the most calls about one answer: a reply and those that are asked for again, or the two verdicts that
        are weighed; None where a sample of the answers is judged several times.
        """
        if options.repeats > 1:
            return None
        return 2 if options.score is JudgeScore.probability else options.retries + 1

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """The judge's verdict on one attempt; `repeat` numbers further verdicts on the same attempt."""
        prompt = self._rubric.render(question, attempt.response, self._form.demand)
        # A rubric with a wording of its own asks for the word: what is enforced is what was asked for.
        form = self._form if self._form.demand in prompt else verdicts.WORD
        if self._config.explain and form is verdicts.WORD:
            raise ConfigError(
                "evaluator.llm_judge.explain: the rubric's templates do not say {{ demand }}, by which it asks"
            )
        messages = (Message("user", prompt),)
        base = Verdict(
            attempt.id,
            question.id,
            self.name,
            Status.invalid,
            judge=self._judge.label,
            rubric=str(self._rubric.identity()["hash"]),
            repeat=repeat,
            path=Path.invalid.value,
        )
        if self._config.score is JudgeScore.probability:
            return await self._weigh(messages, form, base)
        return await self._ask(messages, form, base)

    async def _ask(self, messages: Messages, form: Form, base: Verdict) -> Verdict:
        """Return the verdict that is read of what the judge replies."""
        sampling = self._sampling()
        draws = (Draw(f"{self._seed}/judge/{base.attempt_id}", base.repeat),)
        given: list[Generation] = []

        async def send(asked: Messages, again: int, _: str) -> Generation:
            # Every greedy call that is meant to happen again differs in this number, so none is another's stored reply.
            number = base.repeat * (_MOST_RETRIES + 1) + again
            (reply,) = await self._judge(Request(asked, sampling, draws, form.schema, number))
            if isinstance(reply.outcome, Failure):
                raise _LostError(reply.outcome.reason)
            given.append(reply.outcome)
            return reply.outcome

        def restate(problem: str) -> Messages:
            return (Message("user", f"That cannot be read as a verdict: {problem}. {form.demand}"),)

        lost = ""
        try:
            found = await ask_until_read(messages, send, lambda g: read_verdict(g.text), restate, self._retries)
        except _LostError as error:
            found, lost = None, f"the judge failed: {error}"
        raw = given[-1].text if given else ""
        base = dataclasses.replace(base, raw=raw, usage=sum((g.usage for g in given), Usage()))
        if lost:
            return dataclasses.replace(base, reason=lost, path=Path.undelivered.value)
        if found is None or found.value is None:
            return dataclasses.replace(base, reason=self._unread(given))
        right, path = found.value
        return self._scored(base, float(right), Path.again if found.repeat else path)

    async def _weigh(self, messages: Messages, form: Form, base: Verdict) -> Verdict:
        """Return the verdict whose score is the probability of yes, of the two replies that are asked for."""
        if self._words:
            requests = [Request(messages, Sampling(max_tokens=1), words=("yes", "no"))]
        else:
            requests = [Request(messages, Sampling(), continuation=form.reply(word)) for word in ("yes", "no")]
        scores: list[tuple[float, ...]] = []
        for request in requests:
            (reply,) = await self._judge(request)
            if isinstance(reply.outcome, Failure):
                reason = f"the judge failed: {reply.outcome.reason}"
                return dataclasses.replace(base, reason=reason, path=Path.undelivered.value)
            scores.append(reply.outcome.scores)
        sums = scores[0] if self._words else [math.fsum(s) for s in scores]
        difference = min(max(sums[1] - sums[0], -700.0), 700.0)  # exp() takes no more
        raw = f"log-probability of yes {sums[0]:.4f}, of no {sums[1]:.4f}"
        return self._scored(dataclasses.replace(base, raw=raw), 1 / (1 + math.exp(difference)), Path.probability)

    def _scored(self, base: Verdict, score: float, path: Path) -> Verdict:
        return dataclasses.replace(
            base, status=Status.scored, score=score, correct=score >= self.threshold, path=path.value
        )

    def _unread(self, given: Sequence[Generation]) -> str:
        """Say why no verdict could be had of these replies."""
        cut = given[-1].finish_reason == "length"
        limit = f", the last cut at evaluator.llm_judge.max_tokens={self._config.max_tokens}" if cut else ""
        return f"no verdict could be read in {len(given)} repl{'y' if len(given) == 1 else 'ies'} of the judge{limit}"

    def _sampling(self) -> Sampling:
        config = self._config
        return dataclasses.replace(
            self._judge.sampling(),
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            thinking=config.thinking,
        )


class _LostError(Exception):
    """A call that was not delivered."""

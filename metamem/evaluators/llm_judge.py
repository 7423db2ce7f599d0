"""A language model as judge: asks by a rubric, reads yes or no, asks again when it cannot be read.

In: a question and a delivered attempt. Out: a `Verdict`, scored, or invalid with the reason when the backbone failed or
no reply could be read. The backbone retries its own failures; only unreadable replies are asked again here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from metamem.core.calls import Draw, Failure, Message, Request, Sampling, Usage
from metamem.core.contracts import Caller, Rubric
from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import option, register
from metamem.replies.verdict_reader import read_verdict

_REMINDER = "That cannot be read as a verdict. Is the response correct? Reply with exactly one word: yes or no."
_SHOWN = 2_000  # characters of an unreadable reply that the judge is shown again
_MOST_RETRIES = 99


@register("evaluator", "llm_judge")
class LLMJudge:
    """A language model (role: judge) decides by the rubric whether the response is right."""

    name = "llm_judge"
    threshold = 0.5  # a verdict scores 0 or 1

    @dataclass
    class Config:
        """How the judge is asked."""

        retries: int = option(
            2, "how often an unreadable reply is asked again before the verdict is invalid", least=0, most=_MOST_RETRIES
        )
        max_tokens: int = option(
            512, "longest reply of the judge, in tokens; raise it for a judge that thinks", least=1
        )
        temperature: float = option(0.0, "sampling temperature of the judge", least=0)
        thinking: bool = option(False, "let a thinking model reason before its verdict")

    def __init__(self, config: Config, *, judge: Caller, rubric: Rubric, seed: int = 0) -> None:
        self._config, self._judge, self._rubric, self._seed = config, judge, rubric, seed

    @classmethod
    def wants(cls, questions: Sequence[Question]) -> Sequence[Question]:
        """Return all questions: the judge is asked about every one."""
        return questions

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """The judge's verdict on one attempt; `repeat` numbers further verdicts on the same attempt."""
        prompt = Message("user", self._rubric.render(question, attempt.response))
        messages: tuple[Message, ...] = (prompt,)
        draws = (Draw(f"{self._seed}/judge/{attempt.id}", repeat),)
        used, raw, reason, value = Usage(), "", "", None
        for asked in range(self._config.retries + 1):
            # Every greedy call that is meant to happen again differs in this number, so none is another's stored reply.
            again = repeat * (_MOST_RETRIES + 1) + asked
            (reply,) = await self._judge(Request(messages, self._sampling(), draws, repeat=again))
            if isinstance(reply.outcome, Failure):
                reason = f"the judge failed: {reply.outcome.reason}"
                break
            raw = reply.outcome.text
            used = Usage(
                used.prompt_tokens + reply.outcome.usage.prompt_tokens,
                used.completion_tokens + reply.outcome.usage.completion_tokens,
            )
            value = read_verdict(raw)
            if value is not None:
                break
            cut = reply.outcome.finish_reason == "length"
            limit = f", the last cut at evaluator.llm_judge.max_tokens={self._config.max_tokens}" if cut else ""
            reason = f"no verdict could be read in {asked + 1} repl{'y' if asked == 0 else 'ies'} of the judge{limit}"
            messages = (prompt, Message("assistant", raw[:_SHOWN] or "(empty)"), Message("user", _REMINDER))
        verdict = Verdict(
            attempt.id,
            question.id,
            self.name,
            Status.invalid,
            judge=self._judge.label,
            rubric=str(self._rubric.identity()["hash"]),
            repeat=repeat,
            raw=raw,
            reason=reason,
            usage=used,
        )
        if value is None:
            return verdict
        score = float(value)
        return dataclasses.replace(
            verdict, status=Status.scored, score=score, correct=score >= self.threshold, reason=""
        )

    def _sampling(self) -> Sampling:
        config = self._config
        return dataclasses.replace(
            self._judge.sampling(),
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            thinking=config.thinking,
        )

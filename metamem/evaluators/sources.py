"""Text metrics of Mem-α's and MemoryAgentBench's sources (numbers, key words, parts, ROUGE, Recall@5), by source.

In: a question and an attempt. Out: a scored `Verdict`. Where a reply ends in an `Answer:` line or a boxed answer, that
is what counts, so that reasoning before it is not taken for the answer. Definitions: `source_metrics`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metamem.core.contracts import Caller, Rubric
from metamem.core.errors import ConfigError, unknown
from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import option, register
from metamem.core.sources import Metric, source_of
from metamem.evaluators.llm_judge import LLMJudge
from metamem.evaluators.source_metrics import (
    Rouge,
    final_answer,
    keyword_share,
    number_match,
    part_share,
    recall_at,
    rouge,
)
from metamem.evaluators.text import holds, normalise, says_unknown

# The rubric's template for an answer that is one thing to be known.
JUDGED_AS = "single-session-user"


def _for_judge(question: Question) -> Question:
    return dataclasses.replace(question, type=JUDGED_AS)


class _Graded:
    """What the metrics here share: abstention, the threshold, the verdict."""

    name: str
    threshold: float

    def grade(self, question: Question, answer: str) -> float:
        """The score of a final answer, in [0, 1]."""
        raise AssertionError(f"{type(self).__name__} has no grade")

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """The verdict of one attempt; invalid when the question has neither an answer nor the abstention flag."""
        verdict = Verdict(attempt.id, question.id, self.name, Status.invalid, repeat=repeat)
        if question.abstention:
            score = float(says_unknown(attempt.response))
        elif question.answers:
            score = self.grade(question, final_answer(attempt.response))
        else:
            return dataclasses.replace(verdict, reason="the question has no accepted answer")
        return dataclasses.replace(verdict, status=Status.scored, score=score, correct=score >= self.threshold)


@dataclass
class _Threshold:
    threshold: float = option(0.5, "score from which an attempt is right", above=0, most=1)


@register("evaluator", "number_match")
class NumberMatch(_Graded):
    """The answer is exactly one number, the accepted one (classes by number)."""

    name = "number_match"
    threshold = 1.0

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config) -> None:
        del config

    def grade(self, question: Question, answer: str) -> float:
        """`number_match`, the best over the accepted answers."""
        return max(number_match(answer, gold) for gold in question.answers)


@register("evaluator", "keyword_share")
class KeywordShare(_Graded):
    """The share of the accepted key words in the reply (summaries)."""

    name = "keyword_share"

    @dataclass
    class Config(_Threshold):
        """When a score is right."""

    def __init__(self, config: Config) -> None:
        self.threshold = config.threshold

    def grade(self, question: Question, answer: str) -> float:
        """`keyword_share`."""
        return keyword_share(answer, question.answers)


@register("evaluator", "part_share")
class PartShare(_Graded):
    """The share of the answer's parts, separated by ";", in the reply (PerLTQA)."""

    name = "part_share"

    @dataclass
    class Config(_Threshold):
        """When a score is right."""

    def __init__(self, config: Config) -> None:
        self.threshold = config.threshold

    def grade(self, question: Question, answer: str) -> float:
        """`part_share`, the best over the accepted answers."""
        return max(part_share(answer, gold) for gold in question.answers)


@register("evaluator", "recall_at_5")
class RecallAt5(_Graded):
    """The share of the accepted things among the first five that the reply lists (recommendations)."""

    name = "recall_at_5"

    @dataclass
    class Config(_Threshold):
        """When a score is right."""

    def __init__(self, config: Config) -> None:
        self.threshold = config.threshold

    def grade(self, question: Question, answer: str) -> float:
        """`recall_at` 5."""
        return recall_at(answer, question.answers)


@register("evaluator", "rouge")
class RougeScore(_Graded):
    """ROUGE F-measure against the accepted answers (rouge-score, with stemming)."""

    name = "rouge"

    @dataclass
    class Config(_Threshold):
        """Which ROUGE, and when a score is right."""

        kind: Rouge = option(Rouge.rougeL, "rouge1, rouge2 or rougeL")

        def __post_init__(self) -> None:
            try:
                self.kind = Rouge(self.kind)
            except ValueError:
                raise ConfigError(f"evaluator.rouge.kind: {unknown('kind', str(self.kind), list(Rouge))}") from None

    def __init__(self, config: Config) -> None:
        self.threshold, self._kind = config.threshold, config.kind

    def grade(self, question: Question, answer: str) -> float:
        """`rouge`, the best over the accepted answers."""
        return max(rouge(answer, gold, self._kind) for gold in question.answers)


@register("evaluator", "by_source")
class BySource(_Graded):
    """Each question by its source's own metric (Mem-α, MemoryAgentBench); judged sources by the judge."""

    name = "by_source"

    @dataclass
    class Config(_Threshold):
        """When a score is right, and how the judge is asked."""

        retries: int = option(2, "judge: how often an unreadable reply is asked again")
        max_tokens: int = option(512, "judge: longest reply, in tokens")

    def __init__(
        self, config: Config, *, judge: Caller | None = None, rubric: Rubric | None = None, seed: int = 0
    ) -> None:
        self.threshold = config.threshold
        self._judge: LLMJudge | None = None
        if judge is not None and rubric is not None:
            options = LLMJudge.Config(retries=config.retries, max_tokens=config.max_tokens)
            self._judge = LLMJudge(options, judge=judge, rubric=rubric, seed=seed)

    @classmethod
    def wants(cls, questions: Sequence[Question]) -> Sequence[Question]:
        """Return the questions of judged sources, each as one about a thing to be known."""
        return [_for_judge(q) for q in questions if source_of(q.type).metric is Metric.judge]

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """The verdict by the metric of the question's source."""
        if source_of(question.type).metric is not Metric.judge:
            return await super().evaluate(question, attempt, repeat)
        if self._judge is None:
            raise ConfigError(f"evaluator.{self.name}: questions of {question.type} need a judge")
        verdict = await self._judge.evaluate(_for_judge(question), attempt, repeat)
        return dataclasses.replace(verdict, evaluator=self.name)

    def grade(self, question: Question, answer: str) -> float:
        """The score by the metric of the question's source."""
        metric, golds = source_of(question.type).metric, question.answers
        if metric is Metric.keywords:
            return keyword_share(answer, golds)
        if metric is Metric.recall:
            return recall_at(answer, golds)
        score = _ONE_ANSWER[metric]
        return max(score(answer, gold) for gold in golds)


_ONE_ANSWER: dict[Metric, Callable[[str, str], float]] = {
    Metric.number: number_match,
    Metric.parts: part_share,
    Metric.exact: lambda response, gold: float(normalise(response) == normalise(gold)),
    Metric.substring: lambda response, gold: float(holds(response, gold, False)),
}

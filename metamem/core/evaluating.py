"""What judges and scores answers: the contracts of evaluators and rubrics.

In: questions with their truth, attempts, memories, prompts. Out: verdicts and scores; an evaluator that cannot tell
says so by an invalid verdict and never raises for what a model wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from metamem.core.banks import MemoryBank
from metamem.core.calls import Message
from metamem.core.contracts import ScoringCaller, Tracker
from metamem.core.learned import Judged
from metamem.core.records import Attempt, Conversation, Evidence, Expected, Question, Verdict


class Evaluator(Protocol):
    """Kind `evaluator`. `threshold` turns a graded score into right or wrong."""

    name: str
    threshold: float

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """The verdict of an attempt that was delivered and is not empty (the stage handles failed and empty ones)."""


@runtime_checkable
class AsksJudge(Protocol):
    """An evaluator whose verdicts need the judge role. One without this is made without a judge."""

    @classmethod
    def wants(cls, questions: Sequence[Question]) -> Sequence[Question]:
        """Return the questions that the judge is asked about, each as the rubric is to see it.

        Called on the class, before anything is made: the rubric is checked against them.
        """


@runtime_checkable
class AsksByTemplates(Protocol):
    """An evaluator that asks the judge role by templates of its own and needs no rubric."""

    @classmethod
    def templates(cls) -> Sequence[str]:
        """Return the names of the templates."""


@runtime_checkable
class BoundsJudge(Protocol):
    """An evaluator that knows how often it asks the judge; a dry run says so. Without it that is unknown."""

    @classmethod
    def asks_at_most(cls, options: Any) -> int | None:
        """Return the most calls to the judge about one answer; None where it depends on more than the options."""


@runtime_checkable
class Repeats(Protocol):
    """An evaluator whose judge gives `repeats` verdicts on each of `repeat_sample` answers: these tell its noise."""

    name: str
    repeats: int
    repeat_sample: int

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """See `Evaluator`."""


class BankTools(Protocol):
    """What an evaluator of memories works with.

    `banks` are the memories that were asked, by conversation; `expected` is what memories should hold after single
    sessions of what was asked about, where the data knows it.
    """

    tracker: Tracker
    banks: Mapping[str, MemoryBank]
    expected: Sequence[Expected]

    async def memory(self, conversation: Conversation) -> MemoryBank:
        """Return the bank of a conversation, from the store or written; not `complete` where a call was lost."""

    async def found(self, bank: MemoryBank, questions: Sequence[Question]) -> Sequence[Sequence[Evidence]]:
        """Return what the run's retriever finds in a bank for each question, best first."""


@runtime_checkable
class ScoresMemories(Protocol):
    """An evaluator that has figures of the memories themselves, beside those of answers. It is given a judge."""

    @classmethod
    def scores(cls, built: bool) -> bool:
        """Tell whether it knows memories that a builder's model was asked for (`built`), or was not."""

    async def banks(self, judged: Mapping[str, Sequence[Judged]], tools: BankTools) -> Sequence[Mapping[str, Any]]:
        """Return JSON rows of what was found (one an episode, say); none for memories of a kind that it does not know.

        `judged` are the answers of each system.
        """

    @classmethod
    def figures(
        cls, options: Any, rows: Sequence[Mapping[str, Any]], judged: Mapping[str, Sequence[Judged]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the figures of each system that its rows and answers give, and nothing else decides."""


@dataclass(frozen=True, slots=True)
class ReferenceAnswer:
    """How likely an accepted answer is as the reply to a prompt: its number among the question's answers, its tokens,
    and their mean natural log-probability.

    `left_out` says why there is no figure, `reason` what went wrong; `keys` are the journal's of all that was scored.
    """

    answer: int | None = None
    tokens: int = 0
    log_probability: float | None = None
    left_out: str = ""
    reason: str = ""
    keys: tuple[str, ...] = ()


@runtime_checkable
class ScoresReferences(Protocol):
    """An evaluator of prompts: it scores what should be answered to them, so that no reply is asked for and none is
    judged. It keeps this contract instead of `Evaluator`, and needs a policy whose backbone is a `Scorer`.
    """

    async def reference(
        self, question: Question, messages: Sequence[Message], scorer: ScoringCaller
    ) -> ReferenceAnswer:
        """Return how likely the accepted answer is after the prompt that asks a question."""


class Rubric(Protocol):
    """Kind `rubric`: what the judge is asked."""

    def identity(self) -> Mapping[str, Any]:
        """Name and content hash."""

    def check(self, questions: Sequence[Question]) -> None:
        """Raises `DataError` for a question of a type it has no template for; called before anything is paid."""

    def render(self, question: Question, response: str, demand: str) -> str:
        """The judge's prompt for one response. `demand` is the sentence that says what form the reply must have: it
        stands at the prompt's end, or the prompt asks for a plain yes or no in its own words.
        """


# --- watching

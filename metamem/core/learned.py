"""What a policy is given and gives: where a training stands, what a step made of it, and what a reply held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from metamem.core.calls import Failure, Generation
from metamem.core.meta_memory import Change, Guideline, MetaMemory, Refusal
from metamem.core.records import Attempt, Evidence, Question, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from metamem.core.contracts import Backbone


T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """Where a training stands, which is what its checkpoint holds.

    `step` counts the steps made so far; `state` is what the policy keeps for itself, as JSON (None before its first
    step; a list `candidates` of versions of texts is shown in reports, whose `learned.py` says in which form);
    `accepted` tells whether the last step's update was taken, `done` that there is nothing left to learn.
    """

    step: int = 0
    meta_memory: MetaMemory = field(default_factory=MetaMemory)
    state: Any = None
    accepted: bool = True
    done: bool = False


@dataclass(frozen=True)
class Update:
    """What a policy's step gives: the next meta-memory, and the policy's own state as JSON.

    `changes` are what was executed (the training compares the two meta-memories where there are none), `refused` what
    was not; `counts` are figures to log, `notes` lines to show, `trace` JSON rows that tell how the changes came about.
    A policy that is `done` is given none of the batches that are left, and no end.
    """

    meta_memory: MetaMemory
    state: Any = None
    changes: tuple[Change, ...] = ()
    refused: tuple[Refusal, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trace: tuple[Mapping[str, Any], ...] = ()
    done: bool = False


@dataclass(frozen=True)
class ExpectedCalls:
    """Calls for one template in a step: how many at least, expected and at most, and the new tokens of each."""

    prompt: str
    least: int
    expected: float
    most: int
    tokens: int


@dataclass(frozen=True)
class Bounds:
    """What a step over a batch asks for: answers to its questions, no more and no fewer, and calls for templates.

    `learned_words` is how long the guidelines can get, in words; None where nothing limits them.
    """

    attempts: int
    asked: tuple[ExpectedCalls, ...] = ()
    learned_words: int | None = None


@dataclass(frozen=True)
class Read(Generic[T]):
    """What a reader made of a reply, or of the one that repaired it; `value` is None where `problem` says why not."""

    value: T | None
    problem: str = ""
    repaired: bool = False


# --- learning


class Feedback(StrEnum):
    """What a policy is told of its answers: the accepted answer and the verdict, the verdict alone, or nothing."""

    truth = "truth"
    verdict = "verdict"
    none = "none"


@dataclass(frozen=True)
class Judged:
    """One question with its attempts and, of the evaluator that is the reward, their verdicts, both in draw order.

    `teaches`: its attempts disagree. `other_verdicts` are those of the other evaluators. `evidence` is what was shown,
    `gathered` what was there to be chosen from (empty: the same).
    """

    question: Question
    evidence: tuple[Evidence, ...]
    attempts: tuple[Attempt, ...]
    verdicts: tuple[Verdict, ...]
    teaches: bool
    other_verdicts: tuple[Verdict, ...] = ()
    gathered: tuple[Evidence, ...] = ()

    @property
    def score(self) -> float:
        """Share of right attempts; an invalid verdict counts as wrong."""
        return sum(bool(v.correct) for v in self.verdicts) / len(self.verdicts) if self.verdicts else 0.0


class Recall(Protocol):
    """Kind `recall`: what of a meta-memory one question's prompt is given. `prompts` names the templates it renders.
    Questions come to it without their answers and without anything else that only scoring knows.
    """

    prompts: tuple[str, ...]

    def identity(self) -> Mapping[str, Any]:
        """What decides the choice beyond options and templates (the embedder's identity); asked for before there is a
        caller.
        """

    async def shown(self, meta_memory: MetaMemory, question: Question) -> Sequence[Guideline]:
        """The guidelines that the prompt of one question shows, in their order there."""


@runtime_checkable
class ChoosesEvidence(Protocol):
    """A recall that also chooses what of the gathered evidence a prompt shows."""

    async def evidence(
        self, meta_memory: MetaMemory, question: Question, gathered: Sequence[Evidence]
    ) -> Sequence[Evidence]:
        """Some of the gathered evidence, in the order it came in."""


class Laboratory(Protocol):
    """What a policy works with in one step. It owns the draws, the journal, logs and progress: what is called again in
    a continued run gives the same, and every attempt is written down.
    """

    step: int  # the one that is being made, from 1
    validation: tuple[Question, ...]  # in the order of ids
    random: Random  # seeded by the run and the step

    @property
    def training(self) -> WeightTraining:
        """What trains the builder's weights, for a policy that `trains_weights`."""

    async def attempt(
        self, question: Question, meta_memory: MetaMemory, attempts: int = 1, temperature: float = 0.0
    ) -> Judged:
        """Sample answers to a question under a meta-memory and judge each. The same question again gives new draws."""

    async def validate(self, meta_memory: MetaMemory, questions: Sequence[Question] | None = None) -> list[Judged]:
        """Answer and judge validation questions (all, unless some are given) as the training does at the end of a step:
        for the meta-memory that the step gives, these are the very replies of its validation.
        """

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A unit vector for each text (n, d): the direction of the sum of its windows."""

    async def similar(self, text: str, texts: Sequence[str]) -> list[float]:
        """How similar each text is to the first, from -1 to 1: as recalls compare, by the best windows."""

    async def ask(self, prompt: str, tokens: int, *, temperature: float = 0.0, **values: Any) -> Generation | Failure:
        """The reflector's reply of at most so many new tokens to a template that is filled in with `values`."""

    async def read(
        self, prompt: str, tokens: int, reader: Callable[[Generation], T], *, repairs: int = 1, **values: Any
    ) -> Read[T]:
        """What `reader` makes of the reply to a template. A reply that it refuses with an `UnreadableError` is sent
        back to be repaired, up to `repairs` times.
        """


class WeightTraining(Protocol):
    """What a policy that trains the builder's weights works with in one step. `base` is the builder's untrained
    backbone, `adapters` the folder of trained weights, `moments` the run's own of the optimiser's states; `place` names
    the step, and with it the draws.
    """

    base: Backbone
    adapters: Path
    moments: Path
    place: str

    async def episodes(
        self,
        questions: Sequence[Question],
        writer: Backbone,
        meta_memory: MetaMemory,
        *,
        tokens: Any = None,
        group: int = 1,
        temperature: float = 0.0,
        beta: float,
        gamma: float,
        scope: str,
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        """Have the memories of the questions' conversations written `group` times by a writer, answered from and
        scored; return a row for each episode, with its exchanges, rewards and advantages by chunk, and why others have
        none.
        """

    def keep(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows of this step in the run, whole; the same name again replaces them."""


@runtime_checkable
class TrainsWeights(Protocol):
    """A policy that trains the builder's weights: it is given a `WeightTraining`. A stand-in has no weights to
    train.
    """

    trains_weights: bool


class Optimizer(Protocol):
    """Kind `optimizer`: a policy that improves a meta-memory from batches of questions.

    It is constructed from its options alone, before anything is paid, and keeps nothing between steps but `state`.
    `prompts` names the templates that it has filled in; a policy without any never asks the reflector. A class that has
    a name as its `recall` is run with that recall, unless the user chooses another; one that `needs_validation` is
    refused on a split without a validation part. What a policy learns is screened at the end of each step, unless it
    `keeps_data`: its items are cases of the data by design, or a person's own sentences.
    """

    prompts: tuple[str, ...]

    def batches(self, train: Sequence[Question], seed: int) -> Sequence[Sequence[Question]]:
        """The questions of each step, from those of the training part in the order of ids; none: no training."""

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """One step over one batch."""


@runtime_checkable
class Ending(Protocol):
    """A policy with something left to do when its batches are through."""

    async def end(self, at: Position, laboratory: Laboratory) -> Update | None:
        """One step more, without a batch; None: nothing is left to do."""


@runtime_checkable
class Identified(Protocol):
    """A policy of which more than options and templates decides a result, such as the content of a file."""

    def identity(self) -> Mapping[str, Any]:
        """What that is, as JSON."""


@runtime_checkable
class Planning(Protocol):
    """A policy that knows before what a step asks for; of any other a dry run says that it is unknown."""

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """What a step over a batch asks for. Constructs nothing and calls nothing."""

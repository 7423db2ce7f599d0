"""What tests of policies share: questions, a model that answers by a script, a reflector that replies by one.

A script of answers is given the question, what its prompt shows and the number of the draw; a script of replies the
template and the prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from typing import Any

from metamem.config.options import EvaluationOptions
from metamem.core.calls import Failure, Generation, Request, Sampling
from metamem.core.contracts import Reply
from metamem.core.guarded import GuardTools
from metamem.core.learned import Judged, Position, Update
from metamem.core.meta_memory import Guideline, MetaMemory
from metamem.core.records import Attempt, Evidence, MemoryUnit, Question, Status, Verdict, teaches
from metamem.core.registry import build, load_components
from metamem.embedding.similarity import Similarity
from metamem.pipeline.laboratory import StepLaboratory
from metamem.pipeline.screening import screened
from metamem.tracking.trackers import Trackers

load_components()
EMBEDDER = build("embedder", {"name": "hashing", "dimensions": 64})
PROMPTS = build("prompts", {"name": "default"})
Answers = Callable[[Question, MetaMemory, Sequence[Guideline], int], tuple[str, float | None]]
Replies = Callable[[str, str], str | Failure]


def ask(id: str, text: str = "") -> Question:
    """A question whose accepted answer is `truth of ID`."""
    return Question(id, text or f"What of {id}?", "t", (f"truth of {id}",), datetime(2024, 5, 1, 9))


class Bench:
    """Stands for the bench: answers and scores come from a script (None: the verdict is invalid; 1: it is right)."""

    def __init__(self, answers: Answers, recall: Any) -> None:
        self._answers, self._recall = answers, recall
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []  # scope, question, shown

    async def attempt(
        self,
        question: Question,
        meta_memory: MetaMemory,
        scope: str,
        attempts: int,
        temperature: float,
        draws: str | None = None,
        first: int = 0,
    ) -> Judged:
        shown = tuple(await self._recall.shown(meta_memory, question))
        # Later questions are often answered first.
        await asyncio.sleep(len(self.asked) % 3 / 1000)
        ids = tuple(g.id for g in shown)
        self.asked.append((scope, question.id, ids))
        made, verdicts = [], []
        for draw in range(first, first + attempts):
            text, score = self._answers(question, meta_memory, shown, draw)
            correct = None if score is None else score >= 1
            attempt = Attempt(f"{scope}/{question.id}#{draw}", question.id, scope, draw, text, shown=ids)
            status = Status.invalid if score is None else Status.scored
            made.append(attempt)
            verdicts.append(Verdict(attempt.id, question.id, "e", status, float(score or 0), correct))
        evidence = (Evidence(MemoryUnit("u", f"a fact of {question.id}"), 1.0, 0),)
        return Judged(question, evidence, tuple(made), tuple(verdicts), teaches(made, verdicts))


class Reflector:
    """Replies by a script; keeps which template was asked, and the prompt."""

    label = "scripted"

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self.asked: list[tuple[str, str]] = []

    def sampling(self) -> Sampling:
        return Sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        (draw,) = request.draws
        template = draw.scope.rsplit("/", 1)[1]
        text = "\n".join(m.content for m in request.messages)
        self.asked.append((template, text))
        await asyncio.sleep(len(self.asked) % 3 / 1000)
        said = self._replies(template, text)
        return [Reply("k", said if isinstance(said, Failure) else Generation(said))]

    def prompts(self, template: str) -> list[str]:
        """The prompts that were made of a template."""
        return [text for name, text in self.asked if name == template]


class Classroom:
    """A policy with its recall, taken step by step through batches of questions; `random` stands for every step's."""

    def __init__(
        self,
        policy: Any,
        answers: Answers,
        replies: Replies = lambda template, text: "",
        recall: Any = None,
        validation: Sequence[Question] = (),
        train: Sequence[Question] = (),
        random: Random | None = None,
    ) -> None:
        name = getattr(policy, "recall", "all")
        self.recall = recall or build(
            "recall", {"name": name}, embedder=EMBEDDER, store=None, prompts=PROMPTS, caller=None
        )
        self.policy, self.at = policy, Position()
        self.bench, self.reflector = Bench(answers, self.recall), Reflector(replies)
        self._validation, self._train, self._random = validation, train, random

    def step(self, *batch: Question) -> Update:
        """Make one step, and go on from what it gives."""
        number = self.at.step + 1
        laboratory = StepLaboratory(
            number,
            seed=0,
            train=self._train or batch,
            validation=self._validation,
            bench=self.bench,  # type: ignore[arg-type]
            evaluation=EvaluationOptions(),
            prompts=PROMPTS,
            reflector=self.reflector,  # type: ignore[arg-type]
            similarity=Similarity(EMBEDDER),
            tracker=Trackers([]),
        )
        laboratory.random = self._random or laboratory.random
        update: Update = asyncio.run(self._screened(batch, laboratory))
        self.at = Position(number, update.meta_memory, update.state)
        return update

    async def _screened(self, batch: Sequence[Question], laboratory: StepLaboratory) -> Update:
        update = await self.policy.step(self.at, batch, laboratory)
        guard, tools = build("guard", {"name": "none"}), GuardTools(None, None)  # type: ignore[arg-type]
        made, number = laboratory.made(), laboratory.step
        return await screened(self.policy, self.at.meta_memory, update, made, number, guard, tools)

    @property
    def texts(self) -> list[str]:
        """The texts of the guidelines that are held."""
        return [g.text for g in self.at.meta_memory.guidelines]

    def about(self, key: str) -> list[Any]:
        """What the guidelines keep under a name."""
        return [g.about.get(key) for g in self.at.meta_memory.guidelines]


def section(text: str, tag: str) -> str:
    """What stands in a section of a prompt."""
    return text.split(f"<{tag}>\n", 1)[1].split(f"</{tag}>", 1)[0].strip()

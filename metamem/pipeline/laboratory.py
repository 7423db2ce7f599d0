"""What a policy works with in one step: answers, validation, and the reflector, all under the run's journal.

In: the bench, callers and options of a run, and the number of a step. Out: `StepLaboratory`, which keeps the judged
attempts that were made with it, for the training to write down in the order of question ids.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from metamem.config.options import EvaluationOptions
from metamem.core.calls import Draw, Failure, Generation, Message, Request, Usage
from metamem.core.contracts import Caller, Tracker
from metamem.core.json_form import digest, to_json
from metamem.core.learned import Feedback, Judged, Read, WeightTraining
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Question, Status, Verdict, unanswered
from metamem.embedding.similarity import Similarity
from metamem.pipeline.bench import Bench
from metamem.prompts.templates import Prompts
from metamem.replies.asking import ask_until_read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class StepLaboratory:
    """Implements `learned.Laboratory` for the step `step` of a run."""

    def __init__(
        self,
        step: int,
        *,
        seed: int,
        train: Sequence[Question],
        validation: Sequence[Question],
        bench: Bench,
        evaluation: EvaluationOptions,
        prompts: Prompts,
        reflector: Caller,
        similarity: Similarity,
        tracker: Tracker,
        feedback: Feedback = Feedback.truth,
        training: WeightTraining | None = None,
    ) -> None:
        """`feedback` is what the policy is told of its answers to training questions; `training` makes episodes for a
        policy that trains weights.
        """
        self._training = training
        self.step = step
        self._feedback = feedback
        self._whole = {q.id: q for q in train}
        self.validation = tuple(sorted(validation, key=lambda q: q.id))
        self.random = Random(f"{seed}/train/{step}")
        self._place = f"{seed}/train/{step}"
        self._bench = bench
        self._evaluation = evaluation
        self._prompts = prompts
        self._reflector = reflector
        self._similarity = similarity
        self._tracker = tracker
        self._judged: list[Judged] = []
        self._drawn: Counter[str] = Counter()
        self._asked: Counter[tuple[str, str]] = Counter()
        self._trials: dict[str, int] = {}
        self._tried: dict[tuple[str, str], asyncio.Task[Judged]] = {}
        self._replies: list[Usage] = []

    def made(self) -> list[Judged]:
        """Return the judged attempts of the step, by question id and draw."""
        return sorted(self._judged, key=lambda j: (j.question.id, j.attempts[0].draw))

    def tried(self) -> list[Judged]:
        """Return the judged answers to validation questions that the policy asked for, by meta-memory and question."""
        found = [(self._trials[memory], name, task.result()) for (memory, name), task in self._tried.items()]
        return [judged for _, _, judged in sorted(found, key=lambda row: row[:2])]

    def told(self, questions: Sequence[Question]) -> tuple[Question, ...]:
        """Return training questions as the policy is given them: without their answers, where it is not told these."""
        if self._feedback is Feedback.truth:
            return tuple(questions)
        return tuple(unanswered(q) for q in questions)

    def spent(self) -> dict[str, int]:
        """Return what the step asked for so far, whether it was paid now or before: answers to training and validation
        questions, replies of the reflector, and the tokens of all of them, prompts included. What a recall asks the
        answering model belongs to answering, and is none of these.
        """
        answers = [a.usage for j in (*self.made(), *self.tried()) for a in j.attempts]
        tokens = sum(u.prompt_tokens + u.completion_tokens for u in (*answers, *self._replies))
        return {"answers": len(answers), "replies": len(self._replies), "learning_tokens": tokens}

    async def attempt(
        self, question: Question, meta_memory: MetaMemory, attempts: int = 1, temperature: float = 0.0
    ) -> Judged:
        """See `learned.Laboratory`."""
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        first = self._drawn[question.id]
        self._drawn[question.id] += attempts
        scope = f"train/{self.step}"
        whole = self._whole.get(question.id, question)
        judged = await self._bench.attempt(whole, meta_memory, scope, attempts, temperature, first=first)
        self._judged.append(judged)
        if first == 0:
            self._tracker.advance("question")
        if judged.teaches:
            self._tracker.advance("teaches")
        return self._fed_back(judged)

    async def validate(self, meta_memory: MetaMemory, questions: Sequence[Question] | None = None) -> list[Judged]:
        """See `learned.Laboratory`. Raises `ValueError` for a question of another part."""
        wanted = self.validation if questions is None else questions
        known = {q.id for q in self.validation}
        if strange := [q.id for q in wanted if q.id not in known]:
            raise ValueError(f"question {strange[0]} is not in the validation part")
        number = self._trials.setdefault(meta_memory.hash, len(self._trials) + 1)
        tasks = []
        async with asyncio.TaskGroup() as group:
            for question in wanted:
                place = (meta_memory.hash, question.id)
                if place not in self._tried:
                    self._tried[place] = group.create_task(self._try(question, meta_memory, number))
                tasks.append(self._tried[place])
        return [await task for task in tasks]

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `learned.Laboratory`."""
        return await asyncio.to_thread(self._similarity.directions, texts)

    async def similar(self, text: str, texts: Sequence[str]) -> list[float]:
        """See `learned.Laboratory`."""
        return await asyncio.to_thread(self._similarity, text, texts) if texts else []

    async def ask(self, prompt: str, tokens: int, *, temperature: float = 0.0, **values: Any) -> Generation | Failure:
        """See `learned.Laboratory`."""
        outcome = await self._call(prompt, self._prompts.render(prompt, **values), tokens, temperature)
        self._tracker.advance(f"asked {prompt}")
        return outcome

    async def read(
        self, prompt: str, tokens: int, reader: Callable[[Generation], T], *, repairs: int = 1, **values: Any
    ) -> Read[T]:
        """See `learned.Laboratory`."""
        found = await self._read(prompt, tokens, reader, self._prompts.render(prompt, **values), repairs)
        self._tracker.advance(f"asked {prompt}")
        return found

    @property
    def training(self) -> WeightTraining:
        """See `learned.Laboratory`."""
        assert self._training is not None, "only a policy that says so trains weights"
        return self._training

    def _fed_back(self, judged: Judged) -> Judged:
        """Return what the policy is told of judged answers."""
        if self._feedback is Feedback.truth:
            return judged
        (question,) = self.told([judged.question])
        # How a verdict came about may tell more than the verdict: a judge quotes the accepted answer.
        if self._feedback is Feedback.verdict:
            verdicts, others = (tuple(map(_outcome, held)) for held in (judged.verdicts, judged.other_verdicts))
            return replace(judged, question=question, verdicts=verdicts, other_verdicts=others)
        verdicts = tuple(
            Verdict(v.attempt_id, v.question_id, v.evaluator, Status.invalid, reason="no feedback")
            for v in judged.verdicts
        )
        return replace(judged, question=question, verdicts=verdicts, teaches=False, other_verdicts=())

    async def _try(self, question: Question, meta_memory: MetaMemory, number: int) -> Judged:
        options = self._evaluation
        scope = f"trial/{self.step}.{number}"
        return await self._bench.attempt(
            question, meta_memory, scope, options.attempts, options.temperature, draws="validation"
        )

    async def _read(
        self, prompt: str, tokens: int, reader: Callable[[Generation], T], messages: tuple[Message, ...], repairs: int
    ) -> Read[T]:
        async def send(messages: tuple[Message, ...], repeat: int, before: str) -> Generation:
            outcome = await self._call(prompt, messages, tokens, repeat=repeat)
            if isinstance(outcome, Failure):
                raise _LostError(outcome.reason)
            return outcome

        again = lambda problem: self._prompts.render("repair", problem=problem)  # noqa: E731
        try:
            found = await ask_until_read(messages, send, reader, again, repairs)
        except _LostError as lost:
            return Read(None, str(lost))
        if found.problem:
            return Read(None, f"the reply could not be read, nor its repair: {found.problem}")
        return Read(found.value, "", found.repeat > 0)

    async def _call(
        self, prompt: str, messages: tuple[Message, ...], tokens: int, temperature: float = 0.0, repeat: int = 0
    ) -> Generation | Failure:
        index = 0
        if temperature > 0:
            # The same prompt again is another sample.
            place = (prompt, digest(to_json(messages)))
            index = self._asked[place]
            self._asked[place] += 1
        sampling = replace(self._reflector.sampling(), temperature=temperature, max_tokens=tokens)
        draw = Draw(f"{self._place}/{prompt}", index)
        (reply,) = await self._reflector(Request(messages, sampling, (draw,), repeat=repeat))
        if isinstance(reply.outcome, Generation):
            self._replies.append(reply.outcome.usage)
        return reply.outcome


def _outcome(verdict: Verdict) -> Verdict:
    """Return what a verdict says, without how it came about."""
    v = verdict
    return Verdict(v.attempt_id, v.question_id, v.evaluator, v.status, v.score, v.correct)


class _LostError(Exception):
    """A call that was not delivered."""

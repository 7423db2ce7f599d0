"""`reme`: lessons with the situation that they are for, validated, deduplicated, and deleted when they rarely help.

In: judged attempts. Out: a meta-memory of lessons, each with how often it was shown and how often that ended well, and
the recall `reme`, which shows the five whose situations are most like the question.

Source: ReMe (arXiv 2512.10696; agentscope-ai/ReMe, its task memory): 8 attempts a task at temperature .9; lessons
from a success, from a failure, and from comparing the two, each as `when_to_use` and content; a model scores each and
those under .5 are left out; so is one that is similar by .5 or more to a held one or to an earlier one of the batch;
the top 5 by when_to_use are shown; frequency counts how often a lesson was shown, utility how often the attempt was
right then, and one that was shown 5 times or more with a share under .5 is deleted. Faithful: all of that. Different:
of a question the first right and the first wrong attempt are looked at, not every one; a lesson whose score cannot be
read stays, and is counted; a lesson is not shown to the question that it was drawn from. `nano` can do it in part: it
seldom writes a lesson that can be read, and as it knows no scores, all of them stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from metamem.core.calls import Generation
from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import Action, MetaMemory, Operation, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.attempts import attempt_all, beginning
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import case_of, usable
from metamem.recall.similar import Similar
from metamem.replies.json_in_text import UnreadableError, form_of, read_json

_CHARACTERS = 450  # of a situation, and of a lesson


@dataclass(frozen=True)
class Lesson:
    """What one question teaches."""

    kind: str
    when: str
    content: str
    question: Question

    @property
    def text(self) -> str:
        """The lesson as it is shown and compared."""
        return f"When {self.when}: {self.content}"


@dataclass
class Score:
    """What a validation says."""

    score: float


@register("optimizer", "reme")
class ReMe(Scheduled):
    """ReMe: validated lessons from successes, failures and their comparison, kept while they are useful."""

    prompts = ("reme_lessons", "reme_score", "repair")
    recall = "reme"

    @dataclass
    class Config:
        """The schedule, the attempts, what is left out and what is deleted."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step", least=1)
        attempts: int = option(8, "answers sampled per question", least=1)
        temperature: float = option(0.9, "sampling temperature of the attempts", least=0)
        lessons: int = option(2, "lessons taken of one reply at most", least=1)
        least: float = option(0.5, "score of a lesson at least (0: none is validated)", least=0, most=1)
        duplicate: float = option(0.5, "similarity from which a lesson is a duplicate", least=-1, most=1)
        often: int = option(5, "times shown from which a lesson can be deleted", least=1)
        useful: float = option(0.5, "share of right attempts under which it then is", least=0, most=1)
        tokens: int = option(2048, "new tokens per reply at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is attempted, and up to three times lessons are drawn from it."""
        count, c = len(batch), self.config
        lessons = ExpectedCalls("reme_lessons", 0, 2 * count, 2 * 3 * count, c.tokens)
        scores = ExpectedCalls("reme_score", 0, 2 * count, 3 * count * c.lessons, c.tokens)
        return Bounds(count * c.attempts, (lessons, scores) if c.least else (lessons,))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Attempt a batch, credit what was shown, delete what is rarely useful, and add what was learned."""
        c = self.config
        judged = await attempt_all(batch, at.meta_memory, laboratory, c.attempts, c.temperature)
        memory = credited(at.meta_memory, judged)
        poor = [Operation(Action.delete, g.id) for g in memory.guidelines if self._poor(g.about)]
        memory, deleted, _ = apply(memory, poor, laboratory.step)
        drawn = await asyncio.gather(*(self._draw(one, laboratory) for one in judged))
        lessons = [lesson for found, _ in drawn for lesson in found]
        scores = await asyncio.gather(*(self._score(lesson, laboratory) for lesson in lessons))
        valid = [lesson for lesson, score in zip(lessons, scores, strict=True) if score is None or score >= c.least]
        operations: list[Operation] = []
        for lesson in valid:
            held = [*(g.text for g in memory.guidelines), *(str(o.text) for o in operations)]
            if max(await laboratory.similar(lesson.text, held), default=-1.0) < c.duplicate:
                about: dict[str, Any] = {
                    "kind": lesson.kind,
                    "when_to_use": lesson.when,
                    "question_id": lesson.question.id,
                }
                about |= {"frequency": 0, "utility": 0}
                operations.append(Operation(Action.add, None, lesson.text, (lesson.question.id,), about))
        memory, added, refused = apply(memory, operations, laboratory.step)
        counts = {
            "lessons": len(lessons),
            "unreadable": sum(missed for _, missed in drawn),
            "unvalidated": sum(score is None for score in scores) if c.least else 0,
            "invalid_lessons": len(lessons) - len(valid),
            "duplicates": len(valid) - len(operations),
            "deleted": len(deleted),
        }
        return Update(memory, at.state, (*deleted, *added), refused, counts)

    def _poor(self, about: Mapping[str, Any]) -> bool:
        """Whether a lesson was shown often and rarely helped."""
        shown = int(about["frequency"])
        return shown >= self.config.often and about["utility"] < self.config.useful * shown

    async def _draw(self, judged: Judged, laboratory: Laboratory) -> tuple[list[Lesson], int]:
        """Return a question's lessons from its success, its failure and their comparison; and how many were lost."""
        first = {
            outcome: next((a for a, v in usable(judged) if bool(v.correct) == outcome), None)
            for outcome in (True, False)
        }
        right, wrong = ([{"text": told(a), "correct": o}] if a else [] for o, a in first.items())
        asked = {"success": right, "failure": wrong, "comparison": [*right, *wrong] if right and wrong else []}
        reads = (
            laboratory.read(
                "reme_lessons",
                self.config.tokens,
                partial(_read, kind, judged.question),
                **case_of(judged),
                kind=kind,
                attempts=attempts,
                most=self.config.lessons,
            )
            for kind, attempts in asked.items()
            if attempts
        )
        found = [one.value for one in await asyncio.gather(*reads)]
        return [x for value in found for x in (value or [])[: self.config.lessons]], found.count(None)

    async def _score(self, lesson: Lesson, laboratory: Laboratory) -> float | None:
        """Return how good a lesson is; None where that is not asked, or no reply says so."""
        if not self.config.least:
            return None
        found = await laboratory.read(
            "reme_score",
            self.config.tokens,
            lambda reply: form_of(Score).read(reply.text).score,
            repairs=0,
            question=lesson.question.text,
            when=lesson.when,
            content=lesson.content,
        )
        return found.value


def credited(memory: MetaMemory, judged: Sequence[Judged]) -> MetaMemory:
    """Return the same with every lesson's frequency and utility after these attempts: each that was judged counts."""
    for one in judged:
        for attempt, verdict in usable(one):
            for name in attempt.shown or ():
                about = next(g.about for g in memory.guidelines if g.id == name)
                memory = memory.noted(
                    name, frequency=about["frequency"] + 1, utility=about["utility"] + bool(verdict.correct)
                )
    return memory


def _read(kind: str, question: Question, reply: Generation) -> list[Lesson]:
    """Return the lessons of a reply; one without a situation is for questions like this. Raises `UnreadableError`."""
    value, _ = read_json(reply.text)
    items = value if isinstance(value, list) else value.get("lessons", [value])
    lessons = []
    for item in items if isinstance(items, list) else ():
        content = str(item.get("content") or item.get("text") or "") if isinstance(item, Mapping) else ""
        if any(c.isalnum() for c in content):
            when = str(item.get("when_to_use") or f"asked something like: {question.text}")
            when = beginning(when, _CHARACTERS).removeprefix("When ").rstrip(" .:")
            lessons.append(Lesson(kind, when, beginning(content, _CHARACTERS), question))
    if items and not lessons:
        raise UnreadableError('no item has a "content"')
    return lessons


@register("recall", "reme")
class BySituation(Similar):
    """Show the lessons whose situations are most similar to the question, the most similar first."""

    @dataclass
    class Config(Similar.Config):
        """How many are shown; their situations are compared."""

        k: int = option(5, "lessons shown per question", least=1)
        key: str = option("when_to_use", "compare what a lesson keeps under this name (empty: its text)")

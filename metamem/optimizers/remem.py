"""`remem`: as `exprag`, but the model thinks about what was found and refines it before it answers.

In: judged answers. Out: the experiences of `exprag` without those that turned out to be noise, and the recall `remem`:
of the four most similar experiences the policy's own model decides, up to three times, to think, to refine or to act.

Source: Evo-Memory (arXiv 2511.20857), ReMem: at each moment the agent thinks (reasons about the task), refines (drops
and reorders what it remembers) or acts. Faithful: the three actions, decided by the model that answers, over what
ExpRAG retrieves; acting ends it; refining evolves the memory itself. Different: to act is to answer by the run's own
prompt, in which thoughts stand behind the experiences that were kept; the memory itself loses, after a batch, what the
reflector names as noise for most of the questions that it was shown to. A model that cannot reply in JSON acts at once,
so that with `prompts=nano`, whose model has never seen it, this is `exprag`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.calls import Failure, Generation
from metamem.core.contracts import Caller, Embedder
from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import Action, Guideline, MetaMemory, Operation, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.optimizers.attempts import attempt_all, beginning, told_attempts
from metamem.optimizers.exprag import ExpRag, NearestExperiences, Schedule, appended
from metamem.prompts.templates import Prompts
from metamem.recall.asking import ask
from metamem.replies.json_in_text import UnreadableError, read_json


@register("optimizer", "remem")
class ReMem(ExpRag):
    """ReMem: experiences as in ExpRAG, thought about and refined before each answer, and pruned after it."""

    prompts = ("remem_prune", "repair")
    recall = "remem"

    @dataclass
    class Config(Schedule):
        """The schedule, and how replies are bounded."""

        tokens: int = option(512, "new tokens per review of what was shown", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is answered once, and what it was shown reviewed."""
        count = len(batch)
        return Bounds(count, (ExpectedCalls("remem_prune", 0, count, 2 * count, self.config.tokens),))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Answer a batch, drop what was mostly noise to it, and append its experiences."""
        judged = await attempt_all(batch, at.meta_memory, laboratory)
        reviews = await asyncio.gather(*(self._review(one, at.meta_memory, laboratory) for one in judged))
        shown = Counter(name for names, _ in reviews for name in names)
        named = Counter(name for _, noise in reviews for name in noise)
        noise = [Operation(Action.delete, g.id) for g in at.meta_memory.guidelines if 2 * named[g.id] > shown[g.id]]
        kept, dropped, _ = apply(at.meta_memory, noise, laboratory.step)
        more = appended(kept, judged, self.config.characters)
        memory, added, refused = apply(kept, more, laboratory.step)
        counts = {"experiences": len(memory.guidelines), "pruned": len(dropped)}
        return Update(memory, at.state, (*dropped, *added), refused, counts)

    async def _review(
        self, judged: Judged, memory: MetaMemory, laboratory: Laboratory
    ) -> tuple[tuple[str, ...], set[str]]:
        """Return the ids of the experiences that a question was shown, and of those the ones that are noise to it."""
        names = {name for attempt in judged.attempts for name in attempt.shown or ()}
        shown = [g for g in memory.guidelines if g.id in names]
        attempts = told_attempts(judged)
        if not shown or not attempts:
            return (), set()
        found = await laboratory.read(
            "remem_prune",
            self.config.tokens,
            lambda reply: _named(_object(reply).get("drop"), shown),
            experiences=shown,
            question=judged.question.text,
            attempts=attempts,
        )
        return (tuple(g.id for g in shown), found.value) if found.value is not None else ((), set())


@register("recall", "remem")
class Refining(NearestExperiences):
    """Show the nearest experiences as the policy's model has refined them, and what it thought of them."""

    prompts = ("remem",)

    @dataclass
    class Config(NearestExperiences.Config):
        """How many experiences are found, and how many rounds they are thought about."""

        rounds: int = option(3, "times that the model may think or refine before it answers", least=0)
        tokens: int = option(512, "new tokens per round", least=1)

    def __init__(self, config: Config, *, embedder: Embedder, prompts: Prompts, caller: Caller | None = None) -> None:
        super().__init__(config, embedder=embedder)
        self.config: Refining.Config = config
        self._prompts, self._caller = prompts, caller

    async def shown(self, meta_memory: MetaMemory, question: Question) -> tuple[Guideline, ...]:
        """Return the experiences that are left, in the order they were given; the thoughts stand behind the last."""
        kept = list(await super().shown(meta_memory, question))
        thoughts: list[str] = []
        for number in range(self.config.rounds if kept else 0):
            action, value = await self._decide(question, kept, thoughts, number)
            if action == "think":
                thoughts.append(value)
            elif action == "refine":
                kept = value
            if action == "act" or not kept:
                break
        if thoughts and kept:
            kept[-1] = replace(kept[-1], text=f"{kept[-1].text} Thought: {' '.join(thoughts)}")
        return tuple(kept)

    async def _decide(
        self, question: Question, kept: Sequence[Guideline], thoughts: Sequence[str], number: int
    ) -> tuple[str, Any]:
        """Ask for one action; what is not delivered or cannot be read is to act."""
        place, left = f"{question.id}/{number}", self.config.rounds - number
        values = {"experiences": kept, "thoughts": thoughts, "question": question.text, "left": left}
        reply = await ask(self._caller, self._prompts, "remem", place, self.config.tokens, **values)
        if isinstance(reply, Failure):
            return "act", None
        try:
            said = _object(reply)
        except UnreadableError:
            return "act", None
        action = str(said.get("action", "")).strip().casefold()
        thought = beginning(str(said.get("thought") or ""), 1000)
        if action == "think" and thought:
            return action, thought
        if action == "refine" and isinstance(said.get("keep"), list):
            order = [str(name).strip(" []") for name in said["keep"]]
            places = {g.id: g for g in kept}
            return action, [places[name] for name in dict.fromkeys(order) if name in places]
        return "act", None


def _object(reply: Generation) -> Mapping[str, Any]:
    """Return the object that a reply holds. Raises `UnreadableError`."""
    value, cut = read_json(reply.text)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if cut or not isinstance(value, Mapping):
        raise UnreadableError("the JSON object is cut off or missing")
    return value


def _named(names: Any, shown: Sequence[Guideline]) -> set[str]:
    """Return those of the ids in a list that were shown. Raises `UnreadableError` where it is no list."""
    if not isinstance(names, list):
        raise UnreadableError('drop: expected a list of ids, such as ["G1"]')
    return {str(name).strip(" []") for name in names} & {g.id for g in shown}

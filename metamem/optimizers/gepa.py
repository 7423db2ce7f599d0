"""`gepa`: GEPA (arXiv 2507.19457; gepa-ai/gepa 0.1), native, so that it continues exactly where it was stopped.

In: minibatches of training questions. Per step: a parent is drawn from the Pareto front over the validation questions,
answers the minibatch, and the reflector rewrites one of its texts in the light of the answers; the child joins the
candidates where it scores strictly better on the minibatch, and is then validated. After a success two candidates that
changed different texts of a common ancestor may be merged instead. Out: the candidate of the best mean. The texts are
blocks of prompts by name (`answer.system`), and `guidelines`, one on each line. It ends when its budget is spent. A
model as small as `backbone=nano` cannot rewrite a text: its replies are mostly unreadable, and little is learned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.errors import ConfigError
from metamem.core.json_form import to_json
from metamem.core.learned import Judged, Laboratory, Position, Update
from metamem.core.meta_memory import Guideline, MetaMemory
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.batched import shuffled
from metamem.optimizers.cases import case_of
from metamem.optimizers.evolution import Candidate, Merges, merged, parent, trial
from metamem.optimizers.proposing import rewritten

GUIDELINES = "guidelines"


@dataclass
class Evolution:
    """The policy's state. `ids` are the ids of all guidelines that there ever were, by text."""

    candidates: list[Candidate]
    merges: Merges
    ids: dict[str, str]
    spent: int = 0
    fresh: bool = False  # the last step found a candidate, so a merge may be tried

    @classmethod
    def of(cls, state: Any) -> Evolution:
        """Return what a checkpoint keeps."""
        held = [Candidate(**{**c, "parents": tuple(c["parents"])}) for c in state["candidates"]]
        return cls(held, Merges.from_json(state["merges"]), dict(state["ids"]), state["spent"], state["fresh"])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        held = [to_json(c) for c in self.candidates]
        rest = {"ids": self.ids, "spent": self.spent, "fresh": self.fresh}
        return {"candidates": held, "merges": self.merges.to_json(), **rest}

    @property
    def best(self) -> Candidate:
        """Return the candidate of the best mean; of equals the earliest."""
        return max(self.candidates, key=lambda c: c.mean)

    def memory(self, texts: Mapping[str, str], base: MetaMemory, step: int) -> MetaMemory:
        """Return a candidate's texts as a meta-memory; a guideline has one id wherever it stands."""
        lines = [line for line in texts.get(GUIDELINES, "").split("\n") if line]
        for line in lines:
            self.ids.setdefault(line, f"G{self._last() + 1}")
        held = {g.text: g for g in base.guidelines}
        guidelines = tuple(held.get(line) or Guideline(self.ids[line], line, step, step) for line in lines)
        blocks = {name: text for name, text in texts.items() if name != GUIDELINES and text}
        return replace(base, guidelines=guidelines, next_id=self._last() + 1, texts=blocks)

    def _last(self) -> int:
        return max((int(name[1:]) for name in self.ids.values()), default=0)


@register("optimizer", "gepa")
class GEPA:
    """GEPA: texts of prompts evolve by reflection, along a Pareto front over the validation questions."""

    prompts = ("gepa_rewrite", "repair")
    needs_validation = True

    @dataclass
    class Config:
        """The method's settings."""

        blocks: list[str] = option(
            ["answer.system", GUIDELINES], "texts that evolve: TEMPLATE.VARIABLE, and guidelines (one on each line)"
        )
        minibatch: int = option(3, "training questions per step", least=1)
        budget: int = option(600, "answers to training and validation questions, all together", least=1)
        merges: int = option(5, "merges that may be taken (0: none are tried)", least=0)
        max_words: int = option(200, "words asked for per text at most", least=1)
        tokens: int = option(8192, "new tokens per rewritten text at most", least=1)

        def __post_init__(self) -> None:
            if not self.blocks or any(b != GUIDELINES and "." not in b for b in self.blocks):
                raise ConfigError(f"optimizer.blocks: name texts as answer.system, or {GUIDELINES}; got {self.blocks}")

    def __init__(self, config: Config) -> None:
        self.config = config

    def batches(self, train: Sequence[Question], seed: int) -> list[list[Question]]:
        """Return as many minibatches as the budget can pay for, over epochs of shuffled questions."""
        size = min(self.config.minibatch, len(train))
        steps = -(-self.config.budget // size) if size else 0
        return shuffled(train, steps, size, drop_last=True, seed=seed)[:steps]

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Try one merge or one rewritten text."""
        state = Evolution.of(at.state) if at.state else await self._begun(at, laboratory)
        before, trace = len(state.candidates), None
        if state.spent < self.config.budget:
            if state.fresh and state.merges.due > 0:
                trace = await self._merge(state, at, laboratory)
            # A step that cannot merge, or found nothing to merge, reflects.
            trace = trace or await self._reflect(state, at, batch, laboratory)
        counts = {"candidates": len(state.candidates), "best": round(state.best.mean, 6)}
        state.fresh = len(state.candidates) > before and "texts" not in (trace or {})
        memory = state.memory(state.best.texts, at.meta_memory, laboratory.step)
        done = state.spent >= self.config.budget
        return Update(memory, state.to_json(), counts=counts, trace=(trace,) if trace else (), done=done)

    async def _begun(self, at: Position, laboratory: Laboratory) -> Evolution:
        """Validate what there is, as the first candidate."""
        held = {**at.meta_memory.texts, GUIDELINES: "\n".join(g.text for g in at.meta_memory.guidelines)}
        texts = {block: held.get(block, "") for block in self.config.blocks}
        state = Evolution([], Merges(), {g.text: g.id for g in at.meta_memory.guidelines})
        await self._join(state, Candidate(texts), at, laboratory)
        return state

    async def _join(self, state: Evolution, new: Candidate, at: Position, laboratory: Laboratory) -> None:
        memory = state.memory(new.texts, at.meta_memory, laboratory.step)
        judged = await laboratory.validate(memory)
        state.spent += sum(len(j.attempts) for j in judged)
        scores = {j.question.id: _score(j) for j in judged}
        state.candidates.append(replace(new, scores=scores, born=laboratory.step))

    async def _reflect(
        self, state: Evolution, at: Position, batch: Sequence[Question], laboratory: Laboratory
    ) -> dict[str, Any]:
        """Rewrite one text of a parent, and keep the child where it answers the minibatch better."""
        chosen = parent(state.candidates, laboratory.random)
        old = state.candidates[chosen]
        judged = await self._tried(state, old.texts, at, batch, laboratory)
        tried: dict[str, Any] = {"parent": chosen, "before": [_score(j) for j in judged]}
        if min(tried["before"]) >= 1:
            return {**tried, "skipped": "nothing to improve"}
        block = list(old.texts)[old.turn]
        state.candidates[chosen] = replace(old, turn=(old.turn + 1) % len(old.texts))
        found = await laboratory.read(
            "gepa_rewrite",
            self.config.tokens,
            lambda reply: rewritten(reply, old.texts[block]),
            block=block,
            text=old.texts[block],
            cases=[{**case_of(j), "attempts": _attempts(j)} for j in judged],
            max_words=self.config.max_words,
        )
        tried |= {"block": block, "problem": found.problem}
        if found.value is None or found.value == old.texts[block]:
            return tried
        texts = {**old.texts, block: found.value}
        after = [_score(j) for j in await self._tried(state, texts, at, batch, laboratory)]
        tried |= {"after": after, "accepted": sum(after) > sum(tried["before"])}
        if tried["accepted"]:
            turn = state.candidates[chosen].turn
            await self._join(state, Candidate(texts, (chosen,), turn=turn), at, laboratory)
            state.merges.due += state.merges.accepted < self.config.merges
        return tried

    async def _merge(self, state: Evolution, at: Position, laboratory: Laboratory) -> dict[str, Any] | None:
        """Merge two candidates, and keep the child where it is no worse than both on a few validation questions."""
        found = merged(state.candidates, state.merges, laboratory.random)
        if found is None:
            return None
        texts, *parents = found
        first, second = (state.candidates[i] for i in parents)
        asked = trial(first.scores, second.scores, laboratory.random)
        known = {q.id: q for q in laboratory.validation}
        memory = state.memory(texts, at.meta_memory, laboratory.step)
        judged = await laboratory.validate(memory, [known[i] for i in asked])
        state.spent += sum(len(j.attempts) for j in judged)
        after = sum(_score(j) for j in judged)
        best = max(sum(c.scores[i] for i in asked) for c in (first, second))
        if accepted := after >= best:
            turn = max(first.turn, second.turn)
            await self._join(state, Candidate(texts, tuple(parents), turn=turn), at, laboratory)
            state.merges.due -= 1
            state.merges.accepted += 1
        return {"merged": parents, "texts": texts, "before": best, "after": after, "accepted": accepted}

    async def _tried(
        self,
        state: Evolution,
        texts: Mapping[str, str],
        at: Position,
        batch: Sequence[Question],
        laboratory: Laboratory,
    ) -> list[Judged]:
        memory = state.memory(texts, at.meta_memory, laboratory.step)
        questions = sorted(batch, key=lambda q: q.id)
        judged = await asyncio.gather(*(laboratory.attempt(q, memory) for q in questions))
        state.spent += sum(len(j.attempts) for j in judged)
        return list(judged)


def _score(judged: Judged) -> float:
    """Return the mean score of a question's attempts; an invalid verdict is worth nothing."""
    scores = [v.score if v.valid else 0.0 for v in judged.verdicts]
    return sum(scores) / len(scores) if scores else 0.0


def _attempts(judged: Judged) -> list[dict[str, Any]]:
    pairs = zip(judged.attempts, judged.verdicts, strict=True)
    return [{"text": told(a), "correct": v.correct} for a, v in pairs]

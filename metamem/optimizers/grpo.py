"""`grpo`: trains the weights of the model that writes the memory, by GRPO over whole writings.

In: training questions with their conversations. Out: trained weights, named by their hash in the meta-memory's
`adapter`. Each update has the memories of a few conversations written several times over, each answered from and
scored, chunk by chunk (the reward of Mem-α, arXiv 2509.25911); every reply of the builder is a sample with the
advantage of its chunk among all chunks of its conversation's writings (GRPO, arXiv 2402.03300). The loss is TRL's.

Faithful: the reward and its weights, groups of 8, learning rates and the weight of the KL divergence, one update a
batch. Different: replies that do nothing to the memory themselves (the facts that Memory-R1 names first) have the mean
advantage of their writing; the loss is averaged over the tokens of an update, not first over each reply. A step makes
`updates` updates; it begins with the weights of the last checkpoint and the optimiser's state that the run keeps, so
that a run that was killed makes it again, over the same conversations in the same order.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

from metamem.core.adapters import Adapter, find, keep
from metamem.core.checkpoints import load_checkpoint
from metamem.core.contracts import Backbone, Trainable
from metamem.core.errors import ConfigError, DataError, MissingExtraError
from metamem.core.files import file_digest
from metamem.core.json_form import digest
from metamem.core.learned import Laboratory, Position, Update, WeightTraining
from metamem.core.meta_memory import Guideline, MetaMemory
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.optimizers.grpo_episodes import mean_figures, means_of, refuse_unrewarded, samples_of
from metamem.optimizers.instructions import SENTENCES

PACKAGES = ("trl", "peft")
# The learning rates with which the papers trained: of all weights, and of low-rank changes.
BETA, GAMMA = 0.05, 0.1  # of the reward, as published
RATES = {"full": 1e-6, "lora": 1e-5}


class TrainedWeights(StrEnum):
    """All weights, or low-rank changes of the attention's and the MLP's matrices."""

    full = "full"
    lora = "lora"


@register("optimizer", "grpo")
class GRPO:
    """GRPO: train the weights of the builder by the reward of the memories that it writes."""

    prompts = ()
    trains_weights = True

    @dataclass
    class Config:
        """How weights are trained; the defaults are the published ones."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(32, "conversations of an update, each with all of its questions", least=1)
        updates: int = option(1, "updates in one step, between two checkpoints", least=1)
        group: int = option(8, "writings of each conversation", least=2)
        temperature: float = option(1.0, "sampling temperature of the writings", above=0)
        weights: TrainedWeights = option(TrainedWeights.lora, "what is trained: lora, or full (all weights)")
        rate: float | None = option(None, "learning rate (null: 1e-6 of full, 1e-5 of lora)", above=0)
        kl: float = option(0.001, "weight of the KL divergence from the untrained model", least=0)
        clip: float = option(0.2, "how far a token's probability ratio may count beyond 1", above=0)
        beta: float = option(BETA, "weight of compression in the reward", least=0)
        gamma: float = option(GAMMA, "weight of the share of calls whose text suits its part (judged)", least=0)
        rank: int = option(16, "rank of the changes (lora)", least=1)
        alpha: int = option(32, "scale of the changes (lora)", least=1)
        micro_batch: int = option(8, "most replies in one pass of the trainer", least=1, result=False)
        guidelines: str | None = option(
            None,
            "guidelines that the reader is shown, while training and after: a run, a file, or instructions (those of "
            "optimizer=instructions); null: none",
        )

        def __post_init__(self) -> None:
            """Takes the names as the user types them."""
            self.weights = TrainedWeights(self.weights)

    def __init__(self, config: Config) -> None:
        """Raises `MissingExtraError` without the trainer, `DataError` for guidelines that are not there."""
        for package in PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(
                    f"optimizer=grpo needs the package {package}, which is not installed. Install it with:\n"
                    f"  {sys.executable} -m pip install 'trl>=1.16,<1.17' peft"
                )
        self.config = config
        self.guidelines = _guidelines(config.guidelines) if config.guidelines else ()

    def identity(self) -> Mapping[str, Any]:
        """Return the hash of the guidelines that the reader is shown."""
        return {"guidelines": digest([g.text for g in self.guidelines], 16)} if self.guidelines else {}

    def batches(self, train: Sequence[Question], seed: int) -> list[list[Question]]:
        """Return the questions of each step: those of its updates, one after another. A step ends with its epoch."""
        of = _by_conversation(train)
        steps = []
        for epoch in range(self.config.epochs):
            order = list(of)
            random.Random(f"{seed}/batches/{epoch}").shuffle(order)
            size = self.config.batch_size * self.config.updates
            steps += [
                [question for name in order[start : start + size] for question in of[name]]
                for start in range(0, len(order), size)
            ]
        return steps

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Make the updates of one step."""
        from metamem.optimizers.grpo_learner import Learner

        c, training = self.config, laboratory.training
        asked = list(_by_conversation(batch).values())
        parts = [list(chain(*asked[i : i + c.batch_size])) for i in range(0, len(asked), c.batch_size)]
        if not isinstance(training.base, Trainable):
            # A dry run's stand-in, which only counts: asked for is what the updates would ask for.
            for number, questions in enumerate(parts):
                await self._episodes(training, questions, training.base, at.meta_memory, number)
            return Update(at.meta_memory)
        state = at.state or {}
        moments = _moments_of(training.moments, state)
        before = find([training.adapters], at.meta_memory.adapter) if at.meta_memory.adapter else None
        meta_memory = replace(at.meta_memory, guidelines=self.guidelines, next_id=len(self.guidelines) + 1)
        learner = await asyncio.to_thread(Learner, c, training.base, before, moments)
        figures: list[dict[str, float]] = []
        left_out: Counter[str] = Counter()
        for number, questions in enumerate(parts):
            rows, lost = await self._episodes(
                training, questions, learner.writer(), meta_memory, number, learner.tokens
            )
            left_out += lost
            samples = samples_of(rows)
            told = await asyncio.to_thread(learner.update, samples, len(rows))
            name = f"step_{laboratory.step:04d}_{number:03d}"
            training.keep(name, [{**row, "trainer": given} for row, given in zip(rows, told.given, strict=True)])
            figures.append({**means_of(rows), **told.figures})
        adapter = await asyncio.to_thread(_kept, training.adapters, learner)
        kept = await asyncio.to_thread(learner.save_moments, training.moments)
        held_out, unrewarded = await self._held_out(laboratory, learner, meta_memory)
        counts = mean_figures(figures)
        notes = tuple(
            f"{number} episodes{where} left out: {reason}"
            for where, found in (("", left_out), (" of the validation part", unrewarded))
            for reason, number in sorted(found.items())
        )
        return Update(
            replace(meta_memory, adapter=adapter.hash),
            {"moments": kept, "previous": state.get("moments")},
            counts={**counts, **held_out},
            notes=notes,
            trace=tuple({"update": n, **f} for n, f in enumerate(figures)),
        )

    async def _episodes(
        self,
        training: WeightTraining,
        questions: Sequence[Question],
        writer: Backbone,
        meta_memory: MetaMemory,
        number: int,
        tokens: Any = None,
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        """Return the episodes of an update, and why some have no reward. Raises as `refuse_unrewarded`."""
        c = self.config
        rows, left_out = await training.episodes(
            questions,
            writer,
            meta_memory,
            tokens=tokens,
            group=c.group,
            temperature=c.temperature,
            beta=c.beta,
            gamma=c.gamma,
            scope=str(number),
        )
        refuse_unrewarded(rows)
        return rows, left_out

    async def _held_out(
        self, laboratory: Laboratory, learner: Any, meta_memory: MetaMemory
    ) -> tuple[dict[str, float], Counter[str]]:
        """Return the reward's terms on the validation part, each conversation written once and greedily, and why some
        have none.
        """
        if not laboratory.validation:
            return {}, Counter()
        c = self.config
        rows, left_out = await laboratory.training.episodes(
            laboratory.validation,
            learner.writer(),
            meta_memory,
            beta=c.beta,
            gamma=c.gamma,
            scope="validation",
        )
        return {f"validation_{name}": value for name, value in means_of(rows).items()}, left_out


def _by_conversation(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Return the questions of each conversation, in the order given; one without a conversation is alone."""
    found: dict[str, list[Question]] = {}
    for question in questions:
        found.setdefault(question.conversation_id or question.id, []).append(question)
    return found


def _kept(root: Path, learner: Any) -> Adapter:
    return keep(root, learner.base_hash, learner.lora, learner.save)


def _moments_of(folder: Path, state: Mapping[str, Any]) -> Path | None:
    """Return the optimiser's state that a step goes on with, and let go of those that no step goes back to.

    The checkpoint of `state` is written: it and the one before it can be gone back to. None: nothing was trained yet.
    Raises `DataError` where it is gone or damaged: with a fresh one, another training would go on under this name.
    """
    name = state.get("moments")
    if name is not None and not ((folder / name).is_file() and file_digest(folder / name) == name):
        raise DataError(
            f"{folder / name}: the optimiser's state that this training goes on with is gone or damaged. Put it back, "
            "or start over with run.force=true"
        )
    for file in folder.glob("*"):
        if file.name not in (name, state.get("previous")):
            file.unlink()
    return folder / name if name else None


def _guidelines(given: str) -> tuple[Guideline, ...]:
    if given == "instructions":
        return tuple(Guideline(f"G{number}", text) for number, text in enumerate(SENTENCES, 1))
    place = Path(given).expanduser()
    if place.is_dir():
        found = sorted((place / "checkpoints").glob("step_*.json"))
        if not found:
            raise ConfigError(f"optimizer.guidelines: {place} is no training run: it holds no checkpoints")
        place = found[-1]
    held = load_checkpoint(place, "optimizer.guidelines").meta_memory
    return tuple(Guideline(f"G{number}", g.text) for number, g in enumerate(held.guidelines, 1))

"""The training loop: batches in, a meta-memory after every step, the best one tested at the end.

In: a `TrainConfig`. Out: the content of result.json, after checkpoints, attempts, verdicts and metrics were written
step by step. A step's rows are written when it is whole, in the order of ids, and its checkpoint last, so a run killed
anywhere continues behind its last checkpoint, and the journal gives back what was delivered since.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.config.options import TrainConfig
from metamem.core.contracts import Judged, Split, Tracker
from metamem.core.errors import ConfigError
from metamem.core.json_form import to_json
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Question, Status
from metamem.datasets.splits import save_split
from metamem.optimizers.batched import schedule
from metamem.pipeline.bench import Bench
from metamem.pipeline.laboratory import Workshop, labels
from metamem.pipeline.prepare import Prepared
from metamem.programs.finish import tested
from metamem.programs.frame import Frame, OpenRun, run_async
from metamem.programs.train_state import State, keep_step, restore
from metamem.reporting.cases import save_cases
from metamem.runs.directory import Run
from metamem.statistics.judged import strict_score

ROLES = ("policy", "judge", "reflector")


def train(config: TrainConfig, frame: Frame) -> dict[str, Any]:
    """Train one meta-memory; continues an unfinished run and reports a finished one."""
    prepared = with_training_part(frame.prepare(config))
    with frame.open("train", prepared) as opened:
        if opened.run.finished:
            return opened.already_finished()
        workshop = workshop_of(opened, asked_questions(prepared))
        return run_async(_train_alone(workshop, opened))


def workshop_of(opened: OpenRun, asked: Sequence[Question], lead: Workshop | None = None) -> Workshop:
    """Return the parts that a training works with, on the evidence of the questions `asked`."""
    return Workshop(opened.prepared, opened.run, opened.tracker, ROLES, asked, lead)


def asked_questions(prepared: Prepared) -> list[Question]:
    """The questions of all parts."""
    return [q for part in ("train", "validation", "test") for q in prepared.questions(part)]


def with_training_part(prepared: Prepared) -> Prepared:
    """With the training part that is asked for. Raises `ConfigError` for what cannot be trained on."""
    config = prepared.config
    assert isinstance(config, TrainConfig)
    _check(config, prepared)
    if config.train_questions is None:
        return prepared
    return replace(prepared, split=thinned(prepared.split, config.train_questions, config.seed))


def thinned(split: Split, count: int, seed: int) -> Split:
    """The split with `count` questions in its training part, those of a smaller count among those of a larger.

    Raises `ConfigError` when the part has fewer.
    """
    if count > len(split.train):
        raise ConfigError(f"train_questions={count}: the training part has {len(split.train)} questions")
    drawn = random.Random(f"{seed}/train_questions").sample(sorted(split.train), len(split.train))[:count]
    return replace(split, train=tuple(sorted(drawn)))


def _check(config: TrainConfig, prepared: Prepared) -> None:
    if config.optimizer.epochs and not prepared.split.train:
        raise ConfigError(f"split={config.split.name}: no question is left to train on")
    if getattr(config.optimizer, "accept", None) == "validation" and not prepared.split.validation:
        raise ConfigError("optimizer.accept=validation needs a validation part, and this split has none")


@dataclass
class Begun:
    """What a run is about to do: its batches, and where it stands."""

    opened: OpenRun
    steps: list[tuple[int, list[str]]]
    state: State


def begin(workshop: Workshop, opened: OpenRun) -> Begun:
    """Go back to the last checkpoint and say what is to be done; nothing is started yet."""
    prepared, run, tracker = opened.prepared, opened.run, opened.tracker
    config = prepared.config
    assert isinstance(config, TrainConfig)
    options = config.optimizer
    steps = schedule(prepared.split.train, options.epochs, options.batch_size, options.drop_last, config.seed)
    state = restore(run)
    save_split(prepared.split, run.directory / "split.json")
    resumed_at = state.step if state.step >= 0 else None
    opened.announce(labels(workshop), steps=len(steps), resumed_at=resumed_at)
    if steps and options.batch_size > len(prepared.split.train):
        tracker.note(
            f"optimizer.batch_size={options.batch_size} is clipped to the "
            f"{len(prepared.split.train)} questions of the training part"
        )
    return Begun(opened, steps, state)


async def _train_alone(workshop: Workshop, opened: OpenRun) -> dict[str, Any]:
    begun = begin(workshop, opened)
    async with workshop:
        return await train_run(workshop, begun)


async def train_run(workshop: Workshop, begun: Begun) -> dict[str, Any]:
    """Run all steps of one training and return its result."""
    prepared, run, tracker = workshop.prepared, workshop.run, workshop.tracker
    config, steps, state = prepared.config, begun.steps, begun.state
    assert isinstance(config, TrainConfig)
    options = config.optimizer
    workshop.gathered = workshop.gathered.of({q.id for q in asked_questions(prepared)})
    save_cases(run.directory, prepared.dataset.questions, workshop.gathered)
    bench = workshop.bench()
    policy = workshop.optimizer(options)
    by_id = {q.id: q for q in prepared.dataset.questions}
    if state.step < 0:
        state.step = 0
        score = await _validate(config, prepared, run, bench, state.meta_memory, 0)
        keep_step(run, state, 0, score, {"step": 0, "guidelines": 0}, tracker)
    for number, (epoch, batch) in enumerate(steps, 1):
        if number <= state.step:
            continue
        began = time.perf_counter()
        tracker.stage(f"step {number}/{len(steps)}", len(batch), "question")
        old = state.meta_memory
        update = await policy.step(old, [by_id[i] for i in batch], _Watched(bench, tracker), f"train/{number}", number)
        for text in update.notes:
            tracker.note(f"step {number}: {text}")
        run.append("attempts.jsonl", [to_json(a) for j in update.judged for a in j.attempts])
        run.append("verdicts.jsonl", [to_json(v) for j in update.judged for v in (*j.verdicts, *j.other_verdicts)])
        row = {"step": number, "epoch": epoch, **_training_figures(update.judged), **update.counts}
        gated = getattr(options, "accept", None) == "validation"
        score = None
        if gated or number % config.eval_every == 0 or number == len(steps):
            score = await _validate(config, prepared, run, bench, update.meta_memory, number)
        state.meta_memory = update.meta_memory
        if gated and score is not None and score < max(state.scores.values()):
            # Refused: the guidelines stay, but no id is ever given out twice.
            state.meta_memory = replace(old, next_id=update.meta_memory.next_id, step=number)
            state.rejected += (number,)
        accepted = number not in state.rejected
        row |= {"accepted": int(accepted), "guidelines": len(state.meta_memory)}
        run.append(
            "steps.jsonl",
            [
                {
                    "step": number,
                    "questions": [j.question.id for j in update.judged],
                    "accepted": accepted,
                    "changes": to_json(update.changes),
                    "refused": to_json(update.refused),
                    "notes": list(update.notes),
                    "trace": list(update.trace),
                }
            ],
        )
        keep_step(run, state, number, score, row, tracker, update.changes if accepted else ())
        run.append("timings.jsonl", [{"step": number, "seconds": round(time.perf_counter() - began, 3)}])
    return begun.opened.conclude(await tested(begun.opened, workshop, bench, state))


class _Watched:
    """The bench as a policy sees it, moving the step's progress as questions finish."""

    def __init__(self, bench: Bench, tracker: Tracker) -> None:
        self._bench = bench
        self._tracker = tracker

    async def attempt(self, *arguments: Any) -> Judged:
        """See `Bench.attempt`."""
        judged = await self._bench.attempt(*arguments)
        self._tracker.advance("question")
        return judged


async def _validate(
    config: TrainConfig, prepared: Prepared, run: Run, bench: Bench, meta_memory: MetaMemory, step: int
) -> float | None:
    questions = prepared.questions("validation")
    if not questions:
        return None
    judged = await bench.evaluate(
        questions,
        meta_memory,
        stage=f"validation of step {step}",
        scope=f"validation/{step}",
        draws="validation",
        attempts=config.evaluation.attempts,
        temperature=config.evaluation.temperature,
    )
    run.append("attempts.jsonl", [to_json(a) for j in judged for a in j.attempts])
    run.append("verdicts.jsonl", [to_json(v) for j in judged for v in (*j.verdicts, *j.other_verdicts)])
    return strict_score(judged)


def _training_figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Figures of a step's own attempts: shares of right and invalid verdicts, failed and cut attempts."""
    verdicts = [v for j in judged for v in j.verdicts]
    attempts = [a for j in judged for a in j.attempts]
    if not verdicts:
        return {"attempts": 0}
    return {
        "attempts": len(attempts),
        "right": round(sum(bool(v.correct) for v in verdicts) / len(verdicts), 6),
        "invalid": sum(v.status is Status.invalid for v in verdicts),
        "failed": sum(a.error is not None for a in attempts),
        "cut": sum(a.cut for a in attempts),
        "completion_tokens": sum(a.usage.completion_tokens for a in attempts),
    }

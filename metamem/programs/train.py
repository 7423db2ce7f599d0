"""The training loop: batches in, a meta-memory after every step, the best one tested at the end.

In: a `TrainConfig`. Out: the content of result.json, after checkpoints, attempts, verdicts and metrics were written
step by step. A step's rows are written when it is whole, in the order of ids, and its checkpoint last, so a run killed
anywhere continues behind its last checkpoint, and the journal gives back what was delivered since.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import TrainConfig
from metamem.core.contracts import Judged, Split, Tracker
from metamem.core.errors import ConfigError
from metamem.core.json_form import to_json
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Question, Status
from metamem.datasets.splits import save_split
from metamem.optimizers.batched import schedule
from metamem.pipeline.bench import Bench
from metamem.pipeline.laboratory import Workshop, about, labels
from metamem.pipeline.prepare import Prepared, prepare
from metamem.programs.command_line import job_overrides
from metamem.programs.event_loop import run_async
from metamem.programs.finish import test_and_conclude
from metamem.programs.train_state import State, keep_step, restore
from metamem.programs.watching import open_trackers
from metamem.reporting.cases import save_cases
from metamem.reporting.write import write_report
from metamem.runs.directory import Run
from metamem.statistics.judged import strict_score

ROLES = ("policy", "judge", "reflector")


def train(config: TrainConfig) -> dict[str, Any]:
    """Train one meta-memory; continues an unfinished run and reports a finished one."""
    prepared = with_training_part(prepare(config))
    run = Run("train", config, prepared.contents, job_overrides())
    try:
        about_run = about(prepared, run, "train")
        with open_trackers(config, run, about_run) as tracker:
            if run.finished:
                return report_finished(run, tracker)
            return run_async(
                _train_alone(Workshop(prepared, run, tracker, ROLES, asked_questions(prepared)), about_run)
            )
    finally:
        run.close()


def asked_questions(prepared: Prepared) -> list[Question]:
    """The questions of all parts."""
    return [q for part in ("train", "validation", "test") for q in prepared.questions(part)]


def report_finished(run: Run, tracker: Tracker) -> dict[str, Any]:
    """Report a run that needs nothing more, and return its result."""
    tracker.note(f"already finished: {run.directory} (start over with run.force=true)")
    result = run.result()
    tracker.finished(result)
    return result


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
    """What a run is about to do: its batches, where it stands, and what was said of it."""

    steps: list[tuple[int, list[str]]]
    state: State
    about: Mapping[str, Any]


def begin(workshop: Workshop, about_run: Mapping[str, Any]) -> Begun:
    """Go back to the last checkpoint and say what is to be done; nothing is started yet."""
    prepared, run, tracker = workshop.prepared, workshop.run, workshop.tracker
    config = prepared.config
    assert isinstance(config, TrainConfig)
    options = config.optimizer
    steps = schedule(prepared.split.train, options.epochs, options.batch_size, options.drop_last, config.seed)
    state = restore(run)
    save_split(prepared.split, run.directory / "split.json")
    resumed_at = state.step if state.step >= 0 else None
    tracker.started(
        {**about_run, "config": plain(config), "steps": len(steps), "resumed_at": resumed_at, "roles": labels(workshop)}
    )
    if steps and options.batch_size > len(prepared.split.train):
        tracker.note(
            f"optimizer.batch_size={options.batch_size} is clipped to the "
            f"{len(prepared.split.train)} questions of the training part"
        )
    for what, count in about_run["dataset"]["notices"].items():
        tracker.note(f"{config.dataset.name}: {what}: {count}")
    return Begun(steps, state, about_run)


async def _train_alone(workshop: Workshop, about_run: Mapping[str, Any]) -> dict[str, Any]:
    begun = begin(workshop, about_run)
    async with workshop:
        return await train_run(workshop, begun)


async def train_run(workshop: Workshop, begun: Begun) -> dict[str, Any]:
    """Run all steps of one training and return its result."""
    prepared, run, tracker = workshop.prepared, workshop.run, workshop.tracker
    config, steps, state, about_run = prepared.config, begun.steps, begun.state, begun.about
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
    result = await test_and_conclude(config, prepared, run, workshop, bench, state, tracker, about_run)
    run.finish(result)
    tracker.finished(result)
    write_report(run.directory)
    return result


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

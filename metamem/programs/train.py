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

from metamem.config.options import Accept, TrainConfig
from metamem.core.contracts import Split
from metamem.core.errors import ConfigError
from metamem.core.json_form import to_json
from metamem.core.learned import Ending, Judged, Optimizer, Position, Update
from metamem.core.meta_memory import MetaMemory, Origin, diff
from metamem.core.records import Question, Status
from metamem.datasets.splits import save_split
from metamem.pipeline.bench import Bench
from metamem.pipeline.laboratory import StepLaboratory
from metamem.pipeline.parts import RunParts, labels
from metamem.pipeline.prepare import PreparedRun
from metamem.pipeline.screening import screened
from metamem.programs.finish import streamed, tested
from metamem.programs.frame import Frame, OpenRun, run_async
from metamem.programs.train_state import State, keep_step, restore
from metamem.reporting.cases import save_cases
from metamem.reporting.console.text import several
from metamem.runs.directory import Run
from metamem.statistics.judged import strict_cell
from metamem.statistics.paired import FEWEST_CLUSTERS

ROLES = ("policy", "judge", "reflector")


def train(config: TrainConfig, frame: Frame) -> dict[str, Any]:
    """Train one meta-memory; continues an unfinished run and reports a finished one."""
    prepared = with_training_part(frame.prepare(config))
    with frame.open("train", prepared) as opened:
        if opened.finished():
            return opened.already_finished()
        asked = prepared.dataset.questions if frame.whole else asked_questions(prepared)
        parts = parts_of(opened, asked)
        return run_async(_train_alone(parts, opened))


def parts_of(opened: OpenRun, asked: Sequence[Question], lead: RunParts | None = None) -> RunParts:
    """Return the parts that a training works with, on the evidence of the questions `asked`."""
    return RunParts(opened.prepared, opened.run, opened.tracker, ROLES, asked, lead)


def asked_questions(prepared: PreparedRun) -> list[Question]:
    """The questions of all parts."""
    return [q for part in ("train", "validation", "test") for q in prepared.questions(part)]


def with_training_part(prepared: PreparedRun) -> PreparedRun:
    """With the training part that is asked for. Raises `ConfigError` for what cannot be trained on."""
    config = prepared.config
    assert isinstance(config, TrainConfig)
    _check(config, prepared)
    count = config.train_questions
    if config.train_share is not None:
        count = max(1, round(config.train_share * len(prepared.split.train)))
    return prepared if count is None else replace(prepared, split=thinned(prepared.split, count, config.seed))


def thinned(split: Split, count: int, seed: int) -> Split:
    """The split with `count` questions in its training part, those of a smaller count among those of a larger.

    Raises `ConfigError` when the part has fewer.
    """
    if count > len(split.train):
        raise ConfigError(f"train_questions={count}: the training part has {len(split.train)} questions")
    drawn = random.Random(f"{seed}/train_questions").sample(sorted(split.train), len(split.train))[:count]
    return replace(split, train=tuple(sorted(drawn)), order=tuple(i for i in split.order if i in drawn))


def _check(config: TrainConfig, prepared: PreparedRun) -> None:
    if config.train_questions is not None and config.train_share is not None:
        raise ConfigError("train_share and train_questions say the same twice; give one of them")
    if not prepared.split.train and policy_of(prepared).batches(prepared.dataset.questions, config.seed):
        raise ConfigError(f"split={config.split.name}: no question is left to train on")
    if getattr(policy_of(prepared), "needs_validation", False) and not prepared.split.validation:
        raise ConfigError(f"optimizer={config.optimizer.name} needs a validation part, and this split has none")
    if config.accept is Accept.validation and not prepared.split.validation:
        raise ConfigError("accept=validation needs a validation part, and this split has none")


def policy_of(prepared: PreparedRun) -> Optimizer:
    """Return the policy of a training."""
    assert prepared.optimizer is not None, "a training has a policy"
    return prepared.optimizer


def batches_of(prepared: PreparedRun) -> list[list[Question]]:
    """Return the questions of each step: as the policy batches them, or as they arrive where they are a stream."""
    config = prepared.config
    assert isinstance(config, TrainConfig)
    part = sorted(prepared.questions("train"), key=lambda q: q.id)
    if not prepared.split.order:
        return [list(batch) for batch in policy_of(prepared).batches(part, config.seed)]
    known, size = {q.id: q for q in part}, config.stream.batch
    arriving = [known[i] for i in prepared.split.order]
    return [arriving[i : i + size] for i in range(0, len(arriving), size)]


def clipped(prepared: PreparedRun) -> str:
    """Say that the policy's batches are larger than the training part; empty where they are not, and of a stream, whose
    batches are its own.
    """
    config, count = prepared.config, len(prepared.split.train)
    assert isinstance(config, TrainConfig)
    size = getattr(config.optimizer, "batch_size", 0)
    if prepared.split.order or not 0 < count < size:
        return ""
    return f"optimizer.batch_size={size} is clipped to the {count} questions of the training part"


@dataclass
class Begun:
    """What a run is about to do: its batches, and where it stands."""

    opened: OpenRun
    batches: list[list[Question]]
    state: State


def begin(parts: RunParts, opened: OpenRun) -> Begun:
    """Go back to the last checkpoint and say what is to be done; nothing is started yet."""
    prepared, run = opened.prepared, opened.run
    config = prepared.config
    assert isinstance(config, TrainConfig)
    batches = batches_of(prepared)
    state = restore(run)
    save_split(prepared.split, run.directory / "split.json")
    resumed_at = state.at.step if state.at else None
    opened.announce(labels(parts), steps=len(batches), resumed_at=resumed_at)
    if remark := clipped(prepared):
        opened.tracker.note(remark)
    for name in ("validation", "test"):
        groups = len({q.group or q.id for q in prepared.questions(name)})
        if 0 < groups < FEWEST_CLUSTERS:
            opened.tracker.note(
                f"the {name} part is {several(groups, 'independent group')} of questions (such as conversations): "
                f"fewer than {FEWEST_CLUSTERS} can show no difference, whatever it is"
            )
    return Begun(opened, batches, state)


async def _train_alone(parts: RunParts, opened: OpenRun) -> dict[str, Any]:
    begun = begin(parts, opened)
    async with parts:
        return await train_run(parts, begun)


async def train_run(parts: RunParts, begun: Begun) -> dict[str, Any]:
    """Run all steps of one training and return its result."""
    prepared, run, tracker = parts.prepared, parts.run, parts.tracker
    config, state = prepared.config, begun.state
    assert isinstance(config, TrainConfig)
    parts.gathered = parts.gathered.of({q.id for q in asked_questions(prepared)})
    save_cases(run.directory, prepared.dataset.questions, parts.gathered)
    bench = parts.bench()
    policy = policy_of(prepared)
    if state.at is None:
        validated = await _validate(config, parts, bench, MetaMemory(), 0)
        _settle_step(parts, 0)
        untrained = MetaMemory(origin=_origin(prepared))
        keep_step(run, state, Position(0, untrained), validated, {"step": 0, **untrained.sizes()}, tracker)
    last = len(begun.batches)
    for number, batch in enumerate(begun.batches, 1):
        if number > state.position.step and not state.position.done:
            tracker.stage(f"step {number}/{last}", len({q.id for q in batch}), "question")
            laboratory = _laboratory(parts, bench, begun.batches, number)
            began = time.perf_counter()
            update = await policy.step(state.position, laboratory.told(batch), laboratory)
            scored = number % config.eval_every == 0 or number == last or update.done
            await _end_step(parts, bench, state, laboratory, update, scored)
            run.append("timings.jsonl", [{"step": number, "seconds": round(time.perf_counter() - began, 3)}])
    if isinstance(policy, Ending) and begun.batches and state.position.step == last and not state.position.done:
        laboratory = _laboratory(parts, bench, begun.batches, last + 1)
        tracker.stage("end of training", 1, "step")
        ending = await policy.end(state.position, laboratory)
        tracker.advance("step")
        if ending is not None:
            await _end_step(parts, bench, state, laboratory, ending, True)
    if prepared.split.order:
        return begun.opened.conclude(await streamed(begun.opened, parts, bench, state, begun.batches))
    return begun.opened.conclude(await tested(begun.opened, parts, bench, state))


def _laboratory(parts: RunParts, bench: Bench, batches: Sequence[Sequence[Question]], number: int) -> StepLaboratory:
    """Return what the policy works with in a step: of a stream it knows what has arrived so far."""
    prepared = parts.prepared
    config = prepared.config
    assert isinstance(config, TrainConfig)
    if not prepared.split.order:
        return parts.laboratory(number, bench, prepared.questions("train"))
    arrived = [question for batch in batches[:number] for question in batch]
    return parts.laboratory(number, bench, arrived, config.stream.feedback)


async def _end_step(
    parts: RunParts, bench: Bench, state: State, laboratory: StepLaboratory, update: Update, scored: bool
) -> None:
    """Write down what a step did, score what it gives where that is due, and take it or refuse it."""
    prepared, run, tracker, number = parts.prepared, parts.run, parts.tracker, laboratory.step
    config, old = prepared.config, state.position.meta_memory
    judged, tried = laboratory.made(), laboratory.tried()
    tools = prepared.guard_tools(parts.callers)
    update = await screened(policy_of(prepared), old, update, judged, number, prepared.guard, tools)
    # A policy need not know where its meta-memory comes from.
    new = replace(update.meta_memory, origin=old.origin)
    assert isinstance(config, TrainConfig)
    for text in update.notes:
        tracker.note(f"step {number}: {text}")
    _settle_step(parts, number)
    _append_judged(run, [*judged, *tried])
    row = {"step": number, **training_figures(judged), **laboratory.spent(), **update.counts}
    gated = config.accept is Accept.validation
    validated = await _validate(config, parts, bench, new, number) if gated or scored else None
    _settle_step(parts, number)
    score = validated["accuracy"] if validated else None
    accepted = not (gated and score is not None and score < max(state.scores.values()))
    # Refused: all stays as it was, but no id is ever given out twice.
    at = (
        Position(number, new, update.state, done=update.done)
        if accepted
        else Position(number, replace(old, next_id=new.next_id), state.position.state, accepted=False, done=update.done)
    )
    changes = update.changes or diff(old, new, number)
    row |= {"accepted": int(accepted), **at.meta_memory.sizes()}
    about_step = {
        "step": number,
        "questions": list(dict.fromkeys(j.question.id for j in judged)),
        "accepted": accepted,
        "changes": to_json(changes),
        "refused": to_json(update.refused),
        "notes": list(update.notes),
        "trace": list(update.trace),
    }
    run.append("steps.jsonl", [about_step])
    apart = [refusal for refusal in update.refused if refusal.apart]
    if apart:
        tracker.note(f"step {number}: {several(len(apart), 'proposed guideline')} kept apart ({apart[0].reason})")
    keep_step(run, state, at, validated, row, tracker, changes if accepted else (), apart)


def _settle_step(parts: RunParts, number: int) -> None:
    """See that nothing is built on a step that lacks many of its calls, and say where it lacks a few."""
    if lost := parts.settle(f"step {number}"):
        parts.tracker.note(f"step {number}: {several(lost, 'call')} not delivered; the step goes without")


def _origin(prepared: PreparedRun) -> Origin:
    """Return which questions a training learns from and chooses its best step by."""
    train_ids, chosen_by = ((q.id for q in prepared.questions(part)) for part in ("train", "validation"))
    return Origin(tuple(sorted(train_ids)), tuple(sorted(chosen_by)))


async def _validate(
    config: TrainConfig, parts: RunParts, bench: Bench, meta_memory: MetaMemory, step: int
) -> dict[str, Any] | None:
    questions = parts.prepared.questions("validation")
    if not questions:
        return None
    if meta_memory.adapter is not None:
        bench = await parts.bench_for(meta_memory, questions)
    judged = await bench.evaluate(
        questions,
        meta_memory,
        stage=f"validation of step {step}",
        scope=f"validation/{step}",
        draws="validation",
        attempts=config.evaluation.attempts,
        temperature=config.evaluation.temperature,
    )
    _append_judged(parts.run, judged)
    return strict_cell(judged)


def _append_judged(run: Run, judged: Sequence[Judged]) -> None:
    run.append("attempts.jsonl", [to_json(a) for j in judged for a in j.attempts])
    run.append("verdicts.jsonl", [to_json(v) for j in judged for v in (*j.verdicts, *j.other_verdicts)])


def training_figures(judged: Sequence[Judged]) -> dict[str, Any]:
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

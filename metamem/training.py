"""The training loop: batches in, a meta-memory after every step, the best one tested at the end.

In: a `TrainConfig`. Out: the content of result.json, after checkpoints, attempts, verdicts and metrics were written
step by step. A step's rows are written when it is whole, in the order of ids, and its checkpoint last, so a run killed
anywhere continues behind its last checkpoint, and the journal gives back what was delivered since.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metamem.assembly import Prepared, Workshop, about, other_fold, prepare, run_async
from metamem.config import TrainConfig, plain
from metamem.contracts import Judged, Split, Tracker
from metamem.datasets.splits import fold_names, save_split
from metamem.errors import ConfigError, UserError
from metamem.files import write_json
from metamem.meta_memory import MetaMemory, save, to_dict
from metamem.records import Question, Status, digest, from_json, to_json
from metamem.reporting.cases import save_cases
from metamem.reporting.write import write_report
from metamem.reports import (
    evaluation_rows,
    figures,
    job_overrides,
    next_command,
    open_trackers,
    real_command,
    retrieval_figures,
    strict_score,
)
from metamem.runs import Run
from metamem.stages import Bench
from metamem.studies.ledger import record_read

ROLES = ("policy", "judge", "reflector")


def train_folds(config: TrainConfig) -> dict[str, Any]:
    """Train on the fold that is chosen, or with `split.fold=all` on all at once; returns the result (of all folds:
    their mean score).

    The folds share data, memories and backbones, and none waits for another, so no engine idles at a fold's barrier.
    """
    folds = fold_names(config.split)
    if len(folds) <= 1:
        return train(config)
    if config.run.dir:
        raise ConfigError(
            "run.dir cannot be given with split.fold=all: the folds would share one directory. "
            "Use outputs=DIR or name=NAME."
        )
    configs = [replace(config, split=replace(config.split, fold=fold)) for fold in folds]
    first = prepare(configs[0])
    prepared = [_thinned(p) for p in (first, *(other_fold(first, c) for c in configs[1:]))]
    with ExitStack() as stack:
        jobs = []
        for fold, fold_prepared in zip(folds, prepared, strict=True):
            run = Run("train", fold_prepared.config, fold_prepared.contents, _overrides(fold))
            stack.callback(run.close)
            jobs.append((f"fold {fold}", fold_prepared, run))
        results = _train_side_by_side(jobs, stack)
    return fold_result(config, results)


def train(config: TrainConfig) -> dict[str, Any]:
    """Train one meta-memory; continues an unfinished run and reports a finished one."""
    prepared = _thinned(prepare(config))
    run = Run("train", config, prepared.contents, job_overrides())
    try:
        about_run = about(prepared, run, "train")
        with open_trackers(config, run, about_run) as tracker:
            if run.finished:
                return _already(run, tracker)
            return run_async(_train_alone(Workshop(prepared, run, tracker, ROLES, _asked(prepared)), about_run))
    finally:
        run.close()


def _train_side_by_side(jobs: Sequence[tuple[str, Prepared, Run]], stack: ExitStack) -> list[dict[str, Any]]:
    """Train several runs of one program as tasks of one process; finished ones are reported. In the order of `jobs`."""
    from metamem.tracking.console import Board

    board = Board()
    results: dict[int, dict[str, Any]] = {}
    unfinished: list[tuple[int, Workshop, Mapping[str, Any]]] = []
    for number, (label, prepared, run) in enumerate(jobs):
        about_run = about(prepared, run, "train")
        tracker = stack.enter_context(open_trackers(prepared.config, run, about_run, board.seat(label)))
        if run.finished:
            results[number] = _already(run, tracker)
        else:
            lead = unfinished[0][1] if unfinished else None
            asked = _asked(prepared) if lead else prepared.dataset.questions
            unfinished.append((number, Workshop(prepared, run, tracker, ROLES, asked, lead), about_run))

    async def all_of_them() -> None:
        begun = [(number, workshop, _begin(workshop, about_run)) for number, workshop, about_run in unfinished]
        async with AsyncExitStack() as entered:
            for _, workshop, _ in begun:
                await entered.enter_async_context(workshop)
            async with asyncio.TaskGroup() as group:
                tasks = {number: group.create_task(_train(w, what)) for number, w, what in begun}
        results.update({number: task.result() for number, task in tasks.items()})

    if unfinished:
        run_async(all_of_them())
    return [results[number] for number in range(len(jobs))]


def _asked(prepared: Prepared) -> list[Question]:
    """The questions of all parts."""
    return [q for part in ("train", "validation", "test") for q in prepared.questions(part)]


def _already(run: Run, tracker: Tracker) -> dict[str, Any]:
    tracker.note(f"already finished: {run.directory} (start over with run.force=true)")
    result = run.result()
    tracker.finished(result)
    return result


def _thinned(prepared: Prepared) -> Prepared:
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


def _overrides(fold: str) -> list[str]:
    """The overrides that name the run's directory of one of all folds: with its number in place of `all`."""
    return [f"split.fold={fold}" if o.startswith("split.fold=") else o for o in job_overrides()]


def schedule(
    ids: Iterable[str], epochs: int, batch_size: int, drop_last: bool, seed: int
) -> list[tuple[int, list[str]]]:
    """The batches of a run: (epoch from 0, question ids). Each epoch has a shuffle of its own; a batch larger than
    the part is clipped.
    """
    ordered = sorted(ids)
    batch_size = min(batch_size, len(ordered))
    batches = []
    for epoch in range(epochs):
        shuffled = list(ordered)
        random.Random(f"{seed}/batches/{epoch}").shuffle(shuffled)
        for start in range(0, len(shuffled), batch_size):
            batch = shuffled[start : start + batch_size]
            if len(batch) == batch_size or not drop_last:
                batches.append((epoch, batch))
    return batches


@dataclass
class State:
    """Where a run stands: the meta-memory in use, the last finished step, and every validation score so far (step →
    score).
    """

    meta_memory: MetaMemory = field(default_factory=MetaMemory)
    step: int = -1
    scores: dict[int, float] = field(default_factory=dict)
    rejected: tuple[int, ...] = ()

    def best(self) -> int | None:
        """The step of the highest validation score, the earliest of equals; None without validation."""
        return min(self.scores, key=lambda s: (-self.scores[s], s)) if self.scores else None


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


def _begin(workshop: Workshop, about_run: Mapping[str, Any]) -> Begun:
    """Go back to the last checkpoint and say what is to be done; nothing is started yet."""
    prepared, run, tracker = workshop.prepared, workshop.run, workshop.tracker
    config = prepared.config
    assert isinstance(config, TrainConfig)
    options = config.optimizer
    steps = schedule(prepared.split.train, options.epochs, options.batch_size, options.drop_last, config.seed)
    state = _restore(run)
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
    begun = _begin(workshop, about_run)
    async with workshop:
        return await _train(workshop, begun)


async def _train(workshop: Workshop, begun: Begun) -> dict[str, Any]:
    prepared, run, tracker = workshop.prepared, workshop.run, workshop.tracker
    config, steps, state, about_run = prepared.config, begun.steps, begun.state, begun.about
    assert isinstance(config, TrainConfig)
    options = config.optimizer
    workshop.gathered = workshop.gathered.of({q.id for q in _asked(prepared)})
    save_cases(run.directory, prepared.dataset.questions, workshop.gathered)
    bench = workshop.bench()
    policy = workshop.optimizer(options)
    by_id = {q.id: q for q in prepared.dataset.questions}
    if state.step < 0:
        state.step = 0
        score = await _validate(config, prepared, run, bench, state.meta_memory, 0)
        _keep(run, state, 0, score, {"step": 0, "guidelines": 0}, tracker)
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
        _keep(run, state, number, score, row, tracker, update.changes if accepted else ())
        run.append("timings.jsonl", [{"step": number, "seconds": round(time.perf_counter() - began, 3)}])
    result = await _finish(config, prepared, run, workshop, bench, state, tracker, about_run)
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


def _keep(
    run: Run,
    state: State,
    step: int,
    score: float | None,
    row: dict[str, Any],
    tracker: Tracker,
    changes: Sequence[Any] = (),
) -> None:
    """End a step: its metrics row, then its checkpoint, which makes all of it count."""
    state.step = step
    if score is not None:
        state.scores[step] = score
    row |= {"validation": score}
    run.append("metrics.jsonl", [row])
    extra = {
        "step": step,
        "validation": score,
        "scores": {str(s): v for s, v in state.scores.items()},
        "rejected": list(state.rejected),
    }
    run.keep_sizes(step)
    save(state.meta_memory, run.checkpoint_path(step), extra)
    tracker.measured(step, row)
    tracker.changed(step, state.meta_memory, changes)


def _restore(run: Run) -> State:
    """The state at the last checkpoint, with the logs cut back to it."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        run.rewind({})
        return State()
    data = _load(checkpoints[-1])
    for step in range(int(data["step"])):
        # The best step is read back at the end: better to learn now that it is gone.
        _load(run.checkpoint_path(step))
    run.rewind(run.kept_sizes(int(data["step"])))
    return State(
        from_json(MetaMemory, data["meta_memory"]),
        int(data["step"]),
        {int(s): float(v) for s, v in data["scores"].items()},
        tuple(data["rejected"]),
    )


def _load(path: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is missing or damaged: {error}. Start over with run.force=true; stored replies are used again."
        ) from None


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


def labels(workshop: Workshop) -> dict[str, str]:
    """Role → the model's name."""
    return {role: caller.label for role, caller in workshop.callers.items()}


async def _finish(
    config: TrainConfig,
    prepared: Prepared,
    run: Run,
    workshop: Workshop,
    bench: Bench,
    state: State,
    tracker: Tracker,
    about_run: Mapping[str, Any],
) -> dict[str, Any]:
    """Test without guidelines, with the best and with the last meta-memory; put the result together."""
    best = state.best()
    chosen = (
        state.meta_memory if best is None else from_json(MetaMemory, _load(run.checkpoint_path(best))["meta_memory"])
    )
    systems: list[tuple[dict[str, Any], MetaMemory | None]] = [
        ({"label": "without", "step": None, "guidelines": 0}, None)
    ]
    if best is not None:
        systems.append(({"label": f"best (step {best})", "step": best, "guidelines": len(chosen)}, chosen))
    last = state.meta_memory
    systems.append(({"label": f"last (step {state.step})", "step": state.step, "guidelines": len(last)}, last))
    if config.test_steps:
        for number in range(1, state.step + 1):
            after = from_json(MetaMemory, _load(run.checkpoint_path(number))["meta_memory"])
            systems.append(({"label": f"step-{number}", "step": number, "guidelines": len(after)}, after))
    test = prepared.questions("test")
    if test:
        readers = record_read(prepared, run, [s["label"] for s, _ in systems])
        if readers > 1:
            tracker.note(f"this test part has been read by {readers} runs (metamem reads)")
    by_label: dict[str, list[Judged]] = {}
    for system, meta_memory in systems:
        if test:
            by_label[system["label"]] = await bench.evaluate(
                test,
                meta_memory,
                stage=f"test, {system['label']}",
                scope=f"test/{system['label'].split(' ')[0]}",
                draws="test",
                attempts=config.evaluation.attempts,
                temperature=config.evaluation.temperature,
            )
            evaluation_rows(run, by_label[system["label"]])
    score = state.scores.get(best) if best is not None else None
    stepwise = [strict_score(judged) for label, judged in by_label.items() if label.startswith("step-")]
    known = [value for value in stepwise if value is not None]
    return {
        **about_run,
        "roles": labels(workshop),
        "score": score,
        "headline": f"validation {score:.3f}" if score is not None else f"{len(last)} guidelines",
        "steps": state.step,
        "best_step": best,
        "systems": [s for s, _ in systems],
        "part": "test",
        "figures": figures(by_label, workshop.gathered),
        "guidelines": [to_json(g) for g in chosen.guidelines],
        "meta_memory": to_dict(chosen),
        "validation": [{"step": s, "score": v} for s, v in sorted(state.scores.items())],
        **({"mean_of_steps": round(sum(known) / len(known), 6)} if known else {}),
        "rejected_steps": list(state.rejected),
        "retrieval": retrieval_figures(workshop.gathered, test or prepared.dataset.questions),
        "memory": dict(workshop.gathered.memory) or None,
        "calls": workshop.calls(),
        "next": next_command(run.directory),
        "real": real_command(config.backbone.name),
    }


def fold_result(config: TrainConfig, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The folds' results as one: their directories, the mean of their validation scores, and the totals over their
    test parts, which are printed and kept in `folds-<id>.json` beside the runs.
    """
    from metamem.studies.folds import fold_totals
    from metamem.tracking.tables import print_sweep
    from metamem.tracking.text import open_console, say

    scores = [r["score"] for r in results if r["score"] is not None]
    mean = sum(scores) / len(scores) if scores else None
    print_sweep(
        [
            {
                "number": i,
                "overrides": [f"split.fold={fold}"],
                "status": "done",
                **{k: r.get(k) for k in ("directory", "score", "headline")},
            }
            for i, (fold, r) in enumerate(zip(fold_names(config.split), results, strict=True))
        ]
    )
    runs = [str(r["directory"]) for r in results]
    totals: dict[str, Any] = (
        fold_totals(runs) if all(r["split"]["test"] for r in results) else {"systems": {}, "gain": ""}
    )
    console = open_console()
    for label, figures_of in totals["systems"].items():
        low, high = figures_of["interval"]
        counted = f"{figures_of['questions']} questions, each tested once"
        say(console, f"{label}: {figures_of['accuracy']:.3f} [{low:.3f}, {high:.3f}] over {counted}")
    if totals["gain"]:
        say(console, totals["gain"])
    kept = Path(config.outputs) / config.name / f"folds-{digest([r['id'] for r in results], 10)}.json"
    write_json(kept, {"runs": runs, **totals})
    say(console, f"totals {kept}")
    return {
        "kind": "folds",
        "totals": totals,
        "name": config.name,
        "directory": ", ".join(str(r["directory"]) for r in results),
        "runs": runs,
        "score": mean,
        "headline": f"mean validation {mean:.3f} over {len(results)} folds"
        if mean is not None
        else f"{len(results)} folds",
        "stamps": results[0]["stamps"],
    }

"""Training on all folds of a split at once, as tasks of one process that share data, memories and backbones.

In: a `TrainConfig` with `split.fold=all`. Out: the folds' results as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamem.config.options import TrainConfig
from metamem.core.errors import ConfigError
from metamem.core.files import write_json
from metamem.core.json_form import digest
from metamem.datasets.splits import fold_names
from metamem.pipeline.parts import RunParts, about
from metamem.pipeline.prepare import Prepared, other_fold, prepare
from metamem.programs.command_line import job_overrides
from metamem.programs.event_loop import run_async
from metamem.programs.train import ROLES, asked_questions, begin, report_finished, train, train_run, with_training_part
from metamem.programs.watching import open_trackers
from metamem.reporting.console.tables import print_sweep
from metamem.reporting.console.text import open_console, say
from metamem.runs.directory import Run
from metamem.statistics.folds import fold_totals
from metamem.tracking.console import Board


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
    prepared = [with_training_part(p) for p in (first, *(other_fold(first, c) for c in configs[1:]))]
    with ExitStack() as stack:
        jobs = []
        for fold, fold_prepared in zip(folds, prepared, strict=True):
            run = Run("train", fold_prepared.config, fold_prepared.contents, _overrides(fold))
            stack.callback(run.close)
            jobs.append((f"fold {fold}", fold_prepared, run))
        results = _train_side_by_side(jobs, stack)
    return fold_result(config, results)


def _train_side_by_side(jobs: Sequence[tuple[str, Prepared, Run]], stack: ExitStack) -> list[dict[str, Any]]:
    """Train several runs of one program as tasks of one process; finished ones are reported. In the order of `jobs`."""
    board = Board()
    results: dict[int, dict[str, Any]] = {}
    unfinished: list[tuple[int, RunParts, Mapping[str, Any]]] = []
    for number, (label, prepared, run) in enumerate(jobs):
        about_run = about(prepared, run, "train")
        tracker = stack.enter_context(open_trackers(prepared.config, run, about_run, board.console_of(label)))
        if run.finished:
            results[number] = report_finished(run, tracker)
        else:
            lead = unfinished[0][1] if unfinished else None
            asked = asked_questions(prepared) if lead else prepared.dataset.questions
            unfinished.append((number, RunParts(prepared, run, tracker, ROLES, asked, lead), about_run))

    async def all_of_them() -> None:
        begun = [(number, parts, begin(parts, about_run)) for number, parts, about_run in unfinished]
        async with AsyncExitStack() as entered:
            for _, parts, _ in begun:
                await entered.enter_async_context(parts)
            async with asyncio.TaskGroup() as group:
                tasks = {number: group.create_task(train_run(w, what)) for number, w, what in begun}
        results.update({number: task.result() for number, task in tasks.items()})

    if unfinished:
        run_async(all_of_them())
    return [results[number] for number in range(len(jobs))]


def _overrides(fold: str) -> list[str]:
    """The overrides that name the run's directory of one of all folds: with its number in place of `all`."""
    return [f"split.fold={fold}" if o.startswith("split.fold=") else o for o in job_overrides()]


def fold_result(config: TrainConfig, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The folds' results as one: their directories, the mean of their validation scores, and the totals over their
    test parts, which are printed and kept in `folds-<id>.json` beside the runs.
    """
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

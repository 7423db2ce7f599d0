"""Training on all folds of a split at once, as tasks of one process that share data, memories and backbones.

In: a `TrainConfig` with `split.fold=all`. Out: the folds' results as one. The folds of a stream are streams of their
own, which none of the others waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamem.config.options import BaseConfig, TrainConfig
from metamem.core.contracts import Folding
from metamem.core.errors import ConfigError
from metamem.core.files import write_json
from metamem.core.json_form import digest
from metamem.core.registry import build
from metamem.pipeline.parts import RunParts
from metamem.pipeline.prepare import PreparedRun, other_fold
from metamem.programs.frame import Frame, OpenRun, run_async
from metamem.programs.overrides import job_overrides
from metamem.programs.train import asked_questions, begin, parts_of, train, train_run, with_training_part
from metamem.reporting.console.tables import print_sweep
from metamem.reporting.console.text import open_console, say
from metamem.statistics.folds import fold_totals
from metamem.tracking.console import Board


def folds_of(config: BaseConfig) -> dict[str, Any]:
    """Return fold → the split's options with it chosen, where a config asks for all folds; none where it does not."""
    splitter = build("split", config.split)
    return dict(splitter.folds()) if isinstance(splitter, Folding) else {}


def train_folds(config: TrainConfig, frame: Frame) -> dict[str, Any]:
    """Train on the fold that is chosen, or with `split.fold=all` on all at once; returns the result (of all folds:
    their mean score).

    The folds share data, memories and backbones, and none waits for another, so no engine idles at a fold's barrier.
    """
    folds = folds_of(config)
    if not folds:
        return train(config, frame)
    if config.run.dir:
        raise ConfigError(
            "run.dir cannot be given with split.fold=all: the folds would share one directory. "
            "Use outputs=DIR or name=NAME."
        )
    configs = [replace(config, split=options) for options in folds.values()]
    first = frame.prepare(configs[0])
    prepared = [with_training_part(p) for p in (first, *(other_fold(first, c) for c in configs[1:]))]
    return fold_result(config, list(folds), _train_side_by_side(frame, dict(zip(folds, prepared, strict=True))))


def _train_side_by_side(frame: Frame, folds: Mapping[str, PreparedRun]) -> list[dict[str, Any]]:
    """Train the folds as tasks of one process and report those that are finished; return their results in order."""
    board = Board()
    results: dict[str, dict[str, Any]] = {}
    unfinished: list[tuple[str, RunParts, OpenRun]] = []
    with ExitStack() as stack:
        for fold, prepared in folds.items():
            opened = stack.enter_context(
                frame.open("train", prepared, overrides=_overrides(fold), console=board.console_of(f"fold {fold}"))
            )
            if opened.finished():
                results[fold] = opened.already_finished()
            else:
                lead = unfinished[0][1] if unfinished else None
                asked = asked_questions(prepared) if lead else prepared.dataset.questions
                unfinished.append((fold, parts_of(opened, asked, lead), opened))
        if unfinished:
            results |= run_async(_all_of_them(unfinished))
    return [results[fold] for fold in folds]


async def _all_of_them(jobs: Sequence[tuple[str, RunParts, OpenRun]]) -> dict[str, dict[str, Any]]:
    begun = [(fold, parts, begin(parts, opened)) for fold, parts, opened in jobs]
    async with AsyncExitStack() as entered:
        for _, parts, _ in begun:
            await entered.enter_async_context(parts)
        async with asyncio.TaskGroup() as group:
            tasks = {fold: group.create_task(train_run(parts, what)) for fold, parts, what in begun}
    return {fold: task.result() for fold, task in tasks.items()}


def _overrides(fold: str) -> list[str]:
    """The overrides that name the run's directory of one of all folds: with its number in place of `all`."""
    return [f"split.fold={fold}" if o.startswith("split.fold=") else o for o in job_overrides()]


def fold_result(config: TrainConfig, folds: Sequence[str], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
            for i, (fold, r) in enumerate(zip(folds, results, strict=True))
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
        "headline": _headline(mean, results),
        "stamps": results[0]["stamps"],
    }


def _headline(mean: float | None, results: Sequence[Mapping[str, Any]]) -> str:
    """Say what the mean of the folds' scores is."""
    if mean is None:
        return f"{len(results)} folds"
    if any("stream" in r for r in results):
        return f"{mean:.3f} right while learning, the mean of {len(results)} streams"
    return f"mean of the best validation scores {mean:.3f} over {len(results)} folds, each a maximum"

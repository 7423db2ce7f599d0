"""Evaluation: meta-memories answer a part of a data set, question by question; or stored attempts are judged again.

In: an `EvalConfig`. Out: the content of result.json. Which questions a meta-memory may be tested on is taken from the
run that trained it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import DEFAULT_RECALL, EvalConfig, Part
from metamem.config.resolve import typed_options
from metamem.core.contracts import Judged, Split, Tracker
from metamem.core.errors import ConfigError
from metamem.core.meta_memory import MetaMemory, items_json
from metamem.core.sources import Competency, source_of
from metamem.datasets.splits import fold_names
from metamem.evaluators.memalpha_reward import NAME, ContentJudge, rewards
from metamem.pipeline.parts import RunParts, about
from metamem.pipeline.prepare import Prepared, make_recall, prepare, recall_identity
from metamem.programs.command_line import job_overrides
from metamem.programs.compare import compare_runs
from metamem.programs.event_loop import run_async
from metamem.programs.finishing import already_finished
from metamem.programs.perplexity import analyse
from metamem.programs.rejudge import judge_again
from metamem.programs.show import show
from metamem.programs.watching import open_trackers
from metamem.reporting.cases import save_cases
from metamem.reporting.write import write_report
from metamem.runs.directory import Run, evaluation_rows
from metamem.runs.systems import System, read_json_object, read_systems
from metamem.runs.test_reads import record_read
from metamem.statistics import streams
from metamem.statistics.judged import figures, retrieval_figures
from metamem.statistics.side_by_side import compare, headline, question_rows


def evaluate(config: EvalConfig) -> dict[str, Any]:
    """Evaluate; continues an unfinished run and reports a finished one."""
    if config.compare is not None:
        return compare_runs(config)
    if config.show is not None:
        return show(config)
    if len(fold_names(config.split)) > 1:
        raise ConfigError(
            "split.fold=all is for train.py; eval.py takes the fold from the run in meta_memory, or one fold"
        )
    if config.perplexity is not None:
        return analyse(config)
    if config.from_ is not None:
        return judge_again(config)
    systems = read_systems(config.meta_memory)
    prepared = prepare(config)
    prepared = _with_split_of(systems, prepared, config)
    questions = prepared.questions(config.part.value)
    if not questions:
        raise ConfigError(f"part={config.part.value}: this split leaves no question in it")
    if not config.allow_seen:
        _refuse_seen(systems, {q.id for q in questions}, config)
    # What is evaluated counts by content, not by where it lies.
    recalls = [_recall(s, config) for s in systems]
    shown_by = [_shown_by(r, prepared) if r else None for r in recalls]
    contents = {
        **prepared.contents,
        "systems": [
            [s.label, s.meta_memory.hash if s.meta_memory else None, how]
            for s, how in zip(systems, shown_by, strict=True)
        ],
    }
    keyed = replace(config, meta_memory=None, recall=None)
    run = Run("eval", keyed, contents, job_overrides(), config)
    try:
        about_run = about(prepared, run, "eval", part=config.part.value)
        with open_trackers(config, run, about_run) as tracker:
            if run.finished:
                return already_finished(run, tracker)
            run.rewind({})
            return run_async(_evaluate(config, prepared, run, tracker, about_run, systems, recalls))
    finally:
        run.close()


def _with_split_of(systems: Sequence[System], prepared: Prepared, config: EvalConfig) -> Prepared:
    """The split of the first system's run, when it was trained on this very data set and none was given on the
    command line.
    """
    run = next((s.run for s in systems if s.run), None)
    if run is None or any(o.lstrip("+").startswith(("split=", "split.")) for o in job_overrides()):
        return prepared
    manifest, stored = read_json_object(run / "manifest.json"), read_json_object(run / "split.json")
    if not stored or manifest.get("contents", {}).get("dataset") != prepared.contents["dataset"]:
        return prepared
    known = {q.id for q in prepared.dataset.questions}
    parts = {part: tuple(i for i in stored.get(part, ()) if i in known) for part in ("train", "validation", "test")}
    if not config.dataset.name or not any(parts.values()):
        return prepared
    split = Split(**parts, leaky=bool(read_json_object(run / "result.json").get("split", {}).get("leaky", False)))
    return prepare(config, split)


def _refuse_seen(systems: Sequence[System], asked: set[str], config: EvalConfig) -> None:
    for system in systems:
        if system.run is None:
            continue
        seen = asked & set(read_json_object(system.run / "split.json").get("train", ()))
        if seen:
            raise ConfigError(
                f"part={config.part.value}: {len(seen)} of {len(asked)} questions trained "
                f"{system.label} (such as {min(seen)}). "
                "Evaluate on part=test of the same split, or say allow_seen=true."
            )


async def _evaluate(
    config: EvalConfig,
    prepared: Prepared,
    run: Run,
    tracker: Tracker,
    about_run: Mapping[str, Any],
    systems: Sequence[System],
    recalls: Sequence[Any],
) -> dict[str, Any]:
    questions = prepared.questions(config.part.value)
    parts = RunParts(prepared, run, tracker, ["policy", "judge"], questions)
    roles = {role: caller.label for role, caller in parts.callers.items()}
    reads = [{"label": s.label, "file": str(s.file)} for s in systems if s.file]
    tracker.started({**about_run, "config": plain(config), "roles": roles, "reads": reads})
    for what, count in about_run["dataset"]["notices"].items():
        tracker.note(f"{config.dataset.name}: {what}: {count}")
    for system in systems:
        for difference in _trained_otherwise(system, config):
            tracker.note(difference)
    if config.part in (Part.test, Part.all) and prepared.split.test:
        record_read(
            Path(config.outputs),
            dataset=prepared.dataset.name,
            split=prepared.contents["split"],
            run=run.id,
            directory=run.directory,
            systems=[s.label for s in systems],
        )
    by_label: dict[str, list[Judged]] = {}
    async with parts:
        save_cases(run.directory, questions, parts.gathered)
        for number, (system, recall) in enumerate(zip(systems, recalls, strict=True)):
            judged = await parts.bench(recall).evaluate(
                questions,
                system.meta_memory,
                stage=f"{config.part.value}, {system.label}",
                scope=f"{config.part.value}/{number}",
                draws=config.part.value,
                attempts=config.evaluation.attempts,
                temperature=config.evaluation.temperature,
            )
            by_label[system.label] = judged
            evaluation_rows(run, judged)
        rewards = await _rewards(parts, by_label)
    chosen = next((s for s in reversed(systems) if s.meta_memory is not None), None)
    result = {
        **about_run,
        "roles": roles,
        **headline(by_label),
        "systems": [
            {
                "label": s.label,
                "step": s.step,
                **(s.meta_memory or MetaMemory()).sizes(),
            }
            for s in systems
        ],
        "figures": figures(by_label, parts.gathered),
        "guidelines": items_json(chosen.meta_memory) if chosen and chosen.meta_memory else [],
        "guidelines_of": chosen.label if chosen else None,
        "retrieval": retrieval_figures(parts.gathered, questions),
        "memory": dict(parts.gathered.memory) or None,
        **({"rewards": rewards} if rewards else {}),
        "compare": compare(by_label),
        "calls": parts.calls(),
    }
    if any(source_of(q.type).competency is not Competency.other for q in questions):
        result["streams"] = streams.of_result(result)
    run.append("questions.jsonl", question_rows(by_label, parts.gathered.retrieved))
    run.finish(result)
    tracker.finished(result)
    write_report(run.directory)
    return result


async def _rewards(parts: RunParts, by_label: Mapping[str, Sequence[Judged]]) -> dict[str, Any] | None:
    """System → means of the terms of Mem-α's reward, where the memories themselves are scored; a row an episode."""
    prepared = parts.prepared
    if not prepared.rewarded:
        return None
    options = prepared.config.evaluator[NAME]
    judge = ContentJudge(parts.callers["judge"], prepared.prompts)
    banks = parts.gathered.banks
    means, rows = await rewards(banks, by_label, judge, options.beta, options.gamma, parts.tracker)
    parts.run.append("rewards.jsonl", rows)
    return means


def _recall(system: System, config: EvalConfig) -> Any:
    """Return the options of the recall that a system's guidelines are shown by: those given here, else those they were
    learned with. None without guidelines.
    """
    if system.meta_memory is None:
        return None
    return config.recall or typed_options("recall", system.recall or DEFAULT_RECALL)


def _shown_by(recall: Any, prepared: Prepared) -> list[Any]:
    """Return what decides which guidelines a prompt shows."""
    made = make_recall(recall, prepared.embedder, prepared.store, prepared.prompts)
    return [plain(recall), recall_identity(made, prepared.prompts)]


def _trained_otherwise(system: System, config: EvalConfig) -> list[str]:
    """What a run that trained a meta-memory said of memory and evidence, where this evaluation says something else."""
    then = read_json_object(system.run / "config.json") if system.run else {}
    now = plain(config)
    found = []
    for key in ("memory", "retriever", "evidence", "backbone"):
        for option, value in (then.get(key) or {}).items():
            if option in ("name", "k", "budget", "order", "model") and now[key].get(option) != value:
                found.append(
                    f"{system.label} was trained with {key}.{option}={value}; here it is {now[key].get(option)}"
                )
    if system.meta_memory is not None and now["recall"] and system.recall and now["recall"] != system.recall:
        found.append(
            f"{system.label} was learned with recall={_told(system.recall)}; here it is {_told(now['recall'])}"
        )
    return found


def _told(options: Mapping[str, Any]) -> str:
    """Return a component's options in the form of the command line."""
    return " ".join([str(options["name"]), *(f"{k}={v}" for k, v in options.items() if k != "name")])

"""`eval.py`: meta-memories answer a part of a data set, question by question.

In: an `EvalConfig`. Out: the content of result.json. The questions are those of the run that trained the meta-memory,
unless a split is given; which of them it has seen, the meta-memory itself says, wherever its file lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import DEFAULT_RECALL, EvalConfig, Part
from metamem.config.resolve import typed_options
from metamem.core.adapters import ADAPTERS, Adapter, find
from metamem.core.contracts import Split
from metamem.core.errors import ConfigError
from metamem.core.evaluating import ScoresMemories
from metamem.core.files import read_object
from metamem.core.learned import Judged
from metamem.core.meta_memory import MetaMemory, Origin, items_json
from metamem.core.records import Question
from metamem.core.sources import Competency, source_of
from metamem.pipeline.bank_tools import RunBankTools
from metamem.pipeline.parts import RunParts, labels
from metamem.pipeline.prepare import PreparedRun, make_recall, recall_identity
from metamem.pipeline.roles import answers_wanted
from metamem.pipeline.training import with_adapter
from metamem.programs.attacked import about_attack
from metamem.programs.frame import Frame, OpenRun
from metamem.programs.judging import figures_with_published, repeatability
from metamem.programs.likelihood import likelihood_headline, likelihood_result, score_references
from metamem.programs.overrides import job_overrides
from metamem.reporting.cases import save_cases
from metamem.runs.directory import evaluation_rows
from metamem.runs.systems import EvaluatedSystem, read_systems
from metamem.runs.test_reads import record_read
from metamem.statistics import streams
from metamem.statistics.instances import with_instances
from metamem.statistics.judged import retrieval_figures
from metamem.statistics.side_by_side import compare, headline, question_rows

# The stamp of figures on the very questions that chose a meta-memory.
SELECTED = "selected on these questions"


def evaluate(config: EvalConfig, frame: Frame) -> dict[str, Any]:
    """Evaluate; continues an unfinished run and reports a finished one."""
    systems = read_systems(config.meta_memory)
    prepared = frame.prepare(config)
    if (split := _split_of(systems, prepared, config)) is not None:
        prepared = frame.prepare(config, split)
    questions = prepared.questions(config.part.value)
    if not questions:
        raise ConfigError(f"part={config.part.value}: this split leaves no question in it")
    if not config.allow_seen:
        _refuse_seen(systems, {q.id for q in questions}, config)
    adapter = _trained_alike(systems, prepared)
    selected = _selected(systems, {q.id for q in questions})
    # What is evaluated counts by content, not by where it lies.
    recalls = [_recall(s, config) for s in systems]
    shown_by = [_shown_by(r, prepared) if r else None for r in recalls]
    contents = {
        **prepared.contents,
        "systems": [
            [s.label, None if s.meta_memory is None else s.meta_memory.hash, how]
            for s, how in zip(systems, shown_by, strict=True)
        ],
        **({"selected": selected} if selected else {}),
    }
    return frame.perform(
        "eval" if answers_wanted(config) else "likelihood",
        prepared,
        lambda opened: _evaluate(config, opened, systems, recalls, adapter),
        identified=replace(config, meta_memory=None, recall=None),
        contents=contents,
        part=config.part.value,
        stamps=[*prepared.stamps(), *selected],
    )


def _split_of(systems: Sequence[EvaluatedSystem], prepared: PreparedRun, config: EvalConfig) -> Split | None:
    """Return the split of the first system's run, when it was trained on this very data set and none was given on the
    command line; else None.
    """
    run = next((s.run for s in systems if s.run), None)
    if run is None or any(o.lstrip("+").startswith(("split=", "split.")) for o in job_overrides()):
        return None
    manifest, stored = read_object(run / "manifest.json"), read_object(run / "split.json", absent={})
    if not stored or manifest.get("contents", {}).get("dataset") != prepared.contents["dataset"]:
        return None
    known = {q.id for q in prepared.dataset.questions}
    parts = {part: tuple(i for i in stored.get(part, ()) if i in known) for part in ("train", "validation", "test")}
    if not any(parts.values()):
        return None
    result = read_object(run / "result.json", absent={})
    return Split(**parts, leaky=bool(result.get("split", {}).get("leaky", False)))


def _refuse_seen(systems: Sequence[EvaluatedSystem], asked: set[str], config: EvalConfig) -> None:
    for system in systems:
        if seen := asked.intersection(_origin(system).trained_on):
            raise ConfigError(
                f"part={config.part.value}: {len(seen)} of {len(asked)} questions trained "
                f"{system.label} (such as {min(seen)}). "
                "Evaluate on part=test of the same split, or say allow_seen=true."
            )


def _adapters(systems: Sequence[EvaluatedSystem]) -> list[Path]:
    """Return where the trained weights of evaluated runs lie: two folders above a run, wherever that was written."""
    return [s.run.parent.parent / ADAPTERS for s in systems if s.run]


def _trained_alike(systems: Sequence[EvaluatedSystem], prepared: PreparedRun) -> Adapter | None:
    """Return the trained weights that write the memories of all systems; None where some have others, or none.

    Refuses, before anything starts, weights that are not there, or that the builder cannot take.
    """
    places = [Path(prepared.config.outputs) / ADAPTERS, *_adapters(systems)]
    names = [s.meta_memory.adapter if s.meta_memory else None for s in systems]
    found = {name: find(places, name) for name in names if name}
    for adapter in found.values():
        with_adapter(prepared, adapter)
    return found[names[0]] if names[0] and len(set(names)) == 1 else None


def _selected(systems: Sequence[EvaluatedSystem], asked: set[str]) -> list[str]:
    """Return a stamp where a meta-memory is asked questions by which it was chosen among the steps of its training:
    its figure is the maximum of several there.
    """
    found = {i for s in systems for i in asked.intersection(_origin(s).selected_on)}
    return [SELECTED if len(found) == len(asked) else f"{SELECTED} in part"] if found else []


def _origin(system: EvaluatedSystem) -> Origin:
    return (None if system.meta_memory is None else system.meta_memory.origin) or Origin()


async def _evaluate(
    config: EvalConfig,
    opened: OpenRun,
    systems: Sequence[EvaluatedSystem],
    recalls: Sequence[Any],
    adapter: Adapter | None,
) -> dict[str, Any]:
    run, tracker = opened.run, opened.tracker
    # Where nothing is answered from memories that the untrained weights write, none are written.
    prepared = with_adapter(opened.prepared, adapter) if adapter else opened.prepared
    questions = prepared.questions(config.part.value)
    parts = RunParts(prepared, run, tracker, ["policy", "judge"], questions, adapter=adapter.hash if adapter else None)
    parts.other_adapters = _adapters(systems)
    roles = labels(parts)
    opened.announce(roles, [{"label": s.label, "file": str(s.file)} for s in systems if s.file])
    for system in systems:
        for difference in _trained_otherwise(system, config):
            tracker.note(difference)
        if system.step is not None and system.meta_memory is not None and system.meta_memory.origin is None:
            tracker.note(f"{system.label} does not say which questions it was trained on: none of them is refused")
    if config.part in (Part.test, Part.all) and prepared.split.test:
        record_read(
            Path(config.outputs),
            dataset=prepared.dataset.name,
            questions=prepared.split.test,
            run=run.id,
            directory=run.directory,
            systems=[s.label for s in systems],
        )
    by_label: dict[str, list[Judged]] = {}
    references: list[dict[str, Any]] = []
    async with parts:
        save_cases(run.directory, questions, parts.gathered)
        for number, (system, recall) in enumerate(zip(systems, recalls, strict=True)):
            bench = await parts.bench_for(system.meta_memory, questions, recall)
            if parts.evaluators:
                judged = await bench.evaluate(
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
            if parts.references:
                about = (system.meta_memory, system.label, by_label.get(system.label, ()))
                references += await score_references(parts, bench, questions, *about)
            parts.lost += parts.settle(system.label)
        repeated = await repeatability(run, parts.bench(), by_label)
        of_memories = await _scored_memories(parts, questions, by_label)
        parts.lost += parts.settle("repeated verdicts and figures of the memories")
    told = [
        {
            "label": s.label,
            "step": s.step,
            **(MetaMemory() if s.meta_memory is None else s.meta_memory).sizes(),
            "learned": "" if s.meta_memory is None else s.meta_memory.learned,
        }
        for s in systems
    ]
    chosen = next((s for s in reversed(systems) if s.meta_memory is not None), None)
    likelihoods = likelihood_result(references)
    result = {
        **opened.about,
        "roles": roles,
        **(headline(by_label) if by_label else likelihood_headline(likelihoods["likelihood"])),
        "systems": told,
        "figures": await figures_with_published(parts, parts.bench(), by_label),
        "guidelines": items_json(chosen.meta_memory) if chosen is not None and chosen.meta_memory is not None else [],
        "guidelines_of": chosen.label if chosen else None,
        "retrieval": retrieval_figures(parts.gathered, questions),
        "memory": dict(parts.gathered.memory) or None,
        **({"memories": of_memories} if of_memories else {}),
        **about_attack(parts, by_label, {s.label: s.meta_memory for s in systems}),
        "pairs": compare(by_label, told) if by_label else [],
        **likelihoods,
        **repeated,
        "calls": parts.calls(),
        **({"lost": parts.lost} if parts.lost else {}),
    }
    if by_label and any(source_of(q.type).competency is not Competency.other for q in questions):
        result["streams"] = with_instances(streams.of_result(result), by_label)
    run.append("questions.jsonl", question_rows(by_label, parts.gathered.retrieved))
    return opened.conclude(result)


async def _scored_memories(
    parts: RunParts, questions: Sequence[Question], by_label: Mapping[str, Sequence[Judged]]
) -> dict[str, Any]:
    """Return system → figures of the memories that it answered from, by the evaluators that score memories; none
    where no memory is scored. Their rows go to memories.jsonl.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, evaluator in parts.evaluators.items():
        if parts.prepared.scores_memories and isinstance(evaluator, ScoresMemories):
            rows = await evaluator.banks(by_label, RunBankTools(parts, questions))
            parts.run.append("memories.jsonl", [{"evaluator": name, **row} for row in rows])
            options = parts.prepared.config.evaluator[name]
            for label, of_label in evaluator.figures(options, rows, by_label).items():
                found.setdefault(label, {}).update(of_label)
    return found


def _recall(system: EvaluatedSystem, config: EvalConfig) -> Any:
    """Return the options of the recall that a system's guidelines are shown by: those given here, else those they were
    learned with. None without guidelines.
    """
    if system.meta_memory is None:
        return None
    return config.recall or typed_options("recall", system.recall or DEFAULT_RECALL)


def _shown_by(recall: Any, prepared: PreparedRun) -> list[Any]:
    """Return what decides which guidelines a prompt shows."""
    made = make_recall(recall, prepared.embedder, prepared.store, prepared.prompts)
    return [plain(recall), recall_identity(made, prepared.prompts)]


def _trained_otherwise(system: EvaluatedSystem, config: EvalConfig) -> list[str]:
    """What a run that trained a meta-memory said of memory and evidence, where this evaluation says something else."""
    then = read_object(system.run / "config.json", absent={}) if system.run else {}
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

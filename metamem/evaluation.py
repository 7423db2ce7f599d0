"""Evaluation: meta-memories answer a part of a data set, question by question; or stored attempts are judged again.

In: an `EvalConfig`. Out: the content of result.json. Which questions a meta-memory may be tested on is taken from the
run that trained it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.assembly import Prepared, Workshop, about, prepare, run_async
from metamem.config import EvalConfig, Part, plain
from metamem.contracts import Judged, Split, Tracker
from metamem.datasets.sources import Competency, source_of
from metamem.datasets.splits import fold_names
from metamem.errors import ConfigError, DataError
from metamem.files import read_rows
from metamem.meta_memory import MetaMemory, load
from metamem.records import Attempt, from_json, to_json
from metamem.reporting.cases import copy_cases, load_cases, save_cases
from metamem.reporting.write import write_report
from metamem.reports import evaluation_rows, figures, job_overrides, open_trackers, retrieval_figures, strict_score
from metamem.runs import CHECKPOINTS, Run, find_checkpoints
from metamem.statistics import streams
from metamem.studies.ledger import record_read


@dataclass(frozen=True)
class System:
    """A meta-memory under evaluation (None: without), its label, the run that trained it, and the file that it comes
    from: the checkpoint, also where a study made something else of that.
    """

    label: str
    meta_memory: MetaMemory | None
    run: Path | None = None
    file: Path | None = None


def evaluate(config: EvalConfig) -> dict[str, Any]:
    """Evaluate; continues an unfinished run and reports a finished one."""
    if config.compare is not None:
        from metamem.comparing import compare_runs

        return compare_runs(config)
    if config.show is not None:
        from metamem.showing import show

        return show(config)
    if len(fold_names(config.split)) > 1:
        raise ConfigError(
            "split.fold=all is for train.py; eval.py takes the fold from the run in meta_memory, or one fold"
        )
    if config.perplexity is not None:
        from metamem.perplexity import analyse

        return analyse(config)
    if config.from_ is not None:
        return _judge_again(config)
    systems = read_systems(config.meta_memory)
    prepared = prepare(config)
    prepared = _with_split_of(systems, prepared, config)
    questions = prepared.questions(config.part.value)
    if not questions:
        raise ConfigError(f"part={config.part.value}: this split leaves no question in it")
    if not config.allow_seen:
        _refuse_seen(systems, {q.id for q in questions}, config)
    # What is evaluated counts by content, not by where it lies.
    contents = {
        **prepared.contents,
        "systems": [[s.label, s.meta_memory.hash if s.meta_memory else None] for s in systems],
    }
    keyed = replace(config, meta_memory=None)
    run = Run("eval", keyed, contents, job_overrides(), config)
    try:
        about_run = about(prepared, run, "eval", part=config.part.value)
        with open_trackers(config, run, about_run) as tracker:
            if run.finished:
                return already_finished(run, tracker)
            run.rewind({})
            return run_async(_evaluate(config, prepared, run, tracker, about_run, systems))
    finally:
        run.close()


def read_systems(given: Any) -> list[System]:
    """The meta-memories that `meta_memory` names: null, a run's directory, a checkpoint or a JSON file, or a list of
    these.

    Raises `ConfigError` or `DataError` naming what cannot be found or read.
    """
    entries = list(given) if isinstance(given, (list, tuple)) else [given]
    if not entries:
        raise ConfigError("meta_memory: the list is empty")
    systems = [_read_system(e) for e in entries]
    seen: dict[str, int] = {}
    unique = []
    for system in systems:
        seen[system.label] = seen.get(system.label, 0) + 1
        unique.append(
            replace(system, label=f"{system.label} #{seen[system.label]}") if seen[system.label] > 1 else system
        )
    return unique


def _read_system(entry: Any) -> System:
    if entry is None or (isinstance(entry, str) and entry.lower() in ("null", "none", "")):
        return System("without", None)
    if not isinstance(entry, str):
        raise ConfigError(f"meta_memory: expected a path or null, got {entry!r}")
    path = Path(entry)
    if not path.exists():
        raise DataError(f"meta_memory: no such file or run: {path}")
    path = path.resolve()
    if path.is_dir():
        checkpoints = find_checkpoints(path)
        if not checkpoints:
            raise DataError(f"meta_memory: {entry} is not a training run: it holds no {CHECKPOINTS}/step_*.json")
        result = _json(path / "result.json")
        best = result.get("best_step")
        chosen = path / CHECKPOINTS / f"step_{best:04d}.json" if isinstance(best, int) else checkpoints[-1]
        return System(f"{path.name} {_step_name(chosen)}", load(chosen), path, chosen)
    run = _run_of(path)
    label = f"{run.name} {_step_name(path)}" if run else path.stem
    meta_memory = load(path)
    source = Path(str(_json(path).get("source", "")))
    return System(label, meta_memory, run, source if source.is_file() and _run_of(source) else path)


def _run_of(checkpoint: Path) -> Path | None:
    """The run whose checkpoint a file is."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and (run / "manifest.json").exists() else None


def _step_name(checkpoint: Path) -> str:
    return f"step {int(checkpoint.stem.removeprefix('step_'))}"


def _with_split_of(systems: Sequence[System], prepared: Prepared, config: EvalConfig) -> Prepared:
    """The split of the first system's run, when it was trained on this very data set and none was given on the
    command line.
    """
    run = next((s.run for s in systems if s.run), None)
    if run is None or any(o.lstrip("+").startswith(("split=", "split.")) for o in job_overrides()):
        return prepared
    manifest, stored = _json(run / "manifest.json"), _json(run / "split.json")
    if not stored or manifest.get("contents", {}).get("dataset") != prepared.contents["dataset"]:
        return prepared
    known = {q.id for q in prepared.dataset.questions}
    parts = {part: tuple(i for i in stored.get(part, ()) if i in known) for part in ("train", "validation", "test")}
    if not config.dataset.name or not any(parts.values()):
        return prepared
    split = Split(**parts, leaky=bool(_json(run / "result.json").get("split", {}).get("leaky", False)))
    return prepare(config, split)


def _refuse_seen(systems: Sequence[System], asked: set[str], config: EvalConfig) -> None:
    for system in systems:
        if system.run is None:
            continue
        seen = asked & set(_json(system.run / "split.json").get("train", ()))
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
) -> dict[str, Any]:
    questions = prepared.questions(config.part.value)
    workshop = Workshop(prepared, run, tracker, ["policy", "judge"], questions)
    roles = {role: caller.label for role, caller in workshop.callers.items()}
    reads = [{"label": s.label, "file": str(s.file)} for s in systems if s.file]
    tracker.started({**about_run, "config": plain(config), "roles": roles, "reads": reads})
    for what, count in about_run["dataset"]["notices"].items():
        tracker.note(f"{config.dataset.name}: {what}: {count}")
    for system in systems:
        for difference in _trained_otherwise(system, config):
            tracker.note(difference)
    if config.part in (Part.test, Part.all) and prepared.split.test:
        record_read(prepared, run, [s.label for s in systems])
    by_label: dict[str, list[Judged]] = {}
    async with workshop:
        save_cases(run.directory, questions, workshop.gathered)
        bench = workshop.bench()
        for number, system in enumerate(systems):
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
        rewards = await _rewards(workshop, by_label)
    chosen = next((s for s in reversed(systems) if s.meta_memory is not None), None)
    result = {
        **about_run,
        "roles": roles,
        **_headline(by_label),
        "systems": [
            {
                "label": s.label,
                "step": s.meta_memory.step if s.meta_memory else None,
                "guidelines": len(s.meta_memory or ()),
            }
            for s in systems
        ],
        "figures": figures(by_label, workshop.gathered),
        "guidelines": [to_json(g) for g in chosen.meta_memory.guidelines] if chosen and chosen.meta_memory else [],
        "guidelines_of": chosen.label if chosen else None,
        "retrieval": retrieval_figures(workshop.gathered, questions),
        "memory": dict(workshop.gathered.memory) or None,
        **({"rewards": rewards} if rewards else {}),
        "compare": compare(by_label),
        "calls": workshop.calls(),
    }
    if any(source_of(q.type).competency is not Competency.other for q in questions):
        result["streams"] = streams.of_result(result)
    run.append("questions.jsonl", question_rows(by_label, workshop.gathered.retrieved))
    run.finish(result)
    tracker.finished(result)
    write_report(run.directory)
    return result


async def _rewards(workshop: Workshop, by_label: Mapping[str, Sequence[Judged]]) -> dict[str, Any] | None:
    """System → means of the terms of Mem-α's reward, where the memories themselves are scored; a row an episode."""
    prepared = workshop.prepared
    if not prepared.rewarded:
        return None
    from metamem.memory.memalpha.rewarding import NAME, ContentJudge, rewards

    options = prepared.config.evaluator[NAME]
    judge = ContentJudge(workshop.callers["judge"], prepared.prompts)
    banks = workshop.gathered.banks
    means, rows = await rewards(banks, by_label, judge, options.beta, options.gamma, workshop.tracker)
    workshop.run.append("rewards.jsonl", rows)
    return means


def _trained_otherwise(system: System, config: EvalConfig) -> list[str]:
    """What a run that trained a meta-memory said of memory and evidence, where this evaluation says something else."""
    then = _json(system.run / "config.json") if system.run else {}
    now = plain(config)
    found = []
    for key in ("memory", "retriever", "evidence", "backbone"):
        for option, value in (then.get(key) or {}).items():
            if option in ("name", "k", "budget", "order", "model") and now[key].get(option) != value:
                found.append(
                    f"{system.label} was trained with {key}.{option}={value}; here it is {now[key].get(option)}"
                )
    return found


def compare(by_label: Mapping[str, Sequence[Judged]]) -> list[dict[str, Any]]:
    """Every later system against the first, question by question (right: at least half of the attempts, invalid ones
    are wrong).
    """
    labels = list(by_label)
    right = {label: {j.question.id: _right(j) for j in judged} for label, judged in by_label.items()}
    rows = []
    for label in labels[1:]:
        common = sorted(set(right[labels[0]]) & set(right[label]))
        a, b = ({i: right[name][i] for i in common} for name in (labels[0], label))
        if not common:
            continue
        rows.append(
            {
                "a": labels[0],
                "b": label,
                "both": sum(a[i] and b[i] for i in a),
                "only_a": sum(a[i] and not b[i] for i in a),
                "only_b": sum(b[i] and not a[i] for i in a),
                "neither": sum(not a[i] and not b[i] for i in a),
            }
        )
    return rows


def question_rows(
    by_label: Mapping[str, Sequence[Judged]], retrieved: Mapping[str, bool | None]
) -> list[dict[str, Any]]:
    """One row a question: what it is, whether its evidence was retrieved, what each system answered and whether it was
    right.
    """
    rows: dict[str, dict[str, Any]] = {}
    for label, judged in by_label.items():
        for j in judged:
            q = j.question
            facts = {"type": q.type, "abstention": q.abstention, "group": q.group, "retrieved": retrieved.get(q.id)}
            row = rows.setdefault(q.id, {"question_id": q.id, **facts, "systems": {}})
            row["systems"][label] = {
                "right": _right(j),
                "responses": [a.response for a in j.attempts],
                "valid": sum(v.valid for v in j.verdicts),
            }
    return [rows[i] for i in sorted(rows)]


def _right(judged: Judged) -> bool:
    return 2 * sum(bool(v.correct) for v in judged.verdicts) >= len(judged.verdicts) > 0


def _headline(by_label: Mapping[str, Sequence[Judged]]) -> dict[str, Any]:
    """The last system's strict accuracy is the score that sweepers get."""
    label, judged = list(by_label.items())[-1]
    score = strict_score(judged)
    return {"score": score, "headline": f"{label} {score:.3f}" if score is not None else label}


def already_finished(run: Run, tracker: Tracker) -> dict[str, Any]:
    """Report a run that needs nothing more."""
    tracker.note(f"already finished: {run.directory} (start over with run.force=true)")
    result = run.result()
    tracker.finished(result)
    return result


# --- judging stored attempts again

# What has a part in it: all other options are about questions that are asked.
_JUDGING = ("from_", "dataset", "part", "evaluator", "reward", "rubric", "judge", "seed", "name", "outputs", "dry_run")
_AROUND = ("run", "journal", "tracker", "placement", "study", "experiment", "ablation", "hydra", "evaluate")


def refuse_idle(taken: Sequence[str], why: str) -> None:
    """Refuse what was given on the command line and has no effect: all but the options `taken`, by their first word.

    Raises `ConfigError` naming the first, with `why`.
    """
    for override in job_overrides():
        key = override.lstrip("+~").partition("=")[0]
        group, _, role = key.partition("@")
        if (role or group).split(".")[0].split("/")[0] not in taken:
            shown = ", ".join(k.rstrip("_") for k in taken if k not in _AROUND)
            raise ConfigError(f"{key} has no effect here: {why}. Leave it out; what has an effect: {shown}")


def _judge_again(config: EvalConfig) -> dict[str, Any]:
    """Judge the attempts that a run stored for a part, with the judge, rubric and evaluators given here."""
    source = Path(str(config.from_))
    if config.meta_memory is not None:
        raise ConfigError("from= judges attempts that are stored; meta_memory has no part in it")
    # Without a judge of its own it is the policy's backbone that judges.
    judged_by = () if config.judge is not config.backbone else ("backbone",)
    refuse_idle(
        (*_JUDGING, *_AROUND, *judged_by),
        f"from={source} judges answers that are stored, nothing is retrieved or answered again",
    )
    if not (source / "attempts.jsonl").exists():
        raise DataError(f"from: {source} is not a run: it holds no attempts.jsonl")
    prepared = prepare(config)
    stored = stored_attempts(source, config.part.value)
    by_id = {q.id: q for q in prepared.dataset.questions}
    missing = sorted({a.question_id for attempts in stored.values() for a in attempts} - set(by_id))
    if missing:
        raise DataError(
            f"from: {source} answered question '{missing[0]}', which dataset={config.dataset.name} "
            "does not hold; give the data set of that run"
        )
    contents = {**prepared.contents, "attempts": {k: [a.id + a.key + a.response for a in v] for k, v in stored.items()}}
    run = Run("eval", replace(config, from_=None), contents, job_overrides(), config)
    try:
        about_run = about(prepared, run, "eval", part=config.part.value)
        with open_trackers(config, run, about_run) as tracker:
            if run.finished:
                return already_finished(run, tracker)
            run.rewind({})
            return run_async(_rejudge(config, prepared, run, tracker, about_run, stored, source))
    finally:
        run.close()


def stored_attempts(source: Path, part: str, key: str = "from") -> dict[str, list[Attempt]]:
    """System → the attempts that a run stored for a part of the data; `key` is the option that named the run.

    Raises `DataError` when it stored none for it, naming those it did.
    """
    parts: dict[str, dict[str, list[Attempt]]] = {}
    for row in read_rows(source / "attempts.jsonl"):
        attempt = from_json(Attempt, row)
        where, system, _ = attempt.scope.split("/", 2)
        parts.setdefault(where, {}).setdefault(system, []).append(attempt)
    if part not in parts:
        raise DataError(
            f"{key}: {source} holds no attempts for part={part}; it has {', '.join(sorted(parts)) or 'none'}"
        )
    return parts[part]


async def _rejudge(
    config: EvalConfig,
    prepared: Prepared,
    run: Run,
    tracker: Tracker,
    about_run: Mapping[str, Any],
    stored: Mapping[str, Sequence[Attempt]],
    source: Path,
) -> dict[str, Any]:
    workshop = Workshop(prepared, run, tracker, ["judge"])
    roles = {role: caller.label for role, caller in workshop.callers.items()}
    reads = [{"label": source.name, "file": str(source)}]
    tracker.started({**about_run, "config": plain(config), "roles": roles, "reads": reads})
    by_id = {q.id: q for q in prepared.dataset.questions}
    names = system_names(source, config.part.value, stored)
    before = {(r["attempt_id"], r["evaluator"]): r for r in read_rows(source / "verdicts.jsonl")}
    # The answers stay what they are, and so does what they were made from.
    cases = load_cases(source)
    copy_cases(source, run.directory)
    workshop.gathered = replace(workshop.gathered, retrieved={i: case.get("retrieved") for i, case in cases.items()})
    by_label: dict[str, list[Judged]] = {}
    async with workshop:
        bench = workshop.bench()
        for system, attempts in stored.items():
            grouped: dict[str, list[Attempt]] = {}
            for attempt in attempts:
                grouped.setdefault(attempt.question_id, []).append(attempt)
            tracker.stage(f"judging {names[system]}", len(grouped), "question")
            judged = await bench.judge_all([(by_id[i], grouped[i]) for i in sorted(grouped)])
            by_label[names[system]] = judged
            evaluation_rows(run, judged)
    verdicts = [v for judged in by_label.values() for j in judged for v in j.verdicts]
    known = [(before[v.attempt_id, v.evaluator], v) for v in verdicts if (v.attempt_id, v.evaluator) in before]
    stamps = [*_json(source / "result.json").get("stamps", []), *about_run["stamps"]]
    result = {
        **about_run,
        # What was true of the answers stays true of their figures.
        "stamps": list(dict.fromkeys(stamps)),
        "from": str(source),
        "roles": roles,
        **_headline(by_label),
        "systems": [{"label": label, "step": None} for label in by_label],
        "figures": figures(by_label, workshop.gathered),
        "guidelines": [],
        "compare": compare(by_label),
        "counts": {
            "verdicts compared with the stored ones": len(known),
            "verdicts that changed": sum(b["correct"] != v.correct for b, v in known),
        }
        if known
        else {},
        "calls": workshop.calls(),
    }
    run.append("questions.jsonl", question_rows(by_label, workshop.gathered.retrieved))
    run.finish(result)
    tracker.finished(result)
    write_report(run.directory)
    return result


def system_names(source: Path, part: str, stored: Mapping[str, Any]) -> dict[str, str]:
    """The label of each system whose attempts a run stored for a part: of an evaluation by its place in the list, of a
    training's test by its name, of its other parts by the step.
    """
    result = _json(source / "result.json")
    systems = [s["label"] for s in result.get("systems", [])]
    by_word = {label.split(" ")[0]: label for label in systems}
    names = {}
    for system in stored:
        if result.get("kind") == "eval":
            names[system] = systems[int(system)] if system.isdigit() and int(system) < len(systems) else system
        else:
            names[system] = by_word.get(system, system) if part == "test" else f"step {system}"
    return names


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return value if isinstance(value, dict) else {}

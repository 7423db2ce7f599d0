"""The studies: what each makes of its sweep's runs.

In: a sweep's finished jobs. Out: a `Finding` each: a table with intervals and corrected tests, figures, and the
evaluations it needed. A study takes whatever jobs there are, so a failed job leaves a gap and no more. Jobs that differ
in seed or fold only are repeats of one setting (`studies.settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError
from metamem.core.files import read_rows
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.runs.directory import read_result
from metamem.statistics.pairs import accuracy, columns, compare, decided, run_systems
from metamem.statistics.systems import System
from metamem.studies.guidelines import ablation_controls, guideline_worth
from metamem.studies.jobs import runs_of
from metamem.studies.judges import judged_by_itself
from metamem.studies.perplexity import perplexity
from metamem.studies.settings import Jobs, Setting, settings, stamps
from metamem.studies.steps import training_steps
from metamem.studies.streamed import conflict_resolution, memalpha_reward
from metamem.studies.transfer import cross_backbone, cross_domain

# The variant whose guidelines the ablation borrows.
OTHER_FOLD = "other_fold"


def main_table(jobs: Jobs) -> Finding:
    """Every memory system without and with its guidelines, by question type."""
    finding = Finding(
        "Memory systems without and with guidelines",
        "How much do learned guidelines add to each memory system, at equal evidence?",
        stamps=stamps(jobs),
    )
    return _without_and_with(finding, settings(jobs), "system", "main_table")


def any_sweep(jobs: Jobs) -> Finding:
    """A sweep that is no study: every setting's systems (without guidelines, the best, the last; or those that were
    evaluated), each against the setting's first.
    """
    finding = Finding("Settings and their systems", "How do the settings compare?", stamps=stamps(jobs))
    pairs = []
    for setting in settings(jobs):
        try:
            systems = {n: s for n, s in run_systems(setting.runs).items() if not n.startswith("step-")}
        except ConfigError as error:
            finding.notes.append(f"{setting.label}: {error}")
            continue
        first, *others = systems.values()
        for name, system in systems.items():
            row = {"setting": setting.label, "guidelines": name, **accuracy(system), **_by_type(system)}
            finding.add(row, system, *((None, others[0] if others else None) if system is first else (first, None)))
            if system is not first:
                pairs.append(compare(first, system, setting=setting.label, name=name))
    for pair in decided(pairs):
        row = next(r for r in finding.rows if (r["setting"], r["guidelines"]) == (pair["setting"], pair["name"]))
        row |= columns(pair)
    finding.figures.append(_bars("sweep", "Accuracy by setting", finding.rows, "setting", "guidelines"))
    return finding


def _without_and_with(finding: Finding, given: Sequence[Setting], column: str, figure: str) -> Finding:
    pairs = []
    for setting in given:
        without, chosen = setting.with_and_without()
        for kind, system, base, then in (("without", without, None, chosen), ("with", chosen, without, None)):
            if system is not None:
                row = {column: setting.label, "guidelines": kind, **accuracy(system), **_by_type(system)}
                finding.add(row, system, base=base, then=then)
        pairs.append(compare(without, chosen, setting=setting.label) if without and chosen else None)
    for pair in decided(pairs):
        row = next(r for r in finding.rows if r[column] == pair["setting"] and r["guidelines"] == "with")
        row |= columns(pair)
        finding.notes.append(f"{pair['setting']}: {pair['sentence']}")
    finding.figures.append(_bars(figure, "Accuracy without and with guidelines", finding.rows, column, "guidelines"))
    return finding


def data_scale(jobs: Jobs) -> Finding:
    """Test accuracy by the number of training questions, always on the same test part."""
    finding = Finding(
        "Accuracy by the size of the training part", "How many training questions does it take?", stamps=stamps(jobs)
    )
    ordered = sorted(settings(jobs), key=lambda s: int(s.given.get("train_questions") or 0))
    # Without guidelines nothing depends on the training part: any setting's answers are those of all.
    without = ordered[0].with_and_without()[0]
    if without is not None:
        finding.add({"training questions": 0, **accuracy(without)}, without)
    pairs = []
    for setting in ordered:
        base, chosen = setting.with_and_without()
        if chosen is not None:
            count = setting.given.get("train_questions", "all")
            size = int(count) if count.isdigit() else None
            finding.add({"training questions": size, **accuracy(chosen)}, chosen, base=base)
            named = System(f"trained on {count}", chosen.rows)
            pairs.append(compare(base, named, size=size) if base else None)
    for pair in decided(pairs):
        row = next(r for r in finding.rows if r["training questions"] == pair["size"])
        row |= columns(pair)
        finding.notes.append(pair["sentence"])
    line = _line("with guidelines", finding.rows[1 if without else 0 :], "training questions")
    series = [line]
    if without is not None:
        series.append(Series("without", line.x, tuple(finding.rows[0]["accuracy"] for _ in line.x)))
    finding.figures.append(
        Figure("data_scale", "Test accuracy by training questions", "training questions", "accuracy", tuple(series))
    )
    return finding


def ablation(jobs: Jobs) -> Finding:
    """Every variant against the whole method; then the whole method's guidelines against others of their length."""
    finding = Finding(
        "Ablations",
        "What does each part of the method contribute, and is it the learning or the length of the prompt?",
        stamps=stamps(jobs),
    )
    # The run of another fold is there for its guidelines only: its test part is another.
    every = settings(jobs)
    variants = [s for s in every if s.given.get("ablation") != OTHER_FOLD]
    if not variants:
        finding.notes.append("No variant was trained.")
        return finding
    reference = next((s for s in variants if s.given.get("ablation") == "full"), variants[0])
    # A variant may learn from another evaluator; all are judged by the reference's.
    judge = str(read_result(reference.runs[0])["reward"])
    without, base = reference.with_and_without(judge)
    pairs = []
    for setting in variants:
        _, chosen = setting.with_and_without(judge)
        if chosen is None:
            continue
        itself = setting is reference
        finding.add({"variant": setting.label, **accuracy(chosen)}, chosen, base=without if itself else base)
        if base is not None and not itself:
            pairs.append(compare(base, chosen, variant=setting.label))
    others = [run for s in every if s.given.get("ablation") == OTHER_FOLD for run in s.runs]
    pairs += ablation_controls(finding, reference.runs, others)
    if base is not None:
        pairs += judged_by_itself(finding, reference.runs, base)
    for pair in decided(pairs):
        row = next(r for r in finding.rows if r["variant"] == pair["variant"])
        row |= columns(pair)
    finding.figures.append(_bars("ablation", "Test accuracy by variant", finding.rows, "variant", None))
    finding.notes.append(f"Differences are against '{reference.label}'.")
    return finding


def cost(jobs: Jobs) -> Finding:
    """Accuracy against prompt tokens and calls per question."""
    finding = Finding(
        "Accuracy against cost",
        "What does a point of accuracy cost in tokens and calls?",
        notes=["Tokens and calls are those of answering; training is paid once and is in the runs' reports."],
        stamps=stamps(jobs),
    )
    pairs = []
    for setting in settings(jobs):
        without, chosen = setting.with_and_without()
        for kind, system, base, then in (("without", without, None, chosen), ("with", chosen, without, None)):
            if system is not None:
                row = {"setting": setting.label, "guidelines": kind, **accuracy(system), **_tokens(system)}
                finding.add(row, system, base=base, then=then)
        pairs.append(compare(without, chosen, setting=setting.label) if without and chosen else None)
    for pair in decided(pairs):
        row = next(r for r in finding.rows if r["setting"] == pair["setting"] and r["guidelines"] == "with")
        row |= columns(pair)
    series = tuple(
        _line(kind, [r for r in finding.rows if r["guidelines"] == kind], "prompt tokens per question")
        for kind in ("without", "with")
    )
    finding.figures.append(
        Figure("cost", "Test accuracy by prompt tokens", "prompt tokens per question", "accuracy", series)
    )
    return finding


def guidelines(jobs: Jobs) -> Finding:
    """Leave one guideline out: what each is worth, and which questions it flips."""
    finding = Finding(
        "What each guideline is worth", "Which sentences help, which hurt, and on which questions?", stamps=stamps(jobs)
    )
    guideline_worth(finding, runs_of(jobs))
    if finding.rows:
        names = tuple(str(r["guideline"]) for r in finding.rows)
        values = [tuple(r[k] for r in finding.rows) for k in ("points", "low", "high")]
        bars = Series("points", names, *values)
        figure = Figure("guidelines", "Points lost without a guideline", "guideline", "points", (bars,), "bars", False)
        finding.figures.append(figure)
    return finding


def _by_type(system: System) -> dict[str, float]:
    kinds: dict[str, list[float]] = {}
    for row in system.rows:
        kinds.setdefault(row.type, []).append(row.strict)
    return {f"type {kind}": sum(v) / len(v) for kind, v in sorted(kinds.items())}


def _tokens(system: System) -> dict[str, Any]:
    """What a system's answers took, per question."""
    spent = [
        (a["usage"]["prompt_tokens"], a["usage"]["completion_tokens"])
        for run, part, key in system.places
        for a in read_rows(Path(run) / "attempts.jsonl")
        if a["scope"].startswith(f"{part}/{key}/")
    ]
    return {
        "prompt tokens per question": round(sum(p for p, _ in spent) / len(spent), 1),
        "completion tokens per question": round(sum(c for _, c in spent) / len(spent), 1),
        "calls": len(spent),
    }


def _line(name: str, rows: Sequence[Mapping[str, Any]], x: str) -> Series:
    ordered = sorted((r for r in rows if r.get(x) is not None), key=lambda r: r[x])
    return Series(name, *(tuple(r[k] for r in ordered) for k in (x, "accuracy", "low", "high")))


def _bars(name: str, title: str, rows: Sequence[Mapping[str, Any]], x: str, series: str | None) -> Figure:
    kinds = list(dict.fromkeys(str(r[series]) for r in rows)) if series else ["accuracy"]
    made = []
    for kind in kinds:
        of_kind = [r for r in rows if series is None or r[series] == kind]
        made.append(Series(kind, *(tuple(r[k] for r in of_kind) for k in (x, "accuracy", "low", "high"))))
    return Figure(name, title, x, "accuracy", tuple(made), "bars")


STUDIES: Mapping[str, Callable[[Jobs], Finding]] = {
    "ablation": ablation,
    "conflict_resolution": conflict_resolution,
    "cost": cost,
    "cross_backbone": cross_backbone,
    "cross_domain": cross_domain,
    "data_scale": data_scale,
    "guidelines": guidelines,
    "main_table": main_table,
    "memalpha_reward": memalpha_reward,
    "perplexity": perplexity,
    "training_steps": training_steps,
}

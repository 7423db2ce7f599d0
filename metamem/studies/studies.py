"""The studies: what each makes of its sweep's runs.

In: a sweep's finished jobs. Out: a `Finding` each: a table with intervals and corrected tests, figures, and the
evaluations it needed. A study takes whatever jobs there are, so a failed job leaves a gap and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.files import read_rows
from metamem.reporting.figures import Figure, Series
from metamem.statistics.results import read_object
from metamem.statistics.systems import System
from metamem.studies.findings import Finding
from metamem.studies.jobs import runs_of
from metamem.studies.pairs import accuracy, columns, compare, decided, run_systems
from metamem.studies.perplexity import perplexity
from metamem.studies.tables import overrides
from metamem.studies.transfer import cross_backbone, cross_domain
from metamem.studies.words import ablation_controls, guideline_worth

# The variant whose guidelines the ablation borrows.
OTHER_FOLD = "other_fold"

Jobs = Sequence[Mapping[str, Any]]


def labels(jobs: Jobs) -> list[str]:
    """A name for each job: the overrides in which the jobs differ, their values alone when it is one option."""
    given = [overrides(job) for job in jobs]
    keys = [k for k in dict.fromkeys(k for g in given for k in g) if len({g.get(k) for g in given}) > 1]
    if len(keys) == 1:
        return [g.get(keys[0], "default") for g in given]
    return [" ".join(f"{k}={g[k]}" for k in keys if k in g) or "default" for g in given]


def stamps(jobs: Jobs) -> list[str]:
    """The stamps of all jobs."""
    return list(dict.fromkeys(str(s) for job in jobs for s in job.get("stamps") or ()))


def with_and_without(job: Mapping[str, Any], evaluator: str | None = None) -> tuple[System | None, System | None]:
    """A training job's test answers without guidelines, and with those it chose (the best by validation, else the
    last); over all its folds. Judged by the reward, or by `evaluator`.
    """
    systems = run_systems(runs_of([job]), evaluator=evaluator)
    return systems.get("without"), systems.get("best") or systems.get("last")


def main_table(jobs: Jobs) -> Finding:
    """Every memory system without and with its guidelines, by question type."""
    rows: list[dict[str, Any]] = []
    pairs = []
    for name, job in zip(labels(jobs), jobs, strict=True):
        without, chosen = with_and_without(job)
        for kind, system in (("without", without), ("with", chosen)):
            if system is not None:
                rows.append({"system": name, "guidelines": kind, **accuracy(system), **_by_type(system)})
        pairs.append(compare(without, chosen, job=name) if without and chosen else None)
    for pair in (found := decided(pairs)):
        row = next(r for r in rows if r["system"] == pair["job"] and r["guidelines"] == "with")
        row |= columns(pair)
    return Finding(
        "Memory systems without and with guidelines",
        "How much do learned guidelines add to each memory system, at equal evidence?",
        rows,
        [_bars("main_table", "Accuracy without and with guidelines", rows, "system", "guidelines")],
        [f"{pair['job']}: {pair['sentence']}" for pair in found],
        stamps(jobs),
    )


def training_steps(jobs: Jobs) -> Finding:
    """The validation score and the number of guidelines after every step, over seeds and folds."""
    scores: dict[int, list[float]] = {}
    sizes: dict[int, list[float]] = {}
    for run in runs_of(jobs):
        for row in read_rows(run / "metrics.jsonl"):
            if row.get("validation") is not None:
                scores.setdefault(row["step"], []).append(row["validation"])
            sizes.setdefault(row["step"], []).append(row["guidelines"])
    rows = [
        {
            "step": step,
            "runs": len(sizes[step]),
            "validation": _mean(scores.get(step, [])),
            "lowest": min(scores.get(step, []), default=None),
            "highest": max(scores.get(step, []), default=None),
            "guidelines": _mean(sizes[step]),
        }
        for step in sorted(sizes)
    ]
    at = tuple(map(float, sorted(sizes)))
    curve = Series("validation", at, *(tuple(r[k] for r in rows) for k in ("validation", "lowest", "highest")))
    size = Series("guidelines", at, tuple(_mean(sizes[step]) for step in sorted(sizes)))
    notes = ["Whiskers are the lowest and highest of the runs. The test part is read once, for the table of runs."]
    notes += _test_notes(jobs)
    return Finding(
        "Accuracy by training step",
        "How does accuracy on validation grow with the steps, and how many guidelines does it take?",
        rows,
        [
            Figure("training_steps", "Validation accuracy by training step", "step", "accuracy", (curve,)),
            Figure("guideline_count", "Guidelines by training step", "step", "guidelines", (size,), share=False),
        ],
        notes,
        stamps(jobs),
    )


def data_scale(jobs: Jobs) -> Finding:
    """Test accuracy by the number of training questions, always on the same test part."""
    rows = []
    for job in sorted(jobs, key=lambda j: int(overrides(j).get("train_questions") or 0)):
        _, chosen = with_and_without(job)
        if chosen is not None:
            count = overrides(job).get("train_questions", "all")
            rows.append({"training questions": int(count) if count.isdigit() else None, **accuracy(chosen)})
    whole = [r for r in rows if r["training questions"] is not None]
    line = _line("with guidelines", whole, "training questions")
    without, _ = with_and_without(jobs[0])
    series = [line]
    if without is not None:
        base = accuracy(without)
        rows.insert(0, {"training questions": 0, **base})
        series.append(Series("without", line.x, tuple(base["accuracy"] for _ in line.x)))
    pairs = decided([_against(without, job, name) for name, job in zip(labels(jobs), jobs, strict=True)])
    return Finding(
        "Accuracy by the size of the training part",
        "How many training questions does it take?",
        rows,
        [Figure("data_scale", "Test accuracy by training questions", "training questions", "accuracy", tuple(series))],
        [pair["sentence"] for pair in pairs],
        stamps(jobs),
    )


def ablation(jobs: Jobs) -> Finding:
    """Every variant against the whole method; then the whole method's guidelines against others of their length."""
    # The run of another fold is there for its guidelines only: its test part is another.
    variants = [(n, j) for n, j in zip(labels(jobs), jobs, strict=True) if overrides(j).get("ablation") != OTHER_FOLD]
    if not variants:
        return Finding("Ablations", "", notes=["No variant was trained."], stamps=stamps(jobs))
    by_name = dict(variants)
    reference = "full" if "full" in by_name else variants[0][0]
    # A variant may learn from another evaluator; all are judged by the reference's.
    judge = str(read_object(runs_of([by_name[reference]])[0] / "result.json")["reward"])
    chosen = {name: with_and_without(job, judge)[1] for name, job in variants}
    base = chosen[reference]
    rows: list[dict[str, Any]] = [{"variant": n, **accuracy(s)} for n, s in chosen.items() if s is not None]
    pairs = [compare(base, s, variant=n) for n, s in chosen.items() if base and s and n != reference]
    finding = Finding(
        "Ablations",
        "What does each part of the method contribute, and is it the learning or the length of the prompt?",
        rows,
        stamps=stamps(jobs),
    )
    pairs += ablation_controls(finding, rows, runs_of([by_name[reference]])[0], _other_fold(jobs))
    for pair in decided(pairs):
        row = next(r for r in rows if r["variant"] == pair["variant"])
        row |= columns(pair)
    finding.figures.append(_bars("ablation", "Test accuracy by variant", rows, "variant", None))
    finding.notes.append(f"Differences are against '{reference}'.")
    return finding


def _other_fold(jobs: Jobs) -> Path | None:
    return next((runs_of([j])[0] for j in jobs if overrides(j).get("ablation") == OTHER_FOLD), None)


def cost(jobs: Jobs) -> Finding:
    """Accuracy against prompt tokens and calls per question."""
    rows: list[dict[str, Any]] = []
    for name, job in zip(labels(jobs), jobs, strict=True):
        spent = _tokens(runs_of([job])[0])
        for kind, system in zip(("without", "with"), with_and_without(job), strict=True):
            if system is not None:
                key = "without" if kind == "without" else ("best" if "best" in spent else "last")
                rows.append({"setting": name, "guidelines": kind, **accuracy(system), **spent[key]})
    series = tuple(
        _line(kind, [r for r in rows if r["guidelines"] == kind], "prompt tokens per question")
        for kind in ("without", "with")
    )
    return Finding(
        "Accuracy against cost",
        "What does a point of accuracy cost in tokens and calls?",
        rows,
        [Figure("cost", "Test accuracy by prompt tokens", "prompt tokens per question", "accuracy", series)],
        ["Tokens and calls are those of answering; training is paid once and is in the runs' reports."],
        stamps(jobs),
    )


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


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _against(without: System | None, job: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    _, chosen = with_and_without(job)
    return compare(without, System(f"trained on {name}", chosen.rows)) if without and chosen else None


def _test_notes(jobs: Jobs) -> list[str]:
    notes = []
    for name, system in run_systems(runs_of(jobs)).items():
        found = accuracy(system)
        if found["accuracy"] is not None:
            notes.append(f"test, {name}: {found['accuracy']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
    return notes


def _tokens(run: Path) -> dict[str, dict[str, Any]]:
    """System → what its test answers took, per question."""
    spent: dict[str, list[tuple[int, int]]] = {}
    for a in read_rows(run / "attempts.jsonl"):
        where, system, _ = a["scope"].split("/", 2)
        if where == "test":
            spent.setdefault(system, []).append((a["usage"]["prompt_tokens"], a["usage"]["completion_tokens"]))
    return {
        system: {
            "prompt tokens per question": round(sum(p for p, _ in found) / len(found), 1),
            "completion tokens per question": round(sum(c for _, c in found) / len(found), 1),
            "calls": len(found),
        }
        for system, found in spent.items()
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
    "cost": cost,
    "cross_backbone": cross_backbone,
    "cross_domain": cross_domain,
    "data_scale": data_scale,
    "guidelines": guidelines,
    "main_table": main_table,
    "perplexity": perplexity,
    "training_steps": training_steps,
}

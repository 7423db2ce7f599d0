"""Transfer: meta-memories trained in one setting, read in every other.

In: training jobs that differ in backbone, memory or data set. Out: a `Finding` with a row for every pair of trained and
read, each against the reader without guidelines; repeated over the seeds and folds that the trainings share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.core.files import read_object
from metamem.reporting.console.text import several
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.statistics.pairs import accuracy, columns, compare, decided, run_systems
from metamem.studies.jobs import Evaluations, chosen, chosen_checkpoint, keep
from metamem.studies.settings import Jobs, Setting, settings


def readings(jobs: Jobs) -> str:
    """Say how many evaluations a study of transfer makes."""
    readers = len(settings(jobs))
    repeated = f", for {len(jobs) // readers} repeats" if len(jobs) > readers else ""
    made = f"{several(readers, 'reader')}, each without guidelines and with those of each{repeated}"
    return f"then {len(jobs) * (readers + 1)} evaluations of all test parts: {made}"


def distinct(given: Sequence[Setting], names: Sequence[str]) -> list[str]:
    """The names, or where two settings share one what sets the settings apart."""
    return list(names) if len(set(names)) == len(names) else [s.label for s in given]


def repeat_of(run: Path) -> str:
    """The seed and fold of a run, in words."""
    config = read_object(run / "config.json")
    fold = (config.get("split") or {}).get("fold")
    return f"seed {config.get('seed')}" + ("" if fold is None else f", fold {fold}")


def _kept(run: Path, folder: Path, name: str) -> str:
    return keep(chosen(run), folder, f"E of {name}", chosen_checkpoint(run))


def transfer(given: Sequence[Setting], names: Sequence[str], finding: Finding, figure: str) -> Finding:
    """Evaluate the meta-memories of every setting in every other one; `names` are those of the settings. Returns the
    finding with its rows, notes and a figure of this name.
    """
    trained = {name: {repeat_of(run): run for run in s.runs} for name, s in zip(names, given, strict=True)}
    repeats = [r for r in trained[names[0]] if all(r in runs for runs in trained.values())]
    left_out = sum(len(runs) for runs in trained.values()) - len(repeats) * len(names)
    if left_out:
        finding.notes.append(f"{left_out} trainings have no partner of the same seed and fold and are left out.")
    evaluations = Evaluations()
    pairs: list[dict[str, Any] | None] = []
    for reader in names:
        places = []
        for repeat in repeats:
            run = trained[reader][repeat]
            folder = run.parent / "meta_memories" / repeat
            files = [_kept(trained[name][repeat], folder, name) for name in names]
            label = f"read-by-{reader}" + (f"-{repeat.replace(', ', '-')}" if len(repeats) > 1 else "")
            places.append(evaluations.run(run, label, [None, *files]))
        found = run_systems([p for p in places if p is not None])
        if not found:
            continue
        without, *systems = found.values()
        finding.add({"trained on": "none", "read by": reader, **accuracy(without)}, without)
        for name, system in zip(names, systems, strict=True):
            finding.add({"trained on": name, "read by": reader, **accuracy(system)}, system, base=without)
            pairs.append(compare(without, system, learned_by=name, reader=reader))
    for pair in decided(pairs):
        row = next(r for r in finding.rows if (r["trained on"], r["read by"]) == (pair["learned_by"], pair["reader"]))
        row |= columns(pair)
    series = []
    for name in ("none", *names):
        of = [r for r in finding.rows if r["trained on"] == name]
        series.append(Series(name, *(tuple(r[k] for r in of) for k in ("read by", "accuracy", "low", "high"))))
    finding.figures = [Figure(figure, finding.title, "read by", "accuracy", tuple(series), "bars")]
    finding.notes.append("Differences are against the same reader without guidelines, on the reader's test part.")
    finding.evaluations = evaluations.rows
    return finding

"""Transfer: meta-memories trained in one setting, read in every other.

In: training jobs that differ in their backbone or data set. Out: a `Finding` with a row for every pair of trained and
read, each against the reader without guidelines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metamem.reporting.figures import Figure, Series
from metamem.statistics.results import read_object
from metamem.studies.findings import Finding
from metamem.studies.jobs import Evaluations, chosen, keep, runs_of
from metamem.studies.pairs import accuracy, columns, compare, decided, run_systems


def cross_backbone(jobs: Sequence[Mapping[str, Any]]) -> Finding:
    """Trained by one backbone, read by another; judge and builder are the same everywhere (checked before any job)."""
    names = []
    for run in (runs_of([job])[0] for job in jobs):
        names.append(str((read_object(run / "result.json").get("roles") or {}).get("policy")))
    return _transfer(
        jobs,
        _distinct(jobs, names),
        Finding("Guidelines across backbones", "Do guidelines that one model learned help another to read?"),
        "cross_backbone",
    )


def cross_domain(jobs: Sequence[Mapping[str, Any]]) -> Finding:
    """Trained on one data set, read on the other."""
    names = [str(read_object(runs_of([job])[0] / "result.json")["dataset"]["name"]) for job in jobs]
    return _transfer(
        jobs,
        _distinct(jobs, names),
        Finding("Guidelines across data sets", "Do guidelines learned on one benchmark help on another?"),
        "cross_domain",
    )


def _distinct(jobs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The names, or where two jobs share one what sets the jobs apart."""
    from metamem.studies.studies import labels

    return list(names) if len(set(names)) == len(names) else labels(jobs)


def _transfer(jobs: Sequence[Mapping[str, Any]], names: Sequence[str], finding: Finding, figure: str) -> Finding:
    runs = [runs_of([job])[0] for job in jobs]
    folder = runs[0].parent / "meta_memories"
    files = [keep(chosen(run), folder, f"E of {name}") for name, run in zip(names, runs, strict=True)]
    evaluations = Evaluations()
    pairs: list[dict[str, Any] | None] = []
    rows: list[dict[str, Any]] = []
    for reader, run in zip(names, runs, strict=True):
        place = evaluations.run(run, f"read-by-{reader}", [None, *files])
        if place is None:
            continue
        without, *systems = run_systems([place]).values()
        rows.append({"trained on": "none", "read by": reader, **accuracy(without)})
        for trained, system in zip(names, systems, strict=True):
            rows.append({"trained on": trained, "read by": reader, **accuracy(system)})
            pairs.append(compare(without, system, trained=trained, reader=reader))
    for pair in decided(pairs):
        row = next(r for r in rows if (r["trained on"], r["read by"]) == (pair["trained"], pair["reader"]))
        row |= columns(pair)
    series = []
    for trained in ("none", *names):
        of = [r for r in rows if r["trained on"] == trained]
        series.append(Series(trained, *(tuple(r[k] for r in of) for k in ("read by", "accuracy", "low", "high"))))
    finding.rows = rows
    finding.figures = [Figure(figure, finding.title, "read by", "accuracy", tuple(series), "bars")]
    finding.notes = ["Differences are against the same reader without guidelines, on the reader's test part."]
    finding.stamps = list(dict.fromkeys(str(s) for job in jobs for s in job.get("stamps") or ()))
    finding.evaluations = evaluations.rows
    return finding

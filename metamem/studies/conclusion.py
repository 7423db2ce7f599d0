"""The end of a sweep: its tidy table, the study's own table and figures, and one report.

In: the sweep's jobs. Out: files in the sweep's folder, and their paths on the console. What fails here is said and
does not undo what the jobs did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError, DataError
from metamem.core.files import drop_temporary
from metamem.core.registry import REGISTRY
from metamem.programs.plan import Plan, show_plan
from metamem.reporting.console.text import open_console, say, several
from metamem.reporting.findings import Finding, note_few_groups, write_finding
from metamem.reporting.sweep import write_sweep_report
from metamem.reporting.table_files import job_rows, overrides, write_tables
from metamem.statistics.comparability import factors_of
from metamem.statistics.comparison import noise
from metamem.statistics.planning import components_row, components_sentence, variance_components
from metamem.statistics.results import load, read_once
from metamem.statistics.systems import System, what_differs
from metamem.studies.any_sweep import any_sweep
from metamem.studies.jobs import runs_of
from metamem.studies.settings import settings


def conclude(jobs: Sequence[Mapping[str, Any]]) -> int:
    """Write results.csv, results.parquet, report.html and audit.csv, and the study's table and figures (of a sweep that
    is no study, those of its settings); returns the number of failed evaluations.
    """
    with read_once():
        return _conclude(jobs)


def _conclude(jobs: Sequence[Mapping[str, Any]]) -> int:
    console = open_console()
    plans = [Plan.from_json(job["plan"]) for job in jobs if job.get("plan")]
    if plans:
        planned = settings([job for job in jobs if job.get("plan")])
        seeds = min(setting.seeds for setting in planned)
        show_plan(
            sum(plans[1:], plans[0]),
            f"dry run of {several(len(plans), 'job')}: nothing was called",
            seeds,
            max(1, len(planned) - 1),
        )
        if seeds > 1:
            say(
                console,
                f"{seeds} trainings a setting: seed=42 makes one, which speaks of its guidelines only",
                "dim",
            )
        if study := str(jobs[0].get("study") or ""):
            after = REGISTRY.build("study", {"name": study}).after([job for job in jobs if job.get("plan")])
            say(console, after, "dim")
        return 0
    folder = Path(str(jobs[0]["folder"]))
    if folder.is_dir():
        drop_temporary(folder)
    done = [job for job in jobs if job["status"] == "done" and job.get("runs")]
    study = next((str(job["study"]) for job in jobs if job.get("study")), "")
    finding: Finding | None = None
    mixed = mixed_conditions(done)
    allowed = any(overrides(job).get("allow_mixed", "").lower() == "true" for job in done)
    if mixed and not allowed:
        say(console, f"no table: {mixed[0]}. Say allow_mixed=true to have it all the same", "red")
    elif done:
        finding = REGISTRY.build("study", {"name": study}).conclude(done) if study else any_sweep(done)
        note_few_groups(finding)
        finding.notes += [*failures(jobs), *mixed]
        finding.stamps += ["mixed"] if mixed else []
        components = spread_by_source(done)
        if components:
            write_tables(components, folder, "variance")
            finding.notes += [components_sentence(row) for row in components]
        write_finding(finding, folder, "study" if study else "sweep")
    evaluations = finding.evaluations if finding else []
    rows = job_rows([*jobs, *evaluations])
    write_tables(rows, folder)
    report = write_sweep_report(folder, jobs, rows, finding)
    for evaluation in evaluations:
        if evaluation["status"] != "done":
            say(console, f"evaluation {' '.join(evaluation['overrides'])}: {evaluation['error']}", "red")
    if finding is not None:
        finding.show(console)
    say(console, f"table  {folder / 'results.csv'}")
    say(console, f"report {report}")
    failed = sum(1 for e in evaluations if e["status"] != "done")
    return failed + 1 if mixed and not allowed else failed


def failures(jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the jobs that a table lacks, by what sets them apart from the others, each with the reason."""
    given = [overrides(job) for job in jobs]
    varied = [k for k in dict.fromkeys(k for g in given for k in g) if len({g.get(k) for g in given}) > 1]
    found = []
    for job, options in zip(jobs, given, strict=True):
        if job["status"] != "done":
            named = " ".join(f"{k}={options[k]}" for k in varied if k in options) or "the job"
            found.append(f"{named} is not in the table: {job['error'] or job['status']}")
    return found


def mixed_conditions(jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name what keeps the runs of a sweep from standing in one table, besides what the sweep varies on purpose."""
    given = [overrides(job) for job in jobs]
    varied = [k for k in dict.fromkeys(k for g in given for k in g) if len({g.get(k) for g in given}) > 1]
    sources = []
    for run in dict.fromkeys(run for job in jobs for run in runs_of([job])):
        try:
            sources.append(load(run))
        except (ConfigError, DataError):
            continue  # a run that answered nothing has no figures
    return what_differs([System(s.name, s.rows, conditions=(s.conditions,)) for s in sources], factors_of(varied))


def spread_by_source(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return where the spread of answers comes from, a row for every setting that was trained with several seeds."""
    rows = []
    for setting in settings(jobs):
        if setting.seeds < 2:
            continue
        try:
            _, chosen = setting.with_and_without()
        except ConfigError:
            continue  # a setting that answered nothing
        components = variance_components(chosen.rows) if chosen else None
        if components:
            judged = noise([load(run) for run in setting.runs])
            judge = judged[0]["disagreement"] / 2 if judged and judged[0]["disagreement"] is not None else None
            rows.append(components_row(setting.label, components, judge))
    return rows

"""The end of a sweep: its tidy table, the study's own table and figures, and one report.

In: the sweep's jobs. Out: files in the sweep's folder, and their paths on the console. What fails here is said and
does not undo what the jobs did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.programs.plan import Plan, show_plan
from metamem.reporting.console.text import open_console, say
from metamem.reporting.findings import Finding, note_few_groups, write_finding
from metamem.reporting.sweep import write_sweep_report
from metamem.reporting.table_files import job_rows, write_tables
from metamem.studies.settings import settings
from metamem.studies.studies import STUDIES, any_sweep


def conclude(jobs: Sequence[Mapping[str, Any]]) -> int:
    """Write results.csv, results.parquet, report.html and audit.csv, and the study's table and figures (of a sweep that
    is no study, those of its settings); returns the number of failed evaluations.
    """
    console = open_console()
    plans = [Plan.from_json(job["plan"]) for job in jobs if job.get("plan")]
    if plans:
        show_plan(sum(plans[1:], plans[0]), f"dry run of {len(plans)} jobs: nothing was called")
        say(console, after_training(str(jobs[0].get("study") or ""), [job for job in jobs if job.get("plan")]), "dim")
        return 0
    folder = Path(str(jobs[0]["folder"]))
    done = [job for job in jobs if job["status"] == "done" and job.get("runs")]
    study = next((str(job["study"]) for job in jobs if job.get("study")), "")
    finding: Finding | None = None
    if done:
        finding = (STUDIES[study] if study else any_sweep)(done)
        note_few_groups(finding)
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
    return sum(e["status"] != "done" for e in evaluations)


def after_training(study: str, jobs: Sequence[Mapping[str, Any]]) -> str:
    """What a study evaluates after its jobs, in words; empty when nothing."""
    n = len(jobs)
    if study in ("cross_backbone", "cross_domain"):
        readers = len(settings(jobs))
        repeated = f", for {n // readers} seeds and folds" if n > readers else ""
        made = f"{readers} readers, each without and with {readers} meta-memories{repeated}"
        return f"then {n * (readers + 1)} evaluations of a test part: {made}"
    if study == "ablation":
        return (
            "then for each seed and fold of the whole method 4 to 5 evaluations of the test part, for the controls; "
            "and where the judge is not the policy, the policy judges the stored answers, too"
        )
    if study == "perplexity":
        return f"then {2 * n} analyses, of the replies on validation and on test: each is scored, none is asked for"
    if study == "guidelines":
        return f"then an evaluation of the test part for every guideline, and one for all: {n} times"
    return ""

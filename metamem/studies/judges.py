"""The judge as a part of the method: the same answers, judged by the policy itself instead of the judge.

In: training runs that have a judge of their own. Out: rows for a study's table: what the policy thinks of its own
answers, on the same questions, and how far the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.programs.rejudge import rejudge
from metamem.reporting.findings import Finding
from metamem.runs.stored_config import eval_config
from metamem.statistics.agreement import cohens_kappa
from metamem.statistics.pairs import accuracy, compare, run_systems
from metamem.statistics.results import load
from metamem.statistics.rows import RowsSource
from metamem.statistics.systems import System
from metamem.studies.jobs import Evaluations

ITSELF = "judged by the policy itself"


def judged_by_itself(finding: Finding, runs: Sequence[Path], base: System) -> list[dict[str, Any] | None]:
    """Judge the stored test answers of each run by its policy; adds a row, returns its pair against `base`, which has
    the judge's verdicts on the same answers.
    """
    options = [eval_config(run) for run in runs]
    if any(o.judge == o.backbone for o in options):
        finding.notes.append("The judge is the policy already: there is no other to compare it with.")
        return []
    evaluations = Evaluations()
    places = [
        evaluations.run(run, f"own-judge-{run.name}", None, program=rejudge, from_=str(run), judge=o.backbone)
        for run, o in zip(runs, options, strict=True)
    ]
    finding.evaluations += evaluations.rows
    systems = run_systems([p for p in places if p is not None])
    own = systems.get("best") or systems.get("last")
    if own is None:
        return []
    finding.add({"variant": ITSELF, **accuracy(own)}, own, base=base)
    found = _agreement([(run, place) for run, place in zip(runs, places, strict=True) if place is not None])
    if found["agreement"] is not None:
        kappa = "" if found["kappa"] is None else f" (kappa {found['kappa']:.2f})"
        share = f"{100 * found['agreement']:.0f} % of {found['count']}"
        finding.notes.append(f"The judge and the policy agree on {share} answers to test questions{kappa}.")
    return [compare(base, System(ITSELF, own.rows), variant=ITSELF)]


def _agreement(pairs: Sequence[tuple[Path, Path]]) -> dict[str, Any]:
    """Cohen's kappa of the two judges on the answers of each pair of runs."""
    first: list[bool | None] = []
    second: list[bool | None] = []
    for run, place in pairs:
        one, other = _verdicts(load(run)), _verdicts(load(place))
        shared = sorted(one.keys() & other.keys())
        first += [one[i] for i in shared]
        second += [other[i] for i in shared]
    return cohens_kappa(first, second)


def _verdicts(source: RowsSource) -> dict[str, bool | None]:
    """Attempt → the reward's first verdict."""
    return {j.attempt: j.correct for j in source.judgements if j.evaluator == source.reward and not j.repeat}

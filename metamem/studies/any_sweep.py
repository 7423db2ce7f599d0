"""What a sweep that is no study shows: the systems of every setting."""

from __future__ import annotations

from metamem.core.errors import ConfigError
from metamem.reporting.findings import Finding
from metamem.statistics.pairs import accuracy, columns, compare, decided, run_systems
from metamem.studies.settings import Jobs, settings, stamps
from metamem.studies.study import bars, by_type


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
            row = {"setting": setting.label, "guidelines": name, **accuracy(system), **by_type(system)}
            finding.add(row, system, *((None, others[0] if others else None) if system is first else (first, None)))
            if system is not first:
                pairs.append(compare(first, system, setting=setting.label, name=name))
    for pair in decided(pairs):
        row = next(r for r in finding.rows if (r["setting"], r["guidelines"]) == (pair["setting"], pair["name"]))
        row |= columns(pair)
    finding.figures.append(bars("sweep", "Accuracy by setting", finding.rows, "setting", "guidelines"))
    return finding

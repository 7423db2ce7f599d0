"""The study of training steps: validation after every step and the guidelines it took, over seeds and folds.

In: training jobs. Out: a `Finding` with a row per step, the curve with its intervals, and what the test part said,
once, of the best and the last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metamem.core.errors import ConfigError
from metamem.core.files import read_rows
from metamem.core.registry import register
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.statistics.pairs import accuracy, compare, decided, run_systems
from metamem.statistics.systems import System
from metamem.studies.settings import Jobs, Setting, settings, stamps
from metamem.studies.study import Study


@register("study", "training_steps")
class TrainingSteps(Study):
    """The validation score and the number of guidelines after every step, over seeds and folds."""

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "Accuracy by training step",
            "How does accuracy on validation grow with the steps, and how many guidelines does it take?",
            stamps=stamps(jobs),
        )
        given = settings(jobs)
        curves, counts = [], []
        for setting in given:
            rows = _add_steps(finding, setting, several=len(given) > 1)
            name = setting.label if len(given) > 1 else "validation"
            known = [r for r in rows if r["validation"] is not None]
            if known:
                curves.append(
                    Series(name, *(tuple(r[k] for r in known) for k in ("step", "validation", "low", "high")))
                )
            counts.append(Series(name, *(tuple(r[k] for r in rows) for k in ("step", "guidelines"))))
        title, counted = "Validation accuracy by training step", "Guidelines by training step"
        if curves:
            finding.figures.append(Figure("training_steps", title, "step", "accuracy", tuple(curves)))
        finding.figures.append(
            Figure("guideline_count", counted, "step", "guidelines", tuple(counts), share=False),
        )
        finding.notes.append(
            "Intervals reckon with the questions, their groups and the runs; lowest and highest are single runs. "
            "The test part is read once, when training has ended."
        )
        finding.notes += _test_notes(given)
        return finding


def _add_steps(finding: Finding, setting: Setting, several: bool) -> list[dict[str, Any]]:
    """Add a setting's row of every step, and return them."""
    sizes: dict[int, list[float]] = {}
    scores: dict[int, list[float]] = {}
    for run in setting.runs:
        for row in read_rows(run / "metrics.jsonl"):
            sizes.setdefault(row["step"], []).append(row["guidelines"])
            if row.get("validation") is not None:
                scores.setdefault(row["step"], []).append(row["validation"])
    systems = _validated(setting)
    rows = []
    for step in sorted(sizes):
        system, found = systems.get(str(step)), scores.get(step, [])
        cell: dict[str, Any] = accuracy(system) if system else {"accuracy": None, "low": None, "high": None}
        rows.append(
            {
                **({"setting": setting.label} if several else {}),
                "step": step,
                "runs": len(sizes[step]),
                "validation": cell["accuracy"],
                "low": cell["low"],
                "high": cell["high"],
                "lowest": min(found, default=None),
                "highest": max(found, default=None),
                "guidelines": sum(sizes[step]) / len(sizes[step]),
            }
        )
        finding.add(rows[-1], system, base=systems.get("0") if step else None)
    return rows


def _validated(setting: Setting) -> dict[str, System]:
    """Step → the answers to the validation part after it; nothing where there is no such part."""
    try:
        return run_systems(setting.runs, "validation")
    except ConfigError:
        return {}


def _test_notes(given: Sequence[Setting]) -> list[str]:
    """What the test part said of no guidelines, the best and the last; and whether they differ."""
    notes, pairs = [], []
    for setting in given:
        try:
            systems = run_systems(setting.runs)
        except ConfigError:
            continue
        named = f"{setting.label}, " if len(given) > 1 else ""
        for name, system in systems.items():
            if name.startswith("step-"):
                continue
            found = accuracy(system)
            interval = f" [{found['low']:.3f}, {found['high']:.3f}]" if found["low"] is not None else ""
            notes.append(f"test, {named}{name}: {found['accuracy']:.3f}{interval}")
        without = systems.get("without")
        pairs += [compare(without, s) for n, s in systems.items() if without and n in ("best", "last")]
    return notes + [pair["sentence"] for pair in decided(pairs)]

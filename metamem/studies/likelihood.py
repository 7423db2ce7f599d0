"""The study of likelihoods: how likely the accepted answers are after the prompts of memory systems and guidelines.

In: evaluations with `evaluator=[reference_likelihood]`, each of one or several meta-memories. Out: a `Finding` with a
row for each setting and system: every setting without guidelines against the first one, guidelines against the same
setting without them, paired by question and corrected over the table; and, where replies were judged in the same runs,
how far likelihood goes with judged accuracy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.core.files import read_object, read_rows
from metamem.core.registry import register
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.reporting.likelihood import columns
from metamem.runs.directory import read_result
from metamem.statistics.likelihood import QuestionLikelihood, decide, difference, figures, ordered_alike, scored
from metamem.studies.settings import Jobs, settings, stamps
from metamem.studies.study import Study

_FILES_ONLY = ("95 %", "difference, 95 %", "correlation, 95 %", "left out")


@register("study", "likelihood")
class Likelihood(Study):
    """Likelihood of reference answers by memory system and guidelines, beside judged accuracy."""

    program = "eval"

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "Likelihood of the reference answers",
            "After which memories and guidelines is the accepted answer likeliest?",
            stamps=stamps(jobs),
        )
        cells: list[dict[str, Any]] = []
        changes = []
        bases: dict[str, list[QuestionLikelihood]] = {}
        for setting in settings(jobs):
            own: dict[str, list[QuestionLikelihood]] = {}
            for (evaluator, system), (found, left_out) in _systems(setting.runs).items():
                # The first system of a setting is compared with the first setting's, its others with it.
                base = own.get(evaluator, bases.get(evaluator))
                changes.append(difference(base, found) if base is not None else None)
                own.setdefault(evaluator, found)
                bases.setdefault(evaluator, found)
                about = {"evaluator": evaluator, "setting": setting.label, "system": system}
                cells.append({**about, **figures(found), "left_out": dict(left_out)})
        decided = [{**cell, "difference": change} for cell, change in zip(cells, decide(changes), strict=True)]
        for cell in decided:
            finding.add({"setting": cell["setting"], "guidelines": cell["system"], **columns(cell)})
        finding.files_only = _FILES_ONLY
        finding.figures = [_bars(decided)] if decided else []
        finding.notes.append(
            "Mean natural log-probability of the tokens of the likeliest accepted answer after the prompt, every "
            "question weighing the same. Settings are compared with the first one, guidelines with the same setting "
            "without them."
        )
        for evaluator in bases:
            if alike := ordered_alike([c for c in cells if c["evaluator"] == evaluator]):
                finding.notes.append(
                    f"Likelihood and judged accuracy order {alike[0]} of {alike[1]} pairs of systems alike."
                )
            else:
                finding.notes.append(
                    "Nothing says how far it goes with judged accuracy: no replies were judged, or all systems were "
                    f"equally right; add a judge with evaluator=[llm_judge,{evaluator}]."
                )
        return finding


def _systems(runs: Sequence[Path]) -> dict[tuple[str, str], tuple[list[QuestionLikelihood], Counter[str]]]:
    """(evaluator, system) → its questions over the runs of a setting, and what was left out."""
    found: dict[tuple[str, str], tuple[list[QuestionLikelihood], Counter[str]]] = {}
    for run in runs:
        learned = {s["label"]: str(s.get("learned") or "") for s in read_result(run).get("systems") or ()}
        seed = str(read_object(run / "config.json").get("seed")) if len(runs) > 1 else ""
        rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in read_rows(run / "likelihood.jsonl"):
            rows.setdefault((row["evaluator"], row["system"]), []).append(row)
        for (evaluator, system), of in rows.items():
            # Without guidelines there is no training whose luck could count.
            replicate = f"{learned[system]}/{seed}" if learned.get(system) else ""
            kept, left_out = scored(of, replicate)
            into = found.setdefault((evaluator, system.split(" (step ")[0]), ([], Counter()))
            into[0].extend(kept)
            into[1].update(left_out)
    return found


def _bars(cells: Sequence[dict[str, Any]]) -> Figure:
    """Draw the mean log-probability of every setting, a colour for each system."""
    series = []
    for system in dict.fromkeys(c["system"] for c in cells):
        of = [c for c in cells if c["system"] == system]
        low, high = (tuple((c["interval"] or (None, None))[i] for c in of) for i in (0, 1))
        x, y = tuple(c["setting"] for c in of), tuple(c["log_probability"] for c in of)
        series.append(Series(system, x, y, low, high))
    title = "Log-probability of the reference answer by setting"
    return Figure("likelihood", title, "setting", "nats a token", tuple(series), "bars", share=False)

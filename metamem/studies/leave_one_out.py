"""The study of guidelines: what each is worth, by leaving it out."""

from __future__ import annotations

from metamem.core.registry import register
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.studies.guidelines import AFTER, guideline_worth
from metamem.studies.jobs import runs_of
from metamem.studies.settings import Jobs, stamps
from metamem.studies.study import Study


@register("study", "guidelines")
class Guidelines(Study):
    """Leave one guideline out: what each is worth, and which questions it flips."""

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "What each guideline is worth",
            "Which sentences help, which hurt, and on which questions?",
            stamps=stamps(jobs),
        )
        guideline_worth(finding, runs_of(jobs))
        if finding.rows:
            names = tuple(str(r["guideline"]) for r in finding.rows)
            values = [tuple(r[k] for r in finding.rows) for k in ("points", "low", "high")]
            bars = Series("points", names, *values)
            figure = Figure(
                "guidelines", "Points lost without a guideline", "guideline", "points", (bars,), "bars", False
            )
            finding.figures.append(figure)
        return finding

    def after(self, jobs: Jobs) -> str:
        """See `Study`."""
        return AFTER

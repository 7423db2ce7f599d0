"""The study of parts: every variant against the whole method, and controls for the prompt's length."""

from __future__ import annotations

from metamem.core.registry import register
from metamem.reporting.findings import Finding
from metamem.runs.directory import read_result
from metamem.statistics.pairs import accuracy, columns, compare, decided
from metamem.studies.guidelines import ablation_controls
from metamem.studies.judges import judged_by_itself
from metamem.studies.settings import Jobs, settings, stamps
from metamem.studies.study import Study, bars

# The variant whose guidelines the ablation borrows.
OTHER_FOLD = "other_fold"


@register("study", "ablation")
class Ablation(Study):
    """Every variant against the whole method; then the whole method's guidelines against others of their length."""

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "Ablations",
            "What does each part of the method contribute, and is it the learning or the length of the prompt?",
            stamps=stamps(jobs),
        )
        # The run of another fold is there for its guidelines only: its test part is another.
        every = settings(jobs)
        variants = [s for s in every if s.given.get("ablation") != OTHER_FOLD]
        if not variants:
            finding.notes.append("No variant was trained.")
            return finding
        reference = next((s for s in variants if s.given.get("ablation") == "full"), variants[0])
        # A variant may learn from another evaluator; all are judged by the reference's.
        judge = str(read_result(reference.runs[0])["reward"])
        without, base = reference.with_and_without(judge)
        pairs = []
        for setting in variants:
            _, chosen = setting.with_and_without(judge)
            if chosen is None:
                continue
            itself = setting is reference
            finding.add({"variant": setting.label, **accuracy(chosen)}, chosen, base=without if itself else base)
            if base is not None and not itself:
                pairs.append(compare(base, chosen, variant=setting.label))
        others = [run for s in every if s.given.get("ablation") == OTHER_FOLD for run in s.runs]
        pairs += ablation_controls(finding, reference.runs, others)
        if base is not None:
            pairs += judged_by_itself(finding, reference.runs, base)
        for pair in decided(pairs):
            row = next(r for r in finding.rows if r["variant"] == pair["variant"])
            row |= columns(pair)
        finding.figures.append(bars("ablation", "Test accuracy by variant", finding.rows, "variant", None))
        finding.notes.append(f"Differences are against '{reference.label}'.")
        return finding

    def after(self, jobs: Jobs) -> str:
        """See `Study`."""
        return (
            "then for each seed and fold of the whole method 4 to 5 evaluations of the test part, for the controls; "
            "and where the judge is not the policy, the policy judges the stored answers, too"
        )

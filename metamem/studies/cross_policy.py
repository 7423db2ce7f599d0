"""The study of policies across backbones: what one backbone learned by each policy, used by another."""

from __future__ import annotations

from dataclasses import replace

from metamem.core.registry import register
from metamem.reporting.figures import Figure
from metamem.reporting.findings import Finding
from metamem.runs.directory import read_result
from metamem.studies.policies import policy_of, tells_answers
from metamem.studies.settings import Jobs, Setting, settings, stamps
from metamem.studies.study import Study
from metamem.studies.transfer import readings, transfer


@register("study", "cross_policy")
class CrossPolicy(Study):
    """Learned by one backbone, used by another, for each policy."""

    @classmethod
    def takes(cls, group: str, name: str) -> bool:
        """See `Study`."""
        return group != "optimizer" or tells_answers(name)

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "Policies across backbones",
            "Does what one model learned help another, and does that depend on the policy?",
            stamps=stamps(jobs),
        )
        groups: dict[str, list[Setting]] = {}
        for setting in settings(jobs):
            groups.setdefault(policy_of(setting.runs[0]), []).append(setting)
        for policy, given in groups.items():
            # The policy is in the names, which name the files and directories of the evaluations.
            names = [f"{policy} {backbone}" for backbone in _backbones(given)]
            part = transfer(given, names, Finding(f"Accuracy with what {policy} learned", ""), f"cross_policy_{policy}")
            for row, compared in zip(part.rows, part.compared, strict=True):
                finding.rows.append(
                    {
                        "policy": policy,
                        "learned by": row.pop("trained on").removeprefix(f"{policy} "),
                        "used by": row.pop("read by").removeprefix(f"{policy} "),
                        **row,
                    }
                )
                finding.compared.append(compared)
            finding.figures += [_short(figure, policy) for figure in part.figures]
            finding.evaluations += part.evaluations
            finding.notes += [note for note in part.notes if note not in finding.notes]
        return finding

    def after(self, jobs: Jobs) -> str:
        """See `Study`."""
        return f"for each policy apart: {readings(jobs)} at most"


def _backbones(given: list[Setting]) -> list[str]:
    """Return the name of each setting's model, or where two share one the backbone as it was given."""
    names = [str((read_result(s.runs[0]).get("roles") or {}).get("policy")) for s in given]
    return names if len(set(names)) == len(names) else [s.given.get("backbone", s.label) for s in given]


def _short(figure: Figure, policy: str) -> Figure:
    """Return the figure with the names of backbones alone."""
    series = tuple(
        replace(s, name=s.name.removeprefix(f"{policy} "), x=tuple(str(x).removeprefix(f"{policy} ") for x in s.x))
        for s in figure.series
    )
    return replace(figure, series=series)

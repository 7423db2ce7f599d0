"""The study of policies: what each learns from the same questions, what it costs, and how much it keeps.

In: training jobs over policies and seeds on one split. Out: a `Finding` with a row for each policy against no learning,
and the curve of validation accuracy over the tokens that were spent on learning so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError
from metamem.core.files import read_object, read_rows
from metamem.core.meta_memory import words
from metamem.core.registry import REGISTRY, register
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.statistics.pairs import accuracy, columns, compare, decided, run_systems
from metamem.statistics.systems import System
from metamem.studies.jobs import chosen
from metamem.studies.settings import Jobs, Setting, settings, stamps
from metamem.studies.study import Study, bars


@register("study", "policies")
class Policies(Study):
    """Every policy on one split: accuracy, what was spent learning, what was learned."""

    @classmethod
    def takes(cls, group: str, name: str) -> bool:
        """See `Study`."""
        return group != "optimizer" or tells_answers(name)

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "Policies",
            "Which way of learning from judged answers helps most, and what does it cost?",
            stamps=stamps(jobs),
            files_only=("learned words", "reflector calls"),
        )
        pairs, curves = [], []
        for setting in settings(jobs):
            without, with_it = setting.with_and_without()
            if with_it is None:
                continue
            name = policy_of(setting.runs[0]) if setting.label == "default" else setting.label
            system = System(name, with_it.rows, with_it.places)
            finding.add({"policy": name, **accuracy(system), **_cost(setting)}, system, base=without)
            pairs.append(compare(without, system, policy=name) if without else None)
            if curve := _curve(setting, name):
                curves.append(curve)
        for pair in decided(pairs):
            row = next(r for r in finding.rows if r["policy"] == pair["policy"])
            row |= columns(pair)
        title = "Test accuracy by policy"
        finding.figures.append(bars("policies", title, finding.rows, "policy", None))
        if curves:
            title, x = "Validation accuracy by tokens spent learning", "tokens spent learning"
            finding.figures.append(Figure("accuracy_by_tokens", title, x, "accuracy", tuple(curves)))
        finding.notes.append(
            "Differences are against the same questions without learning. Answers, calls and tokens are means over the "
            "trainings: what steps asked for, prompts included; neither the validation between them, nor what a recall "
            "asks the answering model, in learning and afterwards."
        )
        return finding


def policy_of(run: Path) -> str:
    """Return the name of the policy that a run was trained by."""
    return str(read_object(run / "config.json")["optimizer"]["name"])


def _cost(setting: Setting) -> dict[str, float]:
    """Return what a setting's trainings spent and learned, as means."""
    rows = [row for run in setting.runs for row in read_rows(run / "metrics.jsonl")]
    spent = {
        column: sum(row.get(key, 0) for row in rows) / len(setting.runs)
        for column, key in (
            ("answers", "answers"),
            ("reflector calls", "replies"),
            ("tokens spent learning", "learning_tokens"),
        )
    }
    memories = [chosen(run) for run in setting.runs]
    items = sum(len(m) for m in memories) / len(memories)
    long = sum(words(i.text) for m in memories for i in m.items) / len(memories)
    return {**spent, "learned items": items, "learned words": long}


def _curve(setting: Setting, name: str) -> Series | None:
    """Return the validation accuracy after each step over the tokens spent so far; None without validation."""
    try:
        systems = run_systems(setting.runs, "validation")
    except ConfigError:
        return None
    spent: dict[int, list[int]] = {}
    for run in setting.runs:
        total = 0
        for row in read_rows(run / "metrics.jsonl"):
            total += row.get("learning_tokens", 0)
            spent.setdefault(row["step"], []).append(total)
    # A step that not every training made would compare other trainings.
    steps = [s for s in sorted(spent) if str(s) in systems and len(spent[s]) == len(setting.runs)]
    if len(steps) < 2:
        return None
    found: Sequence[dict[str, Any]] = [accuracy(systems[str(s)]) for s in steps]
    at = tuple(sum(spent[s]) / len(spent[s]) for s in steps)
    return Series(name, at, *(tuple(f[key] for f in found) for key in ("accuracy", "low", "high")))


def tells_answers(name: str) -> bool:
    """Whether what a policy learns is shown to who answers: not which evidence to show, nor the weights of a memory's
    builder, nor nothing at all.
    """
    policy: Any = REGISTRY.entry("optimizer", name).component
    recall = REGISTRY.entry("recall", getattr(policy, "recall", "all")).component
    return name != "none" and not getattr(policy, "trains_weights", False) and not hasattr(recall, "evidence")

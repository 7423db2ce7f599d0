"""The study of streams: what policies gain while they answer, against the same stream without learning.

In: training jobs over policies and seeds with `split=stream`. Out: a `Finding` with a row for each policy (accuracy
over the whole stream, its spread over orders, what is forgotten, when it pays) and the curve of accuracy over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metamem.core.files import read_object
from metamem.core.registry import REGISTRY, register
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.runs.directory import read_result
from metamem.statistics.online import Places, Stream, forgotten, places, stream_of, stretches, until_better
from metamem.statistics.pairs import accuracy, columns, compare, decided, run_systems
from metamem.statistics.systems import System
from metamem.studies.policies import policy_of, tells_answers
from metamem.studies.settings import Jobs, Setting, settings, stamps
from metamem.studies.study import Study, bars

# Stretches of time that a curve has at most.
_STRETCHES = 8


@register("study", "streams")
class Streams(Study):
    """Policies that learn while they answer a stream of questions."""

    @classmethod
    def takes(cls, group: str, name: str) -> bool:
        """See `Study`. A stream has no validation part."""
        if group != "optimizer":
            return True
        return tells_answers(name) and not getattr(REGISTRY.entry(group, name).component, "needs_validation", False)

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "Streams",
            "What does each policy gain while it answers, and does the order of the questions matter?",
            stamps=stamps(jobs),
            files_only=("lowest", "highest", "orders that pay"),
        )
        pairs, curves, plain = [], [], None
        for setting in settings(jobs):
            systems = run_systems(setting.runs)
            if not {"online", "without"} <= systems.keys():
                finding.notes.append(f"{setting.label} is no stream and is left out: give split=stream.")
                continue
            name = policy_of(setting.runs[0]) if setting.label == "default" else setting.label
            online = System(name, systems["online"].rows, systems["online"].places)
            orders = _orders(setting)
            at = places(orders)
            row = {"policy": name, **accuracy(online)}
            single = [_mean([r.strict for r in online.rows if stream_of(r) == s]) for s in orders]
            paid = [until_better(online.rows, systems["without"].rows, at, s) for s in orders]
            known = [p for p in paid if p is not None]
            row |= {
                "lowest": min(single),
                "highest": max(single),
                "spread over orders": max(single) - min(single) if len(single) > 1 else None,
                "forgotten": forgotten(online.rows, systems["again"].rows) if "again" in systems else None,
                "questions until better": _mean(known) if known else None,
                "orders that pay": f"{len(known)} of {len(paid)}",
            }
            finding.add(row, online, base=systems["without"])
            pairs.append(compare(systems["without"], online, policy=name))
            curves.append(_curve(name, online, at))
            plain = plain or _curve("without learning", systems["without"], at)
        for pair in decided(pairs):
            next(r for r in finding.rows if r["policy"] == pair["policy"]).update(columns(pair))
        title = "Accuracy over the stream by policy"
        finding.figures.append(bars("streams", title, finding.rows, "policy", None))
        if plain is not None:
            title = "Accuracy over time"
            series = (plain, *curves)
            finding.figures.append(Figure("over_time", title, "questions that have arrived", "accuracy", series))
        finding.notes.append(
            "Differences are against the same stream without learning. Lowest and highest are single orders, the "
            "spread lies between them. "
            "Forgotten: the share of the first questions that were right when they arrived, less that at the end (a "
            "question is not shown its own case then, but may be shown guidelines and notes that it taught). Until "
            "better: the questions after which, to the end, more had been right than without learning; a mean over the "
            "orders that come to it."
        )
        return finding


def _orders(setting: Setting) -> dict[Stream, list[str]]:
    """Return the order in which the questions of each training arrived, by its stream."""
    found: dict[Stream, list[str]] = {}
    for run in setting.runs:
        result, split = read_result(run), read_object(run / "config.json")["split"]
        fold = split.get("fold")
        found[result["seed"], None if fold is None else str(fold)] = [str(i) for i in result["stream"]["order"]]
    return found


def _curve(name: str, system: System, at: Places) -> Series:
    held = stretches(system.rows, at, min(_STRETCHES, 1 + max(at.values())))
    found: list[dict[str, Any]] = [accuracy(System(name, tuple(rows))) for _, rows in held]
    ends = tuple(end for end, _ in held)
    return Series(name, ends, *(tuple(f[key] for f in found) for key in ("accuracy", "low", "high")))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

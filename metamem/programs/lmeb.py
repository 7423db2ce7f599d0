"""`metamem lmeb`: what retrievers and embedders find in the tasks of LMEB, or in any other retrieval task of MTEB.

In: tasks, and rankers (a retriever with its embedder). Out: a `Finding` with a row for each task and ranker: NDCG@10
and capped recall@10 with their intervals, and the difference from the first ranker. No model is asked. As in MTEB a
task's figure is the mean over its parts; queries that rank the same candidates are no independent observations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.contracts import Embedder, Retriever
from metamem.core.errors import ConfigError
from metamem.core.json_form import digest
from metamem.core.records import MemoryUnit, Question
from metamem.datasets.mteb_tasks import WHOLE, Task, TaskPart
from metamem.reporting.findings import Finding
from metamem.retrieval.tools import Tools
from metamem.retrieval.trec import capped_recall, ndcg
from metamem.statistics.estimate import Observations, difference_of, mean_of
from metamem.statistics.paired import holm
from metamem.store.store import MemoryStore

K = 10
# The figures, and the column that shows the interval of each.
_FIGURES = {"NDCG@10": "95 %", "capped recall@10": "95 % of it"}


@dataclass(frozen=True)
class Ranker:
    """A retriever with the embedder that it works with. Raises `ConfigError` for one that asks a model."""

    label: str
    retriever: Retriever
    embedder: Embedder

    def __post_init__(self) -> None:
        if "builder" in self.retriever.needs:
            raise ConfigError(f"retriever: {self.label} asks a model; here retrievers are compared that only compute")


@dataclass
class Measured:
    """The queries of a task under one ranker, by their part and id."""

    queries: list[tuple[str, str]]
    clusters: list[str]
    ndcg: list[float]
    recall: list[float | None]

    def sample(self, values: Sequence[float | None]) -> Observations:
        """Return the values that are there, each part weighing the same."""
        rows = zip(values, self.clusters, self.queries, strict=True)
        held = [(value, cluster, part) for value, cluster, (part, _) in rows if value is not None]
        return Observations([h[0] for h in held], [h[1] for h in held], strata=[h[2] for h in held])


async def rankings(part: TaskPart, ranker: Ranker, store: MemoryStore) -> dict[str, list[str]]:
    """Return the documents that a ranker finds for each query, best first."""
    tools = Tools(ranker.embedder, store)
    asked: dict[tuple[str, ...] | None, list[str]] = {}
    for query in sorted(part.queries):
        asked.setdefault(part.candidates[query] if part.candidates else None, []).append(query)
    found: dict[str, list[str]] = {}
    for candidates, queries in asked.items():
        chosen = part.documents if candidates is None else dict.fromkeys(candidates)
        units = tuple(MemoryUnit(id, part.documents[id], turn_ids=(id,)) for id in chosen)
        questions = [Question(query, part.queries[query], WHOLE, ()) for query in queries]
        retrieved = await ranker.retriever.retrieve(MemoryBank(part.name, part.name, units), questions, tools)
        for query, one in zip(queries, retrieved, strict=True):
            found[query] = list(dict.fromkeys(id for e in one.evidence for id in e.unit.turn_ids))
    return found


async def measure(task: Task, ranker: Ranker, store: MemoryStore) -> Measured:
    """Return what a ranker finds in a task."""
    measured = Measured([], [], [], [])
    for part in task.parts:
        for query, ranking in sorted((await rankings(part, ranker, store)).items()):
            measured.queries.append((part.name, query))
            group = digest(list(part.candidates[query]), 16) if part.candidates else query
            measured.clusters.append(f"{part.name}/{group}")
            measured.ndcg.append(ndcg(ranking, part.relevant[query], K))
            measured.recall.append(capped_recall(ranking, part.relevant[query], K))
    return measured


async def compare(tasks: Sequence[Task], rankers: Sequence[Ranker], store: MemoryStore) -> Finding:
    """Return the table of all tasks and rankers."""
    finding = Finding("Retrieval for memory (LMEB)", "What is found of what is relevant, and how early?")
    changes: list[tuple[int, float]] = []
    for task in tasks:
        first: Measured | None = None
        for ranker in rankers:
            measured = await measure(task, ranker, store)
            row = {"task": task.name, "ranker": ranker.label, "queries": len(measured.queries), **_figures(measured)}
            finding.add(row)
            if first is None:
                first = measured
                continue
            change = difference_of(first.sample(first.ndcg), measured.sample(measured.ndcg))
            low, high = change.interval()
            row |= {"difference": change.point, "from": low, "to": high}
            changes.append((len(finding.rows) - 1, change.p()))
    for (place, _), p in zip(changes, holm([p for _, p in changes]), strict=True):
        finding.rows[place]["p (Holm)"] = p
    for ranker in rankers if len(tasks) > 1 else ():
        of_ranker = [row for row in finding.rows if row["ranker"] == ranker.label]
        means = {name: _mean([r[name] for r in of_ranker if name in r]) for name in _FIGURES}
        finding.add({"task": "mean of the tasks", "ranker": ranker.label, **means})
    finding.files_only = (*(f"{name}, {end}" for name in _FIGURES for end in ("from", "to")), "from", "to")
    finding.notes = [
        "A task's figure is the mean over its parts, as MTEB has it; 95 % intervals over queries, or over the sets of "
        "documents where queries share them. Differences are in NDCG@10, from the first ranker."
    ]
    return finding


def _figures(measured: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {}
    of_each: tuple[Sequence[float | None], ...] = (measured.ndcg, measured.recall)
    for (name, shown), values in zip(_FIGURES.items(), of_each, strict=True):
        sample = measured.sample(values)
        if not sample.values:  # nothing is relevant to any query
            continue
        estimate = mean_of(sample)
        low, high = max(0.0, estimate.interval()[0]), min(1.0, estimate.interval()[1])
        found |= {name: estimate.point, shown: f"{low:.3f} {high:.3f}", f"{name}, from": low, f"{name}, to": high}
    return found


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None

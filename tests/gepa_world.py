"""A scripted world for GEPA, and what the authors' package does in it, kept in `tests/data/gepa_package.json`.

In a world every text of every block has a skill at every question, drawn by its name; a question is answered as well as
the skills of a candidate's texts add up to its difficulty. The n-th rewritten text is `draft n`. To have the package
play them again: `PYTHONHASHSEED=11 python tests/gepa_world.py`, where gepa 0.1.4 is installed.

Parents and merges are drawn from one generator, minibatches from another; both are the package's own calls. Where it
goes by the order of a set, which says nothing (what it draws from, candidates of a front that are equally good), the
set is sorted for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

BLOCKS = ("answer.system", "guidelines", "answer.closing")
KEPT = Path(__file__).parent / "data" / "gepa_package.json"


class Ordered(Random):
    """Draws from sorted populations, so that no draw depends on the order of a set."""

    def choice(self, seq: Any) -> Any:
        return super().choice(sorted(seq))

    def sample(self, population: Any, k: int, **rest: Any) -> Any:
        return super().sample(sorted(population), k, **rest)

    def choices(self, population: Any, weights: Any = None, **rest: Any) -> Any:
        pairs = sorted(zip(population, weights or [1] * len(population), strict=True))
        return super().choices([p for p, _ in pairs], None if weights is None else [w for _, w in pairs], **rest)


@dataclass(frozen=True)
class World:
    """Sizes and numbers; `graded`: a question is answered in halves, too."""

    seed: int
    train: int = 9
    validation: int = 12
    budget: int = 400
    merges: int = 5
    graded: bool = False

    def ids(self, part: str) -> list[str]:
        """The ids of `train` or `validation`, in their order."""
        return [f"{part[0]}{n:02}" for n in range(getattr(self, part))]

    def score(self, texts: Mapping[str, str], question: str) -> float:
        """How well a candidate answers a question: 0, 1 and, where it is graded, a half."""
        skill = sum(Random(f"{self.seed}/{block}/{texts[block]}/{question}").random() for block in BLOCKS)
        share = skill / (0.9 + 1.2 * Random(f"{self.seed}/{question}").random())
        return 1.0 if share >= 1 else 0.5 if self.graded and share >= 0.7 else 0.0


WORLDS = (
    World(5),
    World(15, graded=True),
    World(43, validation=7, merges=2),
    World(48, validation=4, budget=150),
)


class _Adapter:
    """The world as the package's system."""

    propose_new_texts = None

    def __init__(self, world: World) -> None:
        self._world = world

    def evaluate(self, batch: Sequence[str], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        scores = [self._world.score(candidate, question) for question in batch]
        return EvaluationBatch(list(batch), scores, list(batch) if capture_traces else None)

    def make_reflective_dataset(self, candidate: Any, batch: Any, blocks: Sequence[str]) -> dict[str, Any]:
        return {block: [{"question": q} for q in batch.outputs] for block in blocks}


class _Watch:
    """Takes down a row for each iteration of the package."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._row: dict[str, Any] = {}

    def on_iteration_start(self, event: Mapping[str, Any]) -> None:
        self._row = {}

    def on_candidate_selected(self, event: Mapping[str, Any]) -> None:
        self._row["parent"] = event["candidate_idx"]

    def on_minibatch_sampled(self, event: Mapping[str, Any]) -> None:
        self._row["batch"] = list(event["minibatch_ids"])

    def on_proposal_end(self, event: Mapping[str, Any]) -> None:
        (self._row["block"],) = event["new_instructions"]

    def on_evaluation_end(self, event: Mapping[str, Any]) -> None:
        self._row.setdefault("scores", []).append(sum(event["scores"]))

    def on_merge_attempted(self, event: Mapping[str, Any]) -> None:
        self._row["merged"] = list(event["parent_ids"])

    def on_iteration_end(self, event: Mapping[str, Any]) -> None:
        spent = event["state"].total_num_evals
        self.rows.append({**self._row, "accepted": event["proposal_accepted"], "spent": spent})


def played_by_the_package(world: World) -> dict[str, Any]:
    """What the authors' package does in a world."""
    from types import SimpleNamespace
    from unittest.mock import patch

    import gepa.api
    import gepa.gepa_utils
    from gepa.strategies.batch_sampler import EpochShuffledBatchSampler

    if tuple(set(BLOCKS)) != BLOCKS:
        raise SystemExit("the package draws for blocks in the order of a set of names: choose another PYTHONHASHSEED")
    watch, drafts, needed = _Watch(), iter(range(1, 1000)), gepa.gepa_utils.remove_dominated_programs
    in_order = lambda fronts, scores: needed({i: sorted(held) for i, held in fronts.items()}, scores)  # noqa: E731
    with (
        patch.object(gepa.api, "random", SimpleNamespace(Random=Ordered)),
        patch.object(gepa.gepa_utils, "remove_dominated_programs", in_order),
    ):
        found = gepa.api.optimize(
            dict.fromkeys(BLOCKS, ""),
            world.ids("train"),
            world.ids("validation"),
            adapter=_Adapter(world),
            custom_candidate_proposer=lambda candidate, told, blocks: {b: f"draft {next(drafts)}" for b in blocks},
            batch_sampler=EpochShuffledBatchSampler(3, rng=Random(f"{world.seed}/batches")),
            use_merge=world.merges > 0,
            max_merge_invocations=world.merges,
            max_metric_calls=world.budget,
            callbacks=[watch],
            logger=SimpleNamespace(log=lambda text: None),
            seed=world.seed,
        )
    fronts = {world.ids("validation")[i]: sorted(held) for i, held in found.per_val_instance_best_candidates.items()}
    return {
        "steps": watch.rows,
        "candidates": [[c[b] for b in BLOCKS] for c in found.candidates],
        "parents": [[p for p in held if p is not None] for held in found.parents],
        "means": found.val_aggregate_scores,
        "fronts": fronts,
        "best": found.best_idx,
        "spent": found.total_metric_calls,
    }


if __name__ == "__main__":
    rows = [{"world": asdict(world), "package": played_by_the_package(world)} for world in WORLDS]
    text = ",\n".join(json.dumps(row) for row in rows)
    KEPT.write_text(f"[\n{text}\n]\n", encoding="utf-8")

"""What a policy that trains the builder's weights works with, and memories that trained weights write.

In: the parts of a run. Out: `StepTraining`, which has episodes written by a model that changes, answered from and
scored through the run's other roles; and a run's parts with other weights in the builder's place.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamem.core.adapters import ADAPTERS, Adapter
from metamem.core.contracts import Backbone, Caller, MemoryContext, Tracker, Trainable
from metamem.core.errors import ConfigError
from metamem.core.evaluating import Evaluator
from metamem.core.files import write_bytes
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Question
from metamem.evaluators.memalpha_reward import ContentJudge
from metamem.pipeline.episodes import Makers, Sampled, Tokens, sample_groups
from metamem.pipeline.prepare import PreparedRun, memory_parts
from metamem.store.store import constructor_identity

MOMENTS = "moments"  # the folder of a run in which a training keeps what its optimiser goes on with
EPISODES = "episodes"  # the folder of a run in which they are kept, a file an update


def with_adapter(prepared: PreparedRun, adapter: Adapter) -> PreparedRun:
    """Return a run's parts with trained weights in the builder's place, so that its memories are others.

    Raises `ConfigError` for a builder that takes none, or that they were not trained from.
    """
    builder = prepared.backbones["builder"]
    if not isinstance(builder, Trainable):
        raise ConfigError(
            f"meta_memory: it has trained weights, which the builder (backbone={prepared.config.builder.name}) cannot "
            "take: name the backbone that they were trained from, such as backbone@builder=plain builder.model=..."
        )
    trained = builder.adapted(adapter)
    parts = memory_parts(prepared.memory, trained, prepared.embedder, prepared.prompts)
    identity = constructor_identity(prepared.config.memory, **parts)
    return replace(prepared, backbones={**prepared.backbones, "builder": trained}, memory_identity=identity)


class StepTraining:
    """Implements `learned.WeightTraining` for the step `step` of a run."""

    def __init__(
        self,
        step: int,
        prepared: PreparedRun,
        directory: Path,
        callers: Mapping[str, Caller],
        evaluators: Mapping[str, Evaluator],
        tracker: Tracker,
    ) -> None:
        self.base: Backbone = prepared.backbones["builder"]
        self.adapters = Path(prepared.config.outputs) / ADAPTERS
        self.moments = directory / MOMENTS
        self.place = f"{prepared.config.seed}/train/{step}"
        self._prepared, self._directory = prepared, directory / EPISODES
        self._callers, self._evaluators, self._tracker = callers, evaluators, tracker

    async def episodes(
        self,
        questions: Sequence[Question],
        writer: Backbone,
        meta_memory: MetaMemory,
        *,
        tokens: Tokens | None = None,
        group: int = 1,
        temperature: float = 0.0,
        beta: float,
        gamma: float,
        scope: str,
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        """See `learned.WeightTraining`."""
        p = self._prepared
        builder = Sampled(writer, f"{self.place}/{scope}", temperature)
        tools = p.tools(builder)
        judge = self._callers.get("judge")
        if gamma and judge is None:
            raise ConfigError("optimizer.gamma: what was written is judged, and this run has no judge; set it to 0")
        makers = Makers(
            memory=p.memory,
            retriever=p.retriever,
            tools=tools,
            prompts=p.prompts,
            builder=builder,
            policy=self._callers["policy"],
            content=ContentJudge(judge, p.prompts) if gamma and judge else None,
            evaluator=self._evaluators[p.config.reward],
            tracker=self._tracker,
            seed=p.config.seed,
            beta=beta,
            gamma=gamma,
            budget=p.config.evidence.budget,
            tokenizer=p.config.evidence.tokenizer,
            order=p.config.evidence.order,
            tokens=tokens,
            searcher=p.searcher(tools),
            context=MemoryContext(embedder=p.embedder),
            meta_memory=meta_memory,
            temperature=temperature,
        )
        asked: dict[str, list[Question]] = {}
        for question in sorted(questions, key=lambda q: q.id):
            if question.conversation_id is not None:
                asked.setdefault(question.conversation_id, []).append(question)
        instances = [(p.dataset.conversations[name], found) for name, found in sorted(asked.items())]
        return await sample_groups(makers, instances, group)

    def keep(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `learned.WeightTraining`."""
        text = "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
        # No time in the header: the same rows are the same file.
        write_bytes(self._directory / f"{name}.jsonl.gz", gzip.compress(text.encode(), mtime=0))


def read_episodes(run: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows that a run keeps under a name."""
    data = (run / EPISODES / f"{name}.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(data).decode().splitlines()]

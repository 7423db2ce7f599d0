"""Memory and evidence: every conversation's memory is built or found, and every question's evidence retrieved.

In: questions, the memories of a run, a retriever. Out: `Gathered`, in the order of question ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metamem.config.options import EvidenceOptions
from metamem.core.banks import MemoryBank
from metamem.core.contracts import Dataset, Retriever, Tracker
from metamem.core.records import Evidence, Question
from metamem.memory.growing import Memories
from metamem.pipeline.accounts import Account, notes, recall_notes
from metamem.retrieval.evidence import assemble, prepared_evidence
from metamem.retrieval.metrics import evidence_retrieved, kept_recall, retrieval_metrics

# Conversations whose memory is built at a time, and banks that are searched at a time: enough to keep two cores busy
# and banks few.
_CONSTRUCTIONS = 64

_SEARCHES = 2


@dataclass(frozen=True)
class Gathered:
    """Evidence per question id, the retrieval metrics where evidence is known, and whether all of it was retrieved
    (None: unknown). `memory` sums up what building took. `banks` are the memories by conversation, where they were
    asked for.
    """

    evidence: Mapping[str, tuple[Evidence, ...]]
    metrics: Mapping[str, Mapping[str, float]]
    retrieved: Mapping[str, bool | None]
    memory: Mapping[str, Any] = field(default_factory=dict)
    banks: Mapping[str, MemoryBank] = field(default_factory=dict)

    def of(self, ids: Collection[str]) -> Gathered:
        """What concerns some of the questions."""
        return Gathered(
            {i: v for i, v in self.evidence.items() if i in ids},
            {i: v for i, v in self.metrics.items() if i in ids},
            {i: v for i, v in self.retrieved.items() if i in ids},
            self.memory,
            self.banks,
        )


async def gather_evidence(
    dataset: Dataset,
    questions: Sequence[Question],
    memories: Memories,
    retriever: Retriever,
    options: EvidenceOptions,
    tracker: Tracker,
    keep_banks: bool = False,
) -> Gathered:
    """Evidence for every question, conversation by conversation; memory is built once per conversation and kept in
    the store. All conversations are under way at once, their calls to the builder too.
    """
    evidence: dict[str, tuple[Evidence, ...]] = {}
    metrics: dict[str, dict[str, float]] = {}
    retrieved: dict[str, bool | None] = {}
    banks: dict[str, MemoryBank] = {}
    by_conversation: dict[str, list[Question]] = {}
    for question in sorted(questions, key=lambda q: q.id):
        if question.prepared is not None:
            ranked = prepared_evidence(question)
            evidence[question.id] = assemble(question, ranked, options.budget, options.tokenizer, options.order)
            retrieved[question.id] = None
        elif question.conversation_id is None:
            # A question without a conversation has nothing to retrieve from; it is answered from no evidence.
            evidence[question.id] = ()
            retrieved[question.id] = None
        else:
            by_conversation.setdefault(question.conversation_id, []).append(question)
    if not by_conversation:
        return Gathered(evidence, metrics, retrieved)
    tracker.stage("memory and evidence", sum(map(len, by_conversation.values())), "question")
    building, searching = asyncio.Semaphore(_CONSTRUCTIONS), asyncio.Semaphore(_SEARCHES)
    memories.context.advance = tracker.advance
    taken = Account()

    async def one(conversation_id: str, asked: list[Question]) -> None:
        async with building:
            bank = await memories.of(dataset.conversations[conversation_id])
        taken.add(bank)
        bank = bank.evidence
        if keep_banks:
            banks[conversation_id] = bank
        async with searching:
            found = await asyncio.to_thread(retriever.retrieve, bank, asked)
        for question, ranked in zip(asked, found, strict=True):
            kept = assemble(question, ranked, options.budget, options.tokenizer, options.order)
            evidence[question.id] = kept
            retrieved[question.id] = evidence_retrieved(question, kept)
            measured = retrieval_metrics(question, ranked)
            if measured is not None:
                metrics[question.id] = measured | kept_recall(question, kept)
            tracker.advance("question")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for conversation_id, asked in sorted(by_conversation.items()):
            group.create_task(one(conversation_id, asked))
    summary = taken.summary(memories.store.counts)
    for line in notes(summary) + recall_notes(metrics.values(), options.budget):
        tracker.note(line)
    ids = [q.id for q in sorted(questions, key=lambda q: q.id)]
    return Gathered(
        {i: evidence[i] for i in ids},
        {i: metrics[i] for i in ids if i in metrics},
        {i: retrieved[i] for i in ids},
        summary,
        dict(sorted(banks.items())),
    )

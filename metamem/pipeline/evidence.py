"""Memory and evidence: every conversation's memory is built or found, and every question's evidence retrieved.

In: questions, and the memory, store and retriever of a run. Out: `Gathered`, in the order of question ids.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.contracts import Caller, Tracker
from metamem.core.guarded import Guarded
from metamem.core.json_form import digest, to_json
from metamem.core.planted import Planted
from metamem.core.records import Evidence, Question
from metamem.core.retrieved import Retrieved
from metamem.pipeline.accounts import Account, mismatch_note, notes, recall_notes, retrieval_notes, retrieval_summary
from metamem.pipeline.no_later import check_memory
from metamem.pipeline.prepare import PreparedRun
from metamem.retrieval.evidence import assemble, prepared_evidence
from metamem.retrieval.longmemeval import left_out, population_note, published_metrics
from metamem.retrieval.metrics import Rules, evidence_retrieved, kept_recall, retrieval_metrics

# Conversations under way at a time, from the first call to the last evidence. Where a model is asked, it is calls in
# flight that are bounded: a system whose calls follow one another has one per conversation, and an engine should get
# as many as it takes. Where none is, the processor is what conversations wait for, and their banks are kept few.
_ASKING = 1024
_COMPUTING = 8


@dataclass(frozen=True)
class Gathered:
    """Evidence per question id, the retrieval metrics where evidence is known, and whether all of it was retrieved
    (None: unknown).

    `memory` sums up what building took, `retrieval` what retrieving asked a model for. `traces` tell per question what
    its retrieval did beside ranking, `banks` are the memories by conversation, where they were asked for. `sizes` are
    the tokens of each question's memory and of what it was written from (`memory_tokens`, `input_tokens`), where the
    memory counts them. `guarded` is what the guard did by question, `guard` its counts, by question too; `evidence` is
    then what it let pass, and `offered` what it was shown.
    """

    evidence: Mapping[str, tuple[Evidence, ...]]
    metrics: Mapping[str, Mapping[str, float]]
    retrieved: Mapping[str, bool | None]
    memory: Mapping[str, Any] = field(default_factory=dict)
    banks: Mapping[str, MemoryBank] = field(default_factory=dict)
    retrieval: Mapping[str, Any] = field(default_factory=dict)
    traces: Mapping[str, Retrieved] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    guarded: Mapping[str, Guarded] = field(default_factory=dict)
    guard: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    offered: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)

    def of(self, ids: Collection[str]) -> Gathered:
        """Return what concerns some of the questions."""
        return replace(
            self,
            evidence={i: v for i, v in self.evidence.items() if i in ids},
            metrics={i: v for i, v in self.metrics.items() if i in ids},
            retrieved={i: v for i, v in self.retrieved.items() if i in ids},
            traces={i: v for i, v in self.traces.items() if i in ids},
            sizes={i: v for i, v in self.sizes.items() if i in ids},
            guarded={i: v for i, v in self.guarded.items() if i in ids},
            guard={i: v for i, v in self.guard.items() if i in ids},
            offered={i: v for i, v in self.offered.items() if i in ids},
        )


async def gather_evidence(
    prepared: PreparedRun,
    questions: Sequence[Question],
    tracker: Tracker,
    builder: Caller | None = None,
    keep_banks: bool = False,
) -> Gathered:
    """Gather the evidence of every question, conversation by conversation, of memories that are built once and kept in
    the store.

    `builder` is the role that memories and retrievers ask; many conversations are under way at once. Raises what
    the memory, the retriever and the store raise, and `LeakError` where one of the first two knows what was said after
    a question.
    """
    if prepared.memory.closed_book:
        ids = sorted(q.id for q in questions)
        return Gathered(dict.fromkeys(ids, ()), {}, dict.fromkeys(ids))
    gathering = _Gathering(prepared, tracker, builder, keep_banks)
    by_conversation: dict[str, list[Question]] = {}
    ordered = sorted(questions, key=lambda q: q.id)
    for question in ordered:
        if question.prepared is None and question.conversation_id is not None:
            by_conversation.setdefault(question.conversation_id, []).append(question)
        else:
            # A question without a conversation has nothing to retrieve from; it is answered from no evidence.
            gathering.keep(question, prepared_evidence(question))
    if by_conversation:
        await gathering.gather(by_conversation)
    return gathering.gathered([q.id for q in ordered])


def with_records(bank: MemoryBank, planted: Sequence[Planted]) -> MemoryBank:
    """Return a bank with the records that an attack has written into it, as units like its own first one."""
    records = [record for plant in planted for record in plant.records]
    like = next((unit for unit in bank.units if unit.shown), None)
    if not records or like is None:
        return bank
    units = tuple(replace(record, kind=like.kind, about=like.about) for record in records)
    # Another bank than the store's: what is kept by its id must not be mixed up.
    return replace(bank, id=digest([bank.id, to_json(units)]), units=(*bank.units, *units))


class _Gathering:
    """The gathering of one run's evidence, while it is under way."""

    def __init__(self, prepared: PreparedRun, tracker: Tracker, builder: Caller | None, keep_banks: bool) -> None:
        self._prepared = prepared
        self._tracker = tracker
        loop = asyncio.get_running_loop()

        def embedded(count: int) -> None:
            # Embedding is a thread's work, and a tracker the run's.
            loop.call_soon_threadsafe(tracker.advance, "embedded", count)

        self._tools = prepared.tools(builder, embedded)
        self._memories = prepared.memories(builder, tracker)
        self._keep_banks = keep_banks
        self._under_way = asyncio.Semaphore(_ASKING if builder is not None else _COMPUTING)
        self._account = Account()
        self._kinds: set[str] = set()
        self._evidence: dict[str, tuple[Evidence, ...]] = {}
        self._metrics: dict[str, dict[str, float]] = {}
        self._retrieved: dict[str, bool | None] = {}
        self._found: dict[str, Retrieved] = {}
        self._banks: dict[str, MemoryBank] = {}
        self._sizes: dict[str, Mapping[str, int]] = {}
        self._left_out: Counter[str] = Counter()  # why the benchmark's metrics leave questions out; "": they do not
        self._unbuilt = 0
        # Of all questions of a conversation: a memory does not depend on which of them are asked.
        self._planted: defaultdict[str, list[Planted]] = defaultdict(list)
        for question in sorted(prepared.dataset.questions, key=lambda q: q.id):
            if question.conversation_id is not None and question.id in prepared.dataset.planted:
                self._planted[question.conversation_id].append(prepared.dataset.planted[question.id])

    async def gather(self, by_conversation: Mapping[str, Sequence[Question]]) -> None:
        """Build the memories and retrieve from them; evidence that is ready before the last memory is shown then."""
        self._unbuilt = len(by_conversation)
        self._total = sum(map(len, by_conversation.values()))
        self._tracker.stage("building memories", self._unbuilt, "conversation")
        async with asyncio.TaskGroup() as group:
            for conversation_id, asked in sorted(by_conversation.items()):
                group.create_task(self._one(conversation_id, asked))

    async def _one(self, conversation_id: str, asked: Sequence[Question]) -> None:
        p = self._prepared
        async with self._under_way:
            conversation = p.dataset.conversations[conversation_id]
            bank = await self._memories.of(conversation)
            check_memory(f"memory={p.config.memory.name}", bank.evidence.units, asked, conversation)
            bank = with_records(bank, self._planted[conversation_id])
            self._built(bank)
            found = await p.retriever.retrieve(bank, asked, self._tools)
        held = {unit.id: unit for unit in bank.units}
        # A memory that stayed empty counts no tokens of its own.
        sizes = {name: bank.counts.get(name, 0) for name in ("input_tokens", "memory_tokens")}
        for question, one in zip(asked, found, strict=True):
            if sizes["input_tokens"]:
                self._sizes[question.id] = sizes
            # A retriever may make evidence of its own.
            if made := [e.unit for e in one.evidence if held.get(e.unit.id) is not e.unit]:
                check_memory(f"retriever={p.config.retriever.name}", made, [question], conversation)
            self._found[question.id] = replace(one, evidence=())
            self.keep(question, one.evidence)
            if p.config.evidence.metrics is Rules.longmemeval:
                measured = published_metrics(question, one.evidence, conversation)
                self._left_out[left_out(question, conversation)] += 1
            else:
                measured = retrieval_metrics(question, one.evidence)
            if measured is not None:
                self._metrics[question.id] = measured | kept_recall(question, self._evidence[question.id])
            if not self._unbuilt:
                self._tracker.advance("question")
            await asyncio.sleep(0)

    def keep(self, question: Question, ranked: Sequence[Evidence]) -> None:
        """Keep what a question's prompt shows of ranked evidence."""
        options = self._prepared.config.evidence
        kept = assemble(question, ranked, options.budget, options.tokenizer, options.order)
        self._evidence[question.id] = kept
        known = question.prepared is None and question.conversation_id is not None
        self._retrieved[question.id] = evidence_retrieved(question, kept) if known else None

    def _built(self, bank: MemoryBank) -> None:
        self._account.add(bank)
        self._kinds.update(unit.kind for unit in bank.evidence.units)
        if self._keep_banks:
            self._banks[bank.conversation_id] = bank.evidence
        self._unbuilt -= 1
        self._tracker.advance("conversation")
        if not self._unbuilt:
            self._tracker.stage("retrieving evidence", self._total, "question")
            self._tracker.advance("question", len(self._found))

    def gathered(self, ids: Sequence[str]) -> Gathered:
        """Return what was gathered, with what it took, and say what is worth reading of it."""
        p, summary = self._prepared, {}
        retrieval = retrieval_summary(self._found.values())
        if self._found:
            summary = self._account.summary(p.store.counts)
            config = p.config
            for line in (
                *mismatch_note(config.retriever.name, p.retriever.reads, config.memory.name, self._kinds),
                *notes(summary),
                *retrieval_notes(retrieval),
                *recall_notes(self._metrics.values(), config.evidence.budget),
                *([population_note(self._left_out[""], self._left_out)] if self._left_out else ()),
            ):
                self._tracker.note(line)
        return Gathered(
            {i: self._evidence[i] for i in ids},
            {i: self._metrics[i] for i in ids if i in self._metrics},
            {i: self._retrieved[i] for i in ids},
            summary,
            dict(sorted(self._banks.items())),
            retrieval,
            {i: self._found[i] for i in ids if self._found.get(i, _NOTHING) != _NOTHING},
            {i: self._sizes[i] for i in ids if i in self._sizes},
        )


_NOTHING = Retrieved()

"""`metamem`: the method of MetaMem (arXiv 2602.11182, section 3) as a policy.

In: a meta-memory and a batch of questions. Per question: sample attempts, have them judged, and where they disagree
reflect on each and propose operations. Per batch: consolidate the proposals and execute what comes of it. Out: the next
meta-memory with everything that led to it. A question flows on as soon as it is ready; only consolidation waits for the
batch. Everything that enters a prompt is in the order of ids. `nano` can do it: it was trained to, by short prompts of
its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metamem.core.calls import Failure, Generation
from metamem.core.errors import ConfigError
from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import Action, MetaMemory, OnLong, Operation, Refusal, apply, words
from metamem.core.quarantine import why_apart
from metamem.core.records import Attempt, Question, Verdict
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.batched import Scheduled, shuffled
from metamem.optimizers.cases import case_of, shown_in, usable
from metamem.optimizers.proposing import Proposal, operations_of, supported, supporting

# The share of questions whose attempts are supposed to disagree, for the dry run's expectation.
_DISAGREE = 0.4


@register("optimizer", "metamem")
class MetaMem(Scheduled):
    """MetaMem: reflect on attempts that disagree, propose changes per question, consolidate them per batch."""

    prompts = ("reflect", "propose", "consolidate", "repair")

    @dataclass
    class Config:
        """The method's settings."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step", least=1)
        drop_last: bool = option(True, "leave out a last batch that is not full")
        attempts: int = option(5, "answers sampled per question", least=1)
        temperature: float = option(0.7, "sampling temperature of the attempts", least=0)
        filter: bool = option(
            True, "learn only from questions whose attempts disagree (false: from all that were judged)"
        )
        reflect: bool = option(True, "reflect on each attempt first (false: propose from the attempts' own texts)")
        consolidate: bool = option(
            True, "merge a batch's proposals by one call (false: execute every proposal as it is, in the order of ids)"
        )
        add_only: bool = option(False, "leave out proposals to update or delete")
        max_words: int = option(30, "words asked for per guideline at most", least=1)
        on_long: OnLong = option(OnLong.warn, "a longer guideline is taken and counted (warn) or refused (refuse)")
        max_guidelines: int = option(0, "guidelines kept at most (0: no cap)", least=0)
        reflection_tokens: int = option(16384, "new tokens per reflection at most", least=1)
        proposal_tokens: int = option(
            16384, "new tokens per proposal and consolidation at most, what is reasoned before them included", least=1
        )

        def __post_init__(self) -> None:
            if self.filter and self.attempts > 1 and self.temperature == 0:
                raise ConfigError(
                    "optimizer.temperature is 0, so all attempts at a question are the same and none can disagree: "
                    "raise it, or learn from all questions with optimizer.filter=false"
                )
            if self.filter and self.attempts < 2:
                raise ConfigError(
                    "optimizer.attempts must be at least 2 for attempts to disagree (or optimizer.filter=false)"
                )

    config: Config

    def batches(self, train: Sequence[Question], seed: int) -> list[list[Question]]:
        """Return the epochs' batches of shuffled questions."""
        c = self.config
        return shuffled(train, c.epochs, c.batch_size, c.drop_last, seed)

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return what a step asks for: reflections and proposals on questions that teach, one consolidation."""
        c, questions = self.config, len(batch)
        share = _DISAGREE if c.filter else 1.0
        reflections, one = questions * c.attempts if c.reflect else 0, min(questions, 1)
        # An unreadable proposal or consolidation is asked for once more.
        asked = (
            ExpectedCalls("reflect", 0, share * reflections, reflections, c.reflection_tokens),
            ExpectedCalls("propose", 0, share * questions, 2 * questions, c.proposal_tokens),
            ExpectedCalls(
                "consolidate", 0, one if c.consolidate else 0, 2 * one if c.consolidate else 0, c.proposal_tokens
            ),
        )
        longest = c.max_guidelines * (c.max_words + 3) if c.max_guidelines else None
        return Bounds(questions * c.attempts, tuple(a for a in asked if a.most), longest)

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Make one step over one batch (steps 1 to 4 of the method)."""
        meta_memory = at.meta_memory
        questions = sorted(batch, key=lambda q: q.id)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._learn(q, meta_memory, laboratory)) for q in questions]
        judged = tuple(t.result()[0] for t in tasks)
        proposals = {j.question.id: p for j, p in (t.result() for t in tasks) if p is not None}
        counts: Counter[str] = Counter(
            teaches=sum(j.teaches for j in judged),
            reflections=sum(len(p.reflections) for p in proposals.values()),
            proposals=sum(len(p.operations) for p in proposals.values()),
            proposals_unreadable=sum(bool(p.problem) for p in proposals.values()),
            proposals_repaired=sum(p.repaired for p in proposals.values()),
            operations_malformed=sum(len(p.refused) for p in proposals.values()),
        )
        asked = {q.id: q.text for q in questions}
        operations, note = await self._consolidate(meta_memory, proposals, asked, laboratory, counts)
        new, changes, refused = apply(
            meta_memory,
            operations,
            laboratory.step,
            max_words=self.config.max_words,
            on_long=self.config.on_long,
            max_guidelines=self.config.max_guidelines,
        )
        refused = (*(r for _, p in sorted(proposals.items()) for r in p.apart), *refused)
        for change in changes:
            counts[{"add": "added", "update": "updated", "delete": "deleted"}[change.action.value]] += 1
            counts["long"] += words(change.after or "") > self.config.max_words
        counts["refused"] = len(refused)
        trace = tuple(
            {
                "question_id": question_id,
                "reflections": list(p.reflections),
                "operations": [{"action": o.action.value, "id": o.id, "text": o.text} for o in p.operations],
                "refused": list(p.refused),
                "problem": p.problem,
            }
            for question_id, p in sorted(proposals.items())
        )
        return Update(new, None, changes, refused, dict(counts), (note,) if note else (), trace)

    async def _learn(
        self, question: Question, meta_memory: MetaMemory, laboratory: Laboratory
    ) -> tuple[Judged, Proposal | None]:
        """Attempt one question and, where it teaches, reflect and propose."""
        judged = await laboratory.attempt(question, meta_memory, self.config.attempts, self.config.temperature)
        pairs = usable(judged)
        if not pairs or (self.config.filter and not judged.teaches):
            return judged, None
        return judged, await self._propose(judged, pairs, meta_memory, laboratory)

    async def _propose(
        self,
        judged: Judged,
        pairs: Sequence[tuple[Attempt, Verdict]],
        meta_memory: MetaMemory,
        laboratory: Laboratory,
    ) -> Proposal:
        case = case_of(judged)
        texts: Sequence[Generation | Failure]
        if self.config.reflect:
            limit = self.config.reflection_tokens
            texts = await asyncio.gather(
                *(laboratory.ask("reflect", limit, **case, attempt=told(a), correct=bool(v.correct)) for a, v in pairs)
            )
        else:
            texts = [Generation(told(a)) for a, _ in pairs]
        reflections = [
            {"attempt": a.id, "correct": bool(v.correct), "text": t.text}
            for (a, v), t in zip(pairs, texts, strict=True)
            if isinstance(t, Generation) and t.text.strip()
        ]
        lost = len(pairs) - len(reflections)
        if not reflections:
            reason = next((t.reason for t in texts if isinstance(t, Failure)), "every reflection was empty")
            return Proposal(problem=f"no reflection: {reason}")
        found = await laboratory.read(
            "propose",
            self.config.proposal_tokens,
            operations_of,
            **case,
            guidelines=list(meta_memory.guidelines),
            reflections=reflections,
            max_words=self.config.max_words,
        )
        problem = found.problem or (f"{lost} of {len(pairs)} reflections were lost" if lost else "")
        if found.value is None:
            return Proposal(problem=problem, reflections=tuple(reflections))
        operations = tuple(
            replace(o, support=(judged.question.id,))
            for o in found.value.operations
            if o.action is Action.add or not self.config.add_only
        )
        # Before the consolidation, which is asked by a prompt, too.
        data = shown_in([judged])
        apart = tuple(Refusal(o, reason, True) for o in operations if (reason := why_apart(o.text or "", data)))
        operations = tuple(o for o in operations if not why_apart(o.text or "", data))
        return Proposal(operations, found.value.refused, apart, problem, found.repaired, tuple(reflections))

    async def _consolidate(
        self,
        meta_memory: MetaMemory,
        proposals: Mapping[str, Proposal],
        asked: Mapping[str, str],
        laboratory: Laboratory,
        counts: Counter[str],
    ) -> tuple[list[Operation], str]:
        """The batch's operations; `asked` are the questions' texts. When the reply cannot be read the meta-memory stays
        as it is, and the note says why.
        """
        numbered = [
            (f"P{i}", o) for i, o in enumerate((o for _, p in sorted(proposals.items()) for o in p.operations), 1)
        ]
        if not numbered:
            return [], ""
        if not self.config.consolidate:
            return [o for _, o in numbered], ""
        proposed = dict(numbered)
        behind = {
            question: f"Q{i}" for i, question in enumerate((q for q in sorted(proposals) if proposals[q].operations), 1)
        }
        found = await laboratory.read(
            "consolidate",
            self.config.proposal_tokens,
            lambda reply: operations_of(reply, proposed),
            guidelines=list(meta_memory.guidelines),
            questions=[{"id": number, "text": asked[question]} for question, number in behind.items()],
            proposals=[
                {
                    "id": i,
                    "action": o.action.value,
                    "target": o.id or "",
                    "text": o.text or "",
                    "support": [behind[q] for q in supporting(o, proposed.values())],
                }
                for i, o in numbered
            ],
            max_words=self.config.max_words,
            max_guidelines=self.config.max_guidelines,
        )
        counts["consolidation_repaired"] += found.repaired
        reading = found.value
        if reading is None:
            counts["consolidation_failed"] += 1
            return [], f"consolidation failed, the meta-memory stays as it was: {found.problem}"
        counts["operations_malformed"] += len(reading.refused)
        operations = [o for o in supported(reading, proposed) if o.action is Action.add or not self.config.add_only]
        return operations, ""

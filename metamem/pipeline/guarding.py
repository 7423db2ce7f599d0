"""The guard at work: between retrieval and prompt, and between what a policy learned and the meta-memory.

In: gathered evidence, or an update of a policy, and the run's guard. Out: the same with what may be shown alone, what
was held back and why, and what that took.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from metamem.core.banks import Cost
from metamem.core.contracts import Tracker
from metamem.core.guarded import Guarded, GuardedQuestion, GuardTools, SourceTurn
from metamem.core.planted import Planted
from metamem.core.records import Conversation, Evidence, Question, unanswered
from metamem.pipeline.evidence import Gathered
from metamem.pipeline.prepare import PreparedRun
from metamem.retrieval.evidence import holds_evidence

# Groups of questions that the guard has before it at a time.
_AT_ONCE = 256

_COUNTS = ("units", "held_back", "evidence", "evidence_held_back", "added", "unread")


async def guard_evidence(
    prepared: PreparedRun, questions: Sequence[Question], gathered: Gathered, tools: GuardTools, tracker: Tracker
) -> Gathered:
    """Return what was gathered with the evidence that the guard lets pass.

    Questions come to it in groups, of one conversation and one part, in the order of ids: what a guard learns of a test
    question reaches no training prompt, and what it learns of one user no other's.
    """
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in sorted(questions, key=lambda q: q.id):
        groups.setdefault((question.conversation_id or question.id, _part(prepared, question)), []).append(question)
    tracker.stage("guarding evidence", len(questions), "question")
    under_way = asyncio.Semaphore(_AT_ONCE)

    async def one(asked: Sequence[Question]) -> list[Guarded]:
        async with under_way:
            sources = _sources(prepared.dataset.conversations.get(asked[0].conversation_id or ""))
            cases = [GuardedQuestion(unanswered(q), gathered.evidence[q.id], sources) for q in asked]
            found = await prepared.guard.evidence(cases, tools)
            tracker.advance("question", len(asked))
            return found

    async with asyncio.TaskGroup() as group:
        tasks = {key: group.create_task(one(asked)) for key, asked in sorted(groups.items())}
    guarded = {q.id: found for key, task in tasks.items() for q, found in zip(groups[key], task.result(), strict=True)}
    evidence = {i: guarded[i].evidence if i in guarded else kept for i, kept in gathered.evidence.items()}
    planted = prepared.dataset.planted
    counts = {q.id: _counted(q, guarded[q.id], gathered.evidence[q.id], planted.get(q.id)) for q in questions}
    return replace(gathered, evidence=evidence, guarded=guarded, guard=counts, offered=gathered.evidence)


def _part(prepared: PreparedRun, question: Question) -> str:
    split = prepared.split
    held = {"train": split.train, "validation": split.validation, "test": split.test}
    return next((part for part, ids in held.items() if question.id in ids), "")


def _sources(conversation: Conversation | None) -> dict[str, SourceTurn]:
    if conversation is None:
        return {}
    return {
        turn.id: SourceTurn(turn.speaker or turn.role, turn.text, session.time)
        for session in conversation.sessions
        for turn in session.turns
    }


def _costs(guarded: Iterable[Guarded]) -> dict[str, Cost]:
    """Return the costs of model calls by stage."""
    total: dict[str, Cost] = {}
    for one in guarded:
        for stage, cost in one.costs.items():
            total[stage] = total.get(stage, Cost()) + cost
    return dict(sorted(total.items()))


def _counted(
    question: Question, found: Guarded, offered: Sequence[Evidence], planted: Planted | None
) -> dict[str, int]:
    """Return what the guard held back of a question's units, and how much of that was evidence."""
    counts = Counter(dict.fromkeys(_COUNTS, 0))
    for e in offered:
        gold = holds_evidence(e.unit, question) and not (planted is not None and planted.in_unit(e.unit))
        counts["units"] += 1
        counts["evidence"] += gold
        counts["held_back"] += e.unit.id in found.dropped
        counts["evidence_held_back"] += gold and e.unit.id in found.dropped
    return {**counts, "added": found.added, "unread": len(found.unread)}


def guard_rows(gathered: Gathered) -> list[dict[str, Any]]:
    """Return a row for each question that a guard stood before, in the order of ids (guarded.jsonl): its counts, and of
    each unit that was held back why.
    """
    return [
        {"question_id": id, **counts, "dropped": dict(gathered.guarded[id].dropped)}
        for id, counts in sorted(gathered.guard.items())
    ]


def guard_figures(gathered: Gathered) -> dict[str, Any]:
    """Return what a guard held back of the gathered evidence, and what its calls took; empty without a guard."""
    if not gathered.guard:
        return {}
    counts = {name: sum(one[name] for one in gathered.guard.values()) for name in _COUNTS}
    stages = {
        stage: {
            "calls": c.calls,
            "prompt_tokens": c.prompt_tokens,
            "completion_tokens": c.completion_tokens,
            "seconds": round(c.seconds, 3),
        }
        for stage, c in _costs(gathered.guarded.values()).items()
    }
    return {"questions": len(gathered.guard), **counts, "stages": stages}

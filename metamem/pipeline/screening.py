"""What a policy has learned in a step is screened before it becomes the meta-memory, whatever the policy.

In: the meta-memory before a step, the policy's update, and what the step was shown. Out: the update without the
guidelines and learned texts that are none on the use of memory: by the rules of `core.quarantine` (marks of prompts,
orders, addresses, copies of the data), and where there is a guard by its word. A change that is kept apart is undone:
what was there before it stays, also what the same step has deleted, perhaps to make room or to merge it.
Measured, and held back by neither, are the published rules for a guideline: at most 30 words, and no names or numbers
of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metamem.core.guarded import Guard, GuardTools, Screened
from metamem.core.learned import Judged, Optimizer, Update
from metamem.core.meta_memory import Action, Guideline, MetaMemory, Operation, Refusal, words
from metamem.core.quarantine import why_apart
from metamem.optimizers.cases import shown_in

# How policies that count their changes call them.
_COUNTED = {Action.add: "added", Action.update: "updated", Action.delete: "deleted"}
# Words of a guideline at most, as published.
_WORDS = 30


async def screened(
    policy: Optimizer,
    old: MetaMemory,
    update: Update,
    judged: Sequence[Judged],
    step: int,
    guard: Guard,
    tools: GuardTools,
) -> Update:
    """Return the update without what is kept apart, which stands among its refusals; `judged` are the step's answers.

    Nothing is screened of a policy that keeps cases of the data by design.
    """
    before = {item.id: item.text for item in old.items}
    new = [item for item in update.meta_memory.items if before.get(item.id) != item.text]
    if not new or getattr(policy, "keeps_data", False):
        return update
    data = shown_in(judged)
    why = {item.id: reason for item in new if (reason := why_apart(item.text, data))}
    left = [item for item in new if item.id not in why]
    said = Screened(("",) * len(left))
    if left and not guard.open:
        said = await guard.proposals([item.text for item in left], f"step {step}", tools)
        why |= {item.id: reason for item, reason in zip(left, said.why, strict=True) if reason}
    measured = {
        "guard_calls": said.cost.calls,
        "guard_tokens": said.cost.prompt_tokens + said.cost.completion_tokens,
        "guard_unread": len(said.unread),
        "kept_apart": len(why),
        "learned_long": sum(words(item.text) > _WORDS for item in new),
        "learned_with_facts": sum(bool(data.facts(item.text)) for item in new),
    }
    counts = {**update.counts, **{name: count for name, count in measured.items() if count}}
    refused = tuple(Refusal(_operation(item, before), why[item.id], True) for item in new if item.id in why)
    undone = {*why, *_deleted(old, update.meta_memory)} if why else set()
    changes = tuple(change for change in update.changes if change.id not in undone)
    for change in update.changes:
        if change.id in undone and _COUNTED[change.action] in counts:
            counts[_COUNTED[change.action]] -= 1
    memory = _undone(old, update.meta_memory, undone)
    return replace(update, meta_memory=memory, changes=changes, refused=(*update.refused, *refused), counts=counts)


def _operation(item: Guideline, before: dict[str, str]) -> Operation:
    action = Action.update if item.id in before else Action.add
    return Operation(action, item.id if item.id in before else None, item.text, item.support, item.about)


def _deleted(old: MetaMemory, new: MetaMemory) -> set[str]:
    """Return the ids of the items that are gone, and not only stand there under another id."""
    ids, texts = {item.id for item in new.items}, {item.text for item in new.items}
    return {item.id for item in old.items if item.id not in ids and item.text not in texts}


def _undone(old: MetaMemory, new: MetaMemory, apart: set[str]) -> MetaMemory:
    """Return the new meta-memory with some items as they were before, or without those that are new; what comes back
    stands before all that stayed.
    """
    known, there = {g.id: g for g in old.guidelines}, {g.id for g in new.guidelines}
    back = [g for g in old.guidelines if g.id in apart and g.id not in there]
    kept = [*back, *(known.get(g.id) if g.id in apart else g for g in new.guidelines)]
    texts = {n: t for n, t in new.texts.items() if n not in apart}
    texts |= {n: t for n, t in old.texts.items() if n in apart}
    return replace(new, guidelines=tuple(g for g in kept if g is not None), texts=texts)

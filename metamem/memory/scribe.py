"""Asks the builder for something that can be read, once more when it cannot, and keeps account of what it took.

In: a prompt and a reader. Out: what was read, or the failed call with its last reply. The first call and each repair
are rows of the journal of their own, so that more repairs later ask again for the failed calls alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from metamem.core.banks import Cost, Unread
from metamem.core.calls import Draw, Failure, Message, Request
from metamem.core.contracts import MemoryContext
from metamem.memory.lightmem.replies import UnreadableError
from metamem.prompts.templates import Prompts

V = TypeVar("V")
_SHOWN = 20000


@dataclass
class Ledger:
    """What a construction takes and meets, gathered while it runs."""

    costs: dict[str, Cost] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def spend(self, stage: str, cost: Cost) -> None:
        """Add to a stage's cost."""
        self.costs[stage] = self.costs.get(stage, Cost()) + cost


@dataclass(frozen=True)
class Answer(Generic[V]):
    """What was read, or None; and the failure, which may stand beside a part that could be read."""

    value: V | None
    unread: Unread | None = None


async def ask(
    context: MemoryContext,
    prompts: Prompts,
    messages: tuple[Message, ...],
    read: Callable[[str], V],
    *,
    stage: str,
    scope: str,
    turn_ids: Sequence[str],
    schema: dict[str, Any],
    max_tokens: int,
    repairs: int,
    ledger: Ledger,
    cut: Callable[[V], bool] = lambda value: False,
) -> Answer[V]:
    """The reader's value of the builder's greedy reply, with up to `repairs` requests to repair it.

    `read` raises `UnreadableError`; `cut` tells that a value is only the beginning of one, which counts when no repair
    gives a whole one.
    """
    builder = context.builder
    assert builder is not None, "this memory needs the builder role"
    sampling = replace(builder.sampling(), temperature=0.0, max_tokens=max_tokens)
    part: V | None = None
    problem, reply_text = "", ""
    for repeat in range(repairs + 1):
        began = time.perf_counter()
        (reply,) = await builder(Request(messages, sampling, (Draw(scope),), schema, repeat))
        seconds = round(time.perf_counter() - began, 6)
        outcome = reply.outcome
        if isinstance(outcome, Failure):
            ledger.counts["undelivered"] += 1
            return Answer(part, Unread(stage, tuple(turn_ids), outcome.reason, reply_text, delivered=False))
        usage = outcome.usage
        ledger.spend(stage, Cost(1, usage.prompt_tokens, usage.completion_tokens, seconds))
        ledger.counts["repairs"] += repeat > 0
        reply_text = outcome.text
        try:
            value = read(reply_text)
        except UnreadableError as error:
            problem = str(error)
        else:
            if not cut(value):
                return Answer(value)
            part, problem = value, "the reply was cut off"
        again = prompts.render("repair_memory", problem=problem)
        messages = (*messages, Message("assistant", reply_text[:_SHOWN] or "(empty)"), *again)
    ledger.counts["unread"] += 1
    return Answer(part, Unread(stage, tuple(turn_ids), problem, reply_text))


async def spawn(group: asyncio.TaskGroup, context: MemoryContext, job: Coroutine[Any, Any, V]) -> asyncio.Task[V]:
    """Start a job that calls the builder, as soon as `context.calls` has a place for it; waits until then.

    So a conversation of any length has a bounded number of prompts in memory.
    """
    try:
        await context.calls.acquire()
    except BaseException:
        job.close()
        raise
    task = group.create_task(job)
    task.add_done_callback(lambda _: context.calls.release())
    return task

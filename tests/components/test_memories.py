"""What holds for every memory that is registered, whatever its algorithm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.journal import Journal
from metamem.core.banks import MemoryBank
from metamem.core.calls import Failure, Request, Sampling
from metamem.core.chunking import TASK
from metamem.core.contracts import MemoryContext, Reply
from metamem.core.errors import MissingExtraError
from metamem.core.records import Conversation, Session, Turn
from metamem.core.registry import REGISTRY, build, load_components
from metamem.memory.adapters.base import PackageMemory
from metamem.memory.growing import Memories, grown
from metamem.store.store import MemoryStore

load_components()
# Small pieces, so that short conversations take several calls; what later facts overtake is looked for.
OPTIONS: dict[str, dict[str, Any]] = {
    "lightmem": {"sensory_tokens": 40, "short_term_tokens": 40, "update": True, "update_threshold": 0.3},
    **{name: {"chunk_tokens": 30} for name in ("chunks", "memagent", "mem1", "memalpha")},
    "long_context": {"chunk_tokens": 30, "tokens": 60},
    "rmm": {"merge": 0.5},
    "memoryos": {"short_term": 1, "heat": 2.0, "visits": True},
    "hgmem": {"chunk_tokens": 30, "overlap_tokens": 20},
    "memgas": {"unlinked": 1},
    "simplemem": {"window": 5, "overlap": 2},
}
# Their buffers begin and end with a session that is new, so their pieces depend on when they are asked to grow; and a
# package is given new sessions as a conversation of their own.
PACKAGES = {n for n in REGISTRY.names("memory") if issubclass(REGISTRY.entry("memory", n).component, PackageMemory)}
BY_SITTING = {"lightmem", *PACKAGES}


def available(name: str) -> bool:
    try:
        build("memory", {"name": name})
    except MissingExtraError:
        return False
    return True


NAMES = [name for name in REGISTRY.names("memory") if available(name)]
ASKING = [name for name in NAMES if "builder" in build("memory", {"name": name}).needs]


def memory(name: str) -> Any:
    return build("memory", {"name": name, **OPTIONS.get(name, {})})


def talk(id: str, sessions: int = 4) -> Conversation:
    """Sessions of a user who tells something new, and something again, each time."""
    made = []
    for s in range(sessions):
        said = [f"My cat {id}{s} likes the {w} and my rent is {900 + s} euros a month." for w in ("sofa", "window")]
        turns = [
            t
            for i, text in enumerate(said)
            for t in ((f"{2 * i}", "user", text), (f"{2 * i + 1}", "assistant", "Noted."))
        ]
        day = datetime(2024, 1, 1, 9) + timedelta(days=s)
        made.append(Session(f"s{s}", day, tuple(Turn(f"{s}:{i}", role, text) for i, role, text in turns)))
    return Conversation(id, tuple(made))


class Watched:
    """A builder behind a journal that remembers what it delivered, and loses one call of a conversation."""

    label = "watched"

    def __init__(self, folder: Path, lose: tuple[str, int] | None = None) -> None:
        backbone = build("backbone", {"name": "simulated"})
        self._inner = JournaledCaller(backbone, Journal(folder, "e", "r"), "builder")
        self._lose = lose
        self._asked: dict[str, int] = {}
        self.delivered: list[tuple[Request, Reply]] = []

    def sampling(self) -> Sampling:
        return self._inner.sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        (draw,) = request.draws
        conversation = draw.scope.split("/")[1]
        number = self._asked[conversation] = self._asked.get(conversation, 0) + 1
        if (conversation, number) == self._lose:
            return [Reply("", Failure("gone"))]
        replies = await self._inner(request)
        self.delivered += [(request, reply) for reply in replies]
        return replies

    @property
    def paid(self) -> int:
        """Replies that did not come out of the journal."""
        return sum(not reply.reused for _, reply in self.delivered)


@cache
def embedder() -> Any:
    return build("embedder", {"name": "hashing"})


def written(name: str, folder: Path, talks: Sequence[Conversation], **given: Any) -> tuple[list[MemoryBank], Watched]:
    """The banks of conversations, all at once, without a store."""

    async def all_of_them() -> list[MemoryBank]:
        made = memory(name)
        return list(await asyncio.gather(*(grown(made, None, t, context) for t in talks)))

    builder = Watched(folder, **given)
    context = MemoryContext(builder, embedder(), build("prompts", {"name": "default"}))
    return asyncio.run(all_of_them()), builder


def same(bank: MemoryBank) -> MemoryBank:
    """A bank without the seconds that it took."""
    return replace(bank, costs={stage: replace(cost, seconds=0.0) for stage, cost in bank.costs.items()})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_bank_is_the_same_alone_and_among_others(name: str, tmp_path: Path) -> None:
    talks = [talk(f"c{i}", sessions=1 + i) for i in range(4)]
    together, _ = written(name, tmp_path / "together", talks)
    # The stand-in knows no prompts of packages.
    assert name in PACKAGES or bool(together[3].units) is not memory(name).closed_book
    for conversation, bank in zip(talks, together, strict=True):
        ((alone,), _) = written(name, tmp_path / conversation.id, [conversation])
        assert same(alone) == same(bank)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PACKAGES])
def test_a_memory_that_names_the_embedder_uses_it_and_no_other_does(name: str, tmp_path: Path) -> None:
    # What is named counts as part of a bank's identity: another embedder would have it written again.
    used: list[str] = []

    class Counted:
        def embed(self, texts: Sequence[str]) -> Any:
            used.extend(texts)
            return embedder().embed(texts)

        def identity(self) -> Any:
            return embedder().identity()

    context = MemoryContext(Watched(tmp_path), Counted(), build("prompts", {"name": "default"}))
    asyncio.run(grown(memory(name), None, talk("c"), context))
    assert bool(used) is ("embedder" in memory(name).needs)


# They write for the question that they know.
FOR_A_QUESTION = {"memagent", "mem1"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FOR_A_QUESTION])
def test_the_question_that_a_stream_opens_with_is_not_remembered(name: str, tmp_path: Path) -> None:
    question = Session(TASK, None, (Turn(TASK, TASK, "Which xylophone did I buy?"),))
    conversation = talk("c", sessions=2)
    opened = replace(conversation, sessions=(question, *conversation.sessions))
    (bank,), builder = written(name, tmp_path, [opened])
    asked = [message.content for request, _ in builder.delivered for message in request.messages]
    assert not any("xylophone" in text for text in [*asked, *(unit.text for unit in bank.units)])


@pytest.mark.parametrize("name", ASKING)
def test_costs_are_those_of_the_replies_and_every_template_is_declared(name: str, tmp_path: Path) -> None:
    (bank,), builder = written(name, tmp_path, [talk("c")])
    usages = [reply.outcome.usage for _, reply in builder.delivered if not isinstance(reply.outcome, Failure)]
    assert sum(cost.calls for cost in bank.costs.values()) == len(usages) > 0
    assert sum(cost.prompt_tokens for cost in bank.costs.values()) == sum(u.prompt_tokens for u in usages)
    assert sum(cost.completion_tokens for cost in bank.costs.values()) == sum(u.completion_tokens for u in usages)
    assert not bank.unread


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", ASKING)
def test_a_lost_call_stops_its_conversation_alone_and_nobody_pays_twice(name: str, number: int, tmp_path: Path) -> None:
    talks = [talk("a"), talk("b")]
    whole, never_lost = written(name, tmp_path / "whole", talks)
    (lost, other), first = written(name, tmp_path / "lost", talks, lose=("a", number))
    assert not lost.complete and other.complete
    assert [u.reason for u in lost.unread if not u.delivered] == ["gone"]
    again, second = written(name, tmp_path / "lost", talks)
    assert [same(bank) for bank in again] == [same(bank) for bank in whole]
    assert first.paid + second.paid == never_lost.paid


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_banks_that_grow_ask_for_what_is_new_and_are_kept_step_by_step(name: str, tmp_path: Path) -> None:
    conversation = talk("c", sessions=5)

    def by(sessions: int | None, folder: str) -> tuple[MemoryBank, Watched, MemoryStore]:
        builder, store = Watched(tmp_path / folder), MemoryStore(tmp_path / "store")
        context = MemoryContext(builder, embedder(), build("prompts", {"name": "default"}))
        identity = {"name": name, "sessions": sessions}
        memories = Memories(memory(name), identity, store, context, sessions)
        return asyncio.run(memories.of(conversation)), builder, store

    (whole, _, _), (bank, builder, store) = by(None, "whole"), by(2, "steps")
    steps = 3 if memory(name).kept else 0
    assert store.counts["banks_built"] == steps, "after 2, 4 and 5 sessions"
    assert bank.sessions == 5
    asked = [(r.draws, r.messages, r.repeat) for r, _ in builder.delivered]
    assert len({repr(a) for a in asked}) == len(asked), "nothing is asked again"
    if name not in BY_SITTING:
        assert bank.units == whole.units
    again, nobody, store = by(2, "again")
    assert again == bank
    assert (nobody.delivered, store.counts["banks_reused"]) == ([], steps)


def test_the_beginnings_of_a_conversation_share_their_steps_and_each_has_its_own_bank(tmp_path: Path) -> None:
    whole = talk("c", sessions=4)
    ends = (3, 1, 4)
    begun = [replace(whole, id=f"c@{n}", sessions=whole.sessions[:n], part_of="c") for n in ends]
    builder, store = Watched(tmp_path / "steps"), MemoryStore(tmp_path / "store")
    context = MemoryContext(builder, embedder(), build("prompts", {"name": "default"}))
    memories = Memories(memory("memalpha"), {"name": "m"}, store, context, 1)

    async def all_of_them() -> list[MemoryBank]:
        return await asyncio.gather(*map(memories.of, begun))

    banks = asyncio.run(all_of_them())
    assert [(bank.conversation_id, bank.sessions) for bank in banks] == [(f"c@{n}", n) for n in ends]
    assert store.counts["banks_built"] == 4, "each session is taken in once"
    assert banks[2] == replace(asyncio.run(memories.of(whole)), conversation_id="c@4")


def test_a_call_that_is_lost_for_one_beginning_is_not_asked_again_for_a_longer_one(tmp_path: Path) -> None:
    whole = talk("c", sessions=4)
    builder = Watched(tmp_path, lose=("c", 2))
    context = MemoryContext(builder, embedder(), build("prompts", {"name": "default"}))
    memories = Memories(memory("memalpha"), {"name": "m"}, MemoryStore(tmp_path / "store"), context, 1)
    banks = []
    for end in (1, 2, 3, 4):
        beginning = replace(whole, id=f"c@{end}", sessions=whole.sessions[:end], part_of="c")
        banks.append(asyncio.run(memories.of(beginning)))
    lost = [bank for bank in banks if not bank.complete]
    assert len(lost) >= 2 and len({bank.sessions for bank in lost}) == 1
    assert [bank.conversation_id for bank in banks] == ["c@1", "c@2", "c@3", "c@4"]
    assert len(builder.delivered) == 1, "the first call, and none after the one that was lost"


def test_a_bank_that_a_lost_call_stopped_does_not_grow_on(tmp_path: Path) -> None:
    builder = Watched(tmp_path, lose=("c", 3))
    context = MemoryContext(builder, embedder(), build("prompts", {"name": "default"}))
    store = MemoryStore(tmp_path / "store")
    bank = asyncio.run(Memories(memory("memalpha"), {"name": "m"}, store, context, 1).of(talk("c")))
    assert (bank.complete, store.counts["banks_incomplete"]) == (False, 1)
    assert bank.sessions < 4

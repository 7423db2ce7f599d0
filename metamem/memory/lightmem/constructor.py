"""`lightmem`: LightMem's memory (arXiv 2510.18866), for many conversations at once.

In: a conversation. Messages are compressed, gathered in a sensory buffer, cut into topics, gathered in a short-term
buffer, and a builder extracts standalone facts; optionally facts that later ones overtake are updated at rest. Out: a
bank of facts, each with the message it came from. All calls of all conversations are in flight together; compression,
attention and embedding of all of them share batches and go on meanwhile.
"""

from __future__ import annotations

from asyncio import TaskGroup, to_thread
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.banks import Cost, MemoryBank, Unread
from metamem.core.contracts import MemoryContext
from metamem.core.records import Conversation, MemoryUnit
from metamem.core.registry import register
from metamem.core.text import format_date, render_unit
from metamem.memory.lightmem.buffers import Said, Segment
from metamem.memory.lightmem.compression import Compressor
from metamem.memory.lightmem.options import Compression, LightMemOptions
from metamem.memory.lightmem.replies import DECISION_SCHEMA, FACTS_SCHEMA, Facts, read_decision, read_facts
from metamem.memory.lightmem.topics import Topics, embed
from metamem.memory.lightmem.updating import apply_decisions, queues, sources, time_order
from metamem.memory.scribe import Answer, Ledger, ask, spawn
from metamem.prompts.templates import Prompts


@register("memory", "lightmem")
class LightMem:
    """LightMem: standalone facts that the builder extracts from topics of compressed messages."""

    version = 1

    @dataclass
    class Config(LightMemOptions):
        """LightMem's settings; the defaults are the paper's, less compression and update."""

    def __init__(self, config: Config, *, prompts: Prompts) -> None:
        self.config = config
        self._prompts = prompts
        self._compressor: Compressor | None = None
        if config.compressor is Compression.llmlingua2:
            self._compressor = Compressor(
                config.compressor_model, config.attention_layers, config.device, config.batch_size
            )
        self._topics = Topics(config, self._compressor)

    @property
    def needs(self) -> tuple[str, ...]:
        """The builder, and where similarity counts the embedder."""
        return ("builder", "embedder") if self.config.segmentation or self.config.update else ("builder",)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts it renders."""
        return ("extract", "repair_memory", *(("update",) if self.config.update else ()))

    def identity(self) -> Mapping[str, Any]:
        """The compressor's weights. Raises `UnreachableError` or `ConfigError` when it cannot be had or used."""
        if self._compressor is None:
            return {}
        self._compressor.check(self.config.sensory_tokens)
        return {"compressor": dict(self._compressor.identity())}

    async def construct(self, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The facts of a whole conversation, updated when `memory.update` is on."""
        return await self.extend(MemoryBank("", conversation.id, ()), conversation, context)

    async def extend(self, bank: MemoryBank, conversation: Conversation, context: MemoryContext) -> MemoryBank:
        """The bank with the facts of the sessions it does not cover; buffers begin empty and end empty."""
        ledger = Ledger()
        calls: list[Any] = []
        async with TaskGroup() as group:
            async for batch in self._topics.batches(conversation.sessions[bank.sessions :], context, ledger):
                shown = [m for segment in batch for e in segment for m in e.messages if self._topics.uses(m)]
                if shown:
                    job = self._extract(batch, shown, f"{conversation.id}/{len(calls)}", context, ledger)
                    calls.append(await spawn(group, context, job))
        units: list[MemoryUnit] = []
        unread: list[Unread] = []
        for made, failed in (task.result() for task in calls):
            units += made
            unread += failed
        ledger.counts["facts"] += len(units)
        bank = _joined(bank, bank.units + _numbered(units), len(conversation.sessions), ledger, unread)
        return await self.update(bank, context) if self.config.update else bank

    async def update(self, bank: MemoryBank, context: MemoryContext) -> MemoryBank:
        """The bank with every fact updated, deleted or left as it is, in the light of later ones that resemble it."""
        config, ledger = self.config, Ledger()
        order = time_order(bank.units)
        units = [bank.units[i] for i in order]
        vectors = await embed(context, [u.text for u in units], ledger, "update")
        queued = await to_thread(queues, vectors, config.update_nearest, config.update_queue)
        behind = sources(queued, config.update_threshold)
        asked: dict[int, Any] = {}
        async with TaskGroup() as group:
            for i, later in behind.items():
                job = self._decide(units[i], [units[s] for s in later], bank.conversation_id, context, ledger)
                asked[i] = await spawn(group, context, job)
        answers: dict[int, Answer[tuple[str, str]]] = {i: task.result() for i, task in asked.items()}
        decisions = {i: answer.value for i, answer in answers.items() if answer.value is not None}
        for action, _ in decisions.values():
            ledger.counts[f"decided_{action}"] += 1
        kept = {u.id: u for u in apply_decisions(units, decisions, behind)}
        unread = [answer.unread for answer in answers.values() if answer.unread is not None]
        # A decision that was taken anew now stands for one that could not be read before.
        bank = replace(bank, unread=tuple(u for u in bank.unread if u.stage != "update"))
        return _joined(bank, tuple(kept[u.id] for u in bank.units if u.id in kept), bank.sessions, ledger, unread)

    # --- the builder ----------------------------------------------------------------------------------------------

    async def _extract(
        self, batch: Sequence[Segment], shown: Sequence[Said], scope: str, context: MemoryContext, ledger: Ledger
    ) -> tuple[list[MemoryUnit], list[Unread]]:
        """The facts of one call, in the order of their messages; their ids are given later."""
        numbers = {id(m): i for i, m in enumerate(shown)}
        segments = [
            [
                {
                    "index": numbers[id(m)],
                    "date": format_date(m.time) if m.time else "",
                    "speaker": m.speaker or m.role,
                    "text": m.text,
                }
                for e in segment
                for m in e.messages
                if id(m) in numbers
            ]
            for segment in batch
        ]
        prompt = self._prompts.render("extract", segments=[s for s in segments if s], first=0, last=len(shown) - 1)
        answer: Answer[Facts] = await ask(
            context,
            self._prompts,
            prompt,
            lambda text: read_facts(text, len(shown)),
            stage="extract",
            scope=f"memory/{scope}",
            turn_ids=list(dict.fromkeys(m.turn_id for m in shown)),
            schema=FACTS_SCHEMA,
            max_tokens=self.config.reply_tokens,
            repairs=self.config.repairs,
            ledger=ledger,
            cut=lambda facts: facts.cut,
        )
        units = []
        if answer.value is not None:
            for reason, count in answer.value.refused.items():
                ledger.counts[f"refused_{reason}"] += count
            for source, text in sorted(answer.value.facts, key=lambda fact: fact[0]):
                said = shown[source]
                units.append(MemoryUnit("", text, said.time, said.session_id, (said.turn_id,), "fact"))
        return units, [answer.unread] if answer.unread else []

    async def _decide(
        self, unit: MemoryUnit, later: Sequence[MemoryUnit], scope: str, context: MemoryContext, ledger: Ledger
    ) -> Answer[tuple[str, str]]:
        prompt = self._prompts.render("update", entry=render_unit(unit), newer=[render_unit(u) for u in later])
        return await ask(
            context,
            self._prompts,
            prompt,
            read_decision,
            stage="update",
            scope=f"memory/{scope}/update/{unit.id}",
            turn_ids=unit.turn_ids,
            schema=DECISION_SCHEMA,
            max_tokens=self.config.reply_tokens,
            repairs=self.config.repairs,
            ledger=ledger,
        )


def _numbered(units: Sequence[MemoryUnit]) -> tuple[MemoryUnit, ...]:
    """Ids from the message and the count of its facts, so that they are stable and never meet those of another day."""
    counts: dict[str, int] = {}
    made = []
    for unit in units:
        (turn,) = unit.turn_ids
        counts[turn] = counts.get(turn, 0) + 1
        made.append(replace(unit, id=f"{turn}/fact{counts[turn]}"))
    return tuple(made)


def _joined(
    bank: MemoryBank, units: tuple[MemoryUnit, ...], sessions: int, ledger: Ledger, unread: Sequence[Unread]
) -> MemoryBank:
    """The bank with new units, and what was taken and met on top of what it had."""
    costs = {
        stage: bank.costs.get(stage, Cost()) + ledger.costs.get(stage, Cost())
        for stage in sorted({*bank.costs, *ledger.costs})
    }
    counts = {
        name: bank.counts.get(name, 0) + ledger.counts.get(name, 0) for name in sorted({*bank.counts, *ledger.counts})
    }
    return replace(bank, units=units, sessions=sessions, costs=costs, counts=counts, unread=(*bank.unread, *unread))

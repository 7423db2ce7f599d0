"""`lightmem`: LightMem's memory (arXiv 2510.18866), for many conversations at once.

In: a conversation. Messages are compressed, gathered in a sensory buffer, cut into topics, gathered in a short-term
buffer, and a builder extracts standalone facts; optionally facts that later ones overtake are updated at rest. Out: a
bank of facts, each with the message it came from. No extraction depends on another, so all calls of all conversations
are in flight together; compression, attention and embedding of all of them share batches and go on meanwhile.
"""

from __future__ import annotations

from asyncio import to_thread
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.contracts import MemoryConstructor
from metamem.core.records import Conversation, MemoryUnit
from metamem.core.registry import register
from metamem.core.text import format_date, render_unit
from metamem.memory.lightmem.buffers import BufferedMessage, Segment
from metamem.memory.lightmem.compression import Compressor
from metamem.memory.lightmem.options import Compression, Extraction, LightMemOptions
from metamem.memory.lightmem.replies import DECISION, Facts, facts_form
from metamem.memory.lightmem.topics import TopicCutter, embed
from metamem.memory.lightmem.updating import apply_decisions, queues, sources, time_order
from metamem.memory.scribe import Answer, Scribe
from metamem.replies.asking import REPAIR


@register("memory", "lightmem")
class LightMem(MemoryConstructor):
    """LightMem: standalone facts that the builder extracts from topics of compressed messages."""

    version = 2

    @dataclass
    class Config(LightMemOptions):
        """LightMem's settings; the defaults are the paper's, less compression and update."""

    @classmethod
    def without_weights(cls, options: Config) -> Config:
        """Return the options without compression."""
        return options if options.compressor is Compression.none else replace(options, compressor=Compression.none)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._compressor: Compressor | None = None
        if config.compressor is Compression.llmlingua2:
            self._compressor = Compressor(
                config.compressor_model, config.attention_layers, config.device, config.batch_size
            )
        self._topics = TopicCutter(config, self._compressor)
        # Similarity counts for topics and for what overtakes what.
        self.needs = ("builder", "embedder") if config.segmentation or config.update else ("builder",)
        self.prompts = ("extract", REPAIR, *(("update",) if config.update else ()))

    def identity(self) -> Mapping[str, Any]:
        """Return the compressor's weights. Raises `UnreachableError` or `ConfigError` when it cannot be had or used."""
        if self._compressor is None:
            return {}
        self._compressor.check(self.config.sensory_tokens)
        return {"compressor": dict(self._compressor.identity())}

    async def grow(self, bank: MemoryBank | None, conversation: Conversation, scribe: Scribe) -> None:
        """Add the facts of the sessions that are new (buffers begin empty and end empty), then rework all of them."""
        facts: Counter[str] = Counter()
        async for found in scribe.side_by_side(self._extractions(scribe)):
            for said, text in found:
                # Ids from the message and the count of its facts: they are stable and never meet those of another day.
                facts[said.turn_id] += 1
                id = f"{said.turn_id}/fact{facts[said.turn_id]}"
                unit = MemoryUnit(id, text, said.time, said.session_id, (said.turn_id,), "fact")
                scribe.notebook.put(unit)
        scribe.counts["facts"] += facts.total()
        if self.config.update:
            await self._rework(scribe)

    async def _extractions(
        self, scribe: Scribe
    ) -> AsyncIterator[Coroutine[Any, Any, list[tuple[BufferedMessage, str]]]]:
        """Yield a call for each batch of topics that has a message to extract from."""
        calls = 0
        async for batch in self._topics.batches(scribe):
            shown = [m for segment in batch for e in segment for m in e.messages if self._topics.uses(m)]
            if shown:
                yield self._extract(batch, shown, calls, scribe)
                calls += 1

    async def _extract(
        self, batch: Sequence[Segment], shown: Sequence[BufferedMessage], call: int, scribe: Scribe
    ) -> list[tuple[BufferedMessage, str]]:
        """Return the facts of one call with their messages, in the order of these."""
        numbers = {id(m): i for i, m in enumerate(shown)}
        segments = [
            [
                {
                    "index": numbers[id(m)],
                    "date": format_date(m.time),
                    "speaker": m.speaker or m.role,
                    "text": m.text,
                }
                for e in segment
                for m in e.messages
                if id(m) in numbers
            ]
            for segment in batch
        ]
        answer: Answer[Facts] = await scribe.ask(
            "extract",
            facts_form(len(shown)),
            stage="extract",
            place=call,
            turn_ids=list(dict.fromkeys(m.turn_id for m in shown)),
            max_tokens=self.config.reply_tokens,
            repairs=self.config.repairs,
            exhaustive=self.config.extraction is Extraction.exhaustive,
            segments=[s for s in segments if s],
            first=0,
            last=len(shown) - 1,
        )
        if answer.value is None:
            return []
        for reason, count in answer.value.refused.items():
            scribe.counts[f"refused_{reason}"] += count
        return [(shown[source], text) for source, text in sorted(answer.value.facts, key=lambda fact: fact[0])]

    async def _rework(self, scribe: Scribe) -> None:
        """Update, delete or leave every fact, in the light of later ones that resemble it."""
        config, held = self.config, scribe.notebook.units
        units = [held[i] for i in time_order(held)]
        vectors = await embed(scribe, [u.text for u in units], "update")
        queued = await to_thread(queues, vectors, config.update_nearest, config.update_queue)
        behind = sources(queued, config.update_threshold)
        # A decision that is taken anew stands for one that could not be read before.
        scribe.unread = [u for u in scribe.unread if u.stage != "update"]
        decisions: dict[int, tuple[str, str]] = {}
        jobs = (self._decide(i, units[i], [units[s] for s in later], scribe) for i, later in behind.items())
        async for i, decision in scribe.side_by_side(jobs):
            if decision is not None:
                decisions[i] = decision
                scribe.counts[f"decided_{decision[0]}"] += 1
        kept = {u.id: u for u in apply_decisions(units, decisions, behind)}
        scribe.notebook.replace(kept[u.id] for u in held if u.id in kept)

    async def _decide(
        self, number: int, unit: MemoryUnit, later: Sequence[MemoryUnit], scribe: Scribe
    ) -> tuple[int, tuple[str, str] | None]:
        answer = await scribe.ask(
            "update",
            DECISION,
            stage="update",
            place=f"update/{unit.id}",
            turn_ids=unit.turn_ids,
            max_tokens=self.config.reply_tokens,
            repairs=self.config.repairs,
            entry=render_unit(unit),
            newer=[render_unit(u) for u in later],
        )
        return number, answer.value

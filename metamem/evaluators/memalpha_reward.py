"""Mem-α's reward, of answers and of the memories that an evaluation built: each episode's terms and their means.

In: banks with their history, the judged answers of each system, a judge for what was written. Out: a row per system and
episode (a conversation with the questions of one source), with the terms and the reward of each chunk, and the means
that go into the result. An episode of which a call, an answer or a verdict was not delivered, or could not be read, has
no reward: it is left out and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.banks import Effect, MemoryBank
from metamem.core.contracts import Caller, Tracker
from metamem.core.evaluating import BankTools, Rubric
from metamem.core.json_form import digest
from metamem.core.learned import Judged
from metamem.core.registry import option, register
from metamem.evaluators import memalpha_terms as reward
from metamem.evaluators.asking import TemplateJudge
from metamem.evaluators.llm_judge import retries_by_now
from metamem.evaluators.sources import BySource
from metamem.prompts.templates import Prompts
from metamem.replies.json_in_text import Form
from metamem.replies.verdicts import JSON, read_verdict

_WORD: Form[bool] = Form(JSON.schema, lambda text: read_verdict(text)[0])


class ContentJudge:
    """Says whether what was written suits the part it was written to; asked without reasoning, and again for a reply
    that cannot be read.
    """

    def __init__(self, judge: Caller, prompts: Prompts, *, retries: int = 2, max_tokens: int = 512) -> None:
        self._judge = TemplateJudge(judge, prompts, retries=retries, max_tokens=max_tokens, seed=0)

    async def suits(self, part: str, text: str) -> bool | None:
        """The judge's word; None where none was delivered, or none of its replies could be read."""
        place = f"content/{digest([part, text])}"
        return (await self._judge.ask("content_fits", _WORD, place, part=part, text=text)).value

    async def verdicts(self, history: Sequence[Effect]) -> list[bool | None] | None:
        """Return the word on each effect, None on those that were to write nothing; None for all when there is none on
        one that was. The same text for the same part is asked about once.
        """
        wanted = [(effect.part, reward.written(effect)) for effect in history]
        asked = list(dict.fromkeys(pair for pair in wanted if pair[1]))
        found = dict(zip(asked, await asyncio.gather(*(self.suits(*pair) for pair in asked)), strict=True))
        return None if None in found.values() else [found.get(pair) for pair in wanted]


@dataclass(frozen=True)
class WrittenTerms:
    """The terms that belong to a memory, whoever answers from it: compression, and by chunk those of
    `memalpha_terms.of_chunks`.
    """

    compression: float
    chunks: tuple[tuple[float, ...], tuple[float, ...]]


@register("evaluator", "memalpha_reward")
class MemAlphaReward(BySource):
    """Mem-α's reward: of one reply its task term (by source); of whole episodes all terms, with these weights."""

    name = "memalpha_reward"

    @dataclass
    class Config(BySource.Config):
        """The weights of the terms that an episode adds."""

        beta: float = option(0.05, "weight of compression", least=0)
        gamma: float = option(0.1, "weight of the share of calls whose text suits its part", least=0)

    def __init__(
        self,
        config: Config,
        *,
        judge: Caller | None = None,
        rubric: Rubric | None = None,
        seed: int = 0,
        prompts: Prompts | None = None,
        asked_again: int = 0,
    ) -> None:
        super().__init__(config, judge=judge, rubric=rubric, prompts=prompts, seed=seed, asked_again=asked_again)
        self._config = config
        self._content: ContentJudge | None = None
        if judge is not None and prompts is not None:
            retries = retries_by_now(config.retries, asked_again)
            self._content = ContentJudge(judge, prompts, retries=retries, max_tokens=config.max_tokens)

    @classmethod
    def scores(cls, built: bool) -> bool:
        """Return whether a builder wrote them: its calls are what is rewarded."""
        return built

    async def banks(self, judged: Mapping[str, Sequence[Judged]], tools: BankTools) -> Sequence[Mapping[str, Any]]:
        """Return a row for each system and episode, with the reward's terms; none for memories that do not say how long
        they and what they read are.
        """
        if self._content is None or not any("input_tokens" in bank.counts for bank in tools.banks.values()):
            return []
        return await rewards(tools.banks, judged, self._content, self._config.beta, self._config.gamma, tools.tracker)

    @classmethod
    def figures(
        cls, options: Config, rows: Sequence[Mapping[str, Any]], judged: Mapping[str, Sequence[Judged]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the means of the terms and of the reward by system, with the counts; nothing without episodes."""
        beta, gamma = options.beta, options.gamma
        return {name: _means([r for r in rows if r["system"] == name], beta, gamma) for name in judged} if rows else {}


async def rewards(
    banks: Mapping[str, MemoryBank],
    judged: Mapping[str, Sequence[Judged]],
    judge: ContentJudge,
    beta: float,
    gamma: float,
    tracker: Tracker,
) -> list[dict[str, Any]]:
    """Return a row for every episode of a system."""
    tracker.stage("what was written", len(banks), "memory")

    async def one(bank: MemoryBank) -> WrittenTerms | None:
        counts = bank.counts
        suits = None if bank.unread else await judge.verdicts(bank.history)
        tracker.advance("memory")
        if suits is None:
            return None
        return WrittenTerms(
            reward.compression(counts.get("memory_tokens", 0), counts.get("input_tokens", 0)),
            reward.of_chunks(bank.history, suits, counts.get("chunks", 0)),
        )

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(one(bank)) for name, bank in banks.items()}
    written = {name: task.result() for name, task in tasks.items()}
    return [row for label, answers in judged.items() for row in _rows(label, answers, written, beta, gamma)]


def _rows(
    label: str, answers: Sequence[Judged], written: Mapping[str, WrittenTerms | None], beta: float, gamma: float
) -> Iterable[dict[str, Any]]:
    episodes: dict[tuple[str, str], list[Judged]] = {}
    for j in answers:
        if (conversation := j.question.conversation_id or "") in written:
            episodes.setdefault((j.question.type, conversation), []).append(j)
    for (source, conversation), asked in sorted(episodes.items()):
        memory = written[conversation]
        verdicts = [v for j in asked for v in (*j.verdicts, *j.other_verdicts) if v.evaluator == MemAlphaReward.name]
        row = {"system": label, "source": source, "conversation": conversation, "questions": len(asked)}
        if memory is None or not all(v.valid for v in verdicts):
            yield {**row, "left_out": True}
            continue
        terms = reward.Terms(reward.task_score([v.score for v in verdicts]), memory.compression, *memory.chunks)
        yield {
            **row,
            "left_out": False,
            **terms.means(),
            "reward": terms.total(beta, gamma),
            "chunk_calls": list(terms.calls),
            "chunk_content": list(terms.content),
            "chunk_rewards": terms.rewards(beta, gamma),
        }


def _means(rows: Sequence[Mapping[str, Any]], beta: float, gamma: float) -> dict[str, Any]:
    kept = [row for row in rows if not row["left_out"]]
    names = ("task", "calls", "compression", "content", "reward")
    means = {name: sum(row[name] for row in kept) / len(kept) if kept else None for name in names}
    return {"episodes": len(kept), "left_out": len(rows) - len(kept), "beta": beta, "gamma": gamma, **means}

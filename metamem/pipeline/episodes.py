"""Groups of episodes for training a builder: memories written several times over, answered from, and scored.

In: conversations with their questions, and what writes, answers and judges. Out: a row per episode: every prompt, reply
and call with what it did and the judge's word on it, the memory's changes, the answers and their scores, and for each
chunk the reward, its terms, and the advantage among all chunks of its group. Episodes of which a call, an answer or a
verdict was not delivered have no reward: they are left out and counted. Any memory that asks a builder can be written
so; the terms are those of Mem-α (arXiv 2509.25911), with tokens counted as words where a memory counts none itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from metamem.backbones.journal import draw_key, request_hash
from metamem.core.banks import NO_CALL, Effect, MemoryBank
from metamem.core.calls import Draw, Failure, Generation, Message, Request, Sampling
from metamem.core.contracts import (
    Backbone,
    Caller,
    MemoryConstructor,
    MemoryContext,
    Reply,
    RetrievalTools,
    Retriever,
    Tracker,
)
from metamem.core.errors import BackboneError, ConfigError
from metamem.core.evaluating import Evaluator
from metamem.core.json_form import digest, to_json
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Conversation, Question
from metamem.core.tokens import count_tokens
from metamem.evaluators import memalpha_terms as reward
from metamem.evaluators.memalpha_reward import ContentJudge
from metamem.memory.growing import scribe_of
from metamem.memory.scribe import LostError
from metamem.pipeline.bench import Bench
from metamem.prompts.templates import Prompts
from metamem.retrieval.evidence import EvidenceOrder, assemble
from metamem.retrieval.searching import Searcher


class Tokens(Protocol):
    """The token ids that a trainer needs: those of a prompt as the model's chat template sets it, and of a reply."""

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """The ids of a prompt, up to where the reply begins."""

    def reply(self, text: str) -> list[int]:
        """The ids of a reply's text."""


@dataclass
class Makers:
    """What episodes are made with. Without `tokens` the rows hold no ids; without `content` nothing is judged to suit,
    which is for a `gamma` of 0.
    """

    memory: MemoryConstructor
    retriever: Retriever
    tools: RetrievalTools
    prompts: Prompts
    builder: Caller
    policy: Caller
    content: ContentJudge | None
    evaluator: Evaluator
    tracker: Tracker
    seed: int = 0
    beta: float = reward.BETA
    gamma: float = reward.GAMMA
    budget: int | None = None
    tokenizer: str = "words"
    order: EvidenceOrder = EvidenceOrder.score
    tokens: Tokens | None = None
    searcher: Searcher | None = None
    context: MemoryContext = field(default_factory=MemoryContext)
    meta_memory: MetaMemory | None = None  # whose guidelines the reader is shown
    temperature: float = 0.0  # at which memories are written


async def sample_groups(
    makers: Makers, asked: Sequence[tuple[Conversation, Sequence[Question]]], size: int
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """`size` episodes of every conversation, all at once; rows in the order given, and how many were left out, why.

    Raises `ConfigError` for a builder that would write every episode of a group alike.
    """
    if size > 1 and makers.temperature <= 0:
        raise ConfigError(f"memory.temperature must be above 0 for groups of {size} episodes, or all would be the same")
    makers.context.builder, makers.context.prompts = makers.builder, makers.prompts
    makers.tracker.stage("episodes", len(asked) * size, "episode")
    async with asyncio.TaskGroup() as group:
        tasks = [[group.create_task(_episode(makers, c, qs, i)) for i in range(size)] for c, qs in asked]
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for of_group in tasks:
        made = [task.result() for task in of_group]
        left_out.update(row for row in made if isinstance(row, str))
        kept = [row for row in made if not isinstance(row, str)]
        advantages = iter(reward.advantages([r for row in kept for r in row["chunk_rewards"]]))
        rows += [{**row, "chunk_advantages": [next(advantages) for _ in row["chunk_rewards"]]} for row in kept]
    return rows, left_out


async def _episode(
    makers: Makers, conversation: Conversation, questions: Sequence[Question], number: int
) -> dict[str, Any] | str:
    """The row of one episode, or why it has none."""
    recorder = Recorder(makers.builder)
    context = replace(makers.context, builder=recorder)
    scribe = scribe_of(makers.memory, conversation, context, draw=number)
    lost = False
    try:
        await makers.memory.grow(None, conversation, scribe)
    except* LostError:
        lost = True
    if lost:
        return "a call of the builder was not delivered"
    bank = scribe.bank()
    answers = await _answers(makers, bank, questions, number)
    suits = await makers.content.verdicts(bank.history) if makers.content else [None] * len(bank.history)
    makers.tracker.advance("episode")
    if any(answer["score"] is None for answer in answers):
        return "an answer or its verdict was not delivered"
    if suits is None:
        return "a verdict on the content was not delivered, or could not be read"
    read, kept = sizes_of(bank, conversation)
    terms = reward.Terms(
        reward.task_score([answer["score"] for answer in answers]),
        reward.compression(kept, read),
        *reward.of_chunks(bank.history, suits, bank.counts.get("chunks", 0)),
    )
    return {
        "group": f"{questions[0].type}/{conversation.id}" if questions else conversation.id,
        "episode": number,
        **_exchanges(makers, recorder.said(), bank.history, suits),
        "changes": [_change(effect) for effect in bank.history if effect.change is not None],
        "answers": answers,
        "chunk_calls": list(terms.calls),
        "chunk_content": list(terms.content),
        "chunk_rewards": terms.rewards(makers.beta, makers.gamma),
        **{f"reward_{name}": value for name, value in terms.means().items()},
        "reward": terms.total(makers.beta, makers.gamma),
        "memory_tokens": kept,
        "input_tokens": read,
    }


def sizes_of(bank: MemoryBank, conversation: Conversation) -> tuple[int, int]:
    """Return the tokens that a bank was written from, and its own: as the memory counts them, else in words."""
    if "input_tokens" in bank.counts:
        return bank.counts["input_tokens"], bank.counts["memory_tokens"]
    read = sum(count_tokens(turn.text, "words") for session in conversation.sessions for turn in session.turns)
    return read, sum(count_tokens(unit.text, "words") for unit in bank.units)


@dataclass(frozen=True)
class WritingExchange:
    """One request to the builder and what it said; `place` is where in the writing."""

    place: tuple[str, int]
    request: Request
    generation: Generation
    key: str


class Recorder:
    """A builder whose every exchange in one episode is kept."""

    def __init__(self, caller: Caller) -> None:
        self.backbone, self.counts = caller.backbone, caller.counts
        self._caller = caller
        self._said: list[WritingExchange] = []

    @property
    def label(self) -> str:
        """The builder's name."""
        return self._caller.label

    def sampling(self) -> Sampling:
        """The builder's sampling."""
        return self._caller.sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        """Ask the builder and keep what it says."""
        replies = await self._caller(request)
        for reply in replies:
            if isinstance(reply.outcome, Generation):
                place = (request.draws[0].scope, request.repeat)
                self._said.append(WritingExchange(place, request, reply.outcome, reply.key))
        return replies

    def said(self) -> list[WritingExchange]:
        """Return the exchanges in an order that does not depend on which came first."""
        return sorted(self._said, key=lambda e: (_natural(e.place[0]), e.place[1]))


class Sampled:
    """A backbone of this process as a caller without a journal, which samples at one temperature whatever is asked for:
    a model that changes with every update. `scope` names the update, so that the next one draws anew.
    """

    def __init__(self, backbone: Backbone, scope: str, temperature: float) -> None:
        self.backbone = backbone
        self.counts: Counter[str] = Counter()
        self._scope, self._heat, self._identity = scope, temperature, backbone.identity()

    @property
    def label(self) -> str:
        """The model's name."""
        return str(self._identity.get("model", ""))

    def sampling(self) -> Sampling:
        """Return the backbone's sampling at this temperature."""
        return replace(self.backbone.sampling(), temperature=self._heat)

    async def __call__(self, request: Request) -> list[Reply]:
        """Return a reply to each draw; what the backbone refuses is a failure."""
        draws = tuple(Draw(f"{self._scope}/{draw.scope}", draw.index) for draw in request.draws)
        asked = replace(request, sampling=replace(request.sampling, temperature=self._heat), draws=draws)
        try:
            said = await self.backbone.generate(asked)
        except BackboneError as error:
            self.counts["failed"] += len(draws)
            return [Reply("", Failure(error.reason, error.passing)) for _ in draws]
        self.counts["delivered"] += len(said)
        known = request_hash(self._identity, asked)
        said = said if self._heat > 0 else said * len(draws)
        return [Reply(draw_key(known, asked, d), g) for d, g in zip(draws, said, strict=True)]


def _change(effect: Effect) -> dict[str, Any]:
    names = ("chunk", "operation", "part", "id", "before", "after")
    return {"number": effect.change, **{name: getattr(effect, name) for name in names}}


def _natural(place: str) -> tuple[Any, ...]:
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in place.split("/"))


def _exchanges(
    makers: Makers, said: Sequence[WritingExchange], history: Sequence[Effect], suits: Sequence[bool | None]
) -> dict[str, Any]:
    """Return what was asked and said, reply by reply; `suits` has the judge's word on each effect of the history. The
    chunk of a reply that did nothing to the memory is -1.
    """
    effects: dict[str, list[tuple[Effect, bool | None]]] = {}
    for effect, word in zip(history, suits, strict=True):
        effects.setdefault(effect.key, []).append((effect, word))
    called = {key: [(e, w) for e, w in of if e.result != NO_CALL] for key, of in effects.items()}
    tokens = makers.tokens

    def ids(generation: Generation) -> list[int]:
        return list(generation.token_ids) or (tokens.reply(generation.text) if tokens else [])

    return {
        "chunks": [effects[e.key][0][0].chunk if e.key in effects else -1 for e in said],
        "prompts": [[to_json(m) for m in e.request.messages] for e in said],
        "replies": [e.generation.text for e in said],
        "native_calls": [[to_json(c) for c in e.generation.calls] for e in said],
        "calls": [[to_json(effect) for effect, _ in called.get(e.key, ())] for e in said],
        "verdicts": [[word for _, word in called.get(e.key, ())] for e in said],
        "keys": [e.key for e in said],
        "prompt_ids": [tokens.prompt(e.request.messages, e.request.tools) if tokens else [] for e in said],
        "reply_ids": [ids(e.generation) for e in said],
    }


async def _answers(
    makers: Makers, bank: MemoryBank, questions: Sequence[Question], number: int
) -> list[dict[str, Any]]:
    """The reader's answer to each question and its score; None where there is none."""
    # Named by what it holds: retrievers keep indexes by a bank's id.
    bank = replace(bank, id=digest(to_json(bank.units), 32))
    found = await makers.retriever.retrieve(bank, questions, makers.tools)
    kept = {
        q.id: assemble(q, one.evidence, makers.budget, makers.tokenizer, makers.order)
        for q, one in zip(questions, found, strict=True)
    }
    name = makers.evaluator.name
    bench = Bench(
        prompts=makers.prompts,
        policy=makers.policy,
        evaluators={name: makers.evaluator},
        reward=name,
        evidence=kept,
        seed=makers.seed,
        tracker=makers.tracker,
        searcher=makers.searcher,
        banks={bank.conversation_id: bank},
    )
    # Who wrote the memory is no matter of the reader's.
    shown = None if makers.meta_memory is None else replace(makers.meta_memory, adapter=None)
    judged = await asyncio.gather(*(bench.attempt(q, shown, f"episode/{number}", 1, 0.0, "episode") for q in questions))
    return [
        {
            "question_id": j.question.id,
            "response": j.attempts[0].response,
            "key": j.attempts[0].key,
            "searches": to_json(j.attempts[0].searches),
            "score": j.verdicts[0].score if j.verdicts[0].valid else None,
        }
        for j in judged
    ]

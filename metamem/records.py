"""The typed records that flow through a run, and their one JSON form.

In: data sets make `Conversation` and `Question`; memories make `MemoryUnit`; retrievers make `Evidence`; backbones turn
a `Request` into `Generation`s; the stages make `Attempt` and `Verdict`. Out: `to_json` / `from_json`, used for every
file. Records are immutable and know nothing about components.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from functools import cache
from typing import Any, TypeVar

R = TypeVar("R")


# --- what a data set holds


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `id` is unique in its conversation; `role` is user or assistant; `speaker` is the name to show."""

    id: str
    role: str
    text: str
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """Turns held in one sitting. `time` is when it began (naive local time), None when the data does not say."""

    id: str
    time: datetime | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The sessions of one user (or one pair of speakers), in the order of the data."""

    id: str
    sessions: tuple[Session, ...]


@dataclass(frozen=True, slots=True)
class MemoryUnit:
    """One fragment of memory: its text, when it was said, and the session and turns it came from."""

    id: str
    text: str
    time: datetime | None = None
    session_id: str | None = None
    turn_ids: tuple[str, ...] = ()
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A memory unit retrieved for a question; `rank` counts from 0 in the order of `score` (higher is better)."""

    unit: MemoryUnit
    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its accepted answers.

    `group` names what must not be split over training and test (a base question, a conversation). `evidence_turns` are
    ids of turns of the conversation, `evidence_sessions` of sessions; empty when unknown. `prepared` holds the evidence
    itself where the data set brings it along; then there is no conversation. `date` is when the question is asked.
    `category` keeps a benchmark's own label beside `type`.
    """

    id: str
    text: str
    type: str
    answers: tuple[str, ...]
    date: datetime | None = None
    abstention: bool = False
    conversation_id: str | None = None
    group: str = ""
    evidence_turns: tuple[str, ...] = ()
    evidence_sessions: tuple[str, ...] = ()
    prepared: tuple[MemoryUnit, ...] | None = None
    category: str = ""
    forbidden_answer: str | None = None


# --- what a backbone is asked and gives


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Every sampling field with its resolved value; all are always sent, so that one config means one sampler
    everywhere.

    `top_k` 0 and `min_p` 0 are off. `thinking` switches a thinking model's reasoning; `thinking_budget` bounds it in
    tokens.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    thinking: bool = False
    thinking_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """Which sample this is: a place in the run (`scope`, such as `7/train/3/q12`) and an index there.

    The sampling seed of index i is that of index 0 plus i, which is how engines seed the samples of one request, so
    that a sample is the same whether asked for alone or among others.
    """

    scope: str
    index: int = 0

    @property
    def seed(self) -> int:
        """The sampling seed, 31 bits, from scope and index alone."""
        base = int.from_bytes(hashlib.sha256(self.scope.encode()).digest()[:4], "big") & 0x3FFFFFFF
        return base + self.index


@dataclass(frozen=True, slots=True)
class Request:
    """One call: the messages, how to sample, and which draws of it are wanted (their indices consecutive).

    `schema` is a JSON schema the reply must follow where the backbone can enforce it. `repeat` counts deliberate
    repetitions (asking again after an unreadable reply, a second verdict), so that a greedy repetition is a call of its
    own. `tools` are the functions the model may call, each a JSON schema (`{"type": "function", "function": {...}}`).
    With a `continuation` no reply is wanted but the scores of that text's tokens, as if it were the reply.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    draws: tuple[Draw, ...] = (Draw(""),)
    schema: dict[str, Any] | None = None
    repeat: int = 0
    tools: tuple[dict[str, Any], ...] = ()
    continuation: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one sample. The prompt's are counted once per sample, though an engine may share them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as a server read it out of a reply: the tool's name, and its arguments as the model wrote them (JSON)."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One delivered sample. `text` is without reasoning; `finish_reason` is stop or length (cut at its limit).

    `calls` are those that the backbone reads apart; others stand in the text, in the model's own form. `scores` are
    the natural log-probabilities of a continuation's tokens, where those were asked for.
    """

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that was not delivered, with the reason. Never stored in the journal."""

    reason: str


# --- what the stages make


@dataclass(frozen=True, slots=True)
class Search:
    """One call to search the memory while answering, and what came of it.

    `turn` counts the replies of an attempt from 0; `key` is the journal key of the reply that called. `result` is
    found (also of nothing), refused or malformed. `call` holds its arguments as JSON (what was written, where it is
    malformed), `reply` what the model was told; `units` are ids, `lines` their texts as they were shown.
    """

    turn: int
    key: str
    result: str
    call: str
    reply: str
    units: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer to a question, or its failure (`error` set, `response` empty).

    `id` is unique in its run: `scope#index`. The hashes are of the meta-memory's rendering, the evidence and the
    prompt; `key` is the journal key of the reply. `searches` came before the answer; `usage` is of all turns together.
    """

    id: str
    question_id: str
    scope: str
    draw: int
    response: str
    finish_reason: str = "stop"
    error: str | None = None
    usage: Usage = Usage()
    meta_memory_hash: str = ""
    evidence_hash: str = ""
    prompt_hash: str = ""
    key: str = ""
    searches: tuple[Search, ...] = ()

    @property
    def cut(self) -> bool:
        """True when the reply hit its token limit."""
        return self.finish_reason == "length"


class Status(StrEnum):
    """`scored`: the score counts. `invalid`: no verdict could be had; never counted as a wrong answer."""

    scored = "scored"
    invalid = "invalid"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A score for one attempt by one evaluator.

    `score` is in [0, 1] (0 when invalid); `correct` is the score against the evaluator's threshold, None when invalid.
    `reason` says why a verdict is invalid, or why an attempt was wrong without being read (an empty reply).
    """

    attempt_id: str
    question_id: str
    evaluator: str
    status: Status
    score: float = 0.0
    correct: bool | None = None
    judge: str = ""
    rubric: str = ""
    repeat: int = 0
    raw: str = ""
    reason: str = ""
    usage: Usage = Usage()

    @property
    def valid(self) -> bool:
        """True when the verdict counts."""
        return self.status is Status.scored


def teaches(attempts: typing.Sequence[Attempt], verdicts: typing.Sequence[Verdict]) -> bool:
    """True when at least two uncut attempts have valid verdicts and these disagree.

    `attempts` and `verdicts` are those of one question, paired by `attempt_id`.
    """
    uncut = {a.id for a in attempts if not a.cut and a.error is None}
    outcomes = [v.correct for v in verdicts if v.valid and v.attempt_id in uncut]
    return len(outcomes) >= 2 and len(set(outcomes)) > 1


# --- the JSON form


_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_json(value: Any) -> Any:
    """A record (or a tuple, dict, date or enum of them) as plain JSON values, defaults included."""
    if type(value) in _PLAIN:  # most values by far
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _field_names(type(value))}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    raise TypeError(f"not a record value: {type(value).__name__}")


def from_json(cls: type[R], data: dict[str, Any]) -> R:
    """The record of type `cls` from its JSON form. Unknown keys are refused with a KeyError, wrong shapes with a
    TypeError.
    """
    hints: dict[str, Any] = _hints(typing.cast(Any, cls))
    unknown = set(data) - set(hints)
    if unknown:
        raise KeyError(f"{cls.__name__} has no field {sorted(unknown)[0]!r}")
    return cls(**{name: _read(hints[name], value) for name, value in data.items()})


def canonical(value: Any) -> str:
    """The canonical JSON text of a value: sorted keys, no spaces, non-ASCII kept."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any, length: int = 16) -> str:
    """Hex digest (sha256, first `length` digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:length]


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [a for a in typing.get_args(hint) if a is not type(None)]
        return _read(inner, value)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {type(value).__name__}")
        return tuple(_read(typing.get_args(hint)[0], v) for v in value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    return value

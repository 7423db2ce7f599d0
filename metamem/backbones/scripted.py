"""`simulated`: a scripted stand-in for a language model, for tests and for measuring everything around an engine.

In: a `Request`. Out: the example of the template that its prompt was made of (`metamem.prompts.examples`), filled from
that prompt by chance, with faults at the rates asked for. It holds no language model and knows no task, so its figures
say nothing about models.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import dumps
from typing import Any

from metamem.backbones.options import SamplingOptions
from metamem.core.calls import Generation, Message, Request, Sampling, Usage
from metamem.core.errors import BackboneError
from metamem.core.json_form import canonical, digest
from metamem.core.registry import option, register
from metamem.prompts.catalog import every_template
from metamem.prompts.examples import FoundTemplate, find_template, render_example
from metamem.replies.json_in_text import UnreadableError
from metamem.replies.tool_calls import CLOSE, OPEN
from metamem.replies.verdicts import read_verdict

# The options that can change a reply.
_MATTERS = ("seed", "error_rate", "empty_rate", "malformed_rate", "unreadable_rate", "cut_rate")
_HEDGES = (
    "It is hard to say; there is something for it and something against it.",
    "It could be read either way.",
    "I cannot determine this from what is given.",
)
_ANY_WORD = 50_000  # words that there are, for what a prompt does not hold


@register("backbone", "simulated")
class Scripted:
    """Scripted stand-in without a language model: for tests and first runs, never for results.

    Greedy replies depend on messages and repeat, sampled ones also on the draw's seed. Of the sampling fields only
    `temperature` (above 0 or not), `max_tokens` (counted in words) and `stop` act.
    """

    VERSION = 2

    @dataclass
    class Config(SamplingOptions):
        """How it samples, and how it fails."""

        seed: int = option(0, "seed of its own chance, beside that of a draw")
        error_rate: float = option(0.0, "share of requests that fail for good", least=0, most=1)
        empty_rate: float = option(0.0, "share of replies that are empty", least=0, most=1)
        malformed_rate: float = option(
            0.0, "share of replies of JSON or calls that are cut or missing", least=0, most=1
        )
        unreadable_rate: float = option(0.0, "share of verdicts that say neither yes nor no", least=0, most=1)
        cut_rate: float = option(0.0, "share of replies that end at the token limit", least=0, most=1)
        latency: float = option(0.0, "seconds that every request takes", least=0, result=False)
        slow_rate: float = option(0.0, "share of requests that take slow_seconds longer", least=0, most=1, result=False)
        slow_seconds: float = option(1.0, "seconds that a slow request takes longer", least=0, result=False)

    max_samples = 64

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Its version, the examples that it replies from, and the options that can change a reply."""
        options = {name: getattr(self.config, name) for name in _MATTERS}
        about = {"kind": "simulated", "version": self.VERSION, "stamp": "simulated", "examples": _examples()}
        return about | options

    def sampling(self) -> Sampling:
        """The resolved sampling of the config."""
        return self.config.resolved()

    async def start(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to release."""

    async def generate(self, request: Request) -> list[Generation]:
        """A sample for each draw. Raises `BackboneError` for the share `error_rate` of requests."""
        prompt = _fingerprint(request)
        sampled = request.sampling.temperature > 0
        await self._meet_fate(f"{prompt}/{request.draws[0].scope if sampled else ''}")
        tokens = sum(_tokens(m.content) for m in request.messages)
        asked = find_template(request.messages)
        if not sampled:
            return [self._sample(request, asked, tokens, f"{prompt}/greedy")] * len(request.draws)
        return [self._sample(request, asked, tokens, f"{prompt}/{draw.seed}") for draw in request.draws]

    async def score(self, messages: Sequence[Message], continuation: str) -> list[float]:
        """A log-probability for each word: words that the prompt holds are likelier, the others by a hash of theirs.

        Raises `BackboneError` for the share `error_rate` of texts.
        """
        await self._meet_fate(f"{_fingerprint(Request(tuple(messages), Sampling()))}/{continuation}")
        counts = [_counts(m.content) for m in messages]
        total = max(sum(c.total() for c in counts), 1)
        scores = []
        for word in _bare_words(continuation):
            rare = 1 + int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=1).digest())
            held = sum(c[word] for c in counts) / total
            scores.append(math.log(0.9 * held + 0.1 / (_ANY_WORD * rare)))
        return scores

    async def _meet_fate(self, name: str) -> None:
        """Wait as long as a request takes, and fail where it does: one fate for its draws, however they are split."""
        config, fails, seconds = self.config, False, self.config.latency
        if config.error_rate or config.slow_rate:
            rng = random.Random(f"{config.seed}/fate/{name}")
            fails = rng.random() < config.error_rate
            seconds += config.slow_seconds * (rng.random() < config.slow_rate)
        if seconds > 0:
            await asyncio.sleep(seconds)
        if fails:
            raise BackboneError("simulated failure")

    def _sample(self, request: Request, asked: FoundTemplate | None, tokens: int, name: str) -> Generation:
        config, limit = self.config, request.sampling.max_tokens
        rng = random.Random(f"{config.seed}/{name}")
        # Drawn first and always, so that one rate does not shift what another decides.
        empty, malformed, unreadable, cut = (rng.random() for _ in range(4))
        if empty < config.empty_rate:
            return Generation("", "stop", Usage(tokens, 0))
        if asked is not None:
            text = render_example(asked, rng, request.tools, limit)
        elif request.schema is not None:
            text = dumps(_of_schema(request.schema, request.messages[-1].content.split() or ["nothing"], rng))
        elif request.tools:
            tool = rng.choice(request.tools)["function"]
            text = _called(tool, request.messages[-1].content.split() or ["nothing"], rng)
        else:
            text = _echo(request.messages)
        if malformed < config.malformed_rate and not (asked and asked.turn):  # a repair is whole
            text = _garbled(text, rng)
        if unreadable < config.unreadable_rate and _is_verdict(text):
            text = rng.choice(_HEDGES)
        for mark in request.sampling.stop:
            text = text.split(mark, 1)[0]
        if cut < config.cut_rate:
            limit = min(limit, rng.randint(1, max(_tokens(text) - 1, 1)))
        finish = "length" if cut < config.cut_rate or _tokens(text) > limit else "stop"
        text = _shortened(text, limit)
        return Generation(text, finish, Usage(tokens, _tokens(text)))


def _is_verdict(text: str) -> bool:
    try:
        read_verdict(text)
    except UnreadableError:
        return False
    return True


def _examples() -> str:
    """A hash of the examples of all registered templates."""
    return digest({f"{t.group}/{t.name}": t.example for t in every_template()}, 16)


def _fingerprint(request: Request) -> str:
    """Hash of what a reply depends on beside the draw: the messages, the tools and the repeat."""
    hashed = hashlib.blake2b(digest_size=12)
    for message in request.messages:
        hashed.update(f"{message.role}\0{len(message.content)}\0".encode())
        hashed.update(message.content.encode("utf-8", "surrogatepass"))
    if request.tools:
        hashed.update(canonical(request.tools).encode("utf-8", "surrogatepass"))
    return f"{hashed.hexdigest()}/{request.repeat}"


def _tokens(text: str) -> int:
    # Word-ish, and quick on prompts that hold whole conversations.
    return text.count(" ") + text.count("\n") + 1 if text else 0


def _shortened(text: str, limit: int) -> str:
    """The first `limit` word-ish tokens of a text."""
    if _tokens(text) <= limit:
        return text
    ends = [match.start() for match in re.finditer(r"[ \n]", text)]
    return text[: ends[limit - 1]]


def _garbled(text: str, rng: random.Random) -> str:
    """A reply whose last JSON value ends in the middle, or is not there at all; one of plain words stays as it is."""
    call = max(text.rfind("<tool_call>"), 0)
    fence = text.find("```")
    opening = min((place for c in "{[" if (place := text.find(c, max(call, fence, 0))) >= 0), default=-1)
    if opening < 0 or (fence < 0 and not text.startswith(("{", "[", "<tool_call>"))):
        return text
    if not call and rng.random() < 0.5:
        return "All is well as it is, apart from what was said above."
    return text[: rng.randint(opening + 1, max(text.rfind("}"), text.rfind("]")))]


def _of_schema(schema: Mapping[str, Any], words: Sequence[str], rng: random.Random) -> Any:
    """A value that follows a JSON schema, with words of the prompt for texts."""
    named = schema.get("$defs") or {}

    def value(part: Mapping[str, Any]) -> Any:
        if reference := part.get("$ref"):
            part = named.get(str(reference).rsplit("/", 1)[-1]) or {}
        if "const" in part:
            return part["const"]
        if choices := part.get("enum"):
            return rng.choice(choices)
        if either := part.get("anyOf") or part.get("oneOf"):
            return value(either[0])
        kind = part.get("type")
        if kind == "object":
            return {name: value(inner) for name, inner in (part.get("properties") or {}).items()}
        if kind == "array":
            return [value(part.get("items") or {}) for _ in range(max(1, part.get("minItems", 1)))]
        if kind in ("integer", "number"):
            least = part.get("minimum", 0)
            return rng.randint(least, max(least, part.get("maximum", least + 9)))
        if kind == "boolean":
            return rng.random() < 0.5
        start = rng.randrange(len(words))
        return " ".join(words[start : start + 8])

    return value(schema)


def _called(tool: Mapping[str, Any], words: Sequence[str], rng: random.Random) -> str:
    """A call of a tool in the form that models are taught."""
    call = {"name": tool["name"], "arguments": _of_schema(tool.get("parameters") or {}, words, rng)}
    return f"{OPEN}{dumps(call)}{CLOSE}"


@lru_cache(maxsize=64)
def _counts(text: str) -> Counter[str]:
    # The same evidence stands in many prompts.
    return Counter(_bare_words(text))


def _bare_words(text: str) -> list[str]:
    """The words of a text without case and the marks around them; a word of marks alone stays as it is."""
    return ["".join(c for c in w.casefold() if c.isalnum()) or w for w in text.split()]


def _echo(messages: Sequence[Message]) -> str:
    words = messages[-1].content.split(None, 12)[:12] if messages else []
    return f"You wrote: {' '.join(words)}" if words else "You wrote nothing."

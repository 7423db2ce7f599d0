"""`simulated`: a scripted stand-in for a language model, for tests and for measuring everything around an engine.

In: a `Request`, of which only the messages' text is read. Out: replies as an LLM would write them. It tells what it is
asked for from the prompt's sections; how it answers, judges and reviews is in `metamem.backbones.simulation`. It holds
no language model, so its figures say nothing about models.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metamem.backbones.options import SamplingOptions
from metamem.backbones.simulation import answering, building, judging, reviewing, scoring, searching, writing
from metamem.core.calls import Draw, Generation, Message, Request, Sampling, Usage
from metamem.core.errors import BackboneError, ConfigError
from metamem.core.json_form import canonical
from metamem.core.registry import option, register

# Which sections tell what a prompt asks for. The first that fits decides, since a prompt to propose shows memories too.
_TASKS = (
    (("proposals",), "consolidate"),
    (("reflections",), "propose"),
    (("attempt",), "reflect"),
    (("response",), "judge"),
    (("results",), "answer"),
    (("memories", "question"), "answer"),
    (("written",), "fits"),
    (("notes", "chunk"), "overwrite"),
    (("chunk",), "memorise"),
    (("messages",), "extract"),
    (("entry", "newer"), "update"),
)
_JSON_TASKS = ("propose", "consolidate", "extract", "update")
# The options that can change a reply, and those that must be rates.
_MATTERS = ("seed", "chance", "adherence", "error_rate", "empty_rate", "malformed_rate", "unreadable_rate", "cut_rate")
_RATES = (*_MATTERS[1:], "slow_rate")

_AGREED = ("Yes", "Yes.", "Yes, the response gives the accepted answer.", "Yes. It says the same thing as the truth.")
_DISAGREED = ("No", "No.", "No, the response gives something else.", "No. The truth is not in the response.")
_HEDGED = (
    "It is hard to say; parts of the response agree with the truth and parts do not.",
    "The response could be read either way.",
    "I cannot determine this from what is given.",
)


@register("backbone", "simulated")
class Simulated:
    """Scripted stand-in without a language model: for tests and first runs, never for results.

    Greedy replies depend on messages and repeat, sampled ones also on the draw's seed. Of the sampling fields only
    `temperature` (above 0 or not), `max_tokens` (counted in words) and `stop` act.
    """

    VERSION = 1

    @dataclass
    class Config(SamplingOptions):
        """How it samples, how well it follows guidelines, and how it fails."""

        seed: int = option(0, "seed of its own chance, beside that of a draw")
        chance: float = option(0.35, "how often a sampled answer uses a strategy that no guideline asks for, 0 to 1")
        adherence: float = option(0.9, "how often an answer follows a guideline that fits its question, 0 to 1")
        error_rate: float = option(0.0, "share of requests that fail for good, 0 to 1")
        empty_rate: float = option(0.0, "share of replies that are empty, 0 to 1")
        malformed_rate: float = option(0.0, "share of JSON replies (changes, facts) that are cut or missing, 0 to 1")
        unreadable_rate: float = option(0.0, "share of verdicts that say neither yes nor no, 0 to 1")
        cut_rate: float = option(0.0, "share of replies that end at the token limit, 0 to 1")
        latency: float = option(0.0, "seconds that every request takes", result=False)
        slow_rate: float = option(0.0, "share of requests that take slow_seconds longer, 0 to 1", result=False)
        slow_seconds: float = option(1.0, "seconds that a slow request takes longer", result=False)

        def __post_init__(self) -> None:
            """Raises `ConfigError` that names the option as the user types it."""
            super().__post_init__()
            for name in _RATES:
                if not 0 <= getattr(self, name) <= 1:
                    raise ConfigError(f"backbone.{name} must be from 0 to 1, got {getattr(self, name)}")
            for name in ("latency", "slow_seconds"):
                if not 0 <= getattr(self, name) < float("inf"):
                    raise ConfigError(f"backbone.{name} must be at least 0 seconds, got {getattr(self, name)}")

    max_samples = 64

    def __init__(self, config: Config) -> None:
        self.config = config
        self._habits = answering.Habits(config.chance, config.adherence)

    def identity(self) -> Mapping[str, Any]:
        """Its version and the options that can change a reply."""
        about = {"kind": "simulated", "version": self.VERSION, "stamp": "simulated"}
        return about | {name: getattr(self.config, name) for name in _MATTERS}

    def sampling(self) -> Sampling:
        """The resolved sampling of the config."""
        return self.config.resolved()

    async def start(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to release."""

    async def generate(self, request: Request) -> list[Generation]:
        """A sample for each draw. Raises `BackboneError` for the share `error_rate` of requests."""
        config = self.config
        prompt = _fingerprint(request)
        sampled = request.sampling.temperature > 0
        fails, slow = self._fate(prompt, request.draws[0].scope if sampled else "")
        seconds = config.latency + (config.slow_seconds if slow else 0.0)
        if seconds > 0:
            await asyncio.sleep(seconds)
        if fails:
            raise BackboneError("simulated failure")
        tokens = sum(_tokens(m.content) for m in request.messages)
        task, messages = read_task(request.messages)
        draws = request.draws if sampled else (None,) * len(request.draws)
        return [self._sample(request, task, messages, tokens, prompt, draw) for draw in draws]

    async def score(self, messages: Sequence[Message], continuation: str) -> list[float]:
        """A log-probability for each word, from frequencies of words (`simulation.scoring`); it means nothing. How the
        config samples changes none.

        Raises `BackboneError` for the share `error_rate` of texts.
        """
        request = Request(tuple(messages), Sampling())
        prompt = _fingerprint(request)
        fails, slow = self._fate(f"{prompt}/{continuation}", "")
        seconds = self.config.latency + (self.config.slow_seconds if slow else 0.0)
        if seconds > 0:
            await asyncio.sleep(seconds)
        if fails:
            raise BackboneError("simulated failure")
        task, asking = read_task(messages)
        own = self._sample(request, task, asking, 0, prompt, None)
        return scoring.word_scores(asking, own.text, continuation)

    def _fate(self, prompt: str, scope: str) -> tuple[bool, bool]:
        """Whether a request fails, and whether it is slow: one fate for its draws, in however many calls they come."""
        if not self.config.error_rate and not self.config.slow_rate:
            return False, False
        rng = random.Random(f"{self.config.seed}/fate/{prompt}/{scope}")
        return rng.random() < self.config.error_rate, rng.random() < self.config.slow_rate

    def _sample(
        self, request: Request, task: str, messages: Sequence[Message], tokens: int, prompt: str, draw: Draw | None
    ) -> Generation:
        config = self.config
        rng = random.Random(f"{config.seed}/{prompt}/{'greedy' if draw is None else draw.seed}")
        # Drawn first and always, so that one rate does not shift what another decides.
        empty, malformed, unreadable, cut = (rng.random() for _ in range(4))
        if empty < config.empty_rate:
            return Generation("", "stop", Usage(tokens, 0))
        if task == "memorise":
            text = writing.memorise(messages, request.tools, draw is not None, rng)
        elif task == "fits":
            text = rng.choice(_AGREED[:2] if writing.fits(messages) else _DISAGREED[:2])
        elif task == "overwrite":
            text = writing.overwrite(messages, request.sampling.max_tokens)
        elif task == "answer" and (calls := searching.calls(messages, request.tools)):
            text = writing.garbled(calls, rng) if malformed < config.malformed_rate else calls
        else:
            text = self._reply(task, messages, draw is not None, rng)
        repaired = messages is not request.messages
        if task in _JSON_TASKS and malformed < config.malformed_rate and not repaired:
            text = _garbled(text, rng)
        if task == "memorise" and malformed < config.malformed_rate:
            text = writing.garbled(text, rng)
        if task == "judge" and unreadable < config.unreadable_rate:
            text = rng.choice(_HEDGED)
        for mark in request.sampling.stop:
            text = text.split(mark, 1)[0]
        limit = request.sampling.max_tokens
        if cut < config.cut_rate:
            limit = min(limit, rng.randint(1, max(_tokens(text) - 1, 1)))
        finish = "length" if cut < config.cut_rate or _tokens(text) > limit else "stop"
        text = _shortened(text, limit)
        return Generation(text, finish, Usage(tokens, _tokens(text)))

    def _reply(self, task: str, messages: Sequence[Message], sampled: bool, rng: random.Random) -> str:
        if task == "answer":
            return answering.answer(messages, self._habits, sampled, rng)
        if task == "judge":
            return rng.choice(_AGREED if judging.correct(messages) else _DISAGREED)
        if task == "reflect":
            return reviewing.reflect(messages, rng)
        if task == "propose":
            return reviewing.propose(messages, rng)
        if task == "consolidate":
            return reviewing.consolidate(messages)
        if task == "extract":
            return building.extract(messages)
        if task == "update":
            return building.update(messages)
        return _echo(messages)


def read_task(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """What a prompt asks for, and the messages that ask for it.

    That is consolidate, propose, reflect, judge, answer, extract, update, memorise, overwrite, fits or echo. A last
    message without sections of its own, after a reply to one that had them, asks for that task once more.
    """
    if not messages:
        return "echo", messages
    task = _task(messages[-1].content)
    if task:
        return task, messages
    for end in range(len(messages) - 1, 0, -1):
        if messages[end].role == "assistant" and (task := _task(messages[end - 1].content)):
            return task, messages[:end]
    return "echo", messages


def _task(text: str) -> str | None:
    return next((task for tags, task in _TASKS if all(f"<{tag}>" in text for tag in tags)), None)


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
    """A reply whose JSON ends in the middle, or is not there at all."""
    start = text.find("[")
    if rng.random() < 0.5:
        return text[: rng.randint(start + 1, max(start + 1, text.rfind("]") - 1))]
    return "The guidelines read well as they are, apart from the changes discussed above."


def _echo(messages: Sequence[Message]) -> str:
    words = messages[-1].content.split(None, 12)[:12] if messages else []
    return f"You wrote: {' '.join(words)}" if words else "You wrote nothing."

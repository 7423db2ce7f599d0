"""`openai`: a model behind any server that speaks the OpenAI chat protocol (vLLM, SGLang, llama.cpp, a hosted service).

In: a `Request`. Out: its samples, several from one call where the server can. Here are the options, the check at
start, the limit on calls in flight and what becomes of failures: passing ones are tried again, a server that is away is
waited for, a refused key ends the run, the rest fails the call. The protocol is in `chat`, the sockets are in
`connection`, the waiting is in `retries` and `outage`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from metamem.backbones import chat
from metamem.backbones.chat import Dialect
from metamem.backbones.connection import Connection, RefusedRequest
from metamem.backbones.options import SamplingOptions
from metamem.backbones.outage import Outage
from metamem.backbones.retries import Transient, retrying
from metamem.core.calls import Generation, Message, Request, Sampling
from metamem.core.errors import BackboneError, ConfigError, UnreachableError, unknown
from metamem.core.json_form import canonical
from metamem.core.registry import option, register
from metamem.core.secrets import secret_in

T = TypeVar("T")

MOST_SERVED = 8  # models and fingerprints that are kept of one server
TOP_TOKENS = 20  # likeliest tokens that a server is asked for: the most that OpenAI's and vLLM's give
START_RETRIES = 2  # a server that is not there should be told soon
LOOKS_LIKE_A_KEY = re.compile(r"^(sk|pk|rk|hf|gsk|xai|nvapi)_(?=.*\d)|^AIza|^(?=.*[a-z])(?=.*\d).{24,}$")
ABOUT_SEVERAL_SAMPLES = re.compile(r"\bn\b|\bbest_of\b|number of (choices|completions|samples)", re.IGNORECASE)
ABOUT_SCHEMAS = re.compile(r"response_format|json_?schema|structured.?output|guided|grammar", re.IGNORECASE)


@register("backbone", "openai")
class OpenAIBackbone:
    """A model behind any OpenAI-compatible chat server.

    `counts` holds what happened beside the replies: `retries`, `single` when the server turned out not to give several
    samples a request (from then on `max_samples` is 1), and `unstructured`, the JSON schemas that it turned out not to
    enforce (from then on they are not sent). Bound to the event loop in which `start` ran.
    """

    @dataclass
    class Config(SamplingOptions):
        """Options of `backbone=openai`."""

        base_url: str = option("", "the server's address, up to and including /v1")
        model: str = option("", "the model's name at the server")
        identity: str | None = option(None, "names the weights, so that servers share replies; null: address and model")
        api_key_env: str = option("OPENAI_API_KEY", "NAME of the environment variable that holds the key", result=False)
        dialect: Dialect = option(Dialect.vllm, "vllm: send every sampling field; openai: only those of OpenAI's API")
        structured: bool = option(
            True, "have the server enforce a reply's JSON schema; one that refuses it, once in a run, is asked without"
        )
        extra_body: dict[str, Any] = option({}, "further fields of each request's body, such as reasoning_effort")
        samples_per_call: int = option(8, "samples asked for in one call", least=1, result=False)
        max_concurrency: int = option(64, "calls in flight at once", least=1, result=False)
        retries: int = option(5, "further tries after a failure that may pass", least=0, result=False)
        patience: float = option(
            900.0,
            "seconds to wait for a server that is away before the run stops (to be continued)",
            least=0,
            result=False,
        )
        timeout: float = option(600.0, "seconds that one try may take", above=0, result=False)
        connect_timeout: float = option(10.0, "seconds to connect, and for the check at start", above=0, result=False)

        def __post_init__(self) -> None:
            """Check what ranges do not say. Raises `ConfigError` that names the option as the user types it."""
            super().__post_init__()
            try:
                self.dialect = Dialect(self.dialect)
            except ValueError:
                raise ConfigError(unknown("backbone.dialect", str(self.dialect), (d.value for d in Dialect))) from None
            if not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env) or LOOKS_LIKE_A_KEY.search(self.api_key_env):
                raise ConfigError(
                    "backbone.api_key_env must be the NAME of an environment variable that holds the key, such as "
                    "OPENAI_API_KEY; what was given is no such name and may be a key itself (not repeated here)"
                )
            for name in sorted(chat.OWN_FIELDS & set(self.extra_body)):
                raise ConfigError(f"backbone.extra_body.{name} is sent by the backbone itself; use its own option")
            if secret_in(json.dumps(dict(self.extra_body), default=str)):
                raise ConfigError(
                    "backbone.extra_body holds what looks like a key; it would be kept with every reply. "
                    "A key is given by backbone.api_key_env"
                )
            if "enable_thinking" in (self.extra_body.get("chat_template_kwargs") or {}):
                raise ConfigError("backbone.extra_body.chat_template_kwargs.enable_thinking: use backbone.thinking")

    def __init__(
        self,
        config: Config,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the options.

        Raises `ConfigError` when address or model are not given or the dialect cannot carry the sampling.
        """
        if not config.base_url:
            raise ConfigError("give backbone.base_url, the server's address, such as http://localhost:8000/v1")
        try:
            address = urlsplit(config.base_url)
            plain = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:  # a port that is no number, half a bracket
            plain = False
        if not plain:
            raise ConfigError("backbone.base_url must be an address such as http://localhost:8000/v1")
        if address.username or address.password or address.query or address.fragment:
            raise ConfigError("backbone.base_url must be a plain address; a key is given by backbone.api_key_env")
        if not config.model:
            raise ConfigError("give backbone.model, the model's name at the server")
        self.config = config
        self.max_samples = config.samples_per_call
        self.counts: Counter[str] = Counter()
        self._address = config.base_url.rstrip("/")
        self._sleep, self._clock = sleep, clock
        self._note: Callable[[str], None] = lambda text: None
        self.served: set[str] = set()
        self._connection: Connection | None = None
        self._fields: dict[Sampling, dict[str, Any]] = {}
        self._sampling_fields(self.sampling())

    def identity(self) -> Mapping[str, Any]:
        """Return address and model, or what `identity` names; and whatever else of the config changes a reply.

        No secrets.
        """
        config = self.config
        named: dict[str, Any] = {"identity": config.identity} if config.identity else {}
        named = named or {"kind": "openai", "model": config.model, "address": self._address}
        if config.dialect is not Dialect.vllm:
            named["dialect"] = config.dialect.value
        if not config.structured:
            named["structured"] = False
        if config.extra_body:
            named["extra_body"] = config.extra_body
        return named

    def sampling(self) -> Sampling:
        """Return the resolved sampling of the config."""
        return self.config.resolved()

    def notify(self, note: Callable[[str], None]) -> None:
        """Have `note` told when the server is away, and when it is back."""
        self._note = note

    async def start(self) -> None:
        """Connect; check that server, key and model are good. Raises `UnreachableError` naming the option to mend."""
        if self._connection is not None:
            return
        config = self.config
        connection = Connection(
            self._address,
            config.api_key_env,
            limit=config.max_concurrency + 8,
            connect_timeout=config.connect_timeout,
        )
        try:
            await self._check(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection, self._slots = connection, asyncio.Semaphore(config.max_concurrency)
        self._outage = Outage(
            self._address,
            lambda: self._answers(connection),
            config.patience,
            self._sleep,
            self._clock,
            lambda text: self._note(text),
        )
        # Schemas that were sent, each set once the first reply tells whether it is taken, and those that are not.
        self._tried_schemas: dict[str, asyncio.Event] = {}
        self._refused_schemas: set[str] = set()

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._outage.close()
            await connection.close()

    async def generate(self, request: Request) -> list[Generation]:
        """Return samples of the first draws of `request`: at least one, at most `max_samples`, one when greedy.

        Raises `BackboneError` when the call fails for good, `UnreachableError` when the key is refused,
        `UnfinishedError` when the server is away for longer than `patience`.
        """
        connection = self._connection
        if connection is None or connection.loop is not asyncio.get_running_loop():
            raise RuntimeError("OpenAIBackbone.generate: call start() first, in the same event loop")
        first = request.draws[0]
        if any((d.scope, d.index) != (first.scope, first.index + i) for i, d in enumerate(request.draws)):
            raise ValueError("the draws of one request must be of one scope and consecutive")
        if request.only:
            raise BackboneError("a server cannot be held to a few words: play this role by backbone=plain or nano")
        wanted = min(len(request.draws), self.max_samples) if request.sampling.temperature > 0 else 1
        async with self._slots:
            try:
                generations = await self._ask(connection, request, wanted)
            except RefusedRequest as refused:
                if wanted == 1 or not (refused.status == 422 or ABOUT_SEVERAL_SAMPLES.search(refused.reason)):
                    raise BackboneError(refused.reason) from None
                try:
                    generations = await self._ask(connection, request, 1)
                except RefusedRequest:  # so it was not the number of samples
                    raise BackboneError(refused.reason) from None
        if len(generations) == 1 < wanted and self.max_samples > 1:
            # Refused, or ignored by a server that always gives one: single requests run side by side, top-ups cannot.
            self.max_samples = 1
            self.counts["single"] += 1
        return generations

    async def weigh(self, messages: Sequence[Message], words: Sequence[str]) -> list[float]:
        """Return the natural log-probability of each word as the beginning of the reply; see `chat.word_chances`.

        Raises as `generate` does, and `BackboneError` for a server that tells no log-probabilities.
        """
        connection = self._connection
        if connection is None or connection.loop is not asyncio.get_running_loop():
            raise RuntimeError("OpenAIBackbone.weigh: call start() first, in the same event loop")
        request = Request(tuple(messages), Sampling(max_tokens=1))
        body = {**self._body(request, 1, False), "logprobs": True, "top_logprobs": TOP_TOKENS}
        async with self._slots:
            try:
                call = lambda: connection.call("/chat/completions", body, self.config.timeout)  # noqa: E731
                payload = await self._tried(call, words[0], self.config.retries, self._outage.passed)
                return chat.word_chances(payload, words)
            except (RefusedRequest, chat.Malformed) as error:
                raise BackboneError(connection.clean(str(error))) from None

    async def _ask(self, connection: Connection, request: Request, n: int) -> list[Generation]:
        """Ask for samples, with the JSON schema unless the server refuses it: the first call of each finds out."""
        if request.schema is None or not self.config.structured:
            return await self._call(connection, request, n, False)
        schema = canonical(request.schema)
        told = self._tried_schemas.get(schema)
        if told is None:
            told = self._tried_schemas[schema] = asyncio.Event()
        else:
            await told.wait()
        try:
            if schema not in self._refused_schemas:
                try:
                    return await self._call(connection, request, n, True)
                except RefusedRequest as refused:
                    if refused.status not in (400, 422) or not ABOUT_SCHEMAS.search(refused.reason):
                        raise
                    self._refused_schemas.add(schema)
                    self.counts["unstructured"] = len(self._refused_schemas)
                    told.set()
            return await self._call(connection, request, n, False)
        finally:
            told.set()

    async def _call(self, connection: Connection, request: Request, n: int, structured: bool) -> list[Generation]:
        body = self._body(request, n, structured)

        async def once() -> list[Generation]:
            await self._outage.while_away()
            payload = await connection.call("/chat/completions", body, self.config.timeout)
            self._compare(connection, payload)
            try:
                return chat.read(payload, n)
            except chat.Malformed as error:
                raise Transient(connection.clean(str(error))) from None

        return await self._tried(once, str(request.draws[0].seed), self.config.retries, self._outage.passed)

    async def _tried(
        self,
        call: Callable[[], Awaitable[T]],
        seed: str,
        retries: int,
        back: Callable[[str], Awaitable[bool]] | None = None,
    ) -> T:
        def failed() -> None:
            self.counts["retries"] += 1

        return await retrying(call, retries, lambda: random.Random(f"{seed}/backoff"), self._sleep, failed, back)

    def _compare(self, connection: Connection, payload: Any) -> None:
        """Keep which model a server says that it is, and its fingerprint; say so once of each other than was asked for:
        an alias, or one that took its place.
        """
        if not isinstance(payload, dict) or len(self.served) >= MOST_SERVED:
            return
        told, fingerprint = payload.get("model"), payload.get("system_fingerprint")
        if not isinstance(told, str) or not told:
            return
        name = connection.clean(told)
        shown = f"{name} ({connection.clean(fingerprint)})" if isinstance(fingerprint, str) and fingerprint else name
        if shown not in self.served:
            if told != self.config.model and not any(known.partition(" (")[0] == name for known in self.served):
                self._note(f"{self._address} was asked for {self.config.model}; its replies say they are {name}'s")
            self.served.add(shown)

    async def _answers(self, connection: Connection) -> bool:
        """Whether the server itself says anything at all."""
        try:
            await connection.call("/models", None, self.config.connect_timeout)
        except Transient as error:
            return not error.away
        except (RefusedRequest, UnreachableError):
            return True
        return True

    def _body(self, request: Request, n: int, structured: bool) -> dict[str, Any]:
        config, fields = self.config, self._sampling_fields(request.sampling)
        return chat.body(request, n, model=config.model, fields=fields, structured=structured, extra=config.extra_body)

    def _sampling_fields(self, sampling: Sampling) -> dict[str, Any]:
        if sampling not in self._fields:
            dialect = self.config.dialect
            if dialect is Dialect.openai and (names := chat.unsendable(sampling)):
                listed = ", ".join(f"backbone.{name}" for name in names)
                raise ConfigError(f"backbone.dialect=openai cannot send {listed}: keep the default or use dialect=vllm")
            self._fields[sampling] = chat.sampling_fields(sampling, dialect)
        return self._fields[sampling]

    async def _check(self, connection: Connection) -> None:
        """Ask for the list of models, or for one token where there is no list."""
        address, model, config = self._address, self.config.model, self.config
        retries = min(START_RETRIES, config.retries)
        try:
            try:
                listed = await self._tried(
                    lambda: connection.call("/models", None, config.connect_timeout), "start", retries
                )
            except RefusedRequest as refused:
                if refused.status not in (404, 405):
                    raise
                listed = None
            models = listed.get("data") if isinstance(listed, dict) else None
            names = [str(m["id"]) for m in models or () if isinstance(m, dict) and m.get("id")]
            if names and model not in names:
                raise UnreachableError(f"backbone.model: {unknown(f'model at {address}', model, names)}")
            if not names:
                ping = self._body(Request((Message("user", "Say yes."),), Sampling(max_tokens=1)), 1, False)
                await self._tried(lambda: connection.call("/chat/completions", ping, config.timeout), "start", retries)
        except RefusedRequest as refused:
            if refused.status == 403:
                raise connection.wrong_key(refused.reason) from None
            hint = "" if address.endswith("/v1") or refused.status != 404 else "; does the address lack /v1?"
            raise UnreachableError(
                f"backbone.base_url: {address} refuses model '{model}' ({refused.reason}){hint}"
            ) from None
        except BackboneError as error:
            raise UnreachableError(f"backbone.base_url: {address} cannot be reached: {error.reason}") from None

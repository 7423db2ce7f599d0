"""`vllm`: the model runs inside the experiment, by vLLM's engine, in processes of this one. No server, no port.

In: a `Request`. Out: its samples, all from one call of the engine, which queues and batches by itself. Here are the
options, what identifies the model, how a prompt is measured before it is sent, and `score` for perplexity. Starting
and rebuilding is in `engine.engine`, rendering in `engine.renderer`, reading in `engine.sampling`. Nothing here imports
vLLM before `start`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from metamem.backbones.engine.arguments import check_engine_options
from metamem.backbones.engine.devices import check_installed
from metamem.backbones.engine.engine import Engine, load_renderer
from metamem.backbones.engine.model_shape import check_parts, read_shape
from metamem.backbones.engine.options import HARMLESS, EngineOptions, OnOverflow
from metamem.backbones.engine.pool import shared_pool
from metamem.backbones.engine.renderer import Prompt
from metamem.backbones.engine.sampling import log_probabilities, parameters, read, scoring
from metamem.backbones.engine.spec import EngineSpec
from metamem.backbones.engine.weights import WeightsPlace, find_weights
from metamem.backbones.options import SamplingOptions
from metamem.core.adapters import Adapter, check_base
from metamem.core.calls import Generation, Message, Request, Sampling
from metamem.core.errors import BackboneError, ConfigError
from metamem.core.files import read_object
from metamem.core.registry import option, register

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for


@register("backbone", "vllm")
class VLLM:
    """A model inside the experiment, by vLLM: no server to start.

    An engine that dies is built again once in a run, and what it had not delivered is asked again.
    """

    max_samples = 64

    @dataclass
    class Config(EngineOptions):
        """Options of `backbone=vllm`."""

        model: str = option("", "folder of a model, or its id on the Hugging Face hub")
        revision: str | None = option(None, "branch, tag or commit on the hub; null: its newest")
        quantization: str | None = option(None, "how the weights are quantized, such as fp8; null: as they are stored")
        trust_remote_code: bool = option(False, "run Python code that comes with the model")

        def arguments(self) -> dict[str, Any]:
            """Return the engine arguments that these options stand for."""
            more = {"quantization": self.quantization} if self.quantization else {}
            return {**super().arguments(), **more, "trust_remote_code": self.trust_remote_code}

    @classmethod
    def without_weights(cls, options: Config) -> dict[str, Any]:
        """Return the same model and sampling at a server, which is asked for nothing until it is started."""
        kept = {f.name: getattr(options, f.name) for f in fields(SamplingOptions)}
        return {"name": "openai", "base_url": "http://localhost/v1", "model": options.model, **kept}

    def __init__(self, config: Any) -> None:
        """Take the options.

        Raises `MissingExtraError` without vLLM, `ConfigError` for an engine argument that is an option itself.
        """
        check_installed(getattr(config, "name", "vllm"))
        check_engine_options(config.engine)
        self.config = config
        self._engine: Engine | None = None
        self._pooled = False
        self._weights: WeightsPlace | None = None
        self._adapter: Adapter | None = None

    # --- what it is

    def weights(self) -> WeightsPlace:
        """Return the weights that are named; looked up once.

        Raises `ConfigError` or `UnreachableError` for none, and for ones that cannot be spread as asked, or whose
        context is shorter than asked for.
        """
        if self._weights is None:
            weights = self._find()
            if self._adapter is not None:
                whole = weights if self._adapter.lora else find_weights(str(self._adapter.folder), None)
                named = {**whole.identity, "model": weights.identity["model"], "adapter": self._adapter.hash}
                weights = replace(whole, name=weights.name, identity=named)
            check_parts(read_shape(weights.config), weights.name, self.config.arguments())
            self._weights = weights
        return self._weights

    def _find(self) -> WeightsPlace:
        if not self.config.model:
            raise ConfigError("give backbone.model, the folder of a model or its id on the Hugging Face hub")
        return find_weights(self.config.model, self.config.revision)

    def identity(self) -> Mapping[str, Any]:
        """Return the weights by content (for the hub: id and commit), tokenizer and chat template among them.

        With them precision and whatever else of the engine's arguments changes a reply, and a stamp for weights that
        mean nothing.
        """
        weights = self.weights()
        arguments = {n: v for n, v in self.config.arguments().items() if n not in HARMLESS}
        dummy = self.config.engine.get("load_format") == "dummy"
        stamp = weights.stamp or ("random weights" if dummy else None)
        kernels = {"batch_invariant": True} if self.config.batch_invariant else {}
        return {"kind": "vllm", **weights.identity, **arguments, **kernels, **({"stamp": stamp} if stamp else {})}

    def base(self) -> str:
        """Return where a trainer loads the weights from: a folder, or an id of the hub."""
        weights = self.weights()
        return str(weights.folder or weights.name)

    def adapted(self, adapter: Adapter) -> VLLM:
        """Return the same with trained weights.

        All low-rank changes of one rank share an engine, and whole weights have one of their own.

        Raises `ConfigError` for those of another model.
        """
        check_base(adapter, self.identity())
        made = type(self)(self.config)
        made._adapter = adapter
        return made

    @property
    def _changes(self) -> Path | None:
        """The folder of low-rank changes with which each request is answered; an engine takes those of several."""
        return self._adapter.folder if self._adapter is not None and self._adapter.lora else None

    def sampling(self) -> Sampling:
        """Return the resolved sampling of the config."""
        resolved: Sampling = self.config.resolved()
        return resolved

    def spec(self) -> EngineSpec:
        """Return what its engine is started from. Raises as `weights` does."""
        weights = self.weights()
        arguments = self.config.arguments()
        if weights.commit:
            # Exactly what the identity names, though the hub moves on.
            arguments |= {"revision": weights.commit, "tokenizer_revision": weights.commit}
        if self._changes is not None:
            rank = read_object(self._changes / "adapter_config.json")["r"]
            arguments |= {"enable_lora": True, "max_lora_rank": next(size for size in _RANKS if size >= rank)}
        return EngineSpec(str(weights.folder or weights.name), arguments, self.config.batch_invariant)

    # --- what it does

    async def start(self) -> None:
        """Take its engine from the pool, or start one of its own where no pool has prepared it.

        Raises `ConfigError` with the cause when it cannot be started.
        """
        pooled = shared_pool().engine(self.spec())
        if self._engine is None:
            self._engine = pooled if isinstance(pooled, Engine) else Engine(self.spec())
        self._pooled = self._engine is pooled
        self._engine.begin_run()
        try:
            if not self._pooled:
                await self._engine.start()
            if self.config.thinking and self.config.thinking_budget and not self._engine.renderer.thinks:
                raise ConfigError("backbone.thinking_budget: the model's tokenizer has no tokens <think> and </think>")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End its engine, unless it is the pool's: that one outlives the run. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None and not self._pooled:
            await engine.stop()

    @property
    def engine(self) -> Engine:
        """Its engine, between `start` and `close`."""
        if self._engine is None:
            raise RuntimeError("VLLM: call start() first")
        return self._engine

    async def generate(self, request: Request) -> list[Generation]:
        """Return a sample for each draw; one when greedy.

        Raises `BackboneError` for a prompt that is empty or too long, a schema that the engine cannot follow, and when
        the engine stands still; `EngineDied`, a `UserError`, when it died a second time.
        """
        first = request.draws[0]
        if any((d.scope, d.index) != (first.scope, first.index + i) for i, d in enumerate(request.draws)):
            raise ValueError("the draws of one request must be of one scope and consecutive")
        prompt = self._prompt(request.messages, request.sampling, request.tools)
        if (left := self._left(prompt, request.sampling)) < 0:
            context, kept = self.engine.context, request.sampling.max_tokens
            raise BackboneError(
                f"the prompt has {len(prompt.tokens)} tokens, {-left} too many: of the {context} tokens that the model "
                f"takes (backbone.max_model_len) {kept} are kept for the reply (max_tokens)"
            )
        async with shared_pool().turn(self.engine.spec):
            allowed = self.engine.renderer.tokens_of(request.only)
            output = await self.engine.generate(
                prompt.tokens, parameters(request, allowed), self.config.timeout, self._changes
            )
        return read(output, prompt.opened)

    def overflow(self, messages: Sequence[Message], sampling: Sampling, tools: Sequence[dict[str, Any]] = ()) -> int:
        """Return how many tokens of a prompt are too many for a caller that is to leave evidence out.

        0 when it fits, or where `on_overflow` is `error`.
        """
        if self.config.on_overflow is OnOverflow.error:
            return 0
        return max(0, -self._left(self._prompt(messages, sampling, tools), sampling))

    def prompt_room(self) -> tuple[int, int] | None:
        """Return the tokens that a prompt may have beside `max_tokens`, and those of prompt and reply together.

        None where too long a prompt is made to fit, or where nothing is known. Needs no engine.
        """
        context = self.config.max_model_len or read_shape(self.weights().config).limit
        if context is None or self.config.on_overflow is OnOverflow.drop_evidence:
            return None
        return context - self.config.max_tokens, context

    async def counter(self) -> Callable[[Sequence[Message]], int]:
        """Return what counts a prompt's tokens, 0 for one that is refused; starts no engine.

        Raises whatever a tokenizer's files may cause.
        """
        pooled = shared_pool().engine(self.spec())
        known = pooled.renderer if isinstance(pooled, Engine) and pooled.running else None
        renderer = known or await load_renderer(self.spec())

        def count(messages: Sequence[Message]) -> int:
            try:
                return len(renderer.prompt(messages, self.config.thinking).tokens)
            except BackboneError:
                return 0

        return count

    async def score(self, messages: Sequence[Message], continuation: str) -> list[float]:
        """Return the natural log-probability of each token of a continuation, given the prompt and what precedes it.

        The prompt is rendered without thinking. Raises `BackboneError` when both do not fit into the model's context.
        """
        prompt = self.engine.renderer.prompt(messages, thinking=False)
        scored = self.engine.renderer.continuation(continuation)
        if not scored:
            return []
        tokens = [*prompt.tokens, *scored]
        if len(tokens) >= self.engine.context:
            raise BackboneError(
                f"prompt and continuation have {len(tokens)} tokens; the model takes {self.engine.context - 1} at most"
            )
        async with shared_pool().turn(self.engine.spec):
            output = await self.engine.generate(tokens, scoring(), self.config.timeout, self._changes)
        return log_probabilities(output, len(prompt.tokens))

    def _prompt(self, messages: Sequence[Message], sampling: Sampling, tools: Sequence[dict[str, Any]] = ()) -> Prompt:
        return self.engine.renderer.prompt(messages, sampling.thinking, tools)

    def _left(self, prompt: Prompt, sampling: Sampling) -> int:
        return self.engine.context - sampling.max_tokens - len(prompt.tokens)

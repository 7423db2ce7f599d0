"""`plain`: a model by transformers in this process, token by token, without an engine.

In: requests. Out: the same kind of replies that an engine gives, several times slower. It is the model that
`optimizer=grpo` trains, and what shows afterwards what training came to, on a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.backbones import nano, smollm2
from metamem.backbones.engine.weights import WeightsPlace, find_weights
from metamem.backbones.options import SamplingOptions
from metamem.core.adapters import Adapter, check_base
from metamem.core.calls import Generation, Message, Request, Sampling
from metamem.core.errors import ConfigError
from metamem.core.registry import option, register
from metamem.generation.writer import PlainWriter, load, load_tokenizer, plain_sampling, prompt_ids

# Models that are had without a hub, by their names here.
OWN: Mapping[str, Callable[[], Path]] = {"nano": lambda: nano.FOLDER, "smollm2": smollm2.prepared}


@register("backbone", "plain")
class Plain:
    """A model by transformers, without an engine: slower, and trainable (optimizer=grpo)."""

    max_samples = PlainWriter.max_samples

    @dataclass
    class Config(SamplingOptions):
        """Which model. Of sampling, temperature and max_tokens count; the other fields must be off."""

        model: str = option("nano", "nano, smollm2, the folder of a model, or its id on the Hugging Face hub")
        revision: str | None = option(None, "branch, tag or commit on the hub; null: its newest")
        max_tokens: int = option(64, "tokens that a reply may have", least=1)
        dtype: str = option("float32", "precision of the weights: bfloat16, float16 or float32")
        batch: int = option(256, "prompts that are answered at once", least=1, result=False)

        def __post_init__(self) -> None:
            """Raises `ConfigError` for sampling that is not plain."""
            super().__post_init__()
            if (found := self.resolved()) != plain_sampling(found):
                raise ConfigError("backbone=plain samples plainly: set nothing of it but temperature and max_tokens")

    @classmethod
    def without_weights(cls, options: Config) -> dict[str, Any]:
        """Return a stand-in."""
        return {"name": "simulated", "max_tokens": options.max_tokens}

    def __init__(self, config: Config, adapter: Adapter | None = None) -> None:
        self.config = config
        self._adapter = adapter
        self._weights: WeightsPlace | None = None
        self._writer: PlainWriter | None = None

    def weights(self) -> WeightsPlace:
        """Return the weights that are named; looked up once. Raises `ConfigError` or `UnreachableError` for none."""
        if self._weights is None:
            own = OWN.get(self.config.model)
            found = find_weights(str(own()) if own else self.config.model, self.config.revision)
            self._weights = replace(found, identity={**found.identity, "model": self.config.model}) if own else found
        return self._weights

    def identity(self) -> Mapping[str, Any]:
        """Return the weights by content, those of an adapter among them, and their precision."""
        weights = self.weights()
        stamp = {"stamp": weights.stamp} if weights.stamp else {}
        trained = {"adapter": self._adapter.hash} if self._adapter else {}
        return {"kind": "plain", **weights.identity, "dtype": self.config.dtype, **trained, **stamp}

    def sampling(self) -> Sampling:
        """Return the resolved sampling of the config."""
        return self.config.resolved()

    def base(self) -> str:
        """Return where a trainer loads the weights from: a folder, or an id of the hub."""
        weights = self.weights()
        return str(weights.folder or weights.name)

    def adapted(self, adapter: Adapter) -> Plain:
        """Return the same with trained weights. Raises `ConfigError` for those of another model."""
        check_base(adapter, self.identity())
        return Plain(self.config, adapter)

    async def start(self) -> None:
        """Load the model, and what was trained of it. Raises `ConfigError` for a model that cannot be asked."""
        if self._writer is None:
            model, tokenizer = load_adapted(self.base(), self.config.dtype, self.weights().commit, self._adapter)
            self._writer = PlainWriter(model, tokenizer, self.identity(), self.sampling(), self.config.batch)

    async def close(self) -> None:
        """Let go of the model. Safe to call twice."""
        self._writer = None

    async def generate(self, request: Request) -> list[Generation]:
        """Return a sample for each draw; one when greedy. Raises `BackboneError` for a prompt that is too long."""
        if self._writer is None:
            raise RuntimeError("Plain: call start() first")
        return await self._writer.generate(request)

    async def counter(self) -> Callable[[Sequence[Message]], int]:
        """Return what counts a prompt's tokens; loads the tokenizer."""
        tokenizer = load_tokenizer(self.base(), self.weights().commit)
        return lambda messages: len(prompt_ids(tokenizer, messages))

    def prompt_room(self) -> tuple[int, int] | None:
        """Return the tokens that a prompt may have beside `max_tokens`, and those of both; None: not known."""
        context = (self.weights().config or {}).get("max_position_embeddings")
        return (context - self.config.max_tokens, context) if context else None


def load_adapted(base: str, dtype: str, commit: str | None, adapter: Adapter | None) -> tuple[Any, Any]:
    """Return the model and the tokenizer of a base with what was trained of it. Raises as `load`."""
    if adapter is None or not adapter.lora:
        return load(adapter.folder if adapter else base, dtype, None if adapter else commit)
    from peft import PeftModel

    model, tokenizer = load(base, dtype, commit)
    return PeftModel.from_pretrained(model, str(adapter.folder)).eval(), tokenizer

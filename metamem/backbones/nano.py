"""`nano`: a small real language model that ships with the package, in a real engine, for `dataset=world`.

In: requests with the prompts of `prompts=nano`. Out: replies of a model of less than a million parameters, trained from
scratch on generated text (see the model card beside its weights). What it shows is how a meta-memory is learned; it
says nothing about large models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.backbones.engine.options import EngineOptions
from metamem.backbones.engine.weights import WeightsPlace, find_weights
from metamem.backbones.vllm import VLLM
from metamem.core.errors import ConfigError
from metamem.core.registry import option, register

FOLDER = Path(__file__).with_name("nano_checkpoint")
_CACHE = 256 << 20  # bytes of KV cache


@register("backbone", "nano")
class Nano(VLLM):
    """A small real language model for dataset=world, in the vLLM engine: learns and answers in minutes on a CPU."""

    @dataclass
    class Config(EngineOptions):
        """Options of `backbone=nano`."""

        path: str | None = option(None, "folder of another checkpoint of its kind; null: the one that ships")
        max_tokens: int = option(64, "tokens that a reply may have")
        max_model_len: int | None = option(2048, "tokens of prompt and reply together")
        dtype: str = option("float32", "precision of the weights: auto, bfloat16, float16 or float32")

        def arguments(self) -> dict[str, Any]:
            """Return the engine arguments that these options stand for."""
            return {"kv_cache_memory_bytes": _CACHE, **super().arguments()}

    def _find(self) -> WeightsPlace:
        """Return the checkpoint. Raises `ConfigError` for a folder that holds none."""
        folder = Path(self.config.path).expanduser() if self.config.path else FOLDER
        if not (folder / "config.json").is_file():
            raise ConfigError(f"backbone.path: {folder} holds no checkpoint (no config.json)")
        found = find_weights(str(folder), None)
        return replace(found, name="nano", identity={**found.identity, "model": "nano"})

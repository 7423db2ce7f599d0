"""`tiny`: a checkpoint of random weights in a real engine, so that everything around a model runs on any machine.

In: requests. Out: replies that mean nothing, by the very path that a real model's take. The checkpoint is written when
it is missing, in about a second; results made with it are stamped `random weights`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.backbones.engine import tiny_checkpoint
from metamem.backbones.engine.options import EngineOptions
from metamem.backbones.engine.weights import STAMP_FILE, WeightsPlace, cache_folder, find_weights
from metamem.backbones.vllm import VLLM
from metamem.core.errors import ConfigError
from metamem.core.registry import option, register

_CACHE = 256 << 20  # bytes of KV cache: 200,000 tokens


@register("backbone", "tiny")
class Tiny(VLLM):
    """Random weights in the real vLLM engine: for tests, never for results."""

    @dataclass
    class Config(EngineOptions):
        """Options of `backbone=tiny`."""

        path: str | None = option(
            None, "folder of the checkpoint, written when it is missing; null: under ~/.cache/metamem", result=False
        )
        max_tokens: int = option(64, "tokens that a reply may have, reasoning included")
        max_model_len: int | None = option(tiny_checkpoint.POSITIONS, "tokens of prompt and reply together")
        dtype: str = option("float32", "precision of the weights: auto, bfloat16, float16 or float32")

        def arguments(self) -> dict[str, Any]:
            """Return the engine arguments that these options stand for."""
            return {"kv_cache_memory_bytes": _CACHE, **super().arguments()}

    def _find(self) -> WeightsPlace:
        """Return the checkpoint, written when it is not there.

        Raises `ConfigError` for a folder that holds something else.
        """
        given = self.config.path
        folder = Path(given).expanduser() if given else cache_folder() / f"tiny-{tiny_checkpoint.recipe()}"
        if not folder.exists():
            try:
                tiny_checkpoint.write(folder)
            except OSError as error:
                raise ConfigError(f"backbone.path: cannot write the checkpoint {folder}: {error.strerror}") from None
        elif not (folder / STAMP_FILE).is_file():
            raise ConfigError(f"backbone.path: {folder} is there and holds no tiny checkpoint; name another folder")
        found = find_weights(str(folder), None)
        return replace(found, name="tiny", identity={**found.identity, "model": "tiny"})

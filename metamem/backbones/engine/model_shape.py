"""Sizes of a model, read from its config.json, and the settings that those sizes alone rule out.

In: the configuration that lies beside weights. Out: a `Shape`, the bytes that a prompt takes in the KV cache, and a
`ConfigError` for a tensor parallelism or a context that the model does not have, before anything is loaded. What the
configuration leaves open is None and is never refused: the engine itself says what is wrong with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metamem.core.errors import ConfigError

# Kinds of rope with which the configured number of positions is the model's context. With others (yarn, linear) models
# disagree on whether it is the length before or after scaling, so nothing is said of them.
_PLAIN_ROPES = ("default", "llama3", "longrope", "su")
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    `embedded` counts the numbers in embeddings, `latent` those that a token takes in a compressed cache (MLA). `kinds`
    is the attention of each layer, `window` the tokens that sliding layers see, `limit` the longest context.
    """

    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    experts: bool = False
    embedded: int = 0
    latent: int | None = None
    kinds: tuple[str, ...] = ()
    window: int | None = None
    limit: int | None = None
    quantized: bool = False


def read_shape(config: Mapping[str, Any] | None) -> Shape:
    """Return the sizes that a config.json gives."""
    text = {**(config or {}), **((config or {}).get("text_config") or {})}

    def number(*names: str) -> int | None:
        found = (text.get(n) for n in names)
        return next((v for v in found if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)

    heads, hidden = number("num_attention_heads"), number("hidden_size")
    vocabulary, tied = number("vocab_size") or 0, bool(text.get("tie_word_embeddings"))
    compressed, rotated = number("kv_lora_rank"), number("qk_rope_head_dim")
    experts = number("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return Shape(
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=number("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num") or heads,
        head_size=number("head_dim") or (hidden // heads if heads and hidden else None),
        experts=experts is not None and experts > 1,
        embedded=vocabulary * (hidden or 0) * (1 if tied else 2),
        latent=compressed + (rotated or 0) if compressed else None,
        kinds=tuple(text.get("layer_types") or ()),
        window=number("sliding_window") if text.get("use_sliding_window", True) else None,
        limit=_limit(text),
        quantized=bool(text.get("quantization_config") or text.get("compression_config")),
    )


def cache_bytes(shape: Shape, tokens: int, size: int, arguments: Mapping[str, Any]) -> int | None:
    """Return the bytes of KV cache that one prompt takes on each device; None where the sizes are not known.

    `tokens` is the prompt's length, `size` the bytes of a number. Layers whose attention is linear keep the same state
    however long a prompt is and are left out.
    """
    per_token = shape.latent
    if per_token is None and shape.kv_heads and shape.head_size:
        # Fewer heads than parts: each part keeps one.
        per_token = 2 * max(1, shape.kv_heads // parallel(arguments)) * shape.head_size
    if per_token is None or not shape.layers:
        return None
    seen = min(tokens, shape.window or tokens)
    lengths = {"full_attention": tokens, "sliding_attention": seen, "chunked_attention": 0}
    read = sum(lengths.get(kind, 0) for kind in shape.kinds) if shape.kinds else shape.layers * seen
    return per_token * read * size // int(arguments.get("pipeline_parallel_size", 1))


def parallel(arguments: Mapping[str, Any]) -> int:
    """Return the number of parts that each matrix is cut into."""
    return int(arguments.get("tensor_parallel_size", 1))


def check_parts(shape: Shape, name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a tensor parallelism that does not divide the model's heads, and a context longer than the model's.

    Raises `ConfigError` that names the numbers that do.
    """
    parts = parallel(arguments)
    if problem := _problem(shape, parts):
        choices = ", ".join(map(str, possible_parts(shape)))
        raise ConfigError(f"backbone.tensor_parallel_size={parts} {problem} of {name}. Choices: {choices}")
    wanted = arguments.get("max_model_len")
    forced = os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0").strip().lower() in ("1", "true")
    if wanted and shape.limit and wanted > shape.limit and not forced and not arguments.get("hf_overrides"):
        raise ConfigError(
            f"backbone.max_model_len={wanted} is longer than {name} can take: its context is {shape.limit} tokens. "
            f"Give at most that, or stretch it as its authors say (backbone.engine.hf_overrides)"
        )


def possible_parts(shape: Shape) -> list[int]:
    """Return the numbers of parts that the model's heads can be dealt out to."""
    return [n for n in range(1, (shape.heads or 1) + 1) if _problem(shape, n) is None]


def _problem(shape: Shape, parts: int) -> str | None:
    """Return why heads cannot be dealt out to so many parts, as the middle of a sentence; None when they can."""
    if shape.heads and shape.heads % parts:
        return f"does not divide the {shape.heads} attention heads"
    kv = shape.kv_heads
    # A part has whole key-value heads; where they are fewer than the parts, each stands in as many parts.
    if kv and shape.latent is None and (kv % parts if kv >= parts else parts % kv):
        return f"neither divides nor is a multiple of the {kv} key-value heads"
    return None


def _limit(text: Mapping[str, Any]) -> int | None:
    """Return the model's longest context; None where its rope leaves that to the engine."""
    if isinstance(own := text.get("model_max_length"), int) and own > 0:
        return own
    ropes = text.get("rope_parameters") or text.get("rope_scaling") or {}
    # One for all layers, or one for each kind of layer.
    each = [r for r in ropes.values() if isinstance(r, Mapping)] or [ropes]
    if any((rope.get("rope_type") or rope.get("type") or "default") not in _PLAIN_ROPES for rope in each):
        return None
    lengths = [int(text[n]) for n in _LIMITS if isinstance(text.get(n), int) and text[n] > 0]
    return min(lengths, default=None)

"""What a model's config.json says of its size, and into how many parts its engine can be cut.

In: the configuration that lies beside weights. Out: a `Shape`, the bytes that a prompt takes in the KV cache, and a
`ConfigError` for a tensor parallelism or a context that the model does not have, before anything is loaded. The rules
are vLLM's own (`ModelConfig`, `QKVParallelLinear`, `Fp8MoEMethod`); what the configuration leaves open is None and is
never refused.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError

# Kinds of rope scaling with which `max_position_embeddings` is the scaled length already.
_SCALED = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
_FINEST = 32  # the smallest blocks that vLLM cuts FP8 scales of experts into


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. `latent` is what a token takes in a compressed cache (MLA), `kinds` the attention of each
    layer, `window` what its sliding layers see, `block` the rows and columns that share a scale in FP8 weights.
    """

    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    hidden: int | None = None
    inner: int | None = None
    expert: int | None = None
    embedded: int = 0
    latent: int | None = None
    kinds: tuple[str, ...] = ()
    window: int | None = None
    limit: int | None = None
    block: tuple[int, int] | None = None
    quantized: bool = False


def read_shape(config: Mapping[str, Any] | None) -> Shape:
    """The sizes that a config.json gives."""
    text = {**(config or {}), **((config or {}).get("text_config") or {})}

    def number(*names: str) -> int | None:
        found = (text.get(n) for n in names)
        return next((v for v in found if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)

    heads, hidden = number("num_attention_heads"), number("hidden_size")
    vocabulary, tied = number("vocab_size") or 0, bool(text.get("tie_word_embeddings"))
    compressed, rotated = number("kv_lora_rank"), number("qk_rope_head_dim")
    quantization = text.get("quantization_config") or text.get("compression_config") or {}
    block = quantization.get("weight_block_size")
    return Shape(
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=number("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num") or heads,
        head_size=number("head_dim") or (hidden // heads if heads and hidden else None),
        hidden=hidden,
        # A mixture of experts has dense layers only here and there, if any.
        inner=None if _experts(text) else number("intermediate_size"),
        expert=(number("moe_intermediate_size") or number("intermediate_size")) if _experts(text) else None,
        embedded=vocabulary * (hidden or 0) * (1 if tied else 2),
        latent=compressed + (rotated or 0) if compressed else None,
        kinds=tuple(text.get("layer_types") or ()),
        window=number("sliding_window") if text.get("use_sliding_window", True) else None,
        limit=_limit(text),
        block=(int(block[0]), int(block[1])) if isinstance(block, list) and len(block) == 2 else None,
        quantized=bool(quantization),
    )


def cache_bytes(shape: Shape, tokens: int, size: int, arguments: Mapping[str, Any]) -> int | None:
    """Bytes of KV cache that one prompt of so many tokens takes on each device, at `size` bytes for a number.

    Layers whose attention is linear keep the same state however long a prompt is and are left out.
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
    """Into how many parts each matrix is cut."""
    return int(arguments.get("tensor_parallel_size", 1))


def check_parts(shape: Shape, name: str, arguments: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for a model that cannot be cut as the engine's arguments say, or whose context is shorter
    than they want; it names the numbers that can be.
    """
    parts = parallel(arguments)
    if problem := _problem(shape, parts, arguments):
        choices = ", ".join(map(str, possible_parts(shape, arguments)))
        experts = " (or, for its experts, backbone.engine.enable_expert_parallel=true)" if "experts'" in problem else ""
        raise ConfigError(f"backbone.tensor_parallel_size={parts} {problem} of {name}. Choices: {choices}{experts}")
    wanted = arguments.get("max_model_len")
    forced = os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0").strip().lower() in ("1", "true")
    if wanted and shape.limit and wanted > shape.limit and not forced and not arguments.get("hf_overrides"):
        raise ConfigError(
            f"backbone.max_model_len={wanted} is longer than {name} can take: its context is {shape.limit} tokens. "
            f"Give at most that, or stretch it as its authors say (backbone.engine.hf_overrides)"
        )


def possible_parts(shape: Shape, arguments: Mapping[str, Any]) -> list[int]:
    """The numbers of parts that a model can be cut into."""
    return [n for n in range(1, (shape.heads or 1) + 1) if _problem(shape, n, arguments) is None]


def _problem(shape: Shape, parts: int, arguments: Mapping[str, Any]) -> str | None:
    """Why a model cannot be cut into so many parts, as the middle of a sentence; None when it can be."""
    if shape.heads and shape.heads % parts:
        return f"does not divide the {shape.heads} attention heads"
    kv = shape.kv_heads
    # A part has whole key-value heads; where they are fewer than the parts, each stands in as many parts.
    if kv and shape.latent is None and (kv % parts if kv >= parts else parts % kv):
        return f"neither divides nor is a multiple of the {kv} key-value heads"
    if shape.inner:
        return _cut("MLPs'", shape.inner, parts, shape, exact=True)
    if shape.expert and not arguments.get("enable_expert_parallel"):
        # Experts are cut over the replicas, too.
        return _cut("experts'", shape.expert, parts * int(arguments.get("data_parallel_size", 1)), shape, exact=False)
    return None


def _cut(whose: str, columns: int, parts: int, shape: Shape, *, exact: bool) -> str | None:
    if columns % parts:
        return f"does not divide the {whose} {columns} columns"
    each = columns // parts
    if shape.block is None:
        return None
    rows, across = shape.block
    if each % rows == 0 and (parts == 1 or each % across == 0):
        return None
    if not exact and _refines() and math.gcd(rows, across, each, shape.hidden or 0) >= _FINEST:
        return None
    return (
        f"leaves {each} of the {whose} {columns} columns to a part, no multiple of the FP8 blocks ({rows} x {across})"
    )


@cache
def _refines() -> bool:
    """Whether the installed vLLM cuts the blocks of experts' FP8 weights finer where they do not fit the parts, read
    from its source: importing it takes many seconds.
    """
    found = importlib.util.find_spec("vllm")
    source = Path(str(found and found.origin)).parent / "model_executor/layers/fused_moe/oracle/fp8.py"
    return source.is_file() and "def refine_fp8_moe_block_shape" in source.read_text(encoding="utf-8")


def _experts(text: Mapping[str, Any]) -> bool:
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return any(isinstance(text.get(n), int) and text[n] > 1 for n in names)


def _limit(text: Mapping[str, Any]) -> int | None:
    """The longest context that vLLM gives a model; at least that, where its versions differ."""
    if isinstance(own := text.get("model_max_length"), int) and own > 0:
        return own
    lengths = [int(text[n]) for n in _LIMITS if isinstance(text.get(n), int) and text[n] > 0]
    if not lengths:
        return None
    ropes = text.get("rope_parameters") or text.get("rope_scaling") or {}
    # One for all layers, or one for each kind of layer.
    each = [r for r in ropes.values() if isinstance(r, Mapping)] or [ropes]
    limit = min(lengths)
    for rope in each if "gemma3" not in str(text.get("model_type")) else ():
        kind, factor = rope.get("rope_type") or rope.get("type") or "default", rope.get("factor") or 1.0
        if kind not in _SCALED:
            limit = max(limit, int(min(lengths) * factor))
        elif kind == "yarn" and (original := rope.get("original_max_position_embeddings")):
            limit = max(limit, int(original * factor))
    return limit

"""What one engine needs: bytes of weights and of KV cache, on each device that it spreads over.

In: an engine's spec, and what is known of its weights. Out: bytes, or None where nothing is known. All of it is what
an engine takes at least: activations and graphs come on top.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metamem.backbones.engine.arguments import CPU_CACHE
from metamem.backbones.engine.model_shape import Shape, cache_bytes, parallel, read_shape
from metamem.backbones.engine.spec import EngineSpec
from metamem.backbones.engine.weights import SIZES, WeightsPlace
from metamem.core.machine import GPU

GIB = 2**30
# vLLM's default for gpu_memory_utilization: 0.9 or 0.92, by version.
SHARE = 0.92
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Demand:
    """An engine that a run wants: the config keys of its roles, its spec, and what is known of its model.

    `reply` is what a reply may have at most, in tokens.
    """

    keys: tuple[str, ...]
    spec: EngineSpec
    name: str
    shape: Shape = field(default_factory=Shape)
    stored: Mapping[str, int] | None = None
    reply: int = 0

    @property
    def context(self) -> int | None:
        """Tokens of prompt and reply together."""
        return self.spec.arguments.get("max_model_len") or self.shape.limit

    def at(self, **arguments: Any) -> Demand:
        """Return the same engine with other arguments."""
        return replace(self, spec=replace(self.spec, arguments={**self.spec.arguments, **arguments}))


def demand_of(keys: Sequence[str], spec: EngineSpec, weights: WeightsPlace | None, reply: int) -> Demand:
    """Return what an engine wants, from its spec and its weights (None: nothing is known of them)."""
    if weights is None:
        return Demand(tuple(keys), spec, spec.model, reply=reply)
    return Demand(tuple(keys), spec, weights.name, read_shape(weights.config), weights.stored, reply)


def weight_bytes(demand: Demand) -> int | None:
    """Return the bytes of the weights once loaded, all parts together.

    They count as stored, or as `dtype` and `quantization` make them.
    """
    if demand.stored is None:
        return None
    size = _size(demand)
    method = demand.spec.arguments.get("quantization")
    if method and not demand.shape.quantized and not str(method).startswith("fp8"):
        return None
    total, numbers = 0, 0
    for precision, stored in demand.stored.items():
        if precision in _FLOATS:
            numbers += stored // SIZES[precision]
        else:
            total += stored
    if method and not demand.shape.quantized:
        # Embeddings keep their precision.
        kept = min(demand.shape.embedded, numbers)
        return total + kept * size + (numbers - kept)
    return total + numbers * size


def weights_on_each(demand: Demand) -> int | None:
    """Return the bytes of the weights on each device, at least."""
    total = weight_bytes(demand)
    if total is None:
        return None
    arguments = demand.spec.arguments
    pieces = parallel(arguments) * int(arguments.get("pipeline_parallel_size", 1))
    if demand.shape.experts:
        # Experts are dealt out to the replicas, too.
        pieces *= int(arguments.get("data_parallel_size", 1))
    return max(0, total // pieces - int(float(arguments.get("cpu_offload_gb") or 0) * GIB))


def cache_for_one(demand: Demand) -> int | None:
    """Return the bytes of KV cache on each device for one prompt and reply of the whole context."""
    kind = str(demand.spec.arguments.get("kv_cache_dtype", "auto"))
    size = 1 if "fp8" in kind or "int8" in kind else _size(demand)
    return cache_bytes(demand.shape, demand.context, size, demand.spec.arguments) if demand.context else None


def _size(demand: Demand) -> int:
    return 4 if demand.spec.arguments.get("dtype") in ("float32", "float") else 2


def room_on(demand: Demand, gpu: GPU) -> int | None:
    """Return the bytes that are left for the KV cache of a GPU, at most; below 0 where the weights do not fit."""
    weights = weights_on_each(demand)
    if weights is None:
        return None
    if given := demand.spec.arguments.get("kv_cache_memory_bytes"):
        # Then vLLM does not look at gpu_memory_utilization.
        return int(given) if weights + int(given) <= gpu.memory else gpu.memory - weights - int(given)
    return int(gpu.memory * share(demand)) - weights


def share(demand: Demand) -> float:
    """Return the share of a GPU's memory that the engine may use."""
    return float(demand.spec.arguments.get("gpu_memory_utilization") or SHARE)


def too_small_for(demand: Demand, gpu: GPU) -> bool:
    """Tell whether a GPU cannot hold the weights and the cache of one whole context; False where nothing is known."""
    room, request = room_on(demand, gpu), cache_for_one(demand)
    return room is not None and (room <= 0 or (request is not None and room < request))


def cache_on_cpu(demand: Demand) -> int | None:
    """Return the bytes of KV cache that each part of an engine on processors has; None where vLLM decides."""
    if given := demand.spec.arguments.get("kv_cache_memory_bytes"):
        return int(given)
    space = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "")
    if space.isdigit() and int(space):
        return int(space) * GIB
    return None if "gpu_memory_utilization" in demand.spec.arguments else CPU_CACHE

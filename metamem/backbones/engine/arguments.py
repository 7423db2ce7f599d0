"""The arguments that vLLM's engine gets: which names there are, and what the project adds to the user's.

In: a spec, the GPUs that a pool chose. Out: the keywords for vLLM's `AsyncEngineArgs`, completed with what the project
relies on (exact seeds on a CPU, JSON after reasoning). Whatever the user gives stands.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from metamem.backbones.engine.environment import importing_vllm
from metamem.backbones.engine.options import HARMLESS, OWN_OPTIONS
from metamem.backbones.engine.spec import EngineSpec
from metamem.core.errors import ConfigError, unknown

_PLAIN = {int, float, bool, str, type(None)}
CPU_CACHE = 4 << 30  # bytes of KV cache on a CPU, where vLLM would take nearly all memory


def engine_fields() -> frozenset[str]:
    """Return the names of vLLM's engine arguments. Imports vLLM, which takes seconds."""
    with importing_vllm():
        from vllm import AsyncEngineArgs
    return frozenset(f.name for f in dataclasses.fields(AsyncEngineArgs))


def check_engine_options(given: Mapping[str, Any]) -> None:
    """Refuse engine arguments that have an option of their own, or that must not stand in a config."""
    for name in given:
        if name in OWN_OPTIONS:
            raise ConfigError(f"backbone.engine.{name}: use {OWN_OPTIONS[name]}")
        if name == "hf_token":
            raise ConfigError("backbone.engine.hf_token: a token is no option; log in (hf auth login) or set HF_TOKEN")


def check_argument_names(key: str, spec: EngineSpec) -> None:
    """Refuse arguments that vLLM's engine does not have. `key` is the config key of the role that gave them.

    vLLM is imported only where a name is none of those that the project itself knows.
    """
    unfamiliar = set(spec.arguments) - HARMLESS - OWN_OPTIONS.keys() - {"tokenizer_revision"}
    if unfamiliar and (wrong := sorted(unfamiliar - (names := engine_fields()))):
        raise ConfigError(f"{key}.engine: {unknown('engine argument of vLLM', wrong[0], names)}")


def complete(spec: EngineSpec, device_ids: Sequence[int] | None, thinks: bool, cpu: bool) -> dict[str, Any]:
    """Return the keywords for `AsyncEngineArgs`: the spec's, and the project's where the spec is silent.

    `thinks`: the tokenizer has `<think>` and `</think>`, so that JSON can wait for their end and thinking be bounded.
    """
    chosen: dict[str, Any] = {
        "disable_log_stats": True,
        # At the level of the engine: vLLM does not act on it in a single request, and a model may then write blanks
        # until its limit.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    if thinks:
        chosen["reasoning_parser"] = "deepseek_r1"  # the plain reader of the two tags
    if spec.device_count > 1:
        chosen["distributed_executor_backend"] = "mp"
    if device_ids is not None:
        chosen["device_ids"] = list(device_ids)
    if cpu:
        # A prefill in pieces breaks seeded sampling on a CPU. vLLM then batches at least a whole context.
        chosen |= {"enforce_eager": True, "enable_chunked_prefill": False}
        if not os.environ.get("VLLM_CPU_KVCACHE_SPACE") and "gpu_memory_utilization" not in spec.arguments:
            chosen["kv_cache_memory_bytes"] = CPU_CACHE
    return {**chosen, **spec.arguments, "model": spec.model}


def typed(arguments: Mapping[str, Any], engine_arguments: type) -> dict[str, Any]:
    """Make each mapping the config class that its field wants; vLLM does so for some only.

    `engine_arguments` is vLLM's `AsyncEngineArgs`. Raises `ConfigError` for a name that it does not have, and for a
    value of another type than a plain field has, on which vLLM would fail somewhere later.
    """
    types = {f.name: f.type for f in dataclasses.fields(engine_arguments)}
    made = dict(arguments)
    for name, value in arguments.items():
        if name not in types:
            raise ConfigError(f"backbone.engine: {unknown('engine argument of vLLM', name, types)}")
        plain = set(typing.get_args(types.get(name)) or (types.get(name),))
        if plain <= _PLAIN and not isinstance(value, tuple(plain | ({int} if float in plain else set()))):
            wanted = " or ".join(sorted("null" if t is type(None) else t.__name__ for t in plain))
            raise ConfigError(f"backbone.engine.{name} must be {wanted}, got {value!r}")
        classes = [c for c in (types.get(name), *typing.get_args(types.get(name))) if dataclasses.is_dataclass(c)]
        if isinstance(value, Mapping) and classes:
            made[name] = typing.cast(Any, classes[0])(**value)
    return made

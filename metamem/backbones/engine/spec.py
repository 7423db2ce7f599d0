"""What an engine is started from, and the arguments that vLLM gets for it.

In: a model, the arguments that the user chose, the GPUs that a pool chose. Out: the keywords for vLLM's
`AsyncEngineArgs`, completed with what the project relies on (exact seeds on a CPU, JSON after reasoning), and the
environment for the engine's processes. Whatever the user gives, as an option or as a variable, stands.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import os
import shutil
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from metamem.backbones.engine import watchdog
from metamem.core.errors import ConfigError, MissingExtraError, unknown
from metamem.core.json_form import digest

PLUGIN = "metamem"  # the watchdog's name among vLLM's plugins
_PLAIN = {int, float, bool, str, type(None)}
CPU_CACHE = 4 << 30  # bytes of KV cache on a CPU, where vLLM would take nearly all memory


@dataclass(frozen=True)
class EngineSpec:
    """A model and the engine arguments given for it. Equal keys mean that one engine can serve both."""

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Digest of the whole spec."""
        return digest([self.model, dict(self.arguments)])

    @property
    def processes(self) -> int:
        """How many devices the engine spreads over."""
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        return int(self.arguments.get(sizes[0], 1) * self.arguments.get(sizes[1], 1) * self.arguments.get(sizes[2], 1))

    @property
    def elsewhere(self) -> bool:
        """Whether ray chooses the devices, of this machine or of others."""
        names = ("distributed_executor_backend", "data_parallel_backend")
        return any(self.arguments.get(name) == "ray" for name in names)


def check_installed(backbone: str) -> None:
    """Raises `MissingExtraError` with the command that installs vLLM for this machine."""
    if importlib.util.find_spec("vllm") is not None:
        return
    extra = "gpu" if shutil.which("nvidia-smi") else "cpu"
    script = Path(__file__).resolve().parents[3] / "scripts" / "install.sh"
    if script.is_file():
        command = f"EXTRA={extra} sh {script} {sys.prefix}"
    else:
        index = "" if extra == "gpu" else " --extra-index-url https://download.pytorch.org/whl/cpu"
        # The requirement itself: the name of a distribution that no registry has installs nothing.
        wanted = next(r.split(";")[0].strip() for r in requires("metamem-lab") or () if f"extra == '{extra}'" in r)
        command = f"{sys.executable} -m pip install '{wanted}'{index}"
    raise MissingExtraError(f"backbone={backbone} needs vLLM, which is not installed. Install it with:\n  {command}")


@cache
def engine_fields() -> frozenset[str]:
    """The names that vLLM's `AsyncEngineArgs` takes, read from its source: importing it takes many seconds."""
    found = importlib.util.find_spec("vllm")
    source = (Path(str(found and found.origin)).parent / "engine" / "arg_utils.py").read_text(encoding="utf-8")
    names = {
        statement.target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return frozenset(name for name in names if not name.startswith("_"))


def check_engine_options(given: Mapping[str, Any], options: Mapping[str, str]) -> None:
    """Raises `ConfigError` for a field that vLLM does not know, or one that has an option of its own (`options`)."""
    for name in given:
        if name in options:
            raise ConfigError(f"backbone.engine.{name}: use {options[name]}")
        if name == "hf_token":
            raise ConfigError("backbone.engine.hf_token: a token is no option; log in (hf auth login) or set HF_TOKEN")
        if name not in engine_fields():
            raise ConfigError(f"backbone.engine: {unknown('engine argument of vLLM', name, engine_fields())}")


def complete(spec: EngineSpec, device_ids: Sequence[int] | None, thinks: bool, cpu: bool) -> dict[str, Any]:
    """The keywords for `AsyncEngineArgs`: the spec's, and the project's where it is silent.

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
    if spec.processes > 1:
        chosen["distributed_executor_backend"] = "mp"
    if device_ids is not None:
        chosen["device_ids"] = list(device_ids)
    if cpu:
        # A prefill in pieces breaks seeded sampling on a CPU. vLLM then batches at least a whole context.
        chosen |= {"enforce_eager": True, "enable_chunked_prefill": False}
        if not os.environ.get("VLLM_CPU_KVCACHE_SPACE") and "gpu_memory_utilization" not in spec.arguments:
            chosen["kv_cache_memory_bytes"] = CPU_CACHE
    known = {name: value for name, value in chosen.items() if name in engine_fields()}
    return {**known, **spec.arguments, "model": spec.model}


def typed(arguments: Mapping[str, Any], engine_arguments: type) -> dict[str, Any]:
    """The arguments with each mapping made the config class that its field wants; vLLM does so for some only.

    Raises `ConfigError` for a value of another type than a plain field has, on which vLLM would fail somewhere later.
    """
    types = {f.name: f.type for f in dataclasses.fields(engine_arguments)}
    made = dict(arguments)
    for name, value in arguments.items():
        plain = set(typing.get_args(types.get(name)) or (types.get(name),))
        if plain <= _PLAIN and not isinstance(value, tuple(plain | ({int} if float in plain else set()))):
            wanted = " or ".join(sorted("null" if t is type(None) else t.__name__ for t in plain))
            raise ConfigError(f"backbone.engine.{name} must be {wanted}, got {value!r}")
        classes = [c for c in (types.get(name), *typing.get_args(types.get(name))) if dataclasses.is_dataclass(c)]
        if isinstance(value, Mapping) and classes:
            made[name] = typing.cast(Any, classes[0])(**value)
    return made


def variables(spec: EngineSpec, log: Path, cpu: bool) -> dict[str, str]:
    """The environment variables for an engine's processes, without those that the user has set."""
    wanted = {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a forked CUDA context does not work
        "VLLM_NO_USAGE_STATS": "1",  # nothing about an experiment is sent anywhere
    }
    if cpu:
        # oneDNN keeps a kernel for every number of tokens that a batch ever had: 1,024 of them, hundreds of megabytes.
        # They are made anew in no time that could be measured.
        wanted["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "64"
        if spec.processes > 1:
            wanted["VLLM_CPU_OMP_THREADS_BIND"] = _shares(spec.processes)
    wanted = {name: value for name, value in wanted.items() if not os.environ.get(name)}
    if plugins := os.environ.get("VLLM_PLUGINS"):
        wanted["VLLM_PLUGINS"] = f"{plugins},{PLUGIN}"
    return {**wanted, watchdog.OWNER: str(os.getpid()), watchdog.LOG: str(log)}


def _shares(workers: int) -> str:
    """The usable CPUs dealt out to workers, in vLLM's notation: `0,1|2,3`."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    each = max(len(usable) // workers, 1)
    dealt = [[usable[(worker * each + i) % len(usable)] for i in range(each)] for worker in range(workers)]
    return "|".join(",".join(map(str, cpus)) for cpus in dealt)


@contextmanager
def environment(added: Mapping[str, str]) -> Iterator[None]:
    """Have variables set while an engine's processes are started; afterwards all is as before, vLLM's own included."""
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        for name in [n for n in os.environ if os.environ[n] != before.get(n)]:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
        for name in set(before) - set(os.environ):
            os.environ[name] = before[name]

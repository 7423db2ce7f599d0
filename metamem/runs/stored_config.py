"""The options of a run that is there already: flat, by what they decide, and as those of an evaluation like it.

In: a run's `config.json`. Out: key → value, or an `EvalConfig`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import COMPONENTS, BaseConfig, EvalConfig, TrainConfig
from metamem.config.resolve import typed_options
from metamem.core.files import read_object
from metamem.core.json_form import default_of
from metamem.core.registry import REGISTRY

# Options that say where a run stands and never what it is.
_PLACES = ("name", "outputs", "run.", "journal.", "tracker")


def flat_options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return stored options by their dotted keys, without those that only say where a run stands."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if path.startswith(tuple(p for p in _PLACES if p.endswith("."))) or path in _PLACES:
            continue
        if isinstance(value, Mapping):
            found |= flat_options(value, f"{path}.")
        elif key == "name" and prefix:
            # A component is chosen by its group's name: retriever=dense.
            found[prefix.removesuffix(".")] = value
        else:
            found[path] = value
    return found


def deciding_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored options that can change a result, flat. What is not known (of a plugin that is not installed)
    counts as such.
    """
    idle = set(_idle(config))
    return {key: value for key, value in flat_options(config).items() if not idle & {*_above(key)}}


def changed_options(kind: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored options of a component that can change a result and are not as they are by default, flat. Of a
    component that is not known, all are.
    """
    name = stored.get("name")
    options = {k: v for k, v in flat_options(stored).items() if k != "name"}
    if name not in REGISTRY.names(kind):
        return options
    fields = {f.name.rstrip("_"): f for f in REGISTRY.entry(kind, str(name)).options}
    idle = {key for key, field in fields.items() if not field.metadata.get("result", True)}
    by_default = flat_options({key: plain(default_of(field)) for key, field in fields.items()})
    return {k: v for k, v in options.items() if not idle & {*_above(k)} and (k not in by_default or v != by_default[k])}


def _idle(config: Mapping[str, Any]) -> Iterator[str]:
    """The dotted keys of options and groups of them that cannot change a result."""

    def of(fields: Any, prefix: str) -> Iterator[str]:
        for field in fields:
            name = prefix + field.name.rstrip("_")
            if not field.metadata.get("result", True):
                yield name
            elif dataclasses.is_dataclass(field.default_factory):
                yield from of(dataclasses.fields(field.default_factory), f"{name}.")

    for root in (TrainConfig, EvalConfig):
        yield from (name for name in of(dataclasses.fields(root), "") if not name.startswith("stream"))
    components = {key: (kind, config.get(key)) for key, kind in COMPONENTS.items()}
    judges = config.get("evaluator") or {}
    components |= {f"evaluator.{key}": ("evaluator", value) for key, value in judges.items()}
    for key, (kind, value) in components.items():
        name = value.get("name") if isinstance(value, Mapping) else None
        if name in REGISTRY.names(kind):
            yield from of(REGISTRY.entry(kind, str(name)).options, f"{key}.")


def _above(key: str) -> Iterator[str]:
    """A dotted key and those of the groups it stands in."""
    parts = key.split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def eval_config(run: Path, **changes: Any) -> EvalConfig:
    """The options of a finished run as those of an evaluation, `changes` (root options) put over them.

    Raises `DataError` when the run's config cannot be read.
    """
    from omegaconf import OmegaConf

    stored = read_object(run / "config.json")
    kept: dict[str, Any] = {}
    for field in dataclasses.fields(BaseConfig):
        value = stored.get(field.name)
        # The recall comes with each meta-memory.
        if field.name in ("run", "optimizer", "recall"):
            continue
        if field.name == "evaluator":
            kept["evaluator"] = {name: typed_options("evaluator", v) for name, v in (value or {}).items()}
        elif field.name in COMPONENTS:
            kept[field.name] = typed_options(COMPONENTS[field.name], value) if value else None
        elif field.default_factory is not dataclasses.MISSING and dataclasses.is_dataclass(field.default_factory):
            typed = OmegaConf.merge(OmegaConf.structured(field.default_factory), value or {})
            kept[field.name] = OmegaConf.to_object(typed)
        elif field.name in stored:
            kept[field.name] = value
    return EvalConfig(**{**kept, **changes})

"""Which GPUs each engine of a run gets, and whether the engines live side by side or take turns.

In: the specs of a run's engines and the GPUs that are here. Out: `PlacedEngines`, or a `ConfigError` where they cannot
be placed as asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from metamem.backbones.engine.spec import EngineSpec
from metamem.core.errors import ConfigError


class Placement(StrEnum):
    """`disjoint`: side by side, each on its own GPUs. `turns`: one at a time. `auto`: side by side where they fit."""

    auto = "auto"
    disjoint = "disjoint"
    turns = "turns"


@dataclass(frozen=True)
class PlacedEngines:
    """Where a run's engines go: spec key → GPUs (None: no GPUs here), and whether they take turns."""

    devices: dict[str, tuple[int, ...] | None]
    turns: bool


def place_engines(specs: Sequence[EngineSpec], gpus: Sequence[int], placement: Placement) -> PlacedEngines:
    """Deal the GPUs out to a run's distinct specs, in their order.

    Without GPUs nothing is dealt out, nor to engines that ray places.

    Raises `ConfigError` when one of them alone needs more GPUs than there are, or when `placement=disjoint` cannot be.
    """
    distinct = list({s.key: s for s in specs}.values())
    if not gpus:
        return PlacedEngines(
            dict.fromkeys((s.key for s in distinct), None), placement is Placement.turns and len(distinct) > 1
        )
    local = [s for s in distinct if not s.placed_by_ray]
    given = {s.key: tuple(s.arguments["device_ids"]) for s in local if s.arguments.get("device_ids")}
    for spec in local:
        if spec.device_count > len(gpus):
            raise ConfigError(
                f"backbone.tensor_parallel_size: {spec.model} is to be spread over {spec.device_count} GPUs, and this "
                f"machine shows {len(gpus)}"
            )
        absent = sorted(set(given.get(spec.key, ())) - set(gpus))
        if absent:
            raise ConfigError(f"backbone.engine.device_ids: no GPU {absent[0]}; there are {', '.join(map(str, gpus))}")
    taken = [g for devices in given.values() for g in devices]
    needed = sum(s.device_count for s in local if s.key not in given)
    fits = len(taken) == len(set(taken)) and needed <= len(set(gpus) - set(taken))
    if placement is Placement.disjoint and not fits:
        wanted = ", ".join(f"{s.model}: {s.device_count}" for s in local)
        raise ConfigError(
            f"placement=disjoint: the engines need {sum(s.device_count for s in local)} GPUs side by side ({wanted}), "
            f"and there are {len(gpus)}. Use placement=turns, or lower a tensor_parallel_size"
        )
    turns = len(distinct) > 1 and (placement is Placement.turns or not fits)
    devices: dict[str, tuple[int, ...] | None] = dict.fromkeys((s.key for s in distinct), None)
    free = [g for g in gpus if g not in taken]
    for spec in local:
        if spec.key in given:
            devices[spec.key] = given[spec.key]
        elif turns:
            devices[spec.key] = tuple(gpus[: spec.device_count])
        else:
            devices[spec.key], free = tuple(free[: spec.device_count]), free[spec.device_count :]
    return PlacedEngines(devices, turns)

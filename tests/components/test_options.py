"""Every option's range, whatever the component: values outside are refused by their key, defaults lie inside."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from metamem.config.options import EvaluationOptions, EvidenceOptions, TrainConfig
from metamem.core.errors import ConfigError
from metamem.core.registry import REGISTRY, Entry, check_ranges, load_components, option, range_of

load_components()
RANGED = [(entry, f) for entry in REGISTRY for f in entry.options if range_of(f)]


def outside(field: dataclasses.Field[Any]) -> list[float]:
    """Numbers that an option does not take: beyond each of its bounds, on an open one, and no number at all."""
    least, most, above = (field.metadata[name] for name in ("least", "most", "above"))
    beyond = [math.nan, *(b - 1 for b in (least, above) if b is not None), *([most + 1] if most is not None else ())]
    return [*beyond, above] if above is not None else beyond


@pytest.mark.parametrize(("entry", "field"), RANGED, ids=[f"{e.kind}={e.name}.{f.name}" for e, f in RANGED])
def test_a_value_outside_its_range_is_refused_by_its_key(entry: Entry, field: dataclasses.Field[Any]) -> None:
    key = f"evaluator.{entry.name}" if entry.kind == "evaluator" else entry.kind
    for value in outside(field):
        with pytest.raises(ConfigError) as refused:
            REGISTRY.options(entry.kind, {"name": entry.name, field.name: value})
        assert str(refused.value) == f"{key}.{field.name} must be {range_of(field)}, got {value}"


@pytest.mark.parametrize("options", [EvidenceOptions(), EvaluationOptions(), TrainConfig()])
def test_defaults_lie_within_their_ranges_and_numbers_outside_are_named(options: Any) -> None:
    check_ranges(options, "")
    for field in dataclasses.fields(options):
        for value in outside(field) if range_of(field) else ():
            with pytest.raises(ConfigError, match=f"^group\\.{field.name} must be {range_of(field)}, got"):
                check_ranges(dataclasses.replace(options, **{field.name: value}), "group")


def test_ranges_are_said_in_words() -> None:
    @dataclasses.dataclass
    class Options:
        both: int = option(1, "", least=1, most=3)
        share: float = option(1.0, "", above=0, most=1)
        free: int = option(1, "")

    assert [range_of(f) for f in dataclasses.fields(Options)] == ["from 1 to 3", "above 0 and at most 1", ""]

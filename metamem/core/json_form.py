"""Records as JSON and back, canonical JSON, and digests of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any

from metamem.core.records import R

# --- the JSON form


# Which JSON values stand for a plain one: whole numbers do for any.
_EXPECTED: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}
_PLAIN = frozenset({str, int, float, bool, type(None)})
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def to_json(value: Any) -> Any:
    """A record (or a tuple, dict, date or enum of them) as plain JSON values, with defaults except of sparse fields."""
    kind = type(value)
    if kind in _PLAIN:  # most values by far
        return value
    if kind is dict:
        return {str(k): v if type(v) in _PLAIN else to_json(v) for k, v in value.items()}
    if kind is tuple or kind is list:
        return [v if type(v) in _PLAIN else to_json(v) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        always, sparse = _field_names(type(value))
        made = {n: v if type(v := getattr(value, n)) in _PLAIN else to_json(v) for n in always}
        for name, least in sparse:
            if (held := getattr(value, name)) != least:
                made[name] = to_json(held)
        return made
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    raise TypeError(f"not a record value: {type(value).__name__}")


def from_json(cls: type[R], data: dict[str, Any]) -> R:
    """The record of type `cls` from its JSON form. Unknown keys are refused with a KeyError, wrong shapes with a
    TypeError.
    """
    if not isinstance(data, dict):
        raise TypeError(f"{cls.__name__}: expected an object, got {type(data).__name__}")
    hints: dict[str, Any] = _hints(typing.cast(Any, cls))
    unknown = set(data) - set(hints)
    if unknown:
        raise KeyError(f"{cls.__name__} has no field {sorted(unknown)[0]!r}")
    return cls(**{name: _read(hints[name], value) for name, value in data.items()})


def canonical(value: Any) -> str:
    """The canonical JSON text of a value: sorted keys, no spaces, non-ASCII kept."""
    return _canonical(to_json(value))


def digest(value: Any, length: int = 16) -> str:
    """Hex digest (sha256, first `length` digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:length]


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a dataclass's field, made where it is made anew for each object.

    Not told by `dataclasses.MISSING`: launchers that hand jobs to other processes leave copies of it in the fields.
    """
    factory: Any = field.default_factory
    return factory() if callable(factory) else field.default


@cache
def _field_names(cls: type) -> tuple[tuple[str, ...], tuple[tuple[str, Any], ...]]:
    """The names of the fields that are always written, and of the sparse ones with their defaults."""
    fields = dataclasses.fields(cls)
    always = tuple(f.name for f in fields if not f.metadata.get("sparse"))
    return always, tuple((f.name, default_of(f)) for f in fields if f.metadata.get("sparse"))


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [a for a in typing.get_args(hint) if a is not type(None)]
        return _read(inner, value)
    if hint in _EXPECTED:
        if type(value) not in _EXPECTED[hint]:
            raise TypeError(f"expected {hint.__name__}, got {type(value).__name__}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {type(value).__name__}")
        return tuple(_read(typing.get_args(hint)[0], v) for v in value)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, got {type(value).__name__}")
        return {key: _read(typing.get_args(hint)[1], v) for key, v in value.items()}
    if hint is datetime:
        return datetime.fromisoformat(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    return value

"""Options as plain data, and the part of them that can change a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from metamem.core.registry import in_identity


def identity(value: Any) -> Any:
    """The part of an options tree that can change a result, as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: identity(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if in_identity(f, getattr(value, f.name))
        }
    if isinstance(value, Mapping):
        return {str(k): identity(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [identity(v) for v in value]
    return value.value if isinstance(value, Enum) else value


def plain(value: Any) -> Any:
    """A whole options tree as plain JSON values, to be kept beside the results. Options never hold keys, only names
    of variables.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name.rstrip("_"): plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.value if isinstance(value, Enum) else value

"""What an engine is started from: equal specs mean that one engine can serve both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metamem.core.json_form import digest


@dataclass(frozen=True)
class EngineSpec:
    """A model and the engine arguments given for it. Equal keys mean that one engine can serve both.

    `batch_invariant`: its replies do not depend on what else is in a batch. vLLM takes it from the environment.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    batch_invariant: bool = False

    @property
    def key(self) -> str:
        """Digest of the whole spec."""
        return digest([self.model, dict(self.arguments), self.batch_invariant])

    @property
    def device_count(self) -> int:
        """How many devices the engine spreads over."""
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        return int(self.arguments.get(sizes[0], 1) * self.arguments.get(sizes[1], 1) * self.arguments.get(sizes[2], 1))

    @property
    def placed_by_ray(self) -> bool:
        """Whether ray chooses the devices, of this machine or of others."""
        names = ("distributed_executor_backend", "data_parallel_backend")
        return any(self.arguments.get(name) == "ray" for name in names)

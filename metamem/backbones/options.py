"""The sampling options that every backbone's config shares, and their one resolved form.

In: options as the user types them (`backbone.temperature=0.7`). Out: `records.Sampling`, in which every field has a
value and is always sent, so that the same config means the same sampler in process and on a server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from metamem.core.calls import Sampling
from metamem.core.errors import ConfigError
from metamem.core.registry import option


@dataclass
class SamplingOptions:
    """Options of a backbone that say how it samples. Roles may override `temperature` and `max_tokens`."""

    temperature: float = option(0.0, "sampling temperature; 0 is greedy")
    top_p: float = option(1.0, "nucleus sampling: keep the smallest set of tokens with this probability; 1 keeps all")
    top_k: int = option(0, "keep this many likeliest tokens; 0 keeps all")
    min_p: float = option(0.0, "keep tokens with at least this share of the likeliest one's probability; 0 keeps all")
    presence_penalty: float = option(0.0, "penalty on tokens that already occurred in the reply; 0 is off")
    frequency_penalty: float = option(0.0, "penalty on tokens by how often they occurred in the reply; 0 is off")
    repetition_penalty: float = option(1.0, "factor against tokens that occurred in prompt or reply; 1 is off")
    max_tokens: int = option(4096, "tokens that a reply may have, reasoning included")
    stop: list[str] = option([], "strings that end a reply")
    thinking: bool = option(False, "let a thinking model reason before it answers")
    thinking_budget: int | None = option(
        None, "tokens that reasoning may take; null is no limit (no effect without thinking)"
    )

    def __post_init__(self) -> None:
        """Raises `ConfigError` that names the option as the user types it."""
        _check("temperature", self.temperature, "at least 0", 0)
        _check("top_p", self.top_p, "above 0 and at most 1", 0, 1, above=True)
        _check("top_k", self.top_k, "at least 0 (0 keeps all)", 0)
        _check("min_p", self.min_p, "from 0 to 1", 0, 1)
        _check("presence_penalty", self.presence_penalty, "from -2 to 2", -2, 2)
        _check("frequency_penalty", self.frequency_penalty, "from -2 to 2", -2, 2)
        _check("repetition_penalty", self.repetition_penalty, "above 0", 0, above=True)
        _check("max_tokens", self.max_tokens, "at least 1", 1)
        if self.thinking_budget is not None:
            _check("thinking_budget", self.thinking_budget, "at least 1, or null", 1)
        if not all(isinstance(s, str) and s for s in self.stop):
            raise ConfigError(f"backbone.stop must be a list of strings, none of them empty, got {list(self.stop)!r}")

    def resolved(self) -> Sampling:
        """Every sampling field with its value. A budget without thinking bounds nothing and is None."""
        return Sampling(
            # float(): 1 and 1.0 are one value here, but not in the JSON that journal keys are made of.
            temperature=float(self.temperature),
            top_p=float(self.top_p),
            top_k=self.top_k,
            min_p=float(self.min_p),
            presence_penalty=float(self.presence_penalty),
            frequency_penalty=float(self.frequency_penalty),
            repetition_penalty=float(self.repetition_penalty),
            max_tokens=self.max_tokens,
            stop=tuple(self.stop),
            thinking=self.thinking,
            thinking_budget=self.thinking_budget if self.thinking else None,
        )


def _check(field: str, value: float, allowed: str, low: float, high: float = math.inf, *, above: bool = False) -> None:
    if not math.isfinite(value) or not low <= value <= high or (above and value == low):
        raise ConfigError(f"backbone.{field} must be {allowed}, got {value}")

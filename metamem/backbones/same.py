"""`same` and `auto`: names that stand for another backbone, which is known once data and policy are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metamem.core.contracts import Placeholder
from metamem.core.errors import ConfigError
from metamem.core.registry import REGISTRY, register


@register("backbone", "same")
class Same:
    """The policy's backbone plays this role (for judge, reflector and builder)."""

    @dataclass
    class Config:
        """No options."""

    @classmethod
    def stands_for(cls, policy: Any, dataset: str, own: bool) -> Any:
        """Return the policy's options. Raises `ConfigError` where it is the policy that is asked for."""
        if policy is None:
            raise ConfigError("backbone: 'same' is for the other roles; name a backbone for the policy")
        return policy


@register("backbone", "auto")
class Auto:
    """On the project's own data: simulated. On any other data a backbone must be named."""

    @dataclass
    class Config:
        """No options."""

    @classmethod
    def stands_for(cls, policy: Any, dataset: str, own: bool) -> Any:
        """Return the policy's options; as the policy the stand-in's. Raises `ConfigError` on data of others."""
        if policy is not None:
            return policy
        if own:
            return {"name": "simulated"}
        entries = {name: REGISTRY.entry("backbone", name) for name in REGISTRY.names("backbone")}
        choices = [name for name, entry in entries.items() if not issubclass(entry.component, Placeholder)]
        raise ConfigError(
            f"backbone: dataset={dataset} needs a backbone named, on the command line or by an experiment. "
            f"Choices: {', '.join(choices)}. For example: "
            "backbone=openai backbone.base_url=http://localhost:8000/v1 backbone.model=NAME"
        )

"""`same`: a role that is played by the policy's backbone."""

from __future__ import annotations

from dataclasses import dataclass

from metamem.core.registry import register


@register("backbone", "same")
class Same:
    """The policy's backbone plays this role (for judge, reflector and builder)."""

    @dataclass
    class Config:
        """No options."""


@register("backbone", "auto")
class Auto:
    """On the project's own sample data: simulated. On any other data a backbone must be named."""

    @dataclass
    class Config:
        """No options."""

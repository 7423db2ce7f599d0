"""`false_fact`: a fact that is not true, said later than the true one."""

from __future__ import annotations

from dataclasses import dataclass

from metamem.attacks.planting import PlantedTurns, Planting, PlantOptions, Plot, Victim
from metamem.core.registry import register


@register("attack", "false_fact")
class FalseFact(Planting):
    """A false fact with a later date than the true one: what was said, with another answer in it."""

    @dataclass
    class Config(PlantOptions):
        """For how many questions, and what is to be said."""

    def plot(self, victim: Victim) -> Plot:
        """Say the lie as the user, later than everything else."""
        return Plot((PlantedTurns((victim.lie(),), victim.later),))

"""`contradiction`: the opposite of the evidence, said at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from metamem.attacks.planting import PlantedTurns, Planting, PlantOptions, Plot, Victim
from metamem.core.registry import register


@register("attack", "contradiction")
class Contradiction(Planting):
    """The evidence contradicted at its own date, so that no order in time settles which of the two holds."""

    @dataclass
    class Config(PlantOptions):
        """For how many questions, and what is to be said."""

    def plot(self, victim: Victim) -> Plot:
        """Say the lie right after the first evidence, with its date; after everything else where none is known."""
        session = next((session for session, _ in victim.evidence() if session is not None), None)
        when = session.time if session is not None else victim.later
        return Plot((PlantedTurns((f"That was not so. {victim.lie()}",), when),))

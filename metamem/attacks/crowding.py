"""`crowding`: near-duplicates that push the evidence out of what is retrieved."""

from __future__ import annotations

from dataclasses import dataclass

from metamem.attacks.planting import PlantedTurns, Planting, PlantOptions, Plot, Victim
from metamem.core.registry import option, register

# What makes copies of a text differ a little.
_AGAIN = ("", "Again:", "As I said:", "To repeat it:", "Once more:", "Do not forget:", "I mean it:", "For the record:")


@register("attack", "crowding")
class Crowding(Planting):
    """Many near-duplicates of the question with a false answer, which take the places of the evidence."""

    @dataclass
    class Config(PlantOptions):
        """How many copies, for how many questions."""

        copies: int = option(10, "near-duplicates planted for each question", least=1)

    config: Config

    def plot(self, victim: Victim) -> Plot:
        """Say the lie many times in nearly the same words, each in a session of its own."""
        text = f"{victim.question.text} {victim.lie()}"
        rounds = (
            f"{_AGAIN[n % len(_AGAIN)]} {text}{' ' + str(n) if n >= len(_AGAIN) else ''}"
            for n in range(self.config.copies)
        )
        return Plot(tuple(PlantedTurns((copy.strip(),), victim.later) for copy in rounds))

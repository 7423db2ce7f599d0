"""`instructions`: sentences that a person wrote, in place of learned ones; the baseline of good advice.

In: a file of sentences, or the ones below. Out: in one step, which asks nothing, a meta-memory of them. `nano` can use
them as it uses guidelines that were learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError
from metamem.core.json_form import digest
from metamem.core.learned import Bounds, Laboratory, Position, Update
from metamem.core.meta_memory import Action, Operation, apply
from metamem.core.records import Question
from metamem.core.registry import option, register

# Said in words that `backbone=nano` knows, too.
SENTENCES = (
    "When a fact changed, use the newest memory.",
    "When asked how many, go through every line and count each mention.",
    "When asked for a list, collect the things of all memories.",
    "When asked what came first, compare the dates and take the earliest memory.",
    "When asked for the time between two things, subtract the earlier date from the later one.",
    "When asked what the user did, use what the user said, not the advice of the assistant.",
    "When asked for a suggestion, use what the assistant said.",
    "When asked for a recommendation, choose what is always welcome and avoid what is never welcome.",
    "When no memory mentions the person, say unknown and avoid guessing.",
)


@register("optimizer", "instructions")
class Instructions:
    """Take sentences that a person wrote as they are; nothing is answered or asked."""

    prompts = ()
    keeps_data = True

    @dataclass
    class Config:
        """Where the sentences stand."""

        path: str = option("", "a text file with a sentence on each line (empty: nine of the project's own)")

    def __init__(self, config: Config) -> None:
        self.sentences = _read(Path(config.path)) if config.path else SENTENCES

    def identity(self) -> Mapping[str, Any]:
        """Return the hash of the sentences."""
        return {"sentences": digest(self.sentences, 16)}

    def batches(self, train: Sequence[Question], seed: int) -> list[list[Question]]:
        """Return one step without a question."""
        return [[]]

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that nothing is asked for."""
        return Bounds(0, (), sum(len(s.split()) + 1 for s in self.sentences))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Put every sentence in, in the order of the file."""
        held = {g.text for g in at.meta_memory.guidelines}
        operations = [Operation(Action.add, None, text) for text in self.sentences if text not in held]
        memory, changes, refused = apply(at.meta_memory, operations, laboratory.step)
        return Update(memory, None, changes, refused)


def _read(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"optimizer.path: cannot read the sentences of '{path}': {error}") from None
    found = tuple(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not found:
        raise ConfigError(f"optimizer.path: '{path}' holds no sentence")
    return found

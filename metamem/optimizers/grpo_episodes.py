"""Episodes of `grpo` as its trainer takes them: samples with advantages, and the means of their rewards.

In: rows of episodes, a writing of a memory each with the rewards of its chunks. Out: a sample for every reply; figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metamem.core.errors import ConfigError

TERMS = ("task", "calls", "compression", "content")


def refuse_unrewarded(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ConfigError` for episodes of a memory that does not say which reply did what: none teaches anything."""
    if rows and not any(row["chunk_rewards"] for row in rows):
        raise ConfigError(
            "optimizer=grpo: this memory keeps no history of what its builder's replies did, so none has a reward and "
            "nothing would be trained; choose one such as memory=memalpha or memory=memory_r1"
        )


def mean_figures(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over the updates that have it."""
    names = dict.fromkeys(name for f in figures for name in f)
    held = {name: [f[name] for f in figures if name in f] for name in names}
    return {name: round(sum(values) / len(values), 6) for name, values in held.items()}


def samples_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a trainer is given: of every exchange of every episode its token ids and its advantage.

    An exchange that did nothing to the memory has the mean advantage of its episode's chunks.
    """
    found = []
    for number, row in enumerate(rows):
        advantages = row["chunk_advantages"]
        mean = sum(advantages) / len(advantages) if advantages else 0.0
        for chunk, prompt, reply in zip(row["chunks"], row["prompt_ids"], row["reply_ids"], strict=True):
            advantage = advantages[chunk] if chunk >= 0 else mean
            found.append({"row": number, "prompt": prompt, "reply": reply, "advantage": advantage})
    return found


def means_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the means of the reward and its terms over episodes; nothing without any."""
    names = ("reward", *(f"reward_{term}" for term in TERMS))
    return {name: round(sum(row[name] for row in rows) / len(rows), 6) for name in names} if rows else {}

"""The reward of one writing of a Mem-α memory, term by term, and the advantages of a group of writings.

In: the history of an episode, its sizes, the scores of the answers, the judge's word on its writes. Out: `Terms`, their
sum under two weights, advantages. Source: Mem-α (arXiv 2509.25911), r = task + calls + β compression + γ content;
advantages as GRPO has them (arXiv 2402.03300). Pure functions: nothing is asked or read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metamem.core.banks import NO_CALL, Effect

BETA, GAMMA = 0.05, 0.1
# (β, γ) of the paper's ablation, the chosen one in the middle.
ABLATION = ((0.05, 0.0), (0.0, 0.1), (0.05, 0.1), (0.2, 0.1), (0.4, 0.1))


@dataclass(frozen=True, slots=True)
class Terms:
    """The four terms of a reward. All but `compression` are in [0, 1]; that is below 0 when the memory outgrew its
    input.
    """

    task: float
    calls: float
    compression: float
    content: float

    def total(self, beta: float = BETA, gamma: float = GAMMA) -> float:
        """The reward."""
        return self.task + self.calls + beta * self.compression + gamma * self.content


def task_score(scores: Sequence[float]) -> float:
    """The mean score of the answers, 0 without questions."""
    return _mean(scores)


def call_success(history: Iterable[Effect], chunks: int) -> float:
    """The mean over chunks of the share of a chunk's calls that were executed; a chunk without calls counts 0."""
    called: dict[int, list[bool]] = {}
    for effect in history:
        if effect.result != NO_CALL:
            called.setdefault(effect.chunk, []).append(effect.executed)
    return math.fsum(sum(executed) / len(executed) for executed in called.values()) / chunks if chunks else 0.0


def compression(memory_tokens: int, input_tokens: int) -> float:
    """1 - memory / input, in tokens; 0 without input."""
    return 1 - memory_tokens / input_tokens if input_tokens else 0.0


def content_share(suits: Sequence[bool]) -> float:
    """The share of the writes whose text suits the part it was written to; 0 when nothing was written."""
    return _mean([float(suit) for suit in suits])


def writes(history: Iterable[Effect]) -> list[Effect]:
    """The calls that put a text into the memory, whose content is judged."""
    return [effect for effect in history if effect.after is not None]


def advantages(rewards: Sequence[float]) -> list[float]:
    """Each reward less the group's mean, in the group's standard deviations; all 0 where the rewards are equal."""
    mean = _mean(rewards)
    deviation = math.sqrt(_mean([(reward - mean) ** 2 for reward in rewards]))
    # Sums of equal rewards may differ in their last digit.
    return [(reward - mean) / deviation if deviation > 1e-9 else 0.0 for reward in rewards]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0

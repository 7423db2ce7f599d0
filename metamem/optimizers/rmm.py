"""`rmm`: learns to choose among retrieved memories, from which of them answers turn out to rest on.

In: evidence, answers, and what a reviewer says that each answer rests on. Out: a meta-memory that holds the weights
of a reranker and no guideline, and the recall `rmm`, by which a prompt shows the 5 best of the evidence that was
retrieved.

Source: Reflective Memory Management (arXiv 2503.08026), its retrospective reflection: question and memory embeddings
q and m become q + A q and m + B m, a memory's score is their product; 5 of 20 are drawn with Gumbel noise; a memory
that the answer cites is worth +1, another one -1; REINFORCE with rate 1e-3 and baseline .5. Faithful: the residual
form, the draw, the reward, rate and baseline. Different: A and B are diagonal, so that the weights are two vectors in
JSON; scores are divided by the temperature in the draw and in the gradient alike; noise is drawn from the step's
seed, in learning alone; a reviewer names what an answer rests on, where theirs cites as it answers; the batch's
gradients are summed. It goes with `memory=rmm`, and works with any memory. `nano` cannot do it: its model names no
numbers, so that nothing is learned, and the first 5 by similarity are shown.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Evidence, Question
from metamem.core.registry import option, register
from metamem.core.text import render_unit
from metamem.optimizers.attempts import attempt_all
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import delivered
from metamem.recall.all import All
from metamem.recall.embedding import Comparing
from metamem.replies.json_in_text import form_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

RERANKER = "reranker"
_DECIMALS = 10


@dataclass
class Cited:
    """The numbers of the fragments that an answer rests on."""

    cited: list[int]


@register("optimizer", "rmm")
class ReflectiveRetrieval(Scheduled):
    """RMM: a reranker of retrieved memories, learned by REINFORCE from what answers rest on."""

    prompts = ("rmm_cite", "repair")
    recall = "rmm"

    @dataclass
    class Config:
        """The schedule, and REINFORCE."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step", least=1)
        rate: float = option(1e-3, "learning rate", above=0)
        baseline: float = option(0.5, "what is taken off each reward")
        temperature: float = option(0.5, "what scores are divided by before memories are drawn", above=0)
        tokens: int = option(512, "new tokens per review of an answer at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is answered once, and what its answer rests on asked for."""
        count = len(batch)
        return Bounds(count, (ExpectedCalls("rmm_cite", 0, count, 2 * count, self.config.tokens),))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Answer a batch from memories that are drawn, and move the weights towards those that answers rest on."""
        import numpy as np

        held = at.meta_memory.about.get(RERANKER) or {}
        noise = {"seed": laboratory.random.random(), "temperature": self.config.temperature}
        drawing = replace(at.meta_memory, about={**at.meta_memory.about, RERANKER: {**held, "noise": noise}})
        judged = await attempt_all(batch, drawing, laboratory)
        cited = await asyncio.gather(*(self._cited(one, laboratory) for one in judged))
        a = b = np.zeros(0)
        rewards: list[float] = []
        for one, numbers in zip(judged, cited, strict=True):
            if numbers is None:
                continue
            texts = [one.question.text, *(e.unit.found_by for e in one.gathered)]
            asked, *memories = (v.astype(np.float64) for v in await laboratory.embed(texts))
            question_weights, memory_weights = weights(at.meta_memory, len(asked))
            reward = {e.unit.id: 1.0 if i in numbers else -1.0 for i, e in enumerate(one.evidence, 1)}
            credit = [reward[e.unit.id] - self.config.baseline if e.unit.id in reward else 0.0 for e in one.gathered]
            up, down = gradient(
                question_weights, memory_weights, asked, np.stack(memories), credit, self.config.temperature
            )
            a, b = (a + up, b + down) if len(a) else (up, down)
            rewards += reward.values()
        memory = at.meta_memory
        if len(a):
            question_weights, memory_weights = weights(memory, len(a))
            learned = {
                "question": [round(float(x), _DECIMALS) for x in question_weights + self.config.rate * a],
                "memory": [round(float(x), _DECIMALS) for x in memory_weights + self.config.rate * b],
            }
            memory = replace(memory, about={**memory.about, RERANKER: learned})
        share = sum(r > 0 for r in rewards) / len(rewards) if rewards else 0.0
        counts = {"reviewed": sum(n is not None for n in cited), "cited_share": round(share, 6)}
        return Update(memory, at.state, counts=counts)

    async def _cited(self, judged: Judged, laboratory: Laboratory) -> set[int] | None:
        """Return the numbers of the shown memories that an answer rests on; None where that is not known."""
        # What an answer rests on can be told whether it was right or not, and where nobody says so.
        answered = delivered(judged)
        if not answered or not judged.gathered:
            return None
        found = await laboratory.read(
            "rmm_cite",
            self.config.tokens,
            lambda reply: set(form_of(Cited).read(reply.text).cited),
            memories=[render_unit(e.unit) for e in judged.evidence],
            question=judged.question.text,
            attempt=answered[0].response,
        )
        return found.value


def weights(meta_memory: MetaMemory, size: int) -> tuple[Vector, Vector]:
    """Return the diagonals of A and B, zeros before anything is learned. Raises `ValueError` for another embedder's."""
    import numpy as np

    held: Mapping[str, Any] = meta_memory.about.get(RERANKER) or {}
    found = [np.array(held.get(name) or [0.0] * size, np.float64) for name in ("question", "memory")]
    if any(len(one) != size for one in found):
        raise ValueError(f"{RERANKER}: {len(found[0])} weights, the embedder makes {size} components")
    return found[0], found[1]


def scores(a: Vector, b: Vector, asked: Vector, memories: Vector) -> Vector:
    """Return the score of each memory (n,): the product of (1 + a) q and (1 + b) m."""
    made: Vector = memories @ ((1 + a) * (1 + b) * asked)
    return made


def gradient(
    a: Vector, b: Vector, asked: Vector, memories: Vector, credit: Sequence[float], temperature: float
) -> tuple[Vector, Vector]:
    """Return the gradients in a and b of the sum over memories of credit · log p, where p is the softmax of the scores
    over the temperature.
    """
    import numpy as np

    logits = scores(a, b, asked, memories) / temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    by_score = (np.array(credit) - sum(credit) * p) / temperature
    common = (by_score @ memories) * asked
    return common * (1 + b), common * (1 + a)


@register("recall", "rmm")
class Reranked(Comparing, All):
    """Show the M memories of the highest score of those that were retrieved, and every guideline there is."""

    @dataclass
    class Config:
        """How many."""

        m: int = option(5, "memories shown of those that were retrieved", least=1)

    config: Config

    async def evidence(
        self, meta_memory: MetaMemory, question: Question, gathered: Sequence[Evidence]
    ) -> Sequence[Evidence]:
        """Return the M best in the order they came in; while it is learned, Gumbel noise makes it a draw of M."""
        ranked = await asyncio.to_thread(self._scores, meta_memory, question, gathered)
        noise = (meta_memory.about.get(RERANKER) or {}).get("noise")
        if noise:
            ranked = [
                score / noise["temperature"] + gumbel(f"{noise['seed']}/{question.id}/{e.unit.id}")
                for score, e in zip(ranked, gathered, strict=True)
            ]
        best = sorted(range(len(gathered)), key=lambda i: (-ranked[i], i))[: self.config.m]
        return [gathered[i] for i in sorted(best)]

    def _scores(self, meta_memory: MetaMemory, question: Question, gathered: Sequence[Evidence]) -> list[float]:
        import numpy as np

        vectors = self._similarity.directions([question.text, *(e.unit.found_by for e in gathered)]).astype(np.float64)
        a, b = weights(meta_memory, vectors.shape[1])
        return [round(float(s), 6) for s in scores(a, b, vectors[0], vectors[1:])]


def gumbel(seed: str) -> float:
    """Return a draw of the standard Gumbel distribution."""
    return -math.log(-math.log(max(Random(seed).random(), 1e-300)))

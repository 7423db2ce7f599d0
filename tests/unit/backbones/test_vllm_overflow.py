"""`on_overflow=drop_evidence`: what of a question's evidence is left out when its prompt does not fit."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.backbones.scripted import Scripted
from metamem.core.calls import Message, Sampling
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.pipeline.bench import Bench
from metamem.prompts.templates import Prompts
from metamem.retrieval.evidence import evidence_hash

PROMPTS = Prompts(Prompts.Config())
QUESTION = Question("q", "What?", "fact", ("that",))


class Policy:
    """A caller whose backbone takes prompts of so many words at most."""

    def __init__(self, limit: int) -> None:
        self.counts: Counter[str] = Counter()
        self.backbone = SimpleNamespace(overflow=lambda messages, sampling, tools: words(messages) - limit)

    def sampling(self) -> Sampling:
        return Scripted.Config().resolved()


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def words(messages: tuple[Message, ...]) -> int:
    return sum(len(m.content.split()) for m in messages)


def bench(limit: int, evidence: tuple[Evidence, ...]) -> tuple[Bench, Policy, Notes]:
    policy, notes = Policy(limit), Notes()
    parts: dict[str, Any] = {"prompts": PROMPTS, "evaluators": {}, "reward": "", "seed": 0}
    return Bench(policy=policy, evidence={"q": evidence}, tracker=notes, **parts), policy, notes  # type: ignore[arg-type]


def unit(name: str, size: int, rank: int) -> Evidence:
    return Evidence(MemoryUnit(name, " ".join([name] * size)), -float(rank), rank)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 150), st.randoms(use_true_random=False))
def test_as_much_evidence_stays_as_fits_and_the_least_relevant_goes_first(
    sizes: list[int], room: int, order: Any
) -> None:
    shown = [unit(f"u{rank}", size, rank) for rank, size in enumerate(sizes)]
    order.shuffle(shown)  # in the prompt it may stand by time
    base = words(bench(10**6, ())[0].prompt(QUESTION, None)[0])
    made, policy, notes = bench(base + room, tuple(shown))
    messages, hashed = made.prompt(QUESTION, None)
    kept = [e for e in shown if e.unit.text in messages[-1].content]
    ranks = sorted(e.rank for e in kept)
    assert ranks == list(range(len(kept))), "what is kept is what is most relevant"
    assert hashed == evidence_hash(kept), "the hash is of what is shown, in its order"
    assert policy.counts["evidence_dropped"] == len(shown) - len(kept)
    assert bool(notes.lines) == (len(kept) < len(shown))
    full = words(bench(10**6, tuple(shown))[0].prompt(QUESTION, None)[0])
    if full <= base + room:
        assert len(kept) == len(shown)
    elif len(kept) + 1 <= len(shown):
        more = tuple(e for e in shown if e.rank <= len(kept))
        assert words(bench(10**6, more)[0].prompt(QUESTION, None)[0]) > base + room, "one more would not have fitted"


@pytest.mark.parametrize("policy", [None, SimpleNamespace(sampling=Sampling, backbone=SimpleNamespace())])
def test_without_a_backbone_that_measures_nothing_is_left_out(policy: Any) -> None:
    evidence = (unit("u", 1000, 0),)
    parts: dict[str, Any] = {"prompts": PROMPTS, "evaluators": {}, "reward": "", "seed": 0, "tracker": Notes()}
    messages, _ = Bench(policy=policy, evidence={"q": evidence}, **parts).prompt(QUESTION, None)
    assert evidence[0].unit.text in messages[-1].content

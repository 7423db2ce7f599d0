"""GEPA: fronts and merges against slow versions; an evolution worked by hand. The authors' package: see beside."""

from __future__ import annotations

import json
import random
from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.core.errors import ConfigError
from metamem.core.registry import build
from metamem.optimizers.evolution import Candidate, Merges, fronts, merged, undominated
from tests.learning import Classroom, ask, section

VALIDATION = [ask(f"v{i}") for i in range(6)]
TRAIN = [ask(f"t{i}") for i in range(3)]
quick = settings(max_examples=40, deadline=None)


@st.composite
def families(draw: Any) -> list[Candidate]:
    """Candidates of two blocks, each a child of an earlier one that changes one block."""
    count = draw(st.integers(1, 7))
    made: list[Candidate] = []
    for n in range(count):
        scores = {str(q): draw(st.integers(0, 2)) / 2 for q in range(6)}
        if n == 0:
            made.append(Candidate({"x": "x0", "y": "y0"}, (), scores))
            continue
        origin = draw(st.integers(0, n - 1))
        block = draw(st.sampled_from("xy"))
        made.append(Candidate({**made[origin].texts, block: f"{block}{n}"}, (origin,), scores))
    return made


@quick
@given(held=families())
def test_a_front_holds_the_best_of_each_question_and_only_those_that_are_needed(held: list[Candidate]) -> None:
    found = fronts(held)
    for question, leading in found.items():
        best = max(c.scores[question] for c in held)
        assert leading == [i for i in range(len(held)) if held[i].scores[question] == best]
    kept = undominated(found, [c.mean for c in held])
    left = {i for leading in kept.values() for i in leading}
    assert all(kept.values()), "every question keeps one that answers it best"
    for smaller in chain.from_iterable(combinations(sorted(left), n) for n in range(len(left))):
        if len(smaller) == len(left) - 1:
            gone = left - set(smaller)
            assert any(set(found[q]) & left <= gone for q in found), "none of those left can go, too"


@quick
@given(held=families(), seed=st.integers(0, 99))
def test_a_merge_takes_each_block_from_the_one_that_changed_it(held: list[Candidate], seed: int) -> None:
    merges = Merges()
    rng = random.Random(seed)
    while (found := merged(held, merges, rng)) is not None:
        texts, i, j = found
        first, second, ancestor = merges.triplets[-1]
        assert (first, second) == (i, j) and held[ancestor].mean <= min(held[i].mean, held[j].mean)
        for block, text in texts.items():
            old, one, other = (held[n].texts[block] for n in (ancestor, i, j))
            if (one == old) != (other == old):
                assert text == (other if one == old else one)
            elif one != other:
                assert text == (one if held[i].mean > held[j].mean else other) or held[i].mean == held[j].mean
            else:
                assert text == one
    assert len(set(merges.triplets)) == len(merges.triplets)
    assert Merges.from_json(json.loads(json.dumps(merges.to_json()))) == merges


def evolution(worth: Any, rewrite: Any, **options: Any) -> Classroom:
    """A policy whose answers are as right as `worth(texts, question)` says; `rewrite(number, block)` rewrites."""
    policy = build("optimizer", {"name": "gepa", "budget": 60, **options})
    asked: list[str] = []

    def replies(template: str, text: str) -> str:
        asked.append(text)
        block = "guidelines" if "list of guidelines" in text else "answer.system"
        return f"Thinking.\n```\n{rewrite(len(asked), block)}\n```"

    def answers(question: Any, memory: Any, shown: Any, draw: int) -> tuple[str, bool]:
        texts = {"answer.system": memory.texts.get("answer.system", ""), "guidelines": "|".join(g.text for g in shown)}
        return "said", worth(texts, question.id)

    return Classroom(policy, answers, replies, validation=VALIDATION, train=TRAIN)


def test_an_evolution_worked_by_hand_ends_with_the_merge_of_two_lines() -> None:
    """Rewriting the system text solves v0 to v2, the guidelines v3 to v5; the merge solves all."""

    def worth(texts: dict[str, str], question: str) -> bool:
        half = "answer.system" if question in ("v0", "v1", "v2", "t0") else "guidelines"
        return texts[half].startswith("good") and question != "t2"

    made = evolution(worth, lambda number, block: f"good {block}", budget=200)
    rows = []
    for _ in range(12):
        made.step(*TRAIN)
        rows.append(made.at.state)
        if len(rows[-1]["candidates"]) == 4:
            break
    last = rows[-1]["candidates"]
    # The first child improves one half; a second child of the seed or of the first improves the other.
    assert [sum(c["scores"].values()) for c in last][:2] == [0, 3]
    assert max(sum(c["scores"].values()) for c in last) == 6
    assert made.at.meta_memory.texts["answer.system"] == "good answer.system" and made.texts == ["good guidelines"]
    assert all(c["turn"] in (0, 1) for c in last)


def test_a_child_joins_only_when_the_minibatch_strictly_improves() -> None:
    made = evolution(lambda texts, question: question == "t0", lambda number, block: f"text {number}")
    update = made.step(*TRAIN)
    assert len(made.at.state["candidates"]) == 1 and not made.at.meta_memory.items
    assert update.trace[0]["before"] == update.trace[0]["after"] == [1.0, 0.0, 0.0]
    assert made.at.state["spent"] == 6 + 3 + 3, "the seed's validation, the parent's minibatch, the child's"
    assert made.at.state["candidates"][0]["turn"] == 1, "the other text is next"


def test_a_minibatch_without_a_fault_is_not_reflected_on_and_the_budget_ends_it() -> None:
    made = evolution(lambda texts, question: True, lambda number, block: "never", budget=12)
    assert not made.step(*TRAIN).done and made.at.state["spent"] == 9
    assert made.step(*TRAIN).done and not made.reflector.asked
    assert len(made.policy.batches(TRAIN, 0)) == 4 and all(len(b) == 3 for b in made.policy.batches(TRAIN, 0))


def test_a_guideline_has_one_id_wherever_it_stands() -> None:
    said = iter(["Look.\nCount.", "Count.\nCompare.", "Compare.\nLook."])
    worth = lambda texts, q: q in ("v0", "t0") and bool(texts["guidelines"])  # noqa: E731
    made = evolution(worth, lambda number, block: next(said), blocks=["guidelines"])
    made.step(*TRAIN)
    assert {g.text: g.id for g in made.at.meta_memory.guidelines} == {"Look.": "G1", "Count.": "G2"}
    made.step(*TRAIN)
    made.step(*TRAIN)
    assert made.at.state["ids"] == {"Look.": "G1", "Count.": "G2", "Compare.": "G3"}
    assert section(made.reflector.asked[-1][1], "current") == "Look.\nCount."


def test_texts_that_are_no_blocks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.blocks: name texts as answer\.system"):
        build("optimizer", {"name": "gepa", "blocks": ["system"]})

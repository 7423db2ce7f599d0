"""Our whole engine against the authors' package: the same worlds, draws and minibatches, step by step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metamem.core.registry import build
from metamem.optimizers.evolution import Candidate, fronts
from metamem.optimizers.gepa import Evolution
from tests.gepa_world import BLOCKS, KEPT, Ordered, World
from tests.learning import Classroom, ask

ROWS = json.loads(KEPT.read_text(encoding="utf-8"))


def evolution(world: World) -> Classroom:
    """Our policy in a world."""
    drafts = iter(range(1, 1000))

    def answers(question: Any, memory: Any, shown: Any, draw: int) -> tuple[str, float]:
        texts = {**dict.fromkeys(BLOCKS, ""), **memory.texts, "guidelines": "\n".join(g.text for g in shown)}
        return "said", world.score(texts, question.id)

    given = {"blocks": list(BLOCKS), "budget": world.budget, "merges": world.merges}
    return Classroom(
        build("optimizer", {"name": "gepa", **given}),
        answers,
        lambda template, text: f"```\ndraft {next(drafts)}\n```",
        validation=[ask(i) for i in world.ids("validation")],
        train=[ask(i) for i in world.ids("train")],
        random=Ordered(world.seed),
    )


def told(held: list[Candidate]) -> dict[str, Any]:
    """Candidates in the package's words."""
    return {
        "candidates": [[c.texts[b] for b in BLOCKS] for c in held],
        "parents": [list(c.parents) for c in held],
        "means": [c.mean for c in held],
        "fronts": fronts(held),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: json.dumps(row["world"]))
def test_the_whole_engine_does_what_the_authors_package_does(row: dict[str, Any]) -> None:
    world, package = World(**row["world"]), row["package"]
    made = evolution(world)
    train = [ask(i) for i in world.ids("train")]
    for number, theirs in enumerate(package["steps"], 1):
        update = made.step(*(train[n] for n in theirs.get("batch", range(3))))
        (ours,) = update.trace
        where = f"step {number}: {theirs}"
        if "merged" in theirs:
            assert (ours["merged"], ours["after"]) == (theirs["merged"], theirs["scores"][0]), where
        else:
            assert (ours["parent"], ours.get("block")) == (theirs["parent"], theirs.get("block")), where
            assert [sum(ours[k]) for k in ("before", "after") if k in ours] == theirs["scores"], where
        assert bool(ours.get("accepted")) == theirs["accepted"], where
        assert made.at.state["spent"] == theirs["spent"], where
        assert update.done == (number == len(package["steps"])), where
    state = Evolution.of(made.at.state)
    assert {**told(state.candidates), "best": state.candidates.index(state.best), "spent": state.spent} == {
        k: v for k, v in package.items() if k != "steps"
    }


def test_the_worlds_hold_merges_of_all_kinds_and_steps_without_a_child() -> None:
    steps = [step for row in ROWS for step in row["package"]["steps"]]
    assert {step["accepted"] for step in steps if "merged" in step} == {True, False}
    reflected = [step for step in steps if "merged" not in step]
    assert {(len(step["scores"]), step["accepted"]) for step in reflected} == {(1, False), (2, False), (2, True)}
    assert max(len(row["package"]["candidates"]) for row in ROWS) > 10

"""ACE: counters, additions and merges of a playbook that is never rewritten."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

from metamem.core.meta_memory import Guideline, MetaMemory
from metamem.core.registry import build
from tests.learning import Classroom, ask, section

A, B, C = ask("a"), ask("b"), ask("c")


def room(reflections: dict[str, Any], bullets: list[Any], outcomes: dict[str, bool | None] | None = None) -> Classroom:
    policy = build("optimizer", {"name": "ace"})

    def reply(template: str, text: str) -> str:
        if template == "ace_reflect":
            return f"Well.\n{json.dumps(reflections[section(text, 'question').split()[-1][:-1]])}"
        return json.dumps(bullets.pop(0))

    return Classroom(policy, lambda q, m, s, d: ("said", (outcomes or {}).get(q.id, True)), reply)


def test_marked_bullets_are_counted_once_an_answer_and_only_those_that_were_shown() -> None:
    marks: dict[str, Any] = {q: {"lessons": [f"Of {q}."]} for q in "abc"}
    made = room(marks, [[{"section": "dates", "text": "Compare dates."}, {"text": "Count twice."}], [], []])
    made.step(A)
    assert [g.about for g in made.at.meta_memory.guidelines] == [
        {"section": "dates", "helpful": 0, "harmful": 0},
        {"section": "general", "helpful": 0, "harmful": 0},
    ]
    marks["a"] = {"helpful": ["G1", "[G1]", "G9"], "harmful": ["G2"]}
    marks["b"] = {"helpful": ["G1"], "harmful": []}
    marks["c"] = {"helpful": ["G2"], "harmful": ["G2"]}  # contradicts itself
    made.step(A, B, C)
    assert (made.about("helpful"), made.about("harmful")) == ([2, 0], [0, 1])
    assert len(made.reflector.prompts("ace_curate")) == 1, "without a lesson nothing is curated"


def test_bullets_that_say_the_same_are_merged_into_the_earliest_with_both_counts() -> None:
    marks: dict[str, Any] = {"a": {"lessons": ["x"]}}
    first = [{"section": "s", "text": "Compare the dates of all fragments."}, {"section": "t", "text": "Count twice."}]
    made = room(marks, [first, [{"section": "t", "text": "compare the dates of all fragments"}, first[1]]])
    made.step(A)
    marks["a"] = {"lessons": ["x"], "helpful": ["G1"]}
    update = made.step(A)
    assert made.texts == [b["text"] for b in first] and made.about("helpful") == [1, 0]
    assert update.counts["merged"] == 1 and not update.changes and len(update.refused) == 1
    assert made.at.meta_memory.next_id == 4, "an id is never given out twice"


def test_merging_loses_no_count_and_leaves_the_earliest_of_those_that_say_the_same() -> None:
    class Words:
        """Texts are as similar as the words that they share."""

        async def similar(self, text: str, texts: list[str]) -> list[float]:
            one = set(text)
            return [len(one & set(other)) / len(one | set(other)) for other in texts]

    rng, same = Random(5), 0.6
    for _ in range(40):
        held = tuple(
            Guideline(
                f"G{i}",
                "".join(rng.sample("abcdef", rng.randint(1, 5))),
                about={"section": rng.choice("xyz"), "helpful": rng.randint(0, 9), "harmful": rng.randint(0, 9)},
            )
            for i in rng.sample(range(1, 30), 9)
        )
        policy = build("optimizer", {"name": "ace", "same": same})
        left = asyncio.run(policy._merged(MetaMemory(held, 30), Words())).guidelines
        # Told again: in the order of ids each goes to the nearest that stayed, or stays.
        members: dict[str, list[Guideline]] = {}
        for bullet in sorted(held, key=lambda g: int(g.id[1:])):
            near = [(-asyncio.run(Words().similar(bullet.text, [text]))[0], n) for n, text in enumerate(members)]
            score, place = min(near, default=(0.0, 0))
            members.setdefault([*members][place] if -score >= same else bullet.text, []).append(bullet)
        counts = {
            kin[0].id: (sum(g.about["helpful"] for g in kin), sum(g.about["harmful"] for g in kin))
            for kin in members.values()
        }
        assert {g.id: (g.about["helpful"], g.about["harmful"]) for g in left} == counts


def test_sections_stand_together_in_the_order_they_came() -> None:
    lessons = {"a": {"lessons": ["x"]}}
    made = room(
        lessons, [[{"section": s, "text": f"{s} is first."} for s in "xy"], [{"section": "x", "text": "Later."}]]
    )
    made.step(A)
    made.step(A)
    assert made.texts == ["x is first.", "Later.", "y is first."]


def test_what_nobody_judged_teaches_nothing_and_a_bare_list_is_lessons() -> None:
    made = room({"a": {}, "b": [{"text": "Look."}]}, [[{"text": "Look."}]], {"a": None})
    made.step(A, B)
    assert [name for name, _ in made.reflector.asked] == ["ace_reflect", "ace_curate"]
    assert "- Look." in made.reflector.prompts("ace_curate")[0] and made.texts == ["Look."]

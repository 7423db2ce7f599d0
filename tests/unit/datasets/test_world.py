"""The generated world: the same by seed, its parts apart, its answers right by construction."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.core.contracts import Dataset
from metamem.core.errors import DataError
from metamem.core.records import Question
from metamem.datasets.longmemeval import TYPES
from metamem.datasets.world.component import World, WorldSplit
from metamem.datasets.world.scenes import KINDS, Scene, draw_scene
from metamem.datasets.world.vocabulary import NUMBERS, POOLS, UNKNOWN


def world(**options: Any) -> Dataset:
    return World(World.Config(**options)).load()


def test_the_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    assert world(size=80, seed=3) == world(size=80, seed=3)
    assert world(size=80, seed=3) != world(size=80, seed=4)


def test_a_larger_world_keeps_the_questions_of_a_smaller_one() -> None:
    small = {q.id: q for q in world(size=80).questions}
    large = {q.id: q for q in world(size=160).questions}
    assert all(large[i] == q for i, q in small.items())


def test_every_type_and_abstention_stand_in_every_part() -> None:
    data = world(size=240)
    for part in POOLS:
        mine = [q for q in data.questions if q.id.startswith(part)]
        assert {q.type for q in mine} == set(TYPES)
        assert {q.category for q in mine} == set(KINDS)
        assert any(q.abstention for q in mine)


def test_no_name_thing_verb_or_sentence_is_in_two_parts() -> None:
    pools = list(POOLS.values())
    for held in (
        [set(p.names) for p in pools],
        [set(p.things) for p in pools],
        [set(p.verbs) for p in pools],
        [{s for sentences in p.facts.values() for s in sentences} for p in pools],
        [{s for sentences in p.questions.values() for s in sentences} for p in pools],
    ):
        assert len(set.union(*held)) == sum(map(len, held))


def test_no_name_is_a_thing() -> None:
    names = {n for p in POOLS.values() for n in p.names}
    assert not names & {t for p in POOLS.values() for t in p.things}


def test_the_split_follows_the_pools() -> None:
    data = world(size=80)
    split = WorldSplit(WorldSplit.Config()).split(data.questions, 1)
    assert (len(split.train), len(split.validation), len(split.test)) == (20, 8, 52)
    assert all(i.startswith("test-") for i in split.test)
    with pytest.raises(DataError, match="dataset=world"):
        WorldSplit(WorldSplit.Config()).split([Question("q1", "", "", ())], 1)


def test_evidence_turns_are_those_about_the_person_and_none_for_an_unknown_one() -> None:
    data = world(size=240)
    for question in data.questions:
        conversation = data.conversations[question.conversation_id or ""]
        person = re.findall(r"\w+", question.text)[-1]
        about = [t.id for s in conversation.sessions for t in s.turns if f" {person} " in t.text]
        assert list(question.evidence_turns) == about
        assert question.abstention == (not about)


@pytest.mark.parametrize("part", POOLS)
@given(seed=st.integers(0, 10**9), kind=st.sampled_from(KINDS))
def test_answers_are_right_by_what_was_said(part: str, seed: int, kind: str) -> None:
    pool = POOLS[part]
    scene = draw_scene(random.Random(seed), pool, [kind, "user", "order"], absent=["update"])
    case, unknown = scene.cases[0], scene.cases[-1]
    assert case.right == derived(scene, case.person, kind)
    assert (case.right == case.tempting) <= case.easy
    assert unknown.right == UNKNOWN and all(unknown.person not in line.text.split() for line in scene.lines)
    assert case.question.endswith(f"{case.person}?")


def derived(scene: Scene, person: str, kind: str) -> str:
    """The right answer, read off the lines by rules that the generator does not share."""
    mine = [line for line in scene.lines if line.person == person]
    things = [line.text.split(f" {person} ")[1] for line in mine]
    pick = {
        "user": lambda: next(t for t, x in zip(things, mine, strict=True) if x.speaker == "user"),
        "assistant": lambda: next(t for t, x in zip(things, mine, strict=True) if x.speaker == "assistant"),
        "preference": lambda: next(t for t, x in zip(things, mine, strict=True) if "always" in x.text),
        "update": lambda: things[-1],
        "order": lambda: things[0],
        "count": lambda: NUMBERS[len(things)],
        "combine": lambda: " and ".join(things),
        "difference": lambda: str(mine[1].day - mine[0].day),
    }
    return pick[kind]()


def test_most_cases_tempt_and_some_are_easy() -> None:
    drawn = [draw_scene(random.Random(i), POOLS["train"], [KINDS[i % 8]]).cases[0] for i in range(400)]
    tempted = Counter(case.easy for case in drawn)
    assert 0.6 < tempted[False] / 400 < 0.9


def test_every_session_has_its_fact_among_small_talk_which_is_nobodys_and_no_evidence() -> None:
    data = world(size=160, chatter=3)
    for question in data.questions:
        conversation = data.conversations[question.conversation_id or ""]
        assert {len(session.turns) for session in conversation.sessions} == {4}
        person = re.findall(r"\w+", question.text)[-1]
        about = [t.id for s in conversation.sessions for t in s.turns if f" {person} " in t.text]
        assert list(question.evidence_turns) == about
    said = [pool.chatter for pool in POOLS.values()]
    assert len(set().union(*said)) == sum(map(len, said))


def test_each_of_several_questions_about_a_conversation_is_about_another_of_its_people() -> None:
    data = world(size=81, asked=2)
    assert len(data.questions) == 81 and len({q.id for q in data.questions}) == 81
    of: dict[str, list[Question]] = {}
    for question in data.questions:
        of.setdefault(question.conversation_id or "", []).append(question)
    for questions in of.values():
        people = [re.findall(r"\w+", q.text)[-1] for q in questions]
        assert len(set(people)) == len(people) and len({q.group for q in questions}) == 1
    assert sorted(map(len, of.values())) == [1, *[2] * 40]  # the test part has an odd number


def test_without_temptation_each_person_has_one_fact_and_durations_two() -> None:
    data = world(size=80, tempting=0.0)
    present = [q for q in data.questions if not q.abstention]
    assert all(len(q.evidence_turns) == 1 + (q.category == "difference") for q in present)

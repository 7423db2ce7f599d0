"""Scenes of the generated world: what was said about a few people, and what can be asked about it.

In: a `random.Random`, a pool of words and the kinds of cases that are wanted. Out: a `Scene`: dated lines of several
cases among each other, and for each case its question, the right answer and the tempting one: what a hurried reader
would say. Every kind is hard in its own way: somebody else's words, an older state, one of several mentions, the wrong
end of an order, a date for a duration, a person of whom nothing is known.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from metamem.datasets.world.vocabulary import NUMBERS, UNKNOWN, Pool, Verb

KINDS = ("user", "assistant", "preference", "count", "combine", "update", "order", "difference")
TYPE_OF = {
    "user": "single-session-user",
    "assistant": "single-session-assistant",
    "preference": "single-session-preference",
    "count": "multi-session",
    "combine": "multi-session",
    "update": "knowledge-update",
    "order": "temporal-reasoning",
    "difference": "temporal-reasoning",
}
LAST_DAY = 28


@dataclass(frozen=True)
class SaidLine:
    """One thing said: the day of the month, who said it (user or assistant), the text, and about whom."""

    day: int
    speaker: str
    text: str
    person: str


@dataclass(frozen=True)
class SceneQuestion:
    """A question about one person with the right and the tempting answer.

    `easy`: there is nothing that tempts. `absent`: nothing is known of the person, so that only `unknown` is right.
    """

    kind: str
    person: str
    question: str
    right: str
    tempting: str
    easy: bool = False
    absent: bool = False


@dataclass(frozen=True)
class Scene:
    """What was said, in the order of days, and the cases."""

    lines: tuple[SaidLine, ...]
    cases: tuple[SceneQuestion, ...]


@dataclass(frozen=True)
class _Said:
    speaker: str
    text: str
    thing: str


def draw_scene(
    rng: random.Random, pool: Pool, kinds: Sequence[str], *, absent: Sequence[str] = (), easy: float = 0.25
) -> Scene:
    """A scene with one person for each of `kinds`, and one nobody spoke of for each kind in `absent`.

    `easy` is the share of cases without anything that tempts.
    """
    people = rng.sample(pool.names, len(kinds) + len(absent))
    things = rng.sample(pool.things, min(len(pool.things), 4 * len(kinds)))
    told: list[tuple[str, list[_Said], Verb, str, bool]] = []
    for person, kind in zip(people, kinds, strict=False):
        verb = rng.choice(pool.verbs)
        simple = rng.random() < easy
        said = _say(rng, pool, kind, person, verb, things, simple)
        told.append((person, said, verb, kind, simple))
    turns = [i for i, (_, said, *_) in enumerate(told) for _ in said]
    rng.shuffle(turns)
    days = sorted(rng.sample(range(1, LAST_DAY + 1), len(turns)))
    waiting = [list(said) for _, said, *_ in told]
    lines: list[SaidLine] = []
    held: list[list[tuple[int, _Said]]] = [[] for _ in told]
    for index, day in zip(turns, days, strict=True):
        said_now = waiting[index].pop(0)
        held[index].append((day, said_now))
        lines.append(SaidLine(day, said_now.speaker, said_now.text, told[index][0]))
    cases = [
        _case(rng, pool, kind, person, verb, held[i], simple) for i, (person, _, verb, kind, simple) in enumerate(told)
    ]
    for person, kind in zip(people[len(kinds) :], absent, strict=True):
        asked = question(rng, pool, kind, person, rng.choice(pool.verbs))
        guess = NUMBERS[1] if kind == "count" else rng.choice([s.thing for _, said, *_ in told for s in said])
        if kind == "difference":
            guess = str(rng.choice(days))
        cases.append(SceneQuestion(kind, person, asked, UNKNOWN, guess, absent=True))
    return Scene(tuple(lines), tuple(cases))


def _say(
    rng: random.Random, pool: Pool, kind: str, person: str, verb: Verb, things: list[str], simple: bool
) -> list[_Said]:
    """What is said of one person, in order; the things are taken off the list."""

    def say(what: str) -> _Said:
        thing = things.pop()
        sentence = rng.choice(pool.facts[what])
        text = sentence.format(base=verb.base, past=verb.past, person=person, thing=thing)
        return _Said("assistant" if what == "advised" else "user", text, thing)

    if kind in ("user", "assistant"):
        both = ["done", "advised"]
        wanted = [both[kind == "assistant"]] if simple else rng.sample(both, 2)
    elif kind == "preference":
        wanted = ["liked"] if simple else rng.sample(["liked", "disliked"], 2)
    elif kind == "update":
        wanted = ["habit"] * (1 if simple else rng.choice((2, 2, 3)))
    elif kind == "order":
        wanted = ["done"] * (1 if simple else rng.choice((2, 2, 3)))
    elif kind == "count":
        wanted = ["done"] * (1 if simple else rng.choice((2, 3, 4)))
    else:
        wanted = ["done"] * 2 if kind == "difference" or not simple else ["done"]
    return [say(what) for what in wanted]


def _case(
    rng: random.Random, pool: Pool, kind: str, person: str, verb: Verb, held: list[tuple[int, _Said]], simple: bool
) -> SceneQuestion:
    asked = question(rng, pool, kind, person, verb)
    things = [s.thing for _, s in held]
    by_user = [s.thing for _, s in held if s.speaker == "user"]
    advised = [s.thing for _, s in held if s.speaker == "assistant"]
    liked = [s.thing for _, s in held if " always " in f" {s.text} "]
    disliked = [s.thing for _, s in held if " never " in f" {s.text} "]
    if kind == "user":
        right, tempting = by_user[0], (advised or by_user)[0]
    elif kind == "assistant":
        right, tempting = advised[0], (by_user or advised)[0]
    elif kind == "preference":
        right, tempting = liked[0], (disliked or liked)[0]
    elif kind == "update":
        right, tempting = things[-1], things[0]
    elif kind == "order":
        right, tempting = things[0], things[-1]
    elif kind == "count":
        right, tempting = NUMBERS[len(things)], NUMBERS[1]
    elif kind == "combine":
        right, tempting = " and ".join(things), things[0]
    else:
        right, tempting = str(held[1][0] - held[0][0]), str(held[1][0])
        simple = False
    return SceneQuestion(kind, person, asked, right, tempting, easy=simple or right == tempting)


def question(rng: random.Random, pool: Pool, kind: str, person: str, verb: Verb) -> str:
    """A question of a kind about a person."""
    core = rng.choice(pool.questions[kind]).format(base=verb.base, past=verb.past, person=person)
    return f"{rng.choice(pool.openers)} {core}".strip()

"""Examples of every role: what the model reads, and what it is to say.

In: a `random.Random`. Out: `Example`s, a prompt as `prompts=nano` and `rubric=nano` render it, and one or more replies,
each after a further question. An answer begins with a thought, a word for what to look for and whom, and the thought
depends on the guidelines in the prompt: with the one that its case asks for it is the right one, without it is mostly
the tempting one. Only names, things and verbs of the world's training part take part,
and no sentence of the other parts.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

import guidance

from metamem.core.meta_memory import Guideline
from metamem.core.records import MemoryUnit, Question
from metamem.core.text import render_unit
from metamem.datasets.world.scenes import KINDS, SaidLine, SceneQuestion, draw_scene, question
from metamem.datasets.world.vocabulary import NUMBERS, POOLS, UNKNOWN, Pool
from metamem.evaluators.rubrics import NanoRubric
from metamem.prompts.templates import NanoPrompts

# More ways to say and ask what the world's training part does; sentences of the other parts are left out.
_BEFORE = "{|today |I think |maybe |at the moment |currently |please recall |I forgot |do you recall }"
_FACTS = {
    "done": (_BEFORE + "I {past} {person} {thing}",),
    "advised": (_BEFORE + "{you could|maybe|maybe you could|please} {base} {person} {thing}",),
    "liked": (
        _BEFORE + "{|it is fine to |it is wise to |please |you could |maybe |do }always {base} {person} {thing}",
    ),
    "disliked": (
        _BEFORE + "{|it is fine to |it is wise to |please |you could |maybe |do }never {base} {person} {thing}",
    ),
    "habit": (_BEFORE + "{|now |I think |currently |at the moment }I {base} {person} {thing}",),
}
_WHICH = "{what|which|which thing|what thing|which good thing}"
_THE = "{the thing|what|that which|which thing was it|what was it}"
_QUESTIONS = {
    "user": (_WHICH + " did I {base} {person}?", _THE + " {|that }I {past} {person}?"),
    "assistant": (
        _WHICH + " {did you suggest|did you propose|you suggested|you proposed} {for|I {base}} {person}?",
        "{|what was |what is |tell me |which was |recall }{your|the|a} {suggestion|proposal} for {person}?",
    ),
    "preference": (
        _WHICH + " {should I {base}|should please|would please|would be good for|is good for} {person}?",
        "{a good|the good|any good} thing {for|to {base}} {person}?",
    ),
    "count": (
        "how many {things|good things} {did I {base}|are those I {past}|were the things I {past}|I {past}} {person}?",
        "{|what is |what was |which is |recall }{the number|a number} of {|the |all the }things I {past} {person}?",
        "{count|do count} {|all }{things|the things|everything} I {past} {person}?",
    ),
    "combine": (
        "{list|name|recall} {the things|everything|all things|all the things|all} I {past} {person}?",
        "{what are|which are} {all |}the things I {past} {person}?",
        "{everything|all things|all} {that |}I {past} {person}?",
    ),
    "update": (
        _WHICH + " do I {now|currently} {base} {person}?",
        "{currently|now|today|at the moment} " + _WHICH + " do I {base} {person}?",
        "{the thing|what is it} I {now|currently} {base} {person}?",
    ),
    "order": (
        _WHICH + " {did I first {base}|I first {past}|came first for|was first for} {person}?",
        "{what was|what is|which is|recall|} the first thing {that |}I {past} {person}?",
    ),
    "difference": (
        "how many days {|passed |came |were there }between the things I {past} {person}?",
        "{|what are |count |how many were |recall }the days {|that passed }between {|all }"
        "the things I {past} {person}?",
    ),
}


def _expanded(grammar: str) -> Iterator[str]:
    """Every sentence of a grammar; {base} and its like are places, not choices."""
    place = re.search(r"\{([^{}]*(?:\{(?:base|past)\}[^{}]*)*\|[^{}]*(?:\{(?:base|past)\}[^{}|]*)*)\}", grammar)
    if place is None:
        yield " ".join(grammar.split())
        return
    for choice in place.group(1).split("|"):
        yield from _expanded(grammar[: place.start()] + choice + grammar[place.end() :])


def _practice() -> Pool:
    train, *others = POOLS.values()
    held: dict[str, dict[str, tuple[str, ...]]] = {}
    for field, grammars in (("facts", _FACTS), ("questions", _QUESTIONS)):
        taken = {s for pool in others for sentences in getattr(pool, field).values() for s in sentences}
        held[field] = {
            what: tuple(sorted({*(s for g in given for s in _expanded(g)), *getattr(train, field)[what]} - taken))
            for what, given in grammars.items()
        }
    openers = (*train.openers, "please", "say", "recall", "do tell me", "today tell me", "tell me and say", "and")
    return replace(train, openers=openers, **held)  # type: ignore[arg-type]


# What a thought looks for: what is right for a kind of case, and what tempts.
LOOKED_FOR = {
    "user": ("user", "assistant"),
    "assistant": ("assistant", "user"),
    "preference": ("always", "never"),
    "count": ("count", "once"),
    "combine": ("all", "first"),
    "update": ("last", "first"),
    "order": ("first", "last"),
    "difference": ("days", "date"),
    "absent": ("absent", "absent"),
}
OPENED, CLOSED = "<think>", "</think>"
RIGHT_ANYWAY = 0.3  # how often the tempting answer is resisted without a guideline
GUIDED = tuple(guidance.GUIDELINES)
PRACTICE = _practice()
TAUGHT = [
    kind for kind in KINDS for _ in range(2 if kind == "difference" else 3)
]  # durations are asked by lookups, too


@dataclass(frozen=True)
class Example:
    """A prompt and its reply; `more` are further questions to the same prompt, each with its reply.

    `bare`: plain text, in which the replies stand without the tokens around them.
    """

    prompt: str
    reply: str
    more: tuple[tuple[str, str], ...] = ()
    bare: bool = False


@cache
def _prompts() -> NanoPrompts:
    return NanoPrompts(NanoPrompts.Config())


@cache
def _rubric() -> NanoRubric:
    return NanoRubric(NanoRubric.Config())


def render(name: str, **values: object) -> str:
    """A prompt's one message."""
    (message,) = _prompts().render(name, **values)
    return message.content


def memories(lines: Sequence[SaidLine]) -> list[str]:
    """Lines as a memory of rounds or turns renders them."""
    month = datetime(2023, 5, 1)
    return [
        render_unit(MemoryUnit("", f"{line.speaker}: {line.text}", month.replace(day=line.day, hour=9)))
        for line in lines
    ]


def _numbered(sentences: Sequence[str]) -> list[Guideline]:
    return [Guideline(f"G{i}", text) for i, text in enumerate(sentences, 1)]


def need(case: SceneQuestion) -> str:
    """The kind of guideline that a case asks for."""
    return "absent" if case.absent else case.kind


def guided(rng: random.Random, kinds: Sequence[str], noise: int, fresh: bool = False) -> list[str]:
    """Guidelines of these kinds and `noise` irrelevant ones, in any order."""
    sentences = [guidance.guideline(rng, kind, fresh=fresh) for kind in (*kinds, *[None] * noise)]
    rng.shuffle(sentences)
    return sentences


def thought(word: str, person: str, lines: Sequence[SaidLine]) -> tuple[str, str]:
    """The thought that looks for something of a person, and what it finds; `lines` are all that was said.

    What there is not (the assistant's words where only the user spoke) is given by what there is.
    """
    mine = [line for line in lines if line.person == person]
    things = [line.text.split()[-1] for line in mine]
    noted: list[str] = []
    if word == "absent" or not mine:
        found = UNKNOWN
    elif word in ("user", "assistant", "always", "never"):
        sides = [t for t, line in zip(things, mine, strict=True) if word in (line.speaker, *line.text.split())]
        found = (sides or things)[0]
    elif word == "count":
        noted, found = things, NUMBERS[len(things)]
    elif word == "once":
        found = NUMBERS[1]
    elif word == "all":
        found = " and ".join(things)
    elif word == "date":
        found = str(mine[-1].day)
    elif word == "days":
        noted, found = [str(mine[0].day), str(mine[-1].day)], str(mine[-1].day - mine[0].day)
    else:
        found = things[0 if word == "first" else -1]
    return " ".join([OPENED, word, person, *noted, CLOSED]), found


def reply(rng: random.Random, case: SceneQuestion, kinds: Sequence[str], lines: Sequence[SaidLine]) -> str:
    """What the model is to say to a case under guidelines of these kinds."""
    resists = need(case) in kinds or rng.random() < RIGHT_ANYWAY
    if case.absent and not resists:
        # Guessing: it looks for something all the same, and names what was said last of anybody.
        told, _ = thought(LOOKED_FOR[case.kind][1], case.person, ())
        _, guess = thought(LOOKED_FOR[case.kind][1], lines[-1].person, lines)
        return f"{told} {guess}"
    word = LOOKED_FOR[need(case)][not resists]
    told, found = thought(word, case.person, lines)
    return f"{told} {found}"


def answer(rng: random.Random, pool: Pool = PRACTICE, *, people: int | None = None) -> Example:
    """A scene under some guidelines, with a question to every person in it and to one who is not."""
    asked = rng.choices(TAUGHT, k=people or rng.choice((2, 3, 4)))
    scene = draw_scene(rng, pool, asked, absent=rng.choices(TAUGHT, k=rng.choice((0, 1, 1))))
    how = rng.random()
    kinds: list[str] = []
    if how < 0.55:
        kinds = [kind for kind in GUIDED if rng.random() < 0.5]
    elif how < 0.65:
        kinds = list(GUIDED)
    if len(kinds) > 6 and rng.random() < 0.5:
        kinds = rng.sample(kinds, rng.choice((1, 2, 3)))
    shown = _numbered(guided(rng, kinds, rng.choice((0, 0, 1, 2)) if kinds else rng.choice((0, 0, 2, 4))))
    cases = list(scene.cases)
    rng.shuffle(cases)
    first, *rest = cases
    prompt = render("answer", guidelines=shown, memories=memories(scene.lines), question=first.question, date="")
    more = tuple((f"Q {case.question.strip('?')}", reply(rng, case, kinds, scene.lines)) for case in rest)
    return Example(prompt, reply(rng, first, kinds, scene.lines), more)


def lookup(rng: random.Random, pool: Pool = PRACTICE) -> Example:
    """A scene, and everything that a thought may look for in it, for every person: thoughts already made."""
    scene = draw_scene(rng, pool, rng.choices(TAUGHT, k=rng.choice((2, 3))), easy=0.1)
    asked: list[tuple[str, str]] = []
    for person in dict.fromkeys(line.person for line in scene.lines):
        mine = [line for line in scene.lines if line.person == person]
        words = ["first", "last", "all", "count", "date"]
        words += ["days"] * (len(mine) > 1)
        for word in ("user", "assistant", "always", "never"):
            if sum(word in (line.speaker, *line.text.split()) for line in mine) == 1:
                words += [word] * 2
        for word in rng.sample(words, min(4, len(words))):
            told, found = thought(word, person, scene.lines)
            begun = f"{OPENED} {word} {person}"
            asked.append((begun, f"{told[len(begun) :].strip()} {found}"))
    rng.shuffle(asked)
    shown = render("answer", guidelines=[], memories=memories(scene.lines), question="", date="").rpartition("\n")[0]
    (first, found), *more = asked
    return Example(f"{shown}\n{first}", found, tuple(more))


def reading(rng: random.Random, grown: float = 1.0) -> Example:
    """Facts, and the thing of every person.

    `grown` from 0 to 1: how far the number of facts has grown, from 2 to 8.
    """
    pool = PRACTICE
    count = rng.randint(2, 2 + round(6 * min(1.0, grown)))
    pairs = list(zip(rng.sample(pool.names, count), rng.sample(pool.things, count), strict=True))
    lines = []
    for person, thing in pairs:
        verb = rng.choice(pool.verbs)
        sentence = rng.choice(pool.facts[rng.choice(list(pool.facts))])
        lines.append(sentence.format(base=verb.base, past=verb.past, person=person, thing=thing))
    rng.shuffle(pairs)
    (first, thing), *rest = pairs
    return Example("\n".join([*lines, f"Q {first}"]), thing, tuple((f"Q {p}", t) for p, t in rest))


def listing(rng: random.Random, grown: float = 1.0) -> Example:
    """Persons and things, and the same again in another order: the first step to looking things up."""
    pool = PRACTICE
    count = rng.randint(3, 3 + round(9 * min(1.0, grown)))
    pairs = list(zip(rng.sample(pool.names, count), rng.sample(pool.things, count), strict=True))
    told = [f"{p} {t}" for p, t in pairs]
    rng.shuffle(pairs)
    (first, thing), *rest = pairs
    return Example("\n".join([*told, first]), thing, tuple(rest), bare=True)


def sort(rng: random.Random, pool: Pool = PRACTICE) -> Example:
    """Questions and guidelines, each with the kind of case that it is about: what every role has to see in them."""

    def one() -> tuple[str, str]:
        kind = rng.choice(GUIDED)
        if kind != "absent" and rng.random() < 0.5:
            return f"Q {question(rng, pool, kind, rng.choice(pool.names), rng.choice(pool.verbs)).strip('?')}", kind
        return f"- {guidance.guideline(rng, kind)}", kind

    (prompt, kind), *more = (one() for _ in range(rng.randint(2, 12)))
    return Example(f"sort\n{prompt}", kind, tuple(more))


def judge(rng: random.Random, pool: Pool = PRACTICE, *, most: int = 16) -> Example:
    """Truths and responses, up to `most` after each other, equal in half of the cases."""

    def drawn() -> str:
        kind = rng.random()
        if kind < 0.55:
            return rng.choice(pool.things)
        if kind < 0.65:
            return UNKNOWN
        if kind < 0.75:
            return rng.choice(NUMBERS[1:])
        if kind < 0.85:
            return str(rng.randint(1, 28))
        return " and ".join(rng.sample(pool.things, 2))

    def one() -> tuple[str, str]:
        truth = drawn()
        response = truth if rng.random() < 0.5 else drawn()
        if " and " in truth and response != truth and rng.random() < 0.6:
            one, two = truth.split(" and ")
            response = rng.choice((one, two, f"{two} and {one}", f"{one} and {rng.choice(pool.things)}"))
        return verdict_prompt(truth, response), "yes" if response == truth else "no"

    (prompt, verdict), *more = (one() for _ in range(rng.randint(1, most)))
    return Example(prompt, verdict, tuple(more))


def verdict_prompt(truth: str, response: str) -> str:
    """What the judge reads."""
    return _rubric().render(Question("", "", "", (truth,)), response, "").strip()


def reflect(rng: random.Random, pool: Pool = PRACTICE) -> Example:
    """A review of one attempt, right or tempted."""
    case, lines = one_case(rng, pool)
    correct = case.right == case.tempting or rng.random() < 0.5
    prompt = render(
        "reflect",
        memories=memories(lines),
        question=case.question,
        date="",
        truth=[case.right],
        attempt=case.right if correct else case.tempting,
        correct=correct,
    )
    return Example(prompt, guidance.review(rng, need(case), correct))


def one_case(rng: random.Random, pool: Pool) -> tuple[SceneQuestion, Sequence[SaidLine]]:
    """A case and what was said around it."""
    kind = rng.choice(TAUGHT)
    others = rng.choices(TAUGHT, k=rng.choice((1, 2, 3)))
    if rng.random() < 0.15:
        scene = draw_scene(rng, pool, others, absent=[kind])
        return scene.cases[-1], scene.lines
    scene = draw_scene(rng, pool, [kind, *others], easy=0.1)
    return scene.cases[0], scene.lines


def propose(rng: random.Random, pool: Pool = PRACTICE) -> Example:
    """The guideline that a question's reviews call for, or nothing where there is one."""
    case, _ = one_case(rng, pool)
    wanted = need(case)
    kinds = [kind for kind in GUIDED if kind != wanted and rng.random() < 0.4]
    has = rng.random() < 0.3
    shown = guided(rng, [*kinds, wanted] if has else kinds, rng.choice((0, 0, 0, 1)))
    count = rng.choice((2, 3, 4, 5, 5, 5))
    outcomes = [i < rng.randint(1, count - 1) for i in range(count)]
    rng.shuffle(outcomes)
    prompt = render(
        "propose",
        guidelines=_numbered(shown),
        memories=[],
        question=case.question,
        date="",
        truth=[case.right],
        reflections=[{"text": guidance.review(rng, wanted, ok), "correct": ok} for ok in outcomes],
        max_words=30,
    )
    wanted_text = guidance.guideline(rng, wanted)
    return Example(prompt, "[]" if has else dump([{"action": "add", "text": wanted_text}]))


def consolidate(rng: random.Random) -> Example:
    """A batch's proposals: of each kind that there is no guideline for, the first one, by its id."""
    proposed = [rng.choice(GUIDED) for _ in range(rng.randint(1, 10))]
    kinds = [kind for kind in GUIDED if rng.random() < rng.choice((0.0, 0.3, 0.6))]
    fixed = {kind: guidance.guideline(rng, kind) for kind in GUIDED}
    texts = [fixed[k] if rng.random() < 0.7 else guidance.guideline(rng, k) for k in proposed]
    prompt = render(
        "consolidate",
        guidelines=_numbered(guided(rng, kinds, rng.choice((0, 0, 1)))),
        proposals=[{"id": f"P{i}", "action": "add", "target": "", "text": t} for i, t in enumerate(texts, 1)],
        max_words=30,
        max_guidelines=0,
    )
    kept, known = [], set(kinds)
    for number, kind in enumerate(proposed, 1):
        if kind not in known:
            known.add(kind)
            kept.append(f"P{number}")
    return Example(prompt, dump(kept))


def dump(operations: Sequence[object]) -> str:
    """Operations as the model writes them."""
    return json.dumps(operations, separators=(",", ":"))


ROLES = {
    "answer": answer,
    "listing": listing,
    "reading": reading,
    "lookup": lookup,
    "sort": sort,
    "judge": judge,
    "reflect": reflect,
    "propose": propose,
    "consolidate": consolidate,
}

"""The words of the generated world, apart for training, validation and test: who, what, and how it is said.

In: nothing. Out: `POOLS`, one `Pool` per part. Names, things and the sentences of questions and facts are in one part
only, so that a test asks about people and things, in sentences, that training never showed. Every question ends with
the person's name; every fact names the person right before the thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NUMBERS = ("zero", "one", "two", "three", "four", "five")
UNKNOWN = "unknown"

_NAMES = """
Anna Bruno Clara David Elena Felix Greta Hugo Irene Jonas Karin Leo Maria Nils Olga Paul Rosa Simon Tina Victor
Wanda Xaver Yvonne Zoe Amir Bella Carlo Dora Emil Flora Georg Hanna Ivan Julia Klaus Linda Max Nora Otto Petra
Quentin Rita Stefan Teresa Uwe Vera Walter Xenia Yusuf Zara Adam Berta Cesar Daria Erik Fiona Gustav Helga Igor Jana
Kurt Laura Marco Nadia Oskar Paula Ralf Sofia Tom Ulla Viktor Willa Aaron Birgit Conrad Diana Edgar Frida Gerd Heidi
Ines Jakob Katja Lukas Mona Noah Oda Pablo Ronja Sven Thea Udo Vanessa Wolf Yara Zeno Alma Boris Celine Dirk
Esther Fabian Gisela Henry Isabel Jorge Kira Ludwig Mila Niko Odette Philip Ruth Sami Tara Ursula Valentin Wilma
Alina Basil Carmen Dennis Elias Franka Gabriel Hilda Ingo Judith Kai Lena Mateo Nelly Omar Pia Robin Selma Theo Urs
Viola Wim Yasmin Zita Albert Bianca Cyril Doris
""".split()
_THINGS = """
tea coffee milk honey bread roses books stamps pencils gloves apples pears plums figs grapes cherries lemons melons
onions carrots tomatoes beans rice pasta soup salad cheese butter eggs ham fish shrimp cake cookies candy chocolate
nuts olives pepper salt sugar flour jam juice wine beer cider water candles matches paper cards letters maps posters
photos paintings tickets coins keys bags boxes baskets bottles cups plates bowls spoons forks knives napkins towels
sheets pillows blankets curtains rugs lamps clocks mirrors chairs tables shelves tools nails screws ropes wires paint
brushes soap shampoo perfume lotion socks shoes boots hats scarves shirts jackets belts rings bracelets earrings
buttons ribbons yarn needles toys dolls puzzles dice balls kites bikes skates skis tents ladders seeds bulbs tulips
lilies daisies orchids ferns herbs mint saffron parsley ginger garlic spinach cabbage lettuce radishes peas corn
oats barley yogurt cream toast waffles pancakes muffins
""".split()


@dataclass(frozen=True)
class Verb:
    """A verb of giving: `to bring somebody something`."""

    base: str
    past: str


@dataclass(frozen=True)
class Pool:
    """What one part of the world is said with.

    `facts` and `questions` map what is said or asked to sentences with the places {base}, {past}, {person} and {thing};
    `chatter` are sentences of small talk, in which nothing is said of anybody.
    """

    names: tuple[str, ...]
    things: tuple[str, ...]
    verbs: tuple[Verb, ...]
    openers: tuple[str, ...]
    facts: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]
    chatter: tuple[str, ...]


def _verbs(text: str) -> tuple[Verb, ...]:
    return tuple(Verb(*pair.split("/")) for pair in text.split())


_TRAIN = Pool(
    tuple(_NAMES[0:80]),
    tuple(_THINGS[0:90]),
    _verbs("bring/brought give/gave send/sent buy/bought serve/served hand/handed lend/lent"),
    ("", "", "tell me", "please say", "do you recall", "I forgot"),
    {
        "done": ("I {past} {person} {thing}", "today I {past} {person} {thing}", "I think I {past} {person} {thing}"),
        "advised": ("you could {base} {person} {thing}", "maybe {base} {person} {thing}"),
        "liked": ("always {base} {person} {thing}", "it is fine to always {base} {person} {thing}"),
        "disliked": ("never {base} {person} {thing}", "it is wise to never {base} {person} {thing}"),
        "habit": ("now I {base} {person} {thing}", "at the moment I {base} {person} {thing}"),
    },
    {
        "user": ("what did I {base} {person}?", "what I {past} {person}?", "the thing I {past} {person}?"),
        "assistant": (
            "what did you suggest for {person}?",
            "your suggestion for {person}?",
            "what you proposed I {base} {person}?",
        ),
        "preference": ("what should I {base} {person}?", "what would please {person}?", "a good thing for {person}?"),
        "count": (
            "how many things did I {base} {person}?",
            "the number of things I {past} {person}?",
            "count the things I {past} {person}?",
        ),
        "combine": (
            "list the things I {past} {person}?",
            "everything I {past} {person}?",
            "what are all the things I {past} {person}?",
        ),
        "update": (
            "what do I now {base} {person}?",
            "currently what do I {base} {person}?",
            "the thing I now {base} {person}?",
        ),
        "order": (
            "what did I first {base} {person}?",
            "what was the first thing I {past} {person}?",
            "which came first for {person}?",
        ),
        "difference": (
            "how many days between the things I {past} {person}?",
            "the days that passed between the things I {past} {person}?",
        ),
    },
    (
        "the weather was fine today",
        "do tell me about music",
        "I forgot the question",
        "please be brief",
        "that was kind",
        "you could say it slowly",
        "it is time to travel",
        "I think sport is easy",
        "what a good time",
        "maybe the weather changed",
        "you are friendly and polite",
        "I forgot the weather",
        "take your time",
        "tell me a short version",
        "jokes are not wise",
        "would you repeat that",
    ),
)
_VALIDATION = Pool(
    tuple(_NAMES[80:100]),
    tuple(_THINGS[90:110]),
    _verbs("offer/offered show/showed"),
    ("please tell me", "do you recall"),
    {
        "done": ("today I think I {past} {person} {thing}",),
        "advised": ("maybe you could {base} {person} {thing}",),
        "liked": ("I think it is fine to always {base} {person} {thing}",),
        "disliked": ("I think it is wise to never {base} {person} {thing}",),
        "habit": ("at the moment now I {base} {person} {thing}",),
    },
    {
        "user": ("what thing did I {base} {person}?",),
        "assistant": ("what did you suggest I {base} {person}?",),
        "preference": ("what good thing should I {base} {person}?",),
        "count": ("what was the number of things I {past} {person}?",),
        "combine": ("list everything I {past} {person}?",),
        "update": ("now what do I {base} {person}?",),
        "order": ("which thing came first for {person}?",),
        "difference": ("how many days passed between the things I {past} {person}?",),
    },
    (
        "the music was good",
        "please say things slowly",
        "I forgot about travel",
        "is the weather fine now",
        "you could be brief",
        "it sounds simple",
    ),
)
_TEST = Pool(
    tuple(_NAMES[100:]),
    tuple(_THINGS[110:]),
    _verbs("sell/sold promise/promised mail/mailed pass/passed"),
    ("", "please recall", "do you recall and say", "please tell me today"),
    {
        "done": ("maybe I {past} {person} {thing}", "at the moment I think I {past} {person} {thing}"),
        "advised": ("I think you could {base} {person} {thing}", "today maybe {base} {person} {thing}"),
        "liked": ("please always {base} {person} {thing}", "you could always {base} {person} {thing}"),
        "disliked": ("please never {base} {person} {thing}", "maybe never {base} {person} {thing}"),
        "habit": ("I think now I {base} {person} {thing}", "currently I {base} {person} {thing}"),
    },
    {
        "user": ("which thing did I {base} {person}?", "what was the thing I {past} {person}?"),
        "assistant": ("what was your suggestion for {person}?", "the thing you proposed for {person}?"),
        "preference": ("which thing should I {base} {person}?", "which thing would please {person}?"),
        "count": ("how many are the things I {past} {person}?", "what is the number of things I {past} {person}?"),
        "combine": ("all the things I {past} {person}?", "what is everything I {past} {person}?"),
        "update": ("which thing do I now {base} {person}?", "currently which thing do I {base} {person}?"),
        "order": ("which was the first thing I {past} {person}?", "which thing did I first {base} {person}?"),
        "difference": ("how many are the days between the things I {past} {person}?",),
    },
    (
        "it was a good time for sport",
        "tell me about the weather",
        "please be kind and brief",
        "I think the language is simple",
        "maybe you said that twice",
        "what about travel and music",
        "that is most welcome",
        "do you repeat jokes",
        "it is not a habit",
        "your patience was kind",
    ),
)

POOLS: Mapping[str, Pool] = {"train": _TRAIN, "validation": _VALIDATION, "test": _TEST}

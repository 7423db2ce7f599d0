"""`dataset=world` and `split=world`: the generated world as a data set, its parts drawn from separate pools of words.

In: size, seed and difficulty. Out: conversations and questions of LongMemEval's types with their evidence turns, the
same on every machine; and the split that keeps the pools apart.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from metamem.core.contracts import Dataset, Split
from metamem.core.errors import DataError
from metamem.core.grouping import ABSTENTION_SUFFIX, with_groups
from metamem.core.records import Conversation, Question, Session, Turn
from metamem.core.registry import option, register
from metamem.datasets.world.scenes import KINDS, LAST_DAY, TYPE_OF, Scene, draw_scene
from metamem.datasets.world.vocabulary import POOLS

# Shares of the questions; the rest is the test part.
SHARES = {"train": 0.25, "validation": 0.1}
# Other people who are spoken of, by difficulty.
OTHERS = {1: 1, 2: 2, 3: 3}
_ABSENT_EVERY = 8  # one question in so many asks about somebody of whom nothing is known
_LEAST = 40


@register("dataset", "world")
class World:
    """Generated conversations with questions of LongMemEval's types; the parts share no name, thing or sentence."""

    own = True

    @dataclass
    class Config:
        """What is generated."""

        size: int = option(240, "questions: a quarter to train, a tenth to validate, the rest to test", least=_LEAST)
        seed: int = option(0, "seed of the world, whatever the run's")
        difficulty: int = option(2, "1, 2 or 3: how many other people each conversation speaks of", least=1, most=3)
        tempting: float = option(0.75, "share of the people of whom something is said that tempts", least=0, most=1)
        asked: int = option(1, "questions about each conversation, each about another of its people", least=1, most=2)
        chatter: int = option(0, "lines of small talk in each session, among which its fact stands", least=0)

    def __init__(self, config: Config) -> None:
        self._config = config

    def files(self) -> Sequence[Path]:
        """The generator itself: other words or rules are another world."""
        return tuple(Path(__file__).with_name(name) for name in ("vocabulary.py", "scenes.py", "component.py"))

    def load(self) -> Dataset:
        """Generate everything."""
        config = self._config
        conversations: dict[str, Conversation] = {}
        questions: list[Question] = []
        for part, count in sizes(config.size).items():
            for number in range(-(-count // config.asked)):
                name = f"{part}-{number:04d}"
                rng = random.Random(f"{config.seed}/world/{name}")
                kind = KINDS[number % len(KINDS)]
                gone = (number // len(KINDS) + number) % _ABSENT_EVERY == 0
                others = rng.choices(KINDS, k=OTHERS[config.difficulty])
                kinds, absent = (others, (kind,)) if gone else ([kind, *others], ())
                scene = draw_scene(rng, POOLS[part], kinds, absent=absent, easy=1 - config.tempting)
                month = datetime(2023, rng.randint(1, 12), 1)
                conversation, places = _conversation(rng, name, scene, month, POOLS[part].chatter, config.chatter)
                conversations[name] = conversation
                cases = [scene.cases[-1], *scene.cases[:-1]] if gone else scene.cases
                for place, case in enumerate(cases[: min(config.asked, count - number * config.asked)]):
                    turns = tuple(places[i] for i, line in enumerate(scene.lines) if line.person == case.person)
                    told = f"{name}.{place + 1}" if place else name
                    questions.append(
                        Question(
                            id=told + (ABSTENTION_SUFFIX if case.absent else ""),
                            text=case.question,
                            type=TYPE_OF[case.kind],
                            answers=(case.right,),
                            date=month.replace(day=LAST_DAY, hour=20),
                            abstention=case.absent,
                            conversation_id=name,
                            evidence_turns=turns,
                            evidence_sessions=tuple(turn.rsplit("/", 1)[0] for turn in turns),
                            category=case.kind,
                        )
                    )
        return Dataset("world", conversations, with_groups(questions, conversations), own=True)


def sizes(size: int) -> dict[str, int]:
    """How many questions each part has."""
    parts = {part: round(size * share) for part, share in SHARES.items()}
    return {**parts, "test": size - sum(parts.values())}


def _conversation(
    rng: random.Random, name: str, scene: Scene, month: datetime, chatter: Sequence[str], lines: int
) -> tuple[Conversation, list[str]]:
    """Return a conversation, each fact in a session of its own among `lines` lines of small talk, and the turns' ids
    that hold the scene's lines.
    """
    sessions, places = [], []
    for number, line in enumerate(scene.lines):
        place = f"{name}/s{number}"
        said = [(rng.choice(("user", "assistant")), rng.choice(chatter)) for _ in range(lines)]
        at = rng.randint(0, lines) if lines else 0
        said.insert(at, (line.speaker, line.text))
        turns = tuple(Turn(f"{place}/t{i}", *one) for i, one in enumerate(said))
        sessions.append(Session(place, month.replace(day=line.day, hour=9), turns))
        places.append(turns[at].id)
    return Conversation(name, tuple(sessions)), places


@register("split", "world")
class WorldSplit:
    """The parts that the generated world was made in, which share no name, thing or sentence."""

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config) -> None:
        pass

    def files(self) -> Sequence[Path]:
        """None."""
        return ()

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """Every question goes to the part that its id names; `seed` is not used. Raises `DataError` for other data."""
        parts: dict[str, list[str]] = {part: [] for part in POOLS}
        for question in questions:
            part = question.id.partition("-")[0]
            if part not in parts:
                raise DataError(f"split=world is for dataset=world; question '{question.id}' is not of it")
            parts[part].append(question.id)
        train, validation, test = (tuple(sorted(parts[part])) for part in ("train", "validation", "test"))
        return Split(train, validation, test)

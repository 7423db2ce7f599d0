"""Splits: which questions train, which select (validation) and which are kept for the test.

In: the questions of a data set and a seed. Out: a `Split`, the parts' ids sorted, which has a hash and can be kept as
a file. Only `reference` tears groups apart, which it says (`leaky`); a file may, and is marked the same way.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from metamem.core.contracts import Split
from metamem.core.errors import ConfigError, DataError, nearest, unknown
from metamem.core.files import write_json
from metamem.core.json_form import digest, to_json
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.datasets.balance import deal, draw, grouped, quotas
from metamem.datasets.reading import found, given_path, read_json

PARTS = ("train", "validation", "test")
ALL_FOLDS = "all"
REFERENCE_FOLDS = 5


def _every_fold(config: Any, folds: int) -> dict[str, Any]:
    """Fold → the options with that fold chosen, for `split.fold=all`; none where one fold is chosen."""
    return {str(i): replace(config, fold=str(i)) for i in range(folds)} if config.fold == ALL_FOLDS else {}


def _checked_fold(fold: Any, folds: int) -> str:
    """The fold as text. Raises `ConfigError` when it is out of range."""
    name = str(fold)
    if name != ALL_FOLDS and name not in map(str, range(folds)):
        raise ConfigError(f"split.fold must be a number from 0 to {folds - 1} or all, got {fold}")
    return name


def _one_fold(fold: str, folds: int) -> int:
    if fold == ALL_FOLDS:
        raise ConfigError(f"split.fold=all stands for {folds} splits; here one is needed: 0 to {folds - 1}")
    return int(fold)


@register("split", "kfold")
class KFold:
    """Seeded folds that keep a base question or conversation on one side, stratified by question type."""

    @dataclass
    class Config:
        """Options of the split."""

        folds: int = option(5, "number of folds; each is the test part once", least=2)
        fold: str = option("0", "the fold that is the test part, from 0, or all for one run after another")
        validation: float = option(0.1, "share of all questions for validation, drawn outside the test fold", least=0)
        seed: int | None = option(
            None,
            "the seed that the folds are drawn by; a number keeps them while the run's `seed` varies (null: that one)",
        )

        def __post_init__(self) -> None:
            self.fold = _checked_fold(self.fold, self.folds)
            if not self.validation < 1 - 1 / self.folds:
                limit = f"split.folds={self.folds}, below {1 - 1 / self.folds:.3g}, to leave questions for training"
                raise ConfigError(f"split.validation must be, with {limit}; got {self.validation}")

    def __init__(self, config: Config) -> None:
        self._config = config

    def folds(self) -> dict[str, Any]:
        """Return the options of each fold where all are meant."""
        return _every_fold(self._config, self._config.folds)

    def files(self) -> Sequence[Path]:
        """None."""
        return ()

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """The split of one fold. The folds depend on the seed alone (`split.seed`, else the run's), each fold's
        validation on the seed and the fold.

        Raises `ConfigError` for `fold=all`, or when there are too few groups.
        """
        config = self._config
        seed = seed if config.seed is None else config.seed
        fold = _one_fold(config.fold, config.folds)
        groups = grouped(questions)
        if len(groups) < config.folds:
            raise ConfigError(
                f"split.folds={config.folds} needs at least as many groups of questions (base questions or "
                f"conversations); this data set has {len(groups)}. Lower split.folds, or train on all with split=all"
            )
        parts = deal(groups, config.folds, random.Random(f"{seed}/split/folds"))
        outside = [group for number, part in enumerate(parts) if number != fold for group in part]
        chosen: list[tuple[Question, ...]] = []
        if config.validation:
            if len(outside) < 2:
                raise ConfigError(
                    f"split.validation={config.validation} leaves nothing to train on: only one group of questions "
                    f"stands outside fold {fold}; set split.validation=0, or use more folds or data"
                )
            rng = random.Random(f"{seed}/split/validation/{fold}")
            chosen = draw(sorted(outside, key=lambda g: g[0].id), quotas(questions, config.validation), rng)
        validation = _ids(chosen)
        train = set(_ids(outside)) - set(validation)
        return Split(tuple(sorted(train)), validation, _ids(parts[fold]))


@register("split", "reference")
class Reference:
    """The paper's protocol: 70, 10 and 20 percent by question id (350/50/100 of 500); related questions leak."""

    @dataclass
    class Config:
        """Options of the split."""

        fold: str = option("0", "the fold that is the test part, 0 to 4, or all for one run after another")
        seed: int = option(42, "the seed of the order that the folds are cut from, instead of the run's")

        def __post_init__(self) -> None:
            self.fold = _checked_fold(self.fold, REFERENCE_FOLDS)

    def __init__(self, config: Config) -> None:
        self._config = config

    def folds(self) -> dict[str, Any]:
        """Return the options of each fold where all are meant."""
        return _every_fold(self._config, REFERENCE_FOLDS)

    def files(self) -> Sequence[Path]:
        """None."""
        return ()

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """The split of one fold; `seed` is not used. Validation is the tenth that follows the test fold, round the end.

        The reference has one validation part for all folds, inside the first one's test part; that is not copied.
        Raises `ConfigError` for `fold=all` or fewer than 10 questions.
        """
        fold = _one_fold(self._config.fold, REFERENCE_FOLDS)
        ids = sorted(q.id for q in questions)
        if len(ids) < 10:
            raise ConfigError(f"split=reference needs at least 10 questions, this data set has {len(ids)}")
        random.Random(f"{self._config.seed}/split/reference").shuffle(ids)
        begin, end = (len(ids) * n // REFERENCE_FOLDS for n in (fold, fold + 1))
        rest = ids[end:] + ids[:begin]
        size = round(len(ids) / 10)
        return Split(tuple(sorted(rest[size:])), tuple(sorted(rest[:size])), tuple(sorted(ids[begin:end])), leaky=True)


@register("split", "metamem_published")
class MetaMemPublished(Reference):
    """The folds that MetaMem's authors drew, from the order of the file: 350/50/100 of 500; they leak and select on
    tested questions.
    """

    @dataclass
    class Config(Reference.Config):
        """Options of the split."""

        seed: int = option(42, "the seed by which the order of the file is shuffled, instead of the run's")

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """The split of one fold of the questions in their given order, the data set's; `seed` is not used. Validation
        is the first tenth that is not tested, so that folds 1 to 4 share theirs, which fold 0 tests.

        Raises `ConfigError` for `fold=all` or fewer than 10 questions.
        """
        fold = _one_fold(self._config.fold, REFERENCE_FOLDS)
        ids = [q.id for q in questions]
        if len(ids) < 10:
            raise ConfigError(f"split=metamem_published needs at least 10 questions, this data set has {len(ids)}")
        random.Random(self._config.seed).shuffle(ids)
        begin, end = (len(ids) * n // REFERENCE_FOLDS for n in (fold, fold + 1))
        rest = ids[:begin] + ids[end:]
        size = round(len(ids) / 10)
        return Split(tuple(sorted(rest[size:])), tuple(sorted(rest[:size])), tuple(sorted(ids[begin:end])), leaky=True)


@register("split", "all")
class Everything:
    """Every question trains; there is no validation and no test, the last step is the result."""

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config) -> None:
        pass

    def files(self) -> Sequence[Path]:
        """None."""
        return ()

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """All ids as the training part; `seed` is not used."""
        return Split(tuple(sorted(q.id for q in questions)), (), ())


class StreamOrder(StrEnum):
    """In which order the questions of a stream arrive."""

    date = "date"
    conversation = "conversation"
    shuffled = "shuffled"


@register("split", "stream")
class Stream:
    """Every question arrives once, in order, and is answered with what was learned of those before it."""

    @dataclass
    class Config:
        """Which order, and how many."""

        order: StreamOrder = option(
            StreamOrder.shuffled, "by date (asked first, first), by conversation (one after another), or shuffled"
        )
        seed: int | None = option(None, "the seed by which a stream is shuffled, instead of the run's")
        length: int | None = option(None, "only the first so many questions (null: all)", least=1)
        folds: int = option(
            1,
            "independent streams: orders of all questions; by conversation, each of conversations of its own",
            least=1,
        )
        fold: str = option("0", "which of these streams, from 0, or all side by side")

        def __post_init__(self) -> None:
            self.fold = _checked_fold(self.fold, self.folds)
            if self.folds > 1 and self.order is StreamOrder.date:
                raise ConfigError(f"split.folds={self.folds}: by date there is one order; choose another split.order")

    def __init__(self, config: Config) -> None:
        self._config = config

    def folds(self) -> dict[str, Any]:
        """Return the options of each stream where all are meant."""
        return _every_fold(self._config, self._config.folds)

    def files(self) -> Sequence[Path]:
        """None."""
        return ()

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """Return the ids of one stream as the training part, in their order; questions without a date come last.

        Raises `ConfigError` for `fold=all`, or when there are fewer conversations than streams of them.
        """
        c, ordered = self._config, sorted(questions, key=lambda q: q.id)
        stream = _one_fold(c.fold, c.folds)
        rng = random.Random(f"{seed if c.seed is None else c.seed}/split/stream" + (f"/{stream}" if stream else ""))
        if c.order is StreamOrder.shuffled:
            rng.shuffle(ordered)
        else:
            ordered.sort(key=lambda q: (q.date is None, q.date or datetime.min))
        if c.order is StreamOrder.conversation:
            names = list(dict.fromkeys(map(_conversation, ordered)))
            if len(names) < c.folds:
                raise ConfigError(f"split.folds={c.folds}: this data set has {len(names)} conversations to share out")
            mine = set(names[stream :: c.folds])
            ordered = sorted((q for q in ordered if _conversation(q) in mine), key=_conversation)
        order = tuple(q.id for q in ordered[: c.length])
        return Split(tuple(sorted(order)), (), (), order=order)


def _conversation(question: Question) -> str:
    return question.conversation_id or question.group or question.id


@register("split", "file")
class FromFile:
    """The parts are read from a JSON file of question ids, such as a run's split."""

    @dataclass
    class Config:
        """Options of the split."""

        path: str = option(
            "", 'JSON file {"train": [ids], "validation": [ids], "test": [ids]}; a missing part is empty'
        )

    def __init__(self, config: Config) -> None:
        self._path = given_path(config.path, "split.path", "give the JSON file of ids, such as split.path=split.json")

    def files(self) -> Sequence[Path]:
        """The file of ids."""
        return (self._path,)

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """The file's parts; questions that it does not name are left out, `seed` is not used. Raises `DataError`."""
        raw = read_json(self._path, "split.path")
        where = f"split.path: {self._path}"
        if not isinstance(raw, dict):
            raise DataError(f'{where}: expected an object {{"train": [ids], ...}}, found {found(raw)}')
        for name in raw:
            if name not in PARTS:
                raise DataError(f"{where}: {unknown('part', name, PARTS)}")
        groups = {q.id: q.group or q.id for q in questions}
        part_of: dict[str, str] = {}
        for part in PARTS:
            ids = raw.get(part, [])
            if not isinstance(ids, list):
                raise DataError(f"{where}, {part}: expected a list of question ids, found {found(ids)}")
            for index, question_id in enumerate(ids):
                _check_id(question_id, f"{where}, {part}[{index}]", groups)
                if question_id in part_of:
                    raise DataError(f"{where}, {part}[{index}]: '{question_id}' is in {part_of[question_id]} already")
                part_of[question_id] = part
        if not part_of:
            raise DataError(f"{where}: names no question")
        sides = {(groups[question_id], part) for question_id, part in part_of.items()}
        leaky = len(sides) > len({group for group, _ in sides})
        train, validation, test = (tuple(sorted(i for i, held in part_of.items() if held == part)) for part in PARTS)
        return Split(train, validation, test, leaky)


def _check_id(question_id: Any, where: str, known: Iterable[str]) -> None:
    if not isinstance(question_id, str):
        raise DataError(f"{where}: expected a question id, found {found(question_id)}")
    if question_id not in known:
        close = nearest(question_id, known)
        hint = f" Did you mean '{close}'?" if close else ""
        raise DataError(f"{where}: the data set has no question '{question_id}'.{hint}")


def _ids(groups: Iterable[Sequence[Question]]) -> tuple[str, ...]:
    return tuple(sorted(q.id for group in groups for q in group))


def split_hash(split: Split) -> str:
    """A hash of the three parts, and of the order where there is one, 16 hex digits."""
    return digest({**_parts(split), **({"order": list(split.order)} if split.order else {})})


def save_split(split: Split, path: Path) -> None:
    """Write the parts where `split=file` reads them back; the file is replaced whole."""
    write_json(path, _parts(split))


def _parts(split: Split) -> dict[str, Any]:
    return {part: to_json(getattr(split, part)) for part in PARTS}

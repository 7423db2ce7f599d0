"""What `compare=` names, as systems with their answers: paths, lists of paths that are one system, labels.

In: entries as typed. Out: `System`s in the order given, each with its rows over seeds and folds, and the sources that
were read. Two systems are brought onto the same questions by `align`.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError, DataError, unknown
from metamem.statistics.comparability import Conditions, differences
from metamem.statistics.results import load
from metamem.statistics.rows import Row, RowsSource


@dataclass(frozen=True)
class System:
    """One system under comparison. `rows` hold a question once per replicate (seed and fold), sorted; `places` say
    where the answers stand, as far as they are in runs: a run's directory, the part, the system's key there;
    `conditions` are those of its runs.
    """

    label: str
    rows: tuple[Row, ...]
    places: tuple[tuple[str, str, str], ...] = ()
    conditions: tuple[Conditions, ...] = ()


@dataclass(frozen=True)
class Aligned:
    """The answers of two systems to the questions that both answered, sorted.

    `dropped` counts the questions that only one of them answered; `unequal` says that both were trained several times,
    with other seeds or folds.
    """

    first: tuple[Row, ...]
    second: tuple[Row, ...]
    dropped: int = 0
    unequal: bool = False

    def only(self, test: Callable[[Row], bool]) -> Aligned:
        """The same for some of the questions."""
        return replace(self, first=tuple(filter(test, self.first)), second=tuple(filter(test, self.second)))


def read_entries(given: Any) -> tuple[list[System], list[RowsSource]]:
    """Read what `compare` names.

    An entry is a path (`*` and `?` match several) or a list of paths; several paths are runs of one system with other
    seeds or folds. `RUN@SYSTEM` picks one system of a run (`best`, `last`, `without`, a number or a label), else all of
    its systems are compared. A mapping gives labels: {ours: PATH, theirs: PATH}.
    Raises `ConfigError` for entries that name nothing, `DataError` for what cannot be read.
    """
    if isinstance(given, Mapping):
        entries = [(str(label), entry) for label, entry in given.items()]
    elif isinstance(given, (list, tuple)):
        entries = [("", entry) for entry in given]
    else:
        raise ConfigError(f"compare: expected a list of runs or result files such as compare=[A,B], got {given!r}")
    if not entries:
        raise ConfigError("compare: the list is empty; name two runs or result files, or one run of several systems")
    cache: dict[str, RowsSource] = {}
    named = [(label, _members(entry, cache)) for label, entry in entries]
    systems: list[System] = []
    for label, members in named:
        for key in dict.fromkeys(key for _, keys in members for key in keys):
            rows = [r for source, keys in members if key in keys for r in source.rows if r.system == key]
            under = tuple(source.conditions for source, keys in members if key in keys)
            name = _label(label, members, key, len(named))
            systems.append(System(name, _one_each(rows, label or members[0][0].name), conditions=under))
    return _distinct(systems), list(cache.values())


def align(first: System, second: System) -> Aligned:
    """Keep the questions that two systems share, clustered and typed by what either of the two knows of them.

    Raises `DataError` when they share none.
    """
    sides = (first.rows, second.rows)
    asked = [{r.question_id for r in rows} for rows in sides]
    both = asked[0] & asked[1]
    if not both:
        raise DataError(f"compare: '{first.label}' and '{second.label}' share no question")
    groups = {r.question_id: r.group for rows in reversed(sides) for r in rows if r.group != r.question_id}
    types = {r.question_id: r.type for rows in reversed(sides) for r in rows if r.type}
    kept = [
        tuple(
            replace(r, group=groups.get(r.question_id, r.group), type=types.get(r.question_id, r.type))
            for r in rows
            if r.question_id in both
        )
        for rows in sides
    ]
    repeats = [{(r.seed, r.fold) for r in rows if r.learned} for rows in sides]
    unequal = repeats[0] != repeats[1] and min(map(len, repeats)) > 0 and max(map(len, repeats)) > 1
    return Aligned(kept[0], kept[1], len(asked[0] ^ asked[1]), unequal)


def what_differs(systems: Sequence[System], factors: Sequence[str] = ()) -> list[str]:
    """Name what keeps systems from standing in one table, besides the factors of a study: a sentence each."""
    every = [(s.label, c) for s in systems for c in s.conditions]
    found: dict[str, None] = {}
    for label, under in every[1:]:
        for difference in differences(every[0][1], under, factors):
            found.setdefault(f"'{every[0][0]}' and '{label}' differ in {difference}")
    return list(found)


def _members(entry: Any, cache: dict[str, RowsSource]) -> list[tuple[RowsSource, list[str]]]:
    """The sources of one entry, each with the keys of the systems that are wanted of it."""
    paths = list(entry) if isinstance(entry, (list, tuple)) else [entry]
    found = []
    for path in paths:
        if not isinstance(path, str) or not path:
            raise ConfigError(f"compare: expected the path of a run or a result file, got {path!r}")
        place, _, system = (path, "", "") if Path(path).exists() else path.rpartition("@")
        place = place or path
        # A pattern stands anywhere, also in an absolute path, which Path.glob refuses.
        matches = sorted(glob.glob(place)) if not Path(place).exists() and glob.has_magic(place) else [place]  # noqa: PTH207
        if not matches:
            raise DataError(f"compare: no run or result file matches {place}")
        for match in matches:
            key = str(Path(match).resolve())
            if key not in cache:
                cache[key] = load(match)
            found.append((cache[key], _wanted(cache[key], system if place != path else "")))
    if not found:
        raise ConfigError("compare: an entry of the list is an empty list")
    return found


def _wanted(source: RowsSource, system: str) -> list[str]:
    keys = list(dict.fromkeys(r.system for r in source.rows))
    ordered = [k for k in source.labels if k in keys] + [k for k in keys if k not in source.labels]
    if not system:
        return ordered
    chosen = [k for k in ordered if system in (k, source.labels.get(k))]
    if not chosen:
        names = {n for k in ordered for n in (k, source.labels.get(k, k))}
        raise ConfigError(f"compare: {unknown(f'system of {source.path}', system, names)}")
    return chosen


def _label(given: str, members: Sequence[tuple[RowsSource, list[str]]], key: str, entries: int) -> str:
    named = {source.labels.get(key, key) for source, keys in members if key in keys}
    # Several runs name a system by their own best step: the key is what they have in common.
    system = next(iter(named)) if len(named) == 1 else key
    alone = len({k for _, keys in members for k in keys}) == 1
    base = given or members[0][0].name + (f" and {len(members) - 1} more" if len(members) > 1 else "")
    single_plain = alone and len(members[0][0].labels) == 1
    if given and alone:
        return given
    if single_plain:
        return base
    return system if entries == 1 and not given else f"{base} {system}"


def _one_each(rows: Iterable[Row], name: str) -> tuple[Row, ...]:
    """The rows sorted, each question once per seed, fold and what was learned."""
    ordered = sorted(rows, key=lambda r: (r.question_id, r.repeat))
    for a, b in pairwise(ordered):
        if (a.question_id, a.repeat) == (b.question_id, b.repeat):
            raise DataError(
                f"compare: two runs of '{name}' answer question '{a.question_id}' with the same seed, fold and "
                f"guidelines ({a.seed}, {a.fold}); runs of one system must differ in one of these"
            )
    return tuple(ordered)


def _distinct(systems: Sequence[System]) -> list[System]:
    seen: dict[str, int] = {}
    found = []
    for s in systems:
        seen[s.label] = seen.get(s.label, 0) + 1
        found.append(replace(s, label=f"{s.label} #{seen[s.label]}") if seen[s.label] > 1 else s)
    return found

"""What `compare=` names, as systems with their answers: paths, lists of paths that are one system, labels.

In: entries as typed. Out: `System`s in the order given, each with its rows over seeds and folds, and the sources that
were read. Two systems are brought onto the same questions by `align`.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError, DataError, unknown
from metamem.statistics.results import load
from metamem.statistics.rows import Row, Source


@dataclass(frozen=True)
class System:
    """One system under comparison. `rows` hold a question once per replicate (seed and fold), sorted; `places` say
    where the answers stand, as far as they are in runs: a run's directory, the part, the system's key there.
    """

    label: str
    rows: tuple[Row, ...]
    places: tuple[tuple[str, str, str], ...] = ()

    def replicates(self) -> list[str]:
        """The training runs that made the rows, sorted."""
        return sorted({replicate(r) for r in self.rows})


@dataclass(frozen=True)
class Aligned:
    """Two systems on the questions they share, an entry per question and replicate, sorted; shares of right attempts.

    `dropped` counts the questions that only one of them answered; `averaged` names a system whose seeds were averaged
    because the other has others.
    """

    rows: tuple[Row, ...]
    replicates: tuple[str, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    dropped: int
    averaged: str = ""


def replicate(row: Row) -> str:
    """The name of the training run behind a row: its seed and fold."""
    return f"{row.seed}/{row.fold}"


def read_entries(given: Any) -> tuple[list[System], list[Source]]:
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
    cache: dict[str, Source] = {}
    named = [(label, _members(entry, cache)) for label, entry in entries]
    systems: list[System] = []
    for label, members in named:
        for key in dict.fromkeys(key for _, keys in members for key in keys):
            rows = [r for source, keys in members if key in keys for r in source.rows if r.system == key]
            systems.append(
                System(_label(label, members, key, len(named)), _one_each(rows, label or members[0][0].name))
            )
    return _distinct(systems), list(cache.values())


def align(first: System, second: System) -> Aligned:
    """Pair two systems question by question, and seed by seed where both have the same seeds and folds.

    Where they have not, the one with fewer is averaged by question. Raises `DataError` when they share no question.
    """
    same = first.replicates() == second.replicates()
    swapped = not same and len(second.replicates()) > len(first.replicates())
    axis, other = (second, first) if swapped else (first, second)
    partners: dict[tuple[str, str], list[Row]] = {}
    for r in other.rows:
        partners.setdefault((r.question_id, replicate(r) if same else ""), []).append(r)
    rows, mine, theirs = [], [], []
    for r in axis.rows:
        found = partners.get((r.question_id, replicate(r) if same else ""))
        if found:
            # The cluster is what either of the two knows of it.
            rows.append(r if r.group != r.question_id else replace(r, group=found[0].group))
            mine.append(r.strict)
            theirs.append(math.fsum(f.strict for f in found) / len(found))
    if not rows:
        raise DataError(f"compare: '{first.label}' and '{second.label}' share no question")
    asked = {r.question_id for r in first.rows} ^ {r.question_id for r in second.rows}
    averaged = other.label if not same and len(other.replicates()) > 1 else ""
    a, b = (theirs, mine) if swapped else (mine, theirs)
    return Aligned(tuple(rows), tuple(map(replicate, rows)), tuple(a), tuple(b), len(asked), averaged)


def _members(entry: Any, cache: dict[str, Source]) -> list[tuple[Source, list[str]]]:
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


def _wanted(source: Source, system: str) -> list[str]:
    keys = list(dict.fromkeys(r.system for r in source.rows))
    ordered = [k for k in source.labels if k in keys] + [k for k in keys if k not in source.labels]
    if not system:
        return ordered
    chosen = [k for k in ordered if system in (k, source.labels.get(k))]
    if not chosen:
        names = {n for k in ordered for n in (k, source.labels.get(k, k))}
        raise ConfigError(f"compare: {unknown(f'system of {source.path}', system, names)}")
    return chosen


def _label(given: str, members: Sequence[tuple[Source, list[str]]], key: str, entries: int) -> str:
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
    """The rows sorted, each question once per seed and fold."""
    ordered = sorted(rows, key=lambda r: (r.question_id, str(r.seed), str(r.fold)))
    for a, b in pairwise(ordered):
        if (a.question_id, replicate(a)) == (b.question_id, replicate(b)):
            raise DataError(
                f"compare: two runs of '{name}' answer question '{a.question_id}' with the same seed and fold "
                f"({replicate(a)}); runs of one system must differ in these"
            )
    return tuple(ordered)


def _distinct(systems: Sequence[System]) -> list[System]:
    seen: dict[str, int] = {}
    found = []
    for s in systems:
        seen[s.label] = seen.get(s.label, 0) + 1
        found.append(replace(s, label=f"{s.label} #{seen[s.label]}") if seen[s.label] > 1 else s)
    return found

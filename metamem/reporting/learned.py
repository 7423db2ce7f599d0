"""What was learned, as people want to look at it, whatever policy learned it.

In: the checkpoints of a training and its attempts. Out: cases (guidelines that keep something beside their text, or are
shown to some questions only) with their uses and values step by step; versions of texts that evolved, each as what it
changed of its parent; the front of those versions over the questions they were scored on.

A policy has its versions shown by keeping them in its state as `candidates`: a list of objects with `texts` (by name),
`parents` (places in the list), `scores` (by question, from 0 to 1) and `born` (the step).
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metamem.core.files import read_object
from metamem.reporting.pictures import front_grid, sparkline

# Cases on a page (of more, the most used), and versions in the picture of their front (of more, the first).
MOST = 200
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
# Pairs of words that a comparison of two texts looks at, at most; beyond, it says that all of it changed.
_COMPARED = 4_000_000
# Characters of what is kept beside a text.
_SHORT = 160


@dataclass(frozen=True)
class ShownGuideline:
    """A guideline with how often it was shown in each step and how often that was right, and its numbers over steps.

    `facts` are the words kept about it; `charts` a picture for each number that changed.
    """

    id: str
    text: str
    in_use: bool
    facts: Mapping[str, str]
    uses: Sequence[tuple[int, int, int]]  # step, shown, right
    values: Mapping[str, Sequence[tuple[int, float]]]
    charts: Mapping[str, str]

    @property
    def shown(self) -> int:
        """How often it was shown in training."""
        return sum(count for _, count, _ in self.uses)

    @property
    def right(self) -> int:
        """How often the attempt was right then."""
        return sum(count for _, _, count in self.uses)


@dataclass(frozen=True)
class Version:
    """One version of the texts that evolved: what it changed, by name, as pieces (same, in, out); `leads`: the number
    of questions that it answers best, those left out that all versions answer alike.
    """

    number: int
    parents: tuple[int, ...]
    born: int
    score: float | None
    leads: int
    changes: Mapping[str, Sequence[tuple[str, str]]]
    children: Sequence[Version]


@dataclass(frozen=True)
class Learned:
    """What a training learned beyond the history of its guidelines; empty where that is all there is."""

    cases: Sequence[ShownGuideline] = ()
    cases_left_out: int = 0
    roots: Sequence[Version] = ()
    versions: int = 0
    front: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)


def read_learned(directory: Path, data: Mapping[str, Any]) -> Learned:
    """Return what a run's checkpoints and attempts (`run.run_data`) tell; nothing for a run without checkpoints."""
    checkpoints = [read_object(path) for path in sorted((directory / "checkpoints").glob("step_*.json"))]
    if not checkpoints:
        return Learned()
    cases = _cases(checkpoints, _uses(data["attempts"]))
    cases.sort(key=lambda c: (not c.in_use, -c.shown))
    held = versions_in(checkpoints[-1].get("state"))
    rows = [(f"V{i}", v["scores"]) for i, v in enumerate(held) if v.get("scores")]
    front = front_grid(rows[:MOST], "Scores of each version by question; the best of a question are framed")
    about = (checkpoints[-1].get("meta_memory") or {}).get("about") or {}
    return Learned(
        cases[:MOST],
        max(len(cases) - MOST, 0),
        _tree(held),
        len(held),
        front if len(rows) > 1 else "",
        {name: _told(value) for name, value in sorted(about.items())},
    )


def versions_in(state: Any) -> list[Mapping[str, Any]]:
    """Return the versions that a policy's state holds; none where it holds nothing of that form."""
    found = state.get("candidates") if isinstance(state, Mapping) else None
    good = isinstance(found, list) and all(
        isinstance(v, Mapping) and isinstance(v.get("texts"), Mapping) and isinstance(v.get("parents"), list)
        for v in found
    )
    return list(found) if good and found else []


def pieces(before: str, after: str) -> list[tuple[str, str]]:
    """Return what became of a text, word by word: pieces that stayed (`same`), came in (`in`) and went (`out`)."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if len(old) * len(new) > _COMPARED:
        return [("out", before), ("in", after)]
    made: list[tuple[str, str]] = []
    for what, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            made.append(("same", "".join(old[i:j])))
            continue
        made += [(kind, "".join(words)) for kind, words in (("out", old[i:j]), ("in", new[k:m])) if words]
    return made


def _uses(attempts: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, int, int]]]:
    """Return for each id how often it was shown and right, by training step; nothing where prompts show the same."""
    shown: Counter[tuple[str, int]] = Counter()
    right: Counter[tuple[str, int]] = Counter()
    seen: dict[int, set[str]] = {}
    for a in attempts:
        if a["part"] != "train" or not str(a["system"]).isdigit():
            continue
        step = int(a["system"])
        seen.setdefault(step, set()).add(a["shown"])
        for name in filter(None, a["shown"].split(", ")):
            shown[name, step] += 1
            right[name, step] += bool(a["verdicts"] and a["verdicts"][0]["right"])
    if not any(len(sets) > 1 for sets in seen.values()):
        return {}
    found: dict[str, list[tuple[int, int, int]]] = {}
    for name, step in sorted(shown, key=lambda key: key[1]):
        found.setdefault(name, []).append((step, shown[name, step], right[name, step]))
    return found


def _cases(
    checkpoints: Sequence[Mapping[str, Any]], uses: Mapping[str, Sequence[tuple[int, int, int]]]
) -> list[ShownGuideline]:
    """Return the guidelines that are cases, in the order of their birth."""
    last: dict[str, Mapping[str, Any]] = {}
    values: dict[str, dict[str, list[tuple[int, float]]]] = {}
    in_use: set[str] = set()
    for checkpoint in checkpoints:
        held = (checkpoint.get("meta_memory") or {}).get("guidelines") or ()
        in_use = {g["id"] for g in held}
        for g in held:
            last[g["id"]] = g
            for name, value in (g.get("about") or {}).items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    values.setdefault(g["id"], {}).setdefault(name, []).append((int(checkpoint["step"]), value))
    steps = int(checkpoints[-1]["step"])
    made = []
    for name, g in last.items():
        about = g.get("about") or {}
        if not about and name not in uses:
            continue
        numbers = values.get(name, {})
        charts = {key: sparkline(key, p, steps) for key, p in numbers.items() if len({v for _, v in p}) > 1}
        facts = {k: _told(v) for k, v in about.items() if k not in numbers and v not in (None, "", [], {})}
        made.append(ShownGuideline(name, g["text"], name in in_use, facts, uses.get(name, ()), numbers, charts))
    return made


def _tree(held: Sequence[Mapping[str, Any]]) -> list[Version]:
    """Return the versions without a parent, each with those that came of it; one of several hangs on its first."""
    columns = sorted({q for v in held for q in v.get("scores") or {}})
    by_question = {q: [v["scores"][q] for v in held if q in (v.get("scores") or {})] for q in columns}
    children: dict[int, list[int]] = {}
    for i, v in enumerate(held):
        children.setdefault(v["parents"][0] if v["parents"] else -1, []).append(i)

    def version(i: int) -> Version:
        v = held[i]
        scores = v.get("scores") or {}
        old = held[v["parents"][0]]["texts"] if v["parents"] else {}
        changed = {n: pieces(old.get(n, ""), t) for n, t in v["texts"].items() if t != old.get(n, "")}
        mean = sum(scores.values()) / len(scores) if scores else None
        leads = sum(score == max(by_question[q]) > min(by_question[q]) for q, score in scores.items())
        below = [version(j) for j in children.get(i, ()) if j > i]
        return Version(i, tuple(v["parents"]), int(v.get("born") or 0), mean, leads, changed, below)

    return [version(i) for i in children.get(-1, ())]


def _told(value: Any) -> str:
    """Return a value in a few words: of many numbers how many and between what."""
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_told(v)}" for k, v in value.items())[: 4 * _SHORT]
    if isinstance(value, list):
        if len(value) > 8 and all(isinstance(v, (int, float)) for v in value):
            return f"{len(value)} numbers from {min(value):.4g} to {max(value):.4g}"
        value = ", ".join(_told(v) for v in value)
    text = str(value)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"

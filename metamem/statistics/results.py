"""One loader for whatever holds verdicts: the directory of a finished run (train or eval), or a plain result file.

In: a path. Out: a `RowsSource` with one `Row` per system and question, which comparisons and studies share, and the
single verdicts behind them. What a run cannot tell (the type of its questions when its data set has gone) is said in
`notes`, never guessed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError, DataError
from metamem.core.files import file_digest, read_object, read_rows
from metamem.core.grouping import ABSTENTION_SUFFIX
from metamem.core.registry import build, load_components
from metamem.runs.answering import Answering, answering_run
from metamem.runs.directory import read_result
from metamem.statistics.aggregates import Outcome
from metamem.statistics.comparability import conditions
from metamem.statistics.plain_results import load_plain
from metamem.statistics.rows import Facts, JudgedReply, Row, RowsSource, row_of

# What was read within `read_once`, by place, part and evaluator.
_read: ContextVar[dict[tuple[str, str | None, str | None], RowsSource] | None] = ContextVar("read", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Have each run read once, however often it is loaded inside: for what looks at the same finished runs again."""
    token = _read.set({})
    try:
        yield
    finally:
        _read.reset(token)


def load(path: str | Path, part: str | None = None, evaluator: str | None = None) -> RowsSource:
    """Read a run's directory or a plain result file.

    `part` of a run (default: the one its result is of) and `evaluator` (default: its reward) choose what `rows` are of.
    Raises `DataError` naming the file and record, or `ConfigError` for a part or evaluator that the run does not have.
    """
    read, key = _read.get(), (str(path), part, evaluator)
    if read is None:
        return _load(Path(path), part, evaluator)
    if key not in read:
        read[key] = _load(Path(path), part, evaluator)
    return read[key]


def _load(place: Path, part: str | None, evaluator: str | None) -> RowsSource:
    if place.is_dir():
        return _load_run(place, part, evaluator)
    if not place.exists():
        raise DataError(f"compare: no such run or result file: {place}")
    return load_plain(place)


def outcomes(judgements: Iterable[JudgedReply], facts: Mapping[str, Row], evaluator: str) -> list[Outcome]:
    """The verdicts of one evaluator (first repeats) as `aggregates` takes them; `facts`: question id → any of its
    rows.
    """
    return [
        Outcome(j.question_id, f.type, f.abstention, j.correct, j.score, f.retrieved, f.group)
        for j in judgements
        if j.evaluator == evaluator and j.repeat == 0 and (f := facts[j.question_id])
    ]


def _load_run(place: Path, part: str | None, evaluator: str | None) -> RowsSource:
    if not (place / "manifest.json").exists():
        raise DataError(f"{place} is not a run: it holds no manifest.json")
    result, config = read_result(place), read_object(place / "config.json")
    if not (place / "verdicts.jsonl").exists():
        raise DataError(f"{place} holds no verdicts: none of its answers was judged, or it is no run that answers")
    manifest = read_object(place / "manifest.json")
    part, evaluator = part or result.get("part", "test"), evaluator or result.get("reward", "")
    kept, parts, known = [], set(), set()
    for verdict in read_rows(place / "verdicts.jsonl"):
        where, system, rest = verdict["attempt_id"].split("/", 2)
        parts.add(where)
        if where == part:
            known.add(verdict["evaluator"])
            kept.append((system, rest, verdict))
    if not kept:
        raise ConfigError(f"{place} holds no verdicts for part={part}; it has {', '.join(sorted(parts)) or 'none'}")
    if evaluator not in known:
        raise ConfigError(f"{place} holds no verdicts by '{evaluator}'; it has {', '.join(sorted(known))}")
    replies = {a["id"]: f"{a['key']}/{a['response']}" for a in read_rows(place / "attempts.jsonl") if a["key"]}
    judgements = tuple(
        JudgedReply(
            system,
            v["question_id"],
            v["attempt_id"],
            replies.get(v["attempt_id"], ""),
            v["evaluator"],
            v["judge"],
            v["rubric"],
            v["repeat"],
            v["correct"] if v["status"] == "scored" else None,
            v["score"],
        )
        for system, _, v in kept
    )
    facts, notes = question_facts(place, config, manifest, {j.question_id for j in judgements})
    try:
        answered = answering_run(place)
    except DataError as error:
        # Under what its questions were answered is then unknown, and not what was given to judge them.
        answered = Answering({k: config[k] for k in ("dataset", "evaluator") if k in config}, result, {})
        notes = [*notes, f"{place.name}: {error}"]
    seed, fold = answered.result.get("seed"), (answered.config.get("split") or {}).get("fold")
    learned = _learned(result, (system for system, _, _ in kept))
    rows = _rows(judgements, facts, evaluator, seed, None if fold is None else str(fold), learned)
    stamps = tuple(map(str, result.get("stamps") or ()))
    labels = system_labels(result, (system for system, _, _ in kept))
    judges = ((j.judge, j.rubric) for j in judgements if j.evaluator == evaluator)
    cases = {row["id"]: row for row in read_rows(place / "cases.jsonl")} if (place / "cases.jsonl").exists() else {}
    under = conditions(answered.config, manifest, part, evaluator, judges, cases)
    return RowsSource(
        place.resolve().name, place, labels, rows, judgements, evaluator, stamps, tuple(notes), part, under
    )


def system_labels(result: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Key of a system (how its attempts are scoped) → its label: in training the label's first word is the key; an
    evaluation wrote its systems one after another.
    """
    labels = [str(s["label"]) for s in result.get("systems", ())]
    if result.get("kind") == "train":
        return {label.split(" ")[0]: label for label in labels}
    return dict(zip(dict.fromkeys(keys), labels, strict=False))


def _learned(result: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Key of a system → the name of what was learned that it answers with, empty for none.

    Runs of 0.1 do not name it: there the run and the step do, as for the steps that a training validated.
    """
    names = list(dict.fromkeys(keys))
    found = {key: f"{result.get('id')}/{key}" if key.isdigit() and key != "0" else "" for key in names}
    for number, system in enumerate(result.get("systems") or ()):
        training = result.get("kind") == "train"
        key = str(system["label"]).split(" ")[0] if training else names[number] if number < len(names) else ""
        items = any(system.get(name) for name in ("guidelines", "texts", "adapter"))
        found[key] = str(system.get("learned", f"{result.get('id')}/{key}" if items else ""))
    return found


def _rows(
    judgements: Iterable[JudgedReply],
    facts: Mapping[str, Facts],
    evaluator: str,
    seed: int | None,
    fold: str | None,
    learned: Mapping[str, str],
) -> tuple[Row, ...]:
    grouped: dict[tuple[str, str], list[JudgedReply]] = {}
    for j in judgements:
        if j.evaluator == evaluator and j.repeat == 0:
            grouped.setdefault((j.system, j.question_id), []).append(j)
    return tuple(
        row_of(system, question, facts[question], given, seed=seed, fold=fold, learned=learned.get(system, ""))
        for (system, question), given in sorted(grouped.items())
    )


def question_facts(
    place: Path, config: Mapping[str, Any], manifest: Mapping[str, Any], asked: Iterable[str]
) -> tuple[dict[str, Facts], list[str]]:
    """Question id → what is known of it, and notes on what is not: from the files that the run keeps, else from the
    data set it was made with, as long as that is still there and the same.
    """
    facts = {i: Facts(abstention=i.endswith(ABSTENTION_SUFFIX)) for i in asked}
    for name, key in (("questions.jsonl", "question_id"), ("cases.jsonl", "id")):
        for row in read_rows(place / name) if (place / name).exists() else ():
            if row[key] in facts:
                known = {k: row[k] for k in ("type", "abstention", "group", "retrieved") if k in row}
                facts[row[key]] = dataclasses.replace(facts[row[key]], **known)
    if all(f.type and f.group for f in facts.values()):
        return facts, []
    try:
        questions = _dataset(config.get("dataset") or {}, manifest.get("contents", {}).get("dataset"))
    except (ConfigError, DataError) as error:
        return facts, [f"{place.name}: types and groups of its questions are not known: {error}"]
    for i, f in facts.items():
        if i in questions:
            q = questions[i]
            f.type, f.abstention, f.group = q.type, q.abstention, q.group
    return facts, []


@dataclass
class _Cache:
    """The data sets read last, by options and content: the runs of a study share theirs."""

    held: dict[str, dict[str, Any]] = field(default_factory=dict)


_CACHE = _Cache()


def _dataset(options: Mapping[str, Any], digests: Any) -> dict[str, Any]:
    """Question id → question of a run's data set. Raises `DataError` when its files are not what they were."""
    key = json.dumps([options, digests], sort_keys=True)
    if key not in _CACHE.held:
        load_components()
        loader = build("dataset", options)
        if [file_digest(p) for p in loader.files()] != digests:
            raise DataError(f"dataset={options.get('name')} is not what it was when the run was made")
        _CACHE.held = {key: {q.id: q for q in loader.load().questions}}
    return _CACHE.held[key]

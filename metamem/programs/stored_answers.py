"""What a finished run keeps of its answers: every system's attempts, and the meta-memory that they were made with.

In: the directory of a training or an evaluation, and a part of the data. Out: `StoredPart`, its systems in the order in
which they answered, each with the very guidelines that its prompts showed, and those prompts, found again from evidence
that is gathered anew. Every attempt carries hashes by which guidelines, evidence and prompt are checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import EvalConfig
from metamem.core.calls import Message
from metamem.core.checkpoints import load_checkpoint
from metamem.core.contracts import Dataset, Split
from metamem.core.errors import DataError
from metamem.core.files import read_object
from metamem.core.json_form import digest
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Attempt, Evidence, Question
from metamem.core.text import render_unit
from metamem.pipeline.bench import answer_prompt
from metamem.prompts.templates import Prompts
from metamem.retrieval.evidence import evidence_hash
from metamem.runs.directory import CHECKPOINTS, read_result
from metamem.runs.systems import read_systems, stored_attempts, system_names


@dataclass(frozen=True)
class StoredSystem:
    """One system's attempts, question id → in the order of draws. `step` is that of its guidelines, where known."""

    label: str
    meta_memory: MetaMemory | None
    attempts: Mapping[str, tuple[Attempt, ...]]
    step: int | None = None


@dataclass(frozen=True)
class StoredPart:
    """What a run stored for a part. `split` is the run's own where it kept it, `notes` say what is left out."""

    place: Path
    result: Mapping[str, Any]
    config: Mapping[str, Any]
    systems: tuple[StoredSystem, ...]
    split: Split | None = None
    notes: tuple[str, ...] = ()


def read_stored(place: Path, part: str, key: str) -> StoredPart:
    """Read what a run stored for a part; `key` is the option that named it.

    Raises `DataError` for a directory that is not a finished run with attempts for that part, or whose guidelines are
    no longer what the attempts were made with.
    """
    if not (place / "attempts.jsonl").exists():
        raise DataError(f"{key}: {place} is not a run that answered questions: it holds no attempts.jsonl")
    try:
        result, config = read_result(place), read_object(place / "config.json")
    except DataError as error:
        raise DataError(f"{key}: {error}") from None
    if config.get("from"):
        raise DataError(f"{key}: {place} judged the replies of another run again; give that run, {config['from']}")
    if calls := (config.get("search") or {}).get("calls"):
        raise DataError(
            f"{key}: {place} let answers search the memory (search.calls={calls}): its replies end dialogues, and not "
            "the prompts that are shown again here. Give a run with search.calls=0"
        )
    stored = stored_attempts(place, part, key)
    names = system_names(place, part, stored)
    rejected = {str(step) for step in result.get("rejected_steps") or ()} if part == "validation" else set()
    notes = [f"{names[k]}: its guidelines were refused and not kept" for k in stored if k in rejected]
    systems = []
    for name, attempts in stored.items():
        if name in rejected:
            continue
        made, step = _meta_memory(place, part, name, result, config, key)
        if any(a.meta_memory_hash != (made or MetaMemory()).hash for a in attempts):
            raise DataError(
                f"{key}: '{names[name]}' of {place} was answered with guidelines that are not there any more"
            )
        systems.append(StoredSystem(names[name], made, _by_question(attempts), step))
    return StoredPart(place, result, config, tuple(systems), _split(place, result), tuple(notes))


def questions_of(stored: StoredPart, dataset: Dataset, config: EvalConfig, key: str) -> dict[str, Question]:
    """The questions that a run answered, by id and in its order. Raises `DataError` for one that the data set lacks."""
    held = {q.id: q for q in dataset.questions}
    asked = sorted({q for system in stored.systems for q in system.attempts})
    if missing := [q for q in asked if q not in held]:
        raise DataError(
            f"{key}: {stored.place} answered question '{missing[0]}', which dataset={config.dataset.name} does not "
            f"hold. {options_then(stored, config)}"
        )
    return {q: held[q] for q in asked}


def prompts_again(
    prompts: Prompts, question: Question, gathered: Sequence[Evidence], system: StoredSystem, template: str = "answer"
) -> tuple[tuple[Message, ...], tuple[Message, ...] | None] | None:
    """The prompt of a system's question without guidelines, and with them where the system has any; one of the two was
    answered, by the `template` that questions were asked by. None when neither the evidence nor the templates lead to
    that prompt.
    """
    attempt = system.attempts[question.id][0]
    evidence = answered_from(gathered, attempt.evidence_hash)
    if evidence is None:
        return None
    lines = [render_unit(e.unit) for e in evidence]
    without = answer_prompt(prompts, question, None, lines, template)
    given = shown_in(attempt, system.meta_memory)
    guided = answer_prompt(prompts, question, given, lines, template) if given is not None else None
    return (without, guided) if digest(guided or without) == attempt.prompt_hash else None


def shown_in(attempt: Attempt, meta_memory: MetaMemory | None) -> MetaMemory | None:
    """Return the meta-memory with the guidelines alone that an attempt was shown, in the order of its prompt."""
    if meta_memory is None or attempt.shown is None:
        return meta_memory
    held = {g.id: g for g in meta_memory.guidelines}
    return replace(meta_memory, guidelines=tuple(held[i] for i in attempt.shown if i in held))


def answered_from(gathered: Sequence[Evidence], wanted: str) -> tuple[Evidence, ...] | None:
    """The evidence with a hash: all that was gathered, or all but the least relevant, which a prompt may have had no
    room for; None when it is neither.
    """
    ranks = sorted(e.rank for e in gathered)
    for count in range(len(ranks), -1, -1):
        kept = tuple(e for e in gathered if e.rank in ranks[:count])
        if evidence_hash(kept) == wanted:
            return kept
    return None


def options_then(stored: StoredPart, config: EvalConfig) -> str:
    """A sentence: which options that decide prompts were others in the run than they are here."""
    now = plain(config)
    differing = []
    for group in ("dataset", "memory", "retriever", "embedder", "evidence", "prompts", "seed"):
        before, here = stored.config.get(group), now.get(group)
        if isinstance(before, Mapping) and isinstance(here, Mapping):
            found = [(group if k == "name" else f"{group}.{k}", v, here.get(k)) for k, v in before.items()]
        else:
            found = [(group, before, here)]
        differing += [f"{key}={'null' if value is None else value}" for key, value, other in found if value != other]
    return f"Its options were {' '.join(differing)}" if differing else "Its data or prompts have changed since."


def _by_question(attempts: Sequence[Attempt]) -> dict[str, tuple[Attempt, ...]]:
    grouped: dict[str, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda a: (a.question_id, a.draw)):
        grouped.setdefault(attempt.question_id, []).append(attempt)
    return {question: tuple(found) for question, found in grouped.items()}


def _meta_memory(
    place: Path, part: str, name: str, result: Mapping[str, Any], config: Mapping[str, Any], key: str
) -> tuple[MetaMemory | None, int | None]:
    """The meta-memory of a system and its step, by the system's key: of an evaluation by its place in the list, of a
    training's test by its name, of its other parts by the step (what a step learns from was answered with the
    guidelines before it).
    """
    if result.get("kind") != "train":
        given = read_systems(config.get("meta_memory"))
        system = given[int(name)] if name.isdigit() and int(name) < len(given) else None
        return (system.meta_memory, system.step) if system else (None, None)
    if name == "without":
        return None, None
    number = name.removeprefix("step-")
    steps = {"best": result.get("best_step"), "last": result.get("steps")}
    step = steps[name] if name in steps else int(number) - (part == "train") if number.isdigit() else None
    if not isinstance(step, int):
        raise DataError(f"{key}: {place} does not say which guidelines its system '{name}' had")
    return load_checkpoint(place / CHECKPOINTS / f"step_{step:04d}.json", key).meta_memory, step


def _split(place: Path, result: Mapping[str, Any]) -> Split | None:
    path = place / "split.json"
    if not path.exists():
        return None
    stored = read_object(path)
    parts = {part: tuple(stored.get(part) or ()) for part in ("train", "validation", "test")}
    return Split(**parts, leaky=bool((result.get("split") or {}).get("leaky")))

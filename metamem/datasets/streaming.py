"""Data sets whose context arrives in chunks and is then asked about: the shapes of their files, and their records.

In: parquet or JSON, of Mem-α's shape (`chunks`, `questions_and_answers`, `data_source`) or of MemoryAgentBench's
(`context`, `questions`, `answers`, `metadata`). Out: a conversation per context, a session per chunk with the chunk as
its one turn, of the role `document`; and the questions, their type the source and their category the competency, with
the instruction of their source. A context is named by its content, so that instances that share one share its memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from metamem.core.chunking import DOCUMENT, TASK, chunked
from metamem.core.contracts import Dataset
from metamem.core.errors import ConfigError
from metamem.core.grouping import ABSTENTION_SUFFIX
from metamem.core.json_form import digest
from metamem.core.records import Conversation, Question, Session, Turn
from metamem.core.sources import source_of
from metamem.core.tokens import count_tokens
from metamem.datasets.instructions import MEMALPHA, MEMORYAGENTBENCH, Instruction, instruction_of
from metamem.datasets.reading import Place, Problems, found, given_path, misspelt
from metamem.datasets.rows import SUFFIXES, read_rows

KEY = "dataset.path"

EXPECTED = (
    "instances with chunks, questions_and_answers and data_source, or with context, questions, answers and metadata"
)


# What the metadata of an instance may say of its questions.
BESIDE = ("question_ids", "qa_pair_ids", "question_types", "question_dates", "keypoints")


@dataclass(frozen=True)
class StreamedQuestion:
    """A question of an instance; `id` is empty where the file has none, `about` goes into `Question.about`."""

    id: str
    text: str
    answers: tuple[str, ...]
    date: datetime | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Instance:
    """One context in chunks, what is asked about it, and what its source says of both."""

    source: str
    chunks: tuple[str, ...]
    asked: tuple[StreamedQuestion, ...]
    instruction: Instruction


def read_instances(path: Path, split: Callable[[str], list[str]], notices: Counter[str]) -> list[Instance]:
    """The instances of a file; `split` cuts contexts that are not in chunks yet. Raises `DataError`."""
    problems = Problems()
    instances = []
    for number, raw in enumerate(read_rows(path, KEY, EXPECTED), start=1):
        with problems.collect():
            instances.append(_instance(raw, Place(path, KEY, number), split, notices))
    problems.finish()
    return instances


def dataset_of(
    name: str,
    instances: Sequence[Instance],
    limit: int | None,
    own_streams: bool,
    notices: Counter[str],
    instructions: bool = True,
) -> Dataset:
    """The records of instances. With `own_streams` each question has a stream of its own that opens with it; with
    `instructions` questions and conversations have those of their source.

    Question ids of the file are kept where they are unique, others are made of source and place.
    """
    conversations: dict[str, Conversation] = {}
    questions: list[Question] = []
    named = Counter(asked.id for instance in instances for asked in instance.asked)
    numbers: Counter[str] = Counter()
    for instance in instances:
        numbers[instance.source] += 1
        place = f"{instance.source}#{numbers[instance.source]}"
        told = instance.instruction if instructions else Instruction()
        # Texts of two sources are one conversation where the same is said of them.
        context = digest([told.writing, *instance.chunks] if told.writing else list(instance.chunks))
        for position, asked in enumerate(instance.asked):
            if limit is not None and len(questions) == limit:
                notices["questions left out by dataset.limit"] += 1
                continue
            given = asked.id
            id = given if given and named[given] == 1 else f"{place}/q{position}"
            notices["question ids that repeat, named by their place"] += bool(given) and named[given] > 1
            task = asked.text if own_streams else None
            stream = f"{context}-{digest(asked.text, 8)}" if own_streams else context
            if stream not in conversations:
                conversations[stream] = _conversation(stream, instance.chunks, task, told.writing)
            questions.append(
                Question(
                    id=id,
                    text=asked.text,
                    type=instance.source,
                    answers=asked.answers,
                    date=asked.date,
                    abstention=given.endswith(ABSTENTION_SUFFIX),
                    conversation_id=stream,
                    group=context,
                    category=source_of(instance.source).competency.value,
                    instruction=told.answer,
                    about=asked.about,
                )
            )
    return Dataset(name, conversations, tuple(questions), +notices)


def splitter(most: int, tokenizer: str) -> Callable[[str], list[str]]:
    """Cuts a context into chunks of at most `most` tokens of a tokenizer."""
    return lambda text: chunked(text, most, lambda piece: count_tokens(piece, tokenizer))


def _conversation(id: str, chunks: Sequence[str], task: str | None, instruction: str) -> Conversation:
    opening = [] if task is None else [Session(TASK, None, (Turn(TASK, TASK, task),))]
    held = [Session(f"c{i}", None, (Turn(f"c{i}", DOCUMENT, chunk),)) for i, chunk in enumerate(chunks)]
    return Conversation(id, (*opening, *held), instruction)


# --- instances --------------------------------------------------------------------------------------------------------


def _instance(raw: Any, place: Place, split: Callable[[str], list[str]], notices: Counter[str]) -> Instance:
    if not isinstance(raw, dict):
        raise place.error("", f"expected an object, found {found(raw)}")
    if "chunks" in raw:
        return _of_memalpha(raw, place, notices)
    if "context" in raw:
        return _of_benchmark(raw, place, split, notices)
    raise place.error("", f"expected {EXPECTED}; found {found(raw)}")


def _of_memalpha(raw: Mapping[str, Any], place: Place, notices: Counter[str]) -> Instance:
    source = _text(raw.get("data_source"), place, "data_source")
    chunks = _texts(_parsed(raw["chunks"], place, "chunks"), place, "chunks")
    kept = tuple(chunk for chunk in chunks if chunk.strip())
    notices["chunks without text, left out"] += len(chunks) - len(kept)
    if not kept:
        raise place.error("chunks", "expected at least one chunk with text")
    listed = _parsed(raw.get("questions_and_answers"), place, "questions_and_answers")
    if not isinstance(listed, list) or not listed:
        raise place.error("questions_and_answers", f"expected a list of questions, found {found(listed)}")
    asked: list[StreamedQuestion] = []
    for i, entry in enumerate(listed):
        at = f"questions_and_answers[{i}]"
        if not isinstance(entry, dict):
            raise place.error(at, f"expected an object, found {found(entry)}")
        answers = _answers(entry.get("answer"), place, f"{at}.answer", notices)
        id = entry.get("question_id") or entry.get("qa_pair_id") or ""
        asked.append(StreamedQuestion(str(id), _text(entry.get("question"), place, f"{at}.question"), answers))
    return Instance(source, kept, tuple(asked), instruction_of(source, MEMALPHA))


def _of_benchmark(
    raw: Mapping[str, Any], place: Place, split: Callable[[str], list[str]], notices: Counter[str]
) -> Instance:
    about = raw.get("metadata")
    if not isinstance(about, dict):
        raise place.error("metadata", f"expected an object with a source, found {found(about)}")
    source = _text(about.get("source"), place, "metadata.source")
    if problem := misspelt(about, BESIDE, [name for name in BESIDE if name not in about]):
        raise place.error("metadata", problem)
    context = _text(raw["context"], place, "context")
    questions = _texts(raw.get("questions"), place, "questions")
    answers = raw.get("answers")
    if not questions:
        raise place.error("questions", "expected at least one question, found none")
    if not isinstance(answers, list) or len(answers) != len(questions):
        raise place.error("answers", f"expected as many as questions ({len(questions)}), found {found(answers)}")
    # LongMemEval-S* has the ids, types and dates of LongMemEval beside its own ids.
    ids = _beside(about, "question_ids", len(questions), place) or _beside(about, "qa_pair_ids", len(questions), place)
    types = _beside(about, "question_types", len(questions), place)
    dates = _beside(about, "question_dates", len(questions), place)
    keypoints = _keypoints(about.get("keypoints"), len(questions), place)
    asked = []
    for i, question in enumerate(questions):
        known = {**({"type": types[i]} if types else {}), **({"keypoints": keypoints[i]} if keypoints else {})}
        answers_ = _answers(answers[i], place, f"answers[{i}]", notices)
        date = place.date(dates[i], f"metadata.question_dates[{i}]") if dates else None
        asked.append(StreamedQuestion(ids[i] if ids else "", question, answers_, date, known))
    return Instance(source, tuple(split(context)), tuple(asked), instruction_of(source, MEMORYAGENTBENCH))


def _beside(about: Mapping[str, Any], name: str, count: int, place: Place) -> list[str]:
    """A list of the metadata with an entry a question; empty where there is none."""
    held = about.get(name)
    if held in (None, [], ""):
        return []
    if not isinstance(held, list) or len(held) != count:
        raise place.error(f"metadata.{name}", f"expected as many as questions ({count}), found {found(held)}")
    return [_text(str(entry), place, f"metadata.{name}[{i}]") for i, entry in enumerate(held)]


def _keypoints(held: Any, count: int, place: Place) -> list[list[str]]:
    """The key points by question: of an instance with one question they may be one list of texts."""
    if not held:
        return []
    listed = [held] if count == 1 and isinstance(held, list) and isinstance(held[0], str) else held
    if not isinstance(listed, list) or len(listed) != count:
        raise place.error("metadata.keypoints", f"expected a list for each of {count} questions, found {found(held)}")
    return [_texts(points, place, f"metadata.keypoints[{i}]") for i, points in enumerate(listed)]


def _parsed(value: Any, place: Place, field: str) -> Any:
    """A field that holds JSON, as a text or as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise place.error(field, f"is not valid JSON: {error}") from None


def _texts(value: Any, place: Place, field: str) -> list[str]:
    if not isinstance(value, list):
        raise place.error(field, f"expected a list of texts, found {found(value)}")
    for i, entry in enumerate(value):
        if not isinstance(entry, str):
            raise place.error(f"{field}[{i}]", f"expected text, found {found(entry)}")
        _check_unicode(entry, place, f"{field}[{i}]")
    return value


def _text(value: Any, place: Place, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise place.error(field, f"expected some text, found {found(value)}")
    _check_unicode(value, place, field)
    return value


def _check_unicode(text: str, place: Place, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise place.error(field, f"holds half of a surrogate pair at position {error.start}") from None


def _answers(value: Any, place: Place, field: str, notices: Counter[str]) -> tuple[str, ...]:
    """One or several accepted answers; numbers become their text, doubled ones are dropped."""
    listed = value if isinstance(value, list) else [value]
    answers = []
    for answer in listed:
        if isinstance(answer, (int, float)) and not isinstance(answer, bool):
            notices["answers that are numbers, read as text"] += 1
            answer = str(answer)
        answers.append(_text(answer, place, field))
    if not answers:
        raise place.error(field, "expected at least one accepted answer, found none")
    return tuple(dict.fromkeys(answers))


def instance_files(path: str) -> tuple[Path, ...]:
    """Return the file that a user named, or the files of instances in a folder, in the order of their names.

    Raises `ConfigError` when none is named or the folder has none, and what `given_path` raises.
    """
    given = given_path(path, KEY, f"give a parquet, JSON or JSONL file, such as {KEY}=data/test.parquet")
    if not given.is_dir():
        return (given,)
    files = tuple(sorted(p for p in given.iterdir() if p.suffix in SUFFIXES and p.is_file()))
    if not files:
        raise ConfigError(f"{KEY}: the folder {given} holds no file of instances ({', '.join(SUFFIXES)})")
    return files

"""Plain result files: what other programs publish of a system, one row a question.

In: a JSON file that holds a list of rows, or an object with the list under `per_question` (with `meta` beside it), or
JSONL. A row has `question_id` and `correct` (true, false, or null where there is no verdict), and may have
`question_type` or `type`, `abstention`, `group`, `retrieved`, `seed`, `fold`, `judge_model`. Out: a `RowsSource` with
one system. Records are checked one by one; nothing is repaired.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metamem.core.errors import DataError
from metamem.core.grouping import ABSTENTION_SUFFIX, base_id
from metamem.statistics.rows import JudgedReply, Row, RowsSource

SYSTEM = "0"
EVALUATOR = "correct"


def load_plain(path: Path) -> RowsSource:
    """Read one plain result file. Raises `DataError` naming the file and the record."""
    rows, judgements = [], []
    seen: set[tuple[Any, ...]] = set()
    for number, record in enumerate(_records(path)):
        row, judgement = _read(record, f"{path}, record {number}", path.stem)
        key = (row.question_id, row.seed, row.fold)
        if key in seen:
            raise DataError(f"{path}, record {number}: question '{row.question_id}' stands there a second time")
        seen.add(key)
        rows.append(row)
        judgements.append(judgement)
    if not rows:
        raise DataError(f"{path} holds no rows")
    rows.sort(key=lambda r: (r.question_id, str(r.seed), str(r.fold)))
    return RowsSource(path.stem, path, {SYSTEM: path.stem}, tuple(rows), tuple(judgements), EVALUATOR)


def _records(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        value = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = value.get("per_question") if isinstance(value, dict) else value
    if not isinstance(found, list):
        raise DataError(f"{path}: expected a list of rows, or an object with one under 'per_question'")
    return found


def _read(record: Any, where: str, name: str) -> tuple[Row, JudgedReply]:
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object, got {type(record).__name__}")
    question = record.get("question_id")
    if not isinstance(question, str) or not question:
        raise DataError(f"{where}: expected 'question_id' to be a text that is not empty, got {question!r}")
    if "correct" not in record:
        raise DataError(f"{where} (question '{question}'): 'correct' is missing")
    correct = _truth(record, "correct", where)
    retrieved = _truth(record, "retrieved", where)
    marked = _truth(record, "abstention", where)
    seed, fold = record.get("seed"), record.get("fold")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise DataError(f"{where}: expected 'seed' to be a whole number, got {seed!r}")
    abstention = question.endswith(ABSTENTION_SUFFIX) if marked is None else marked
    kind = str(record.get("question_type") or record.get("type") or "")
    group = str(record.get("group") or base_id(question))
    row = Row(
        SYSTEM,
        question,
        kind,
        abstention,
        group,
        float(correct is True),
        None if correct is None else float(correct),
        1,
        int(correct is None),
        retrieved,
        seed,
        None if fold is None else str(fold),
        float(correct is True),
        None if correct is None else float(correct),
        # Files that tell seeds or folds apart hold repeats of something that was trained.
        name if seed is not None or fold is not None else "",
    )
    judge = str(record.get("judge_model") or "")
    return row, JudgedReply(SYSTEM, question, question, "", EVALUATOR, judge, "", 0, correct, row.strict)


def _truth(record: dict[str, Any], key: str, where: str) -> bool | None:
    value = record.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise DataError(f"{where}: expected '{key}' to be true, false or null, got {value!r}")

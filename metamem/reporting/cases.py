"""The questions of a run with the evidence they were answered from: kept beside the attempts, once per question.

In: questions and gathered evidence. Out: `cases.jsonl` in the run's directory, which reports and audits read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from metamem.core.files import read_rows, write_atomically, write_rows
from metamem.core.json_form import to_json
from metamem.core.records import Evidence, Question
from metamem.core.retrieved import Retrieved
from metamem.core.text import format_date, render_unit
from metamem.pipeline.evidence import Gathered

FILE = "cases.jsonl"


def save_cases(directory: Path, questions: Iterable[Question], gathered: Gathered) -> None:
    """Write the questions whose evidence was gathered, in the order of ids; the file is the same whenever written."""
    rows = (
        _case(q, gathered.evidence[q.id], gathered.retrieved.get(q.id))
        | _how(gathered.traces.get(q.id))
        | dict(gathered.sizes.get(q.id, {}))
        | _measured(gathered.metrics.get(q.id))
        for q in sorted(questions, key=lambda q: q.id)
        if q.id in gathered.evidence
    )
    write_rows(directory / FILE, rows)


def copy_cases(source: Path, directory: Path) -> None:
    """Keep another run's cases, where it has any."""
    if (source / FILE).exists():
        write_atomically(directory / FILE, (source / FILE).read_text(encoding="utf-8"))


def load_cases(directory: Path) -> dict[str, Mapping[str, Any]]:
    """Question id → its case; empty for a run that kept none."""
    path = directory / FILE
    return {row["id"]: row for row in read_rows(path)} if path.exists() else {}


def _how(retrieved: Retrieved | None) -> dict[str, Any]:
    """How the evidence was found and what finding it changes, where a retriever says so."""
    if retrieved is None:
        return {}
    told = {"trace": to_json(retrieved.trace), "effects": to_json(retrieved.effects)}
    return {name: value for name, value in told.items() if value}


def _measured(metrics: Mapping[str, float] | None) -> dict[str, Any]:
    """How well the evidence was retrieved, where that is known."""
    return {} if metrics is None else {"metrics": dict(metrics)}


def _case(question: Question, evidence: tuple[Evidence, ...], retrieved: bool | None) -> dict[str, Any]:
    turns, sessions = set(question.evidence_turns), set(question.evidence_sessions)
    return {
        "id": question.id,
        "text": question.text,
        "type": question.type,
        "date": format_date(question.date),
        "answers": list(question.answers),
        "abstention": question.abstention,
        "group": question.group,
        "conversation": question.conversation_id,
        "retrieved": retrieved,
        # A unit of the right session holds what is needed only when the turn is not known more closely.
        "evidence": [
            {
                "text": render_unit(e.unit),
                "needed": bool(turns & set(e.unit.turn_ids)) if turns else e.unit.session_id in sessions,
            }
            for e in evidence
        ],
    }

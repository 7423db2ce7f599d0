"""`eval.py show=QUESTION_ID`: what one question is answered from, and where it comes from, beside the gold evidence.

In: a config and a question's id. Out: printed lines: the question, each unit of its evidence with the session and turns
it rests on (`*` marks gold evidence), and the turns that the data set names as evidence; of a memory that a builder
wrote call by call also what was done to each unit, and with `show_history=true` every call and its effect. Memories
that are not built yet are built, as in a run; nothing is answered and no run is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.journal import Journal
from metamem.config.options import EvalConfig
from metamem.core.errors import ConfigError, printable, unknown
from metamem.core.json_form import canonical
from metamem.core.records import Evidence, Question, Turn
from metamem.core.retrieved import Retrieved
from metamem.core.text import format_date, render_unit
from metamem.memory import histories
from metamem.pipeline.evidence import Gathered, gather_evidence
from metamem.pipeline.prepare import PreparedRun, prepare
from metamem.programs.frame import run_async
from metamem.tracking.trackers import NoTracker


def show(config: EvalConfig) -> dict[str, Any]:
    """Print a question's evidence and return its lines. Raises `ConfigError` for a question that is not there."""
    prepared = prepare(config)
    by_id = {q.id: q for q in prepared.dataset.questions}
    if config.show not in by_id:
        # A data set may hold hundreds of ids: the nearest is named, and the first few.
        hint = unknown("question", str(config.show), by_id).split(" Choices:")[0]
        some = sorted(by_id)[:10]
        raise ConfigError(f"show: {hint} The data set holds {len(by_id)}, such as {', '.join(some)}.")
    question = by_id[str(config.show)]
    gathered = run_async(_gather(prepared, question))
    lines = list(described(prepared, question, gathered))
    # What users and models wrote is shown and steers nothing.
    print(printable("\n".join(lines)))
    return {"kind": "show", "directory": "", "score": None, "headline": question.id, "lines": lines}


async def _gather(prepared: PreparedRun, question: Question) -> Gathered:
    config = prepared.config
    journal = Journal(Path(config.outputs), config.name, "show", config.journal.reuse)
    builder = prepared.backbones["builder"]
    caller = JournaledCaller(builder, journal, "builder") if prepared.built else None
    try:
        if caller is not None:
            await builder.start()
        tracker = NoTracker(NoTracker.Config(), run_directory=Path())
        return await gather_evidence(prepared, [question], tracker, caller, keep_banks=True)
    finally:
        if caller is not None:
            await asyncio.shield(builder.close())
        journal.close()


def described(prepared: PreparedRun, question: Question, gathered: Gathered) -> Iterator[str]:
    """The lines that describe a question, its evidence, the gold evidence and how the memory was written."""
    evidence = gathered.evidence[question.id]
    bank = gathered.banks.get(question.conversation_id or "")
    history = bank.history if bank else ()
    asked = f" (asked {format_date(question.date)})" if question.date else ""
    yield f"{question.id} · {question.type}{' · abstention' if question.abstention else ''}"
    yield f"question: {question.text}{asked}"
    yield f"answer:   {' | '.join(question.answers)}"
    told = {True: "whole", False: "not whole", None: "cannot be told"}[gathered.retrieved[question.id]]
    yield f"\nevidence: {len(evidence)} units of {prepared.config.memory.name}, gold evidence in it: {told}"
    for number, item in enumerate(evidence, start=1):
        yield f"[{number}] rank {item.rank + 1}, score {item.score:.3f}, {_origin(item, question)}"
        yield from (f"    {line}" for line in render_unit(item.unit).splitlines())
        yield from (f"    | {line}" for line in histories.of_unit(history, item.unit.id))
    yield from _found(gathered.traces.get(question.id))
    yield "\ngold evidence:" if _gold(question) else "\ngold evidence: the data set names none"
    turns = _turns(prepared, question)
    for name in question.evidence_turns:
        session, turn = turns.get(name, ("", None))
        where = _where([name in e.unit.turn_ids for e in evidence])
        yield f"  {name} ({where}){f', session {session}' if session else ''}"
        yield from (f"    {line}" for line in (turn.text if turn else "(no such turn)").splitlines())
    if not question.evidence_turns:
        for name in question.evidence_sessions:
            held = [e.unit.session_id == name for e in evidence]
            yield f"  session {name} ({_where(held)})"
    if history:
        yield f"\nhistory: {histories.summary(history)}"
        if isinstance(prepared.config, EvalConfig) and prepared.config.show_history:
            yield from (f"  {line}" for line in histories.lines(history))
        else:
            yield "  (show_history=true prints each)"


def _found(retrieved: Retrieved | None) -> Iterator[str]:
    """How the evidence was found, where more than a ranking was made."""
    if retrieved is None:
        return
    calls = sum(cost.calls for cost in retrieved.costs.values())
    yield f"\nretrieval: {calls} calls" + (f", {len(retrieved.unread)} gave nothing" if retrieved.unread else "")
    yield from (f"  {canonical(dict(row))}" for row in retrieved.trace)
    yield from (f"  effect on {unit}: {canonical(dict(entries))}" for unit, entries in retrieved.effects.items())


def _origin(item: Evidence, question: Question) -> str:
    unit = item.unit
    gold = set(question.evidence_turns)
    turns = [f"{'*' if t in gold else ''}{t}" for t in unit.turn_ids]
    shown = ", ".join(turns[:8]) + (f" and {len(turns) - 8} more" if len(turns) > 8 else "")
    mark = "*" if unit.session_id in question.evidence_sessions else ""
    return f"{unit.kind}, session {mark}{unit.session_id or '?'}, turns {shown or '?'}"


def _where(held: Sequence[bool]) -> str:
    """Which units of the evidence hold something."""
    found = [f"[{number}]" for number, holds in enumerate(held, start=1) if holds]
    return f"in {', '.join(found)}" if found else "not retrieved"


def _gold(question: Question) -> bool:
    return bool(question.evidence_turns or question.evidence_sessions)


def _turns(prepared: PreparedRun, question: Question) -> Mapping[str, tuple[str, Turn]]:
    """Turn id → its session and itself, of the question's conversation."""
    conversation = prepared.dataset.conversations.get(question.conversation_id or "")
    sessions = conversation.sessions if conversation else ()
    return {t.id: (s.id, t) for s in sessions for t in s.turns}

"""Where wrong answers come from: sorts those of a run into not stored, not retrieved and not used.

In: a finished run whose answers were judged. Out: failures.jsonl, a row per system and question. By evidence ids where
the data names evidence and the memory's units say where they come from: the evidence is stored when units of the memory
hold all of it, and was shown when the prompt's units did. Elsewhere the judge is asked whether the accepted answer
could be found in the units that were shown, and if not, in those of the memory that are nearest to question and answer.
Memories and evidence are gathered anew, from the store and the journal; nothing is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from metamem.backbones.caller import JournaledCaller
from metamem.config.options import EvalConfig
from metamem.core.banks import MemoryBank
from metamem.core.calls import Draw, Failure, Request
from metamem.core.errors import DataError
from metamem.core.json_form import digest
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.text import render_unit
from metamem.pipeline.evidence import gather_evidence
from metamem.pipeline.parts import RunParts, labels
from metamem.programs.frame import Frame, OpenRun
from metamem.programs.stored_answers import StoredPart, answered_from, options_then, questions_of, read_stored
from metamem.prompts.templates import Prompts
from metamem.replies.json_in_text import UnreadableError
from metamem.replies.verdicts import JSON, read_verdict
from metamem.retrieval.bm25 import Bm25Scores
from metamem.retrieval.metrics import evidence_retrieved
from metamem.statistics.results import load
from metamem.statistics.rows import Row

FILE = "failures.jsonl"
_TEMPLATE = "units_carry"
# Units of a memory that the judge is shown at most: the nearest to question and answer by their words.
_MOST_UNITS = 50
# Words that a unit has at least for each turn that it speaks for.
_WORDS_PER_TURN = 3


class Kind(StrEnum):
    """What went wrong. `abstention`: the question has no answer, and got one; there is nothing to store. `unknown`: the
    evidence is not known by ids, and no judge could say.
    """

    not_stored = "not stored"
    not_retrieved = "not retrieved"
    not_used = "not used"
    abstention = "answered in vain"
    unknown = "cannot be told"


@dataclass(frozen=True)
class Sorted:
    """A system's answers to one question: the share that is wrong, and why (empty: none is). `by`: ids or judge."""

    system: str
    question_id: str
    type: str
    group: str
    learned: str
    wrong: float
    kind: str = ""
    by: str = ""


def sort_failures(config: EvalConfig, frame: Frame, source: Path) -> dict[str, Any]:
    """Sort the wrong answers of the run `source`, with its options as `config`; continues an unfinished sorting.

    Raises `DataError` where the run holds no judged answers, or its evidence is not what these options lead to.
    """
    part = config.part.value
    stored, judged = read_stored(source, part, "failures"), load(source, part)
    prepared = frame.prepare(replace(config, meta_memory=None, recall=None), stored.split)
    questions = questions_of(stored, prepared.dataset, config, "failures")
    rows = [(judged.labels.get(row.system, row.system), row) for row in judged.rows]
    contents = {
        **prepared.contents,
        "sorted": digest([[label, row.question_id, row.strict, row.invalid] for label, row in rows]),
        "template": prepared.prompts.texts()[_TEMPLATE],
    }
    return frame.perform(
        "failures",
        prepared,
        lambda opened: _sort(config, opened, stored, rows, questions),
        shown=config,
        contents=contents,
        part=part,
    )


async def _sort(
    config: EvalConfig,
    opened: OpenRun,
    stored: StoredPart,
    rows: Sequence[tuple[str, Row]],
    questions: dict[str, Question],
) -> dict[str, Any]:
    prepared, tracker = opened.prepared, opened.tracker
    parts = RunParts(prepared, opened.run, tracker, ["policy", "judge"])
    roles = labels(parts)
    opened.announce(roles, [{"label": stored.place.name, "file": str(stored.place)}])
    wrong = sorted({row.question_id for _, row in rows if _wrong(row)})
    attempts = {s.label: s.attempts for s in stored.systems}
    async with parts:
        # What a guard learns it takes from all questions of the run.
        asked = [questions[i] for i in (sorted(questions) if prepared.guard.learns else wrong)]
        gathered = await gather_evidence(prepared, asked, tracker, parts.callers.get("builder"), keep_banks=True)
        parts.lost += parts.settle("memories and evidence")
        gathered = await parts.guarded(asked, gathered)
        tracker.stage("sorting wrong answers", len(rows), "answer")

        async def one(label: str, row: Row) -> Sorted:
            question, share = questions[row.question_id], _wrong(row)
            kind, by = "", ""
            if share:
                given = gathered.evidence[question.id]
                shown = answered_from(given, attempts[label][question.id][0].evidence_hash)
                if shown is None:
                    raise DataError(
                        f"failures: '{label}' of {stored.place} answered question '{question.id}' from evidence that "
                        f"these options do not lead to. {options_then(stored, config)}"
                    )
                bank = gathered.banks.get(question.conversation_id or "")
                kind, by = await kind_of(question, bank, shown, prepared.prompts, parts.callers.get("judge"))
            tracker.advance("answer")
            return Sorted(label, question.id, row.type, row.group, row.learned, share, kind, by)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(label, row)) for label, row in rows]
        found = [task.result() for task in tasks]
        parts.lost += parts.settle("sorting")
    opened.run.append(FILE, [asdict(row) for row in found])
    counts = {kind.value: round(sum(r.wrong for r in found if r.kind == kind), 6) for kind in Kind}
    result = {
        **opened.about,
        "of": str(stored.place),
        "roles": roles,
        "score": None,
        "headline": ", ".join(f"{count:g} {kind}" for kind, count in counts.items() if count) or "nothing is wrong",
        "figures": {},
        "failures": counts,
        "calls": parts.calls(),
        **({"lost": parts.lost} if parts.lost else {}),
    }
    return opened.conclude(result)


def _wrong(row: Row) -> float:
    """The share of the answers that were judged wrong; those that could not be judged are none."""
    return max(0.0, 1 - row.strict - row.invalid / row.attempts)


async def kind_of(
    question: Question,
    bank: MemoryBank | None,
    shown: Sequence[Evidence],
    prompts: Prompts,
    judge: JournaledCaller | None,
) -> tuple[str, str]:
    """Return why a question was answered wrongly, and by what that is known (ids, judge; empty for neither)."""
    if question.abstention:
        return Kind.abstention, ""
    units = bank.units if bank is not None else tuple(e.unit for e in shown)
    was_shown, is_stored = (told_by_ids(question, of) for of in ([e.unit for e in shown], units))
    if was_shown:
        return Kind.not_used, "ids"
    if is_stored is False:
        return Kind.not_stored, "ids"
    if is_stored and was_shown is False:
        return Kind.not_retrieved, "ids"
    if judge is None:
        return Kind.unknown, ""
    carried = await _carry(question, "shown", [e.unit for e in shown], prompts, judge)
    if carried is not False:
        return (Kind.not_used if carried else Kind.unknown), "judge"
    held = is_stored or await _carry(
        question, "stored", await asyncio.to_thread(_nearest, question, units), prompts, judge
    )
    return {True: Kind.not_retrieved, False: Kind.not_stored, None: Kind.unknown}[held], "judge"


def told_by_ids(question: Question, units: Sequence[MemoryUnit]) -> bool | None:
    """Tell whether units hold all evidence of a question by the ids that they name; None where ids do not tell.

    A unit that names more turns than it has room for, such as a summary of everything, says nothing of any of them.
    """
    wanted = {*question.evidence_turns, *question.evidence_sessions}
    specific = [len(u.text.split()) >= _WORDS_PER_TURN * len(u.turn_ids) for u in units]
    told = [Evidence(unit, 0.0, 0) for unit, one in zip(units, specific, strict=True) if one]
    found = evidence_retrieved(question, told)
    vague = (u for u, one in zip(units, specific, strict=True) if not one)
    return found if found or not any(wanted & {*u.turn_ids, u.session_id} for u in vague) else None


def _nearest(question: Question, units: Sequence[MemoryUnit]) -> list[MemoryUnit]:
    """The units nearest to a question and its answers by their words, nearest first."""
    text = " ".join([question.text, *question.answers])
    scores = Bm25Scores()(MemoryBank("", "", tuple(units)), [text])[0]
    best = sorted(range(len(units)), key=lambda i: (-round(float(scores[i]), 6), i))
    return [units[i] for i in best[:_MOST_UNITS]]


async def _carry(
    question: Question, what: str, units: Iterable[MemoryUnit], prompts: Prompts, judge: JournaledCaller
) -> bool | None:
    """Whether units hold what the accepted answer needs, by the judge; None where it says nothing that can be read."""
    lines = [render_unit(unit) for unit in units]
    if not lines:
        return False
    messages = prompts.render(_TEMPLATE, question=question.text, answer=" | ".join(question.answers), units=lines)
    sampling = replace(judge.sampling(), temperature=0.0)
    draw = Draw(f"failures/{what}/{question.id}")
    (reply,) = await judge(Request(messages, sampling, (draw,), JSON.schema))
    if isinstance(reply.outcome, Failure):
        return None
    try:
        return read_verdict(reply.outcome.text)[0]
    except UnreadableError:
        return None

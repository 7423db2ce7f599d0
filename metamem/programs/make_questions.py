"""`eval.py experiment=make_questions`: questions about conversations, written by a model, checked, left to a person.

In: the conversations of a data set (`dataset=chats`: also before there is any question), and how many questions are
wanted. Out: drafts.jsonl with every draft and what became of it; review.jsonl with those that were answered right from
their evidence alone and not without it, each to be accepted or refused by a person; the same rows are added to the file
that `dataset=chats` reads. Nothing that a person wrote there is ever replaced.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import EvalConfig
from metamem.core.contracts import Dataset, Unasked
from metamem.core.errors import ConfigError, DataError
from metamem.core.files import write_atomically
from metamem.core.json_form import digest
from metamem.core.learned import Judged
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.registry import build
from metamem.core.text import format_date
from metamem.datasets.reading import read_jsonl
from metamem.pipeline.bench import Bench
from metamem.pipeline.parts import RunParts, labels
from metamem.pipeline.roles import answers_wanted
from metamem.programs.drafting import TEMPLATE, Draft, ShownTurn, drafts_of, form_for, misfit
from metamem.programs.frame import Frame, OpenRun
from metamem.reporting.console.text import several

DRAFTS, REVIEW = "drafts.jsonl", "review.jsonl"
PASSED = "waits for review"
# Characters of a turn that a reviewer is shown.
_QUOTED = 500


def make_questions(config: EvalConfig, frame: Frame) -> dict[str, Any]:
    """Write and check questions; continues an unfinished run and reports a finished one."""
    if not answers_wanted(config):
        raise ConfigError("evaluator: a draft is checked by answers to it; choose an evaluator that judges replies")
    if config.limit is not None:
        raise ConfigError("limit: make.questions says how many questions are written; leave limit out")
    loader = build("dataset", config.dataset)
    dataset = loader.conversations() if isinstance(loader, Unasked) else loader.load()
    drafts = drafts_of(dataset, config.make, config.seed)
    if not drafts:
        raise DataError(f"dataset={config.dataset.name} holds no conversations to write questions about")
    asked = Dataset(
        dataset.name, dataset.conversations, tuple(d.question for d in drafts), dataset.notices, dataset.own
    )
    prepared = frame.prepare(config, dataset=asked)
    contents = {
        **prepared.contents,
        "make": [plain(config.make), prepared.prompts.texts()[TEMPLATE]],
        "drafts": digest([[d.question.id, d.question.type, [line.text for line in d.lines]] for d in drafts]),
    }
    out = Path(config.make.out).expanduser() if config.make.out else None
    if out is None and isinstance(loader, Unasked):
        out = loader.questions_file()
    return frame.perform(
        "questions",
        prepared,
        # A dry run writes nothing outside of its own place.
        lambda opened: _make(config, opened, drafts, out if frame.reports else None),
        contents=contents,
        shown=config,
    )


async def _make(config: EvalConfig, opened: OpenRun, drafts: Sequence[Draft], out: Path | None) -> dict[str, Any]:
    run, tracker = opened.run, opened.tracker
    parts = RunParts(opened.prepared, run, tracker, ["policy", "judge"])
    roles = labels(parts)
    opened.announce(roles)
    async with parts:
        found = await _write(parts, drafts)
        written = [d for d in drafts if isinstance(found[d.question.id], Question)]
        questions = [q for q in found.values() if isinstance(q, Question)]
        parts.lost += parts.settle("drafts")
        evidence = {d.question.id: _evidence(found[d.question.id], d.lines) for d in written}
        judged = await _judged(parts, config, questions, evidence)
        parts.lost += parts.settle("checks")
    rows, review = [], []
    for draft in drafts:
        made = found[draft.question.id]
        what = made if isinstance(made, str) else _outcome(*judged[made.id])
        row = _row(draft, made if isinstance(made, Question) else None)
        checks = [] if isinstance(made, str) else [j.attempts[0].response for j in judged[made.id]]
        rows.append({**row, "outcome": what, "checks": checks})
        if what == PASSED:
            review.append({"accept": "", **row})
    run.append(DRAFTS, rows)
    _lines(run.directory / REVIEW, review)
    added = _add(out, review) if out is not None else None
    outcomes = Counter(row["outcome"] for row in rows)
    place = out or run.directory / REVIEW
    result = {
        **opened.about,
        "roles": roles,
        "score": len(review) / len(rows),
        "headline": f"{len(review)} of {several(len(rows), 'draft')} wait for review in {place}",
        "systems": [],
        "figures": {},
        "guidelines": [],
        "counts": {f"drafts: {what}": count for what, count in sorted(outcomes.items())},
        **({"added": added} if added is not None else {}),
        "next": f'set "accept" to yes or no in {place}, then eval.py dataset={config.dataset.name}',
        "calls": parts.calls(),
        **({"lost": parts.lost} if parts.lost else {}),
    }
    return opened.conclude(result)


async def _write(parts: RunParts, drafts: Sequence[Draft]) -> dict[str, Question | str]:
    """Return by draft its question, or why there is none."""
    tools, tracker = parts.prepared.tools(parts.callers["policy"]), parts.tracker
    tracker.stage("writing questions", len(drafts), "question")

    async def one(draft: Draft) -> Question | str:
        turns, form = [line.text for line in draft.lines], form_for(len(draft.lines))
        asked = await tools.ask(draft.question, TEMPLATE, form, stage="write", turns=turns, kind=draft.question.type)
        tracker.advance("question")
        if asked.value is None:
            return "not delivered" if asked.unread and not asked.unread.delivered else "could not be read"
        if not asked.value.question.strip():
            return "nothing to ask"
        lines = [draft.lines[n - 1] for n in sorted(set(asked.value.evidence))]
        if problem := misfit(draft.question.type, lines):
            return problem
        return replace(
            draft.question,
            text=asked.value.question.strip(),
            answers=(asked.value.answer.strip(),),
            evidence_turns=tuple(line.turn for line in lines),
            evidence_sessions=tuple(dict.fromkeys(line.session for line in lines)),
        )

    async with asyncio.TaskGroup() as group:
        tasks = {draft.question.id: group.create_task(one(draft)) for draft in drafts}
    return {id: task.result() for id, task in tasks.items()}


def _evidence(question: Question | str, lines: Sequence[ShownTurn]) -> tuple[Evidence, ...]:
    """Return the turns that a question rests on as the evidence of its prompt."""
    assert isinstance(question, Question)
    named = [line for line in lines if line.turn in question.evidence_turns]
    units = (
        MemoryUnit(line.turn, f"{line.role}: {line.whole}", line.time, line.session, (line.turn,)) for line in named
    )
    return tuple(Evidence(unit, 0.0, rank) for rank, unit in enumerate(units))


async def _judged(
    parts: RunParts, config: EvalConfig, questions: Sequence[Question], evidence: Mapping[str, tuple[Evidence, ...]]
) -> dict[str, tuple[Judged, Judged]]:
    """Have every question answered from its evidence alone, and from nothing."""
    found: list[dict[str, Judged]] = []
    for name, held, template in (("with", evidence, "answer"), ("without", {}, "closed_book")):
        bench = Bench(
            prompts=parts.prepared.prompts,
            policy=parts.callers["policy"],
            evaluators=parts.evaluators,
            reward=config.reward,
            evidence=held,
            seed=config.seed,
            tracker=parts.tracker,
            template=template,
        )
        stage = f"answering {name} the evidence"
        judged = await bench.evaluate(
            questions, None, stage=stage, scope=f"check/{name}", draws=f"check/{name}", attempts=1, temperature=0.0
        )
        found.append({j.question.id: j for j in judged})
    return {id: (found[0][id], found[1][id]) for id in found[0]}


def _outcome(with_evidence: Judged, without: Judged) -> str:
    if not all(v.valid for j in (with_evidence, without) for v in j.verdicts):
        return "an answer could not be judged"
    if with_evidence.score < 1:
        return "not answered from its evidence"
    return "answered without its evidence" if without.score > 0 else PASSED


def _row(draft: Draft, question: Question | None) -> dict[str, Any]:
    """Return a draft as a row of the file that `dataset=chats` reads; `said` quotes its evidence for the reviewer."""
    made = question or draft.question
    named = [line for line in draft.lines if line.turn in made.evidence_turns]
    return {
        "question_id": made.id,
        "question": made.text,
        "answer": made.answers[0] if question else "",
        "question_type": made.type,
        "question_date": made.date.isoformat(sep=" ") if made.date else None,
        "evidence": list(made.evidence_turns),
        "conversation_id": made.conversation_id,
        "said": [_quoted(line) for line in named],
    }


def _quoted(line: ShownTurn) -> str:
    said = line.whole if len(line.whole) <= _QUOTED else line.whole[:_QUOTED] + " ..."
    return f"{format_date(line.time) if line.time else ''} {line.role}: {said}".strip()


def _add(out: Path, review: Sequence[Mapping[str, Any]]) -> int:
    """Add questions to a file of questions, after those that stand there already, which stay as they are; return how
    many were added.
    """
    held = [raw for _, raw in read_jsonl(out, "make.out")] if out.exists() else []
    known = {raw.get("question_id") for raw in held if isinstance(raw, dict)}
    new = [row for row in review if row["question_id"] not in known]
    if new:
        _lines(out, [*held, *new])
    return len(new)


def _lines(path: Path, rows: Sequence[Any]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

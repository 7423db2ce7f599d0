"""`eval.py perplexity=RUN`: how surprising a model finds a run's own replies, and the reference answers, with and
without the guidelines.

In: a finished run whose attempts of a part are stored, and a backbone that scores. Out: perplexity.jsonl, a row per
text and condition; result.json with figures per system and kind of text. Every text is scored as the reply to the very
prompt that was answered (question, evidence, guidelines), and once more to the same prompt without its guidelines. What
cannot be scored is counted, with its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.backbones.caller import JournaledCaller
from metamem.config.options import EvalConfig
from metamem.core.calls import Failure, Generation, Message
from metamem.core.contracts import Reply, Tracker
from metamem.core.errors import ConfigError, DataError
from metamem.core.grouping import base_id
from metamem.core.json_form import digest
from metamem.core.records import Attempt, Question
from metamem.pipeline.parts import RunParts, labels
from metamem.programs.frame import Frame, OpenRun
from metamem.programs.stored_answers import (
    StoredPart,
    StoredSystem,
    options_then,
    prompts_again,
    questions_of,
    read_stored,
)
from metamem.statistics.perplexity import OWN, REFERENCE, WITH, WITHOUT, decide, figures, paired, perplexity, sentence

FILE = "perplexity.jsonl"
# Condition → prompt, per question.
Conditions = Mapping[str, tuple[Message, ...]]


@dataclass(frozen=True)
class Wanted:
    """A text of a question to be scored. `left_out` says why it is not; then there is nothing to score."""

    question: Question
    what: str
    name: str
    text: str
    left_out: str = ""


def analyse(config: EvalConfig, frame: Frame) -> dict[str, Any]:
    """Score what a run stored; continues an unfinished analysis and reports a finished one.

    Raises `ConfigError` or `DataError` before anything is scored.
    """
    if config.meta_memory is not None or config.from_ is not None:
        raise ConfigError(
            "perplexity= takes the guidelines and replies of its run: give no meta_memory= or from= to it"
        )
    source = read_stored(Path(str(config.perplexity)), config.part.value, "perplexity")
    used = unjudged(config)
    prepared = frame.prepare(used, source.split)
    questions = questions_of(source, prepared.dataset, config, "perplexity")
    stored = [
        [
            s.label,
            s.meta_memory.hash if s.meta_memory is not None else None,
            [[a.id, a.response] for q in s.attempts.values() for a in q],
        ]
        for s in source.systems
    ]
    return frame.perform(
        "perplexity",
        prepared,
        lambda opened: _analyse(config, opened, source, questions),
        shown=config,
        contents={**prepared.contents, "scored": digest(stored)},
        part=config.part.value,
    )


def unjudged(config: EvalConfig) -> EvalConfig:
    """The options without those that have no part in an analysis: what it is of, how replies are judged, and the room
    that a prompt leaves for one.
    """
    backbone = config.backbone
    scorer = replace(backbone, max_tokens=1) if hasattr(backbone, "max_tokens") else backbone
    return replace(config, perplexity=None, evaluator={}, reward="", backbone=scorer)


async def _analyse(
    config: EvalConfig, opened: OpenRun, source: StoredPart, by_id: Mapping[str, Question]
) -> dict[str, Any]:
    run, tracker = opened.run, opened.tracker
    parts = RunParts(opened.prepared, run, tracker, ["policy"], list(by_id.values()))
    scorer = parts.callers["policy"]
    # What was true of the replies stays true of their figures; no judge had a part in these.
    stamps = [s for s in source.result.get("stamps") or () if s != "self-judged"]
    stamps = list(dict.fromkeys([*stamps, *opened.about["stamps"]]))
    opened = replace(opened, about={**opened.about, "stamps": stamps})
    roles = labels(parts)
    opened.announce(roles, [{"label": source.place.name, "file": str(source.place)}])
    writer = str((source.result.get("roles") or {}).get("policy"))
    notes = list(source.notes)
    if writer != scorer.label:
        notes.append(f"{writer} wrote the replies, {scorer.label} scores them")
    for note in notes:
        tracker.note(note)
    cells: list[dict[str, Any]] = []
    async with parts:
        conditions = [_conditions(parts, by_id, system, source, config) for system in source.systems]
        for system, prompts in zip(source.systems, conditions, strict=True):
            wanted = [text for i, attempts in system.attempts.items() for text in texts_of(by_id[i], attempts)]
            tracker.stage(f"scoring {system.label}", len(wanted), "text")
            rows = await _score(scorer, wanted, prompts, tracker)
            parts.lost += parts.settle(system.label)
            run.append(FILE, [{"system": system.label, "step": system.step, **row} for row in rows])
            for what in (OWN, REFERENCE):
                texts, left_out = paired(row for row in rows if row["what"] == what)
                cell = {"system": system.label, "step": system.step, "what": what, **figures(texts)}
                cells.append({**cell, "left_out": left_out})
    decided = decide(cells)
    last = next((c for c in reversed(decided) if c["what"] == REFERENCE), None)
    result = {
        **opened.about,
        "of": str(source.place),
        "written_by": writer,
        "roles": roles,
        "score": None,
        "headline": f"reference answers, {last['system']}: {sentence(last)}" if last else "nothing to score",
        "systems": [{"label": s.label, "step": s.step, "guidelines": len(s.meta_memory or ())} for s in source.systems],
        "figures": {},
        "guidelines": [],
        "perplexity": decided,
        "counts": {
            f"{c['what']}s of {c['system']} left out, {reason}": count
            for c in decided
            for reason, count in c["left_out"].items()
        },
        "notes": notes,
        "calls": parts.calls(),
        **({"lost": parts.lost} if parts.lost else {}),
    }
    return opened.conclude(result)


def texts_of(question: Question, attempts: Sequence[Attempt]) -> Iterator[Wanted]:
    """The texts of one question: every attempt's reply, and the first of the accepted answers."""
    for attempt in attempts:
        empty = "" if attempt.response.strip() else "empty reply"
        left_out = "failed attempt" if attempt.error is not None else empty
        yield Wanted(question, OWN, attempt.id, attempt.response, left_out)
    answer = question.answers[0] if question.answers else ""
    yield Wanted(question, REFERENCE, question.id, answer, "" if answer.strip() else "no reference answer")


def _conditions(
    parts: RunParts, by_id: Mapping[str, Question], system: StoredSystem, source: StoredPart, config: EvalConfig
) -> dict[str, Conditions]:
    """Question id → the prompts that its texts are scored under. Raises `DataError` when the options given here do not
    lead to the prompts that were answered.
    """
    found: dict[str, Conditions] = {}
    for name in system.attempts:
        evidence = parts.gathered.evidence[name]
        prepared = parts.prepared
        prompts = prompts_again(prepared.prompts, by_id[name], evidence, system, prepared.question_template)
        if prompts is None:
            raise DataError(
                f"perplexity: '{system.label}' of {source.place} answered question '{name}' from a prompt that these "
                f"options do not lead to. {options_then(source, config)}"
            )
        without, guided = prompts
        found[name] = {WITHOUT: without} if guided is None else {WITHOUT: without, WITH: guided}
    return found


async def _score(
    scorer: JournaledCaller, wanted: Sequence[Wanted], prompts: Mapping[str, Conditions], tracker: Tracker
) -> list[dict[str, Any]]:
    """A row per text and condition, in the order of texts; all are asked at once."""

    async def one(text: Wanted) -> list[dict[str, Any]]:
        given = prompts[text.question.id]
        if text.left_out:
            rows = [_row(text, condition) for condition in given]
        else:
            replies = await asyncio.gather(*(scorer.score(messages, text.text) for messages in given.values()))
            rows = [_row(text, condition, reply) for condition, reply in zip(given, replies, strict=True)]
        tracker.advance("text")
        return rows

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(text)) for text in wanted]
    rows = [row for task in tasks for row in task.result()]
    failed = [row for row in rows if row["reason"]]
    if failed:
        such = f"such as for {failed[0]['text']}: {failed[0]['reason']}"
        tracker.note(f"{len(failed)} of {len(rows)} scores could not be had, {such}")
    return rows


def _row(text: Wanted, condition: str, reply: Reply | None = None) -> dict[str, Any]:
    outcome = reply.outcome if reply else None
    scores = outcome.scores if isinstance(outcome, Generation) else ()
    reason = outcome.reason if isinstance(outcome, Failure) else ""
    total = sum(scores)
    return {
        "question_id": text.question.id,
        "type": text.question.type,
        "group": text.question.group or base_id(text.question.id),
        "what": text.what,
        "text": text.name,
        "given": condition,
        "tokens": len(scores),
        "log_probability": total / len(scores) if scores else None,
        "perplexity": perplexity(total, len(scores)) if scores else None,
        "left_out": text.left_out or ("not scored" if reason else ""),
        "reason": reason,
        "key": reply.key if reply else "",
    }

"""`metamem reproduce`: a bundle's figures are made again from its answers; a run's stored requests are asked again.

In: a bundle. Out: `Recounted`: every figure that its answers do not lead to. No model is asked, and no data set read.

In: the directory of a finished run. Out: `Reproduced`: how many replies to a sample of its requests are the same word
for word, how many verdicts, and the score then and now. Everything is asked of the models themselves, in a place that
is removed again: the run's journal is read for what was asked and is never replied from. Replies are compared and
judged, not shown.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from metamem.backbones.journal import Journal, Reuse, StoredDraw
from metamem.config.options import EvidenceOptions, JournalOptions, Part, RunOptions
from metamem.config.resolve import typed_options
from metamem.core.calls import Failure, Generation
from metamem.core.contracts import Split
from metamem.core.errors import ConfigError, DataError
from metamem.core.files import read_object, read_rows
from metamem.core.json_form import canonical, from_json
from metamem.core.records import Attempt, Question, Verdict
from metamem.pipeline.parts import RunParts
from metamem.programs.frame import Frame, OpenRun, run_async
from metamem.programs.recount import Recount, recount
from metamem.reporting.console.text import several, share
from metamem.reporting.write import write_report
from metamem.retrieval.searching import SearchOptions
from metamem.runs.bundles import read_bundle
from metamem.runs.directory import read_result
from metamem.runs.identity import fingerprint
from metamem.runs.stored_config import eval_config

COLUMNS = ("compared", "the same", "share", "then", "now")


@dataclass(frozen=True)
class Agreement:
    """How many of the compared are the same, and their mean then and now (None: they have none)."""

    of: str
    compared: int
    same: int
    then: float | None = None
    now: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table, under `COLUMNS`."""
        part = share(self.same / self.compared) if self.compared else ""
        return self.of, str(self.compared), str(self.same), part, share(self.then), share(self.now)


@dataclass(frozen=True)
class Reproduced:
    """What came of asking again: of `stored` replies so many were `sampled`; `notes` say what was left out and why."""

    stored: int
    sampled: int
    rows: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recounted:
    """What came of a bundle: files with another content than was packed, and the figures recounted."""

    name: str
    altered: tuple[str, ...]
    found: Recount

    @property
    def holds(self) -> bool:
        """Whether all of it is as it was packed, and every figure follows."""
        return not self.altered and not self.found.differences


# What a bundle that says what none does can make of what reads it.
_DAMAGED = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError)


def recompute(bundle: Path) -> Recounted:
    """Recount every figure of a bundle. Raises `DataError` for what is none, or cannot be read."""
    import jinja2

    with TemporaryDirectory(prefix="metamem-reproduce-") as folder:
        place, head, altered = read_bundle(bundle, Path(folder))
        try:
            found = recount(place)
            # Another version may lay the same figures out otherwise.
            if not altered and head.get("code") == fingerprint()["code"]:
                before = (place / "report.html").read_bytes()
                if write_report(place).read_bytes() != before:
                    altered = ["report.html"]
        except DataError as error:
            raise DataError(str(error).replace(str(place), str(bundle))) from None
        except _DAMAGED as error:
            raise DataError(f"{bundle} is damaged: {type(error).__name__}: {' '.join(str(error).split())}") from None
        except jinja2.TemplateError as error:
            raise DataError(f"{bundle} is damaged: its report cannot be made: {' '.join(str(error).split())}") from None
    return Recounted(str(head["name"]), tuple(altered), found)


@dataclass(frozen=True)
class _Pair:
    """One reply then and now, each with its verdict by the reward; the verdict of then is None where none is kept."""

    then: Generation
    now: Generation | Failure
    judged_then: Verdict | None
    judged_now: Verdict | None

    @property
    def same_reply(self) -> bool:
        return isinstance(self.now, Generation) and _content(self.now) == _content(self.then)

    @property
    def verdicts(self) -> tuple[Verdict, Verdict] | None:
        """Both verdicts, where both are valid."""
        then, now = self.judged_then, self.judged_now
        return (then, now) if then is not None and now is not None and then.valid and now.valid else None


def reproduce(place: Path, sample: int, seed: int) -> Reproduced:
    """Ask a sample of a run's requests for answers again, drawn by the seed, and judge the replies as the run did.

    Raises `ConfigError` for a sample of none, `DataError` for a run without stored replies or whose data have changed,
    and what the models raise when they cannot be had.
    """
    if sample < 1:
        raise ConfigError("sample: at least one reply must be asked for")
    result, config = read_result(place), read_object(place / "config.json")
    if config.get("from"):
        raise DataError(f"{place} judged the replies of another run; give that run, {config['from']}")
    attempts = _attempts(place)
    drawn = random.Random(f"{seed}/reproduce").sample(attempts, min(sample, len(attempts)))
    stored = _stored(place, config, [a.key for a in drawn])
    known = sorted((a for a in drawn if a.key in stored), key=lambda a: a.id)
    if not known:
        raise DataError(f"{place}: none of its replies is in the journal any more; nothing can be asked again")
    reward = str(result["reward"])
    verdicts = {v.attempt_id: v for v in _verdicts(place, reward)}
    with TemporaryDirectory(prefix="metamem-reproduce-") as elsewhere:
        given = eval_config(place, part=Part.all)
        # Of the memories only what they gave is needed, which stands in the requests.
        given = replace(
            given,
            name="reproduce",
            outputs=elsewhere,
            run=RunOptions(),
            journal=JournalOptions(Reuse.run),
            tracker=None,
            memory=typed_options("memory", {"name": "none"}),
            search=SearchOptions(),
            evidence=EvidenceOptions(),
            evaluator={reward: given.evaluator[reward]},
            reward=reward,
        )
        frame = Frame()
        prepared = frame.prepare(given, Split((), (), ()))
        by_id = {q.id: q for q in prepared.dataset.questions}
        if gone := [a.question_id for a in known if a.question_id not in by_id]:
            raise DataError(f"{place} answered question '{gone[0]}', which dataset={given.dataset.name} does not hold")
        with frame.open("eval", prepared) as opened:
            pairs = run_async(_ask_again(opened, known, stored, by_id, verdicts))
        now = prepared.backbones["policy"].identity()
    notes = [f"{several(len(drawn) - len(known), 'answer')} of the sample: not in the journal any more"]
    notes = notes if len(known) < len(drawn) else []
    if others := sum(canonical(stored[a.key].model) != canonical(now) for a in known):
        notes.append(f"{several(others, 'answer')}: not of the model that was asked now, whose identity differs")
    return Reproduced(len(attempts), len(known), _rows(pairs), (*notes, *_left_out(pairs)))


def _attempts(place: Path) -> list[Attempt]:
    """Return the attempts whose replies were delivered, by id."""
    path = place / "attempts.jsonl"
    found = [from_json(Attempt, row) for row in read_rows(path)] if path.exists() else []
    answered = sorted((a for a in found if a.key and a.error is None), key=lambda a: a.id)
    if not answered:
        raise DataError(f"{place} holds no answers that could be asked for again")
    return answered


def _stored(place: Path, config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, StoredDraw]:
    """Return the requests behind keys from the journals that the run could reply from."""
    name, beside = str(config["name"]), place.parent.parent
    # The folder may have moved since; with run.dir the run lies elsewhere.
    outputs = beside if (beside / name / "journal").is_dir() else Path(str(config["outputs"]))
    reuse = Reuse[(config.get("journal") or {}).get("reuse", "experiment")]
    journal = Journal(outputs, name, str(read_object(place / "manifest.json").get("id")), reuse)
    try:
        return journal.stored(keys)
    finally:
        journal.close()


def _verdicts(place: Path, reward: str) -> list[Verdict]:
    rows = (row for row in read_rows(place / "verdicts.jsonl") if row["evaluator"] == reward and not row["repeat"])
    return [from_json(Verdict, row) for row in rows]


async def _ask_again(
    opened: OpenRun,
    attempts: Sequence[Attempt],
    stored: Mapping[str, StoredDraw],
    questions: Mapping[str, Question],
    verdicts: Mapping[str, Verdict],
) -> list[_Pair]:
    """Ask for each attempt's reply and for the verdict on what comes; all at once, as the models take them."""
    parts = RunParts(opened.prepared, opened.run, opened.tracker, ["policy", "judge"])
    async with parts:
        bench, policy = parts.bench(), parts.callers["policy"]
        opened.tracker.stage("asking again", len(attempts), "answer")

        async def one(attempt: Attempt) -> _Pair:
            before = stored[attempt.key]
            (reply,) = await policy(before.request)
            judged: Verdict | None = None
            if isinstance(reply.outcome, Generation):
                now = replace(attempt, response=reply.outcome.text, finish_reason=reply.outcome.finish_reason)
                (judged,) = (await bench.judge(questions[attempt.question_id], [now])).verdicts
            opened.tracker.advance("answer")
            return _Pair(before.reply, reply.outcome, verdicts.get(attempt.id), judged)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(a)) for a in attempts]
    return [task.result() for task in tasks]


def _rows(pairs: Sequence[_Pair]) -> tuple[Agreement, ...]:
    replied = [p for p in pairs if isinstance(p.now, Generation)]
    judged = [both for p in replied if (both := p.verdicts)]
    # What differs here is not the policy's doing.
    unmoved = [both for p in replied if p.same_reply and (both := p.verdicts)]
    scores = [(then.score, now.score) for then, now in judged]
    return (
        Agreement("replies, word for word", len(replied), sum(p.same_reply for p in replied)),
        _right("verdicts", judged),
        _right("verdicts on the same replies", unmoved),
        Agreement("score", len(scores), sum(a == b for a, b in scores), *(_mean(s) for s in _columns(scores))),
    )


def _right(of: str, judged: Sequence[tuple[Verdict, Verdict]]) -> Agreement:
    right = [(float(bool(then.correct)), float(bool(now.correct))) for then, now in judged]
    return Agreement(of, len(right), sum(a == b for a, b in right), *(_mean(r) for r in _columns(right)))


def _columns(rows: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in rows], [b for _, b in rows]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _left_out(pairs: Sequence[_Pair]) -> list[str]:
    """Say what could not be compared, and which way verdicts turned."""
    failed = [p.now.reason for p in pairs if isinstance(p.now, Failure)]
    notes = [f"{several(len(failed), 'answer')} failed now ({failed[0]})"] if failed else []
    unread = sum(isinstance(p.now, Generation) and p.verdicts is None for p in pairs)
    notes += [f"{several(unread, 'answer')} without a valid verdict then or now"] if unread else []
    turned = [both for p in pairs if (both := p.verdicts) and both[0].correct != both[1].correct]
    if turned:
        lost = sum(bool(then.correct) for then, _ in turned)
        notes.append(f"verdicts that turned: {lost} from right to wrong, {len(turned) - lost} from wrong to right")
    return notes


def _content(reply: Generation) -> tuple[Any, ...]:
    """What of a reply is compared: its words and calls, not what it cost."""
    return reply.text, reply.calls, reply.finish_reason

"""The study of kinds: guidelines sorted by what they tell a reader to do, with their support and worth, and the
questions that each decides.

In: training jobs. Out: a `Finding` with a row for each guideline, after each was left out in turn and the reflector has
sorted them; and `cases.csv`: question, evidence, the replies with and without the guideline that decides it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from metamem.config.options import EvalConfig
from metamem.core.calls import Draw, Failure, Request
from metamem.core.files import read_rows
from metamem.core.meta_memory import Guideline
from metamem.core.registry import register
from metamem.pipeline.parts import RunParts, labels
from metamem.pipeline.roles import role_identity
from metamem.programs.frame import Frame, OpenRun, run_async
from metamem.replies.json_in_text import UnreadableError, form_of
from metamem.replies.reasoning import split_reasoning
from metamem.reporting.cases import load_cases
from metamem.reporting.figures import Figure, Series
from metamem.reporting.findings import Finding
from metamem.reporting.table_files import write_tables
from metamem.runs.directory import read_result
from metamem.runs.systems import read_systems
from metamem.studies.guidelines import AFTER, LeftOut, guideline_worth
from metamem.studies.jobs import Evaluations, chosen, chosen_checkpoint, keep, runs_of
from metamem.studies.settings import Jobs, stamps
from metamem.studies.study import Study

# What guidelines tell a reader to do. The names stand in the example of the template `kinds`, too.
KINDS = {
    "selection": "which fragments to read, to trust or to pass over",
    "time": "dates, durations, and the order of events",
    "combination": "putting several fragments together, counting and adding up",
    "conflict": "fragments that contradict or replace each other",
    "form": "how exact, how long and in which words to answer",
    "absence": "what to do when no fragment tells the answer",
    "other": "anything else",
}
UNSORTED = "unsorted"
_TOKENS = 4096


@register("study", "guideline_kinds")
class GuidelineKinds(Study):
    """Guidelines by kind, with support and worth, and the questions that each decides."""

    def conclude(self, jobs: Jobs) -> Finding:
        """See `Study`."""
        finding = Finding(
            "Guidelines by kind",
            "What kinds of guidelines are learned, and which kinds are worth something?",
            stamps=stamps(jobs),
        )
        runs = runs_of(jobs)
        left_out = guideline_worth(finding, runs)
        kinds = {run: _sorted(finding, run) for run in dict.fromkeys(one.run for one in left_out)}
        for one in left_out:
            named, *measured = one.row.items()
            kind = kinds[one.run].get(one.item.id, UNSORTED)
            one.row.clear()
            one.row.update([named, ("kind", kind), ("support", len(one.item.support)), *measured])
        _by_kind(finding)
        cases = [case for one in left_out for case in cases_of(one)]
        write_tables(cases, Path(str(jobs[0]["folder"])), "cases")
        finding.notes.append(f"cases.csv has {len(cases)} answers that one guideline alone decides.")
        return finding

    def after(self, jobs: Jobs) -> str:
        """See `Study`."""
        return f"{AFTER}; and a call that sorts them"


def _by_kind(finding: Finding) -> None:
    """Add a note and a bar for each kind: how many guidelines, from how many questions, worth how much on average."""
    names, means = [], []
    for kind in (*KINDS, UNSORTED):
        of = [row for row in finding.rows if row["kind"] == kind]
        if not of:
            continue
        mean = sum(row["points"] for row in of) / len(of)
        support = sum(row["support"] for row in of)
        finding.notes.append(
            f"{kind}: {len(of)} guidelines, supported {support} times, worth {mean:+.2f} points each on average."
        )
        names.append(kind)
        means.append(mean)
    if names:
        bars = Series("points", tuple(names), tuple(means))
        title = "Points lost without a guideline, on average by kind"
        finding.figures.append(Figure("guideline_kinds", title, "kind", "points", (bars,), "bars", False))


def _sorted(finding: Finding, run: Path) -> Mapping[str, str]:
    """Guideline → kind, by the reflector of a run; empty where that failed, which is in the finding's evaluations."""
    file = keep(chosen(run), run.parent, f"{run.name}-to-be-sorted", chosen_checkpoint(run))
    evaluations = Evaluations()
    place = evaluations.run(run, f"kinds-{run.name}", file, program=sort_into_kinds)
    if place is None:
        finding.evaluations += evaluations.rows
        return {}
    return dict(read_result(place)["kinds"])


def cases_of(one: LeftOut) -> list[dict[str, Any]]:
    """Return a row for each test question that a guideline decides: its evidence, and the replies with and without."""
    cases = load_cases(one.place)
    replies: dict[tuple[str, str], str] = {}
    for attempt in read_rows(one.place / "attempts.jsonl"):
        part, system, _ = attempt["scope"].split("/", 2)
        if part == "test":
            replies.setdefault((system, attempt["question_id"]), attempt["response"])
    rows = []
    for decided, ids in (("right only with it", one.gained), ("right only without it", one.lost)):
        for id in ids:
            case = cases.get(id, {})
            rows.append(
                {
                    "run": one.run.name,
                    "guideline": one.item.id,
                    "text": one.item.text,
                    "kind": one.row["kind"],
                    "decides": decided,
                    "question_id": id,
                    "type": case.get("type"),
                    "question": case.get("text"),
                    "accepted": " | ".join(case.get("answers") or ()),
                    "evidence": "\n".join(e["text"] for e in case.get("evidence") or ()),
                    "reply with it": replies.get(("0", id)),
                    "reply without it": replies.get((str(one.system), id)),
                }
            )
    return rows


# --- the reflector sorts


class Named(BaseModel):
    """A guideline and its kind, as a model names them."""

    id: str
    kind: str


class Kinds(BaseModel):
    """What the reflector replies."""

    guidelines: list[Named]


@dataclass(frozen=True)
class _Kind:
    name: str
    meaning: str


def sort_into_kinds(config: EvalConfig, frame: Frame) -> dict[str, Any]:
    """Have the reflector sort the guidelines of `meta_memory`; continues, and returns a finished sorting as it is."""
    (system,) = read_systems(config.meta_memory)
    assert system.meta_memory is not None
    items = system.meta_memory.items
    prepared = frame.prepare(replace(config, evaluator={}, reward=""))
    contents = {
        **prepared.contents,
        "sorted": [[i.id, i.text] for i in items],
        "kinds": [KINDS, prepared.prompts.texts()["kinds"]],
        "roles": {"reflector": role_identity(config, "reflector", prepared.backbones)},
    }
    identified = replace(config, meta_memory=None, recall=None)
    with frame.open("kinds", prepared, identified=identified, shown=config, contents=contents) as opened:
        if opened.run.finished:
            return opened.run.result()
        opened.run.rewind({})
        return run_async(_sort(opened, items))


async def _sort(opened: OpenRun, items: Sequence[Guideline]) -> dict[str, Any]:
    parts = RunParts(opened.prepared, opened.run, opened.tracker, ["reflector"], [])
    reflector, kinds = parts.callers["reflector"], [_Kind(name, meaning) for name, meaning in KINDS.items()]
    messages = opened.prepared.prompts.render("kinds", guidelines=items, kinds=kinds)
    sampling = replace(reflector.sampling(), temperature=0.0, max_tokens=_TOKENS)
    async with parts:
        (reply,) = await reflector(Request(messages, sampling, (Draw("kinds"),)))
    said = "" if isinstance(reply.outcome, Failure) else reply.outcome.text
    result = {
        **opened.about,
        "roles": labels(parts),
        "figures": {},
        "kinds": read_kinds(said),
        "score": None,
        "headline": f"{len(items)} guidelines sorted",
        "calls": parts.calls(),
    }
    return opened.run.finish(result)


def read_kinds(text: str) -> dict[str, str]:
    """Return guideline → kind from a reply: a kind that is none of ours is `other`, a reply that cannot be read sorts
    nothing.
    """
    try:
        found = form_of(Kinds).read(split_reasoning(text)[0])
    except UnreadableError:
        return {}
    return {named.id.strip("[] "): named.kind if named.kind in KINDS else "other" for named in found.guidelines}

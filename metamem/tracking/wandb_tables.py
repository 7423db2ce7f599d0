"""What a finished run leaves at W&B beside its numbers: guidelines with their lineage, attempts with evidence and
verdicts.

In: a result and the run's directory. Out: columns and rows of tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metamem.reporting.run import read_run
from metamem.runs.changes import changes_of

GUIDELINE_COLUMNS = ("id", "text", "born", "changed", "support")
LINEAGE_COLUMNS = ("step", "action", "id", "before", "after", "support")
ATTEMPT_COLUMNS = (
    *("question_id", "type", "system", "draw", "question", "accepted", "evidence retrieved", "evidence", "shown"),
    *("reply", "verdict", "raw verdict", "prompt tokens", "completion tokens"),
)


def tables(result: Mapping[str, Any], directory: Path) -> Iterator[tuple[str, tuple[str, ...], list[list[Any]]]]:
    """Name, columns and rows of each table; those that a run has nothing for are left out, except the guidelines."""
    guidelines = [
        [g["id"], g["text"], g.get("born"), g.get("changed"), ", ".join(g.get("support") or ())]
        for g in result.get("guidelines") or ()
    ]
    yield "learned_guidelines", GUIDELINE_COLUMNS, guidelines
    history = changes_of(directory, result.get("best_step"))
    if history:
        rows = [[c[k] for k in LINEAGE_COLUMNS[:-1]] + [", ".join(c.get("support") or ())] for c in history]
        yield "lineage", LINEAGE_COLUMNS, rows
    if (directory / "attempts.jsonl").exists() and (directory / "result.json").exists():
        yield "attempts", ATTEMPT_COLUMNS, list(_attempts(directory))


def _attempts(directory: Path) -> Iterator[list[Any]]:
    """The attempts of the evaluated part with the reward's verdicts."""
    data = read_run(directory).data
    labels = {s["key"]: s["label"] for s in data["systems"]}
    for a in data["attempts"]:
        if a["part"] != data["part"]:
            continue
        q = data["questions"][a["q"]]
        found: Mapping[str, Any] = a["verdicts"][0] if a["verdicts"] else {"right": None, "raw": ""}
        yield [
            q["id"],
            q.get("type", ""),
            labels.get(a["system"], a["system"]),
            a["draw"],
            q.get("text", ""),
            " | ".join(q.get("answers") or ()),
            {True: "yes", False: "no"}.get(q.get("retrieved"), "unknown"),
            "\n".join(u["text"] for u in q.get("evidence") or ()),
            a["shown"],
            a["reply"] or a["error"],
            {True: "right", False: "wrong", None: "invalid"}[found["right"]],
            found["raw"],
            *a["tokens"],
        ]

"""Prompts that do not fit into a real engine's context: their questions fail, or evidence is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from metamem.backbones.engine.tiny_checkpoint import POSITIONS
from tests import programs


@pytest.mark.usefixtures("pool")
def test_a_prompt_that_does_not_fit_fails_its_question_or_loses_evidence_and_is_counted(
    model: Path, tmp_path: Path
) -> None:
    # Prompts of 2,346 to 2,416 tokens: what is kept for replies, which end at their first space, leaves room for some.
    kept = [f"backbone.max_tokens={POSITIONS - 2376}", "backbone.stop=[' ']"]
    given = ["backbone=tiny", f"backbone.path={model}", *kept, "part=validation", "evaluator=[token_f1]"]
    printed = programs.run_here("eval", "-m", *given, f"outputs={tmp_path}", "backbone.on_overflow=error,drop_evidence")
    assert "least relevant pieces of its evidence are left out" in printed.replace("\n", " ")
    runs = {}
    for path in (tmp_path / "eval").glob("[!l]*/config.json"):
        runs[json.loads(path.read_text(encoding="utf-8"))["backbone"]["on_overflow"]] = path.parent
    dropped = programs.result_of(runs["drop_evidence"])["calls"]["policy"]
    assert dropped["evidence_dropped"] > 0
    assert not dropped.get("failed")
    failed = programs.result_of(runs["error"])["calls"]["policy"]["failed"]
    lines = (runs["error"] / "attempts.jsonl").read_text(encoding="utf-8").splitlines()
    errors = {row["question_id"]: row["error"] for row in map(json.loads, lines) if row["error"]}
    assert failed == len(errors) > 0
    form = rf"the prompt has \d+ tokens, \d+ too many: of the {POSITIONS} "
    assert all(re.match(form, e) for e in errors.values())

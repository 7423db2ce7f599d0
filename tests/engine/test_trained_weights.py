"""What `optimizer=grpo` trains, in the engine: it writes the memories that the trainer's own model writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from metamem.core.adapters import ADAPTERS, keep
from metamem.core.checkpoints import save
from metamem.core.files import read_rows
from metamem.core.meta_memory import MetaMemory
from metamem.core.registry import REGISTRY, build
from tests import programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("trl", "peft")), reason="needs the extra train"
    ),
]
OPTIONS = ("experiment=grpo", "dataset.size=40", "dataset.asked=1", "dataset.difficulty=1", "part=validation")
# A chunk of four lines, of which the untrained builder keeps none.
SHOWN = "user: I gave Anna tea 1\nuser: it is fine 2\nuser: you could be brief 3\nuser: take your time 4\nKeep"


def trained(outputs: Path, weights: str, rate: float) -> Path:
    """A checkpoint with weights of nano after one update, far enough from the untrained ones to write otherwise."""
    from metamem.optimizers.grpo_learner import Learner

    options = REGISTRY.options("optimizer", {"name": "grpo", "weights": weights, "rate": rate, "micro_batch": 2})
    learner = Learner(options, build("backbone", {"name": "plain"}), None)
    prompt, *replies = (learner.tokens.reply(text) for text in (SHOWN, "1 2", "<|im_end|>"))
    given = zip(replies, (1.0, -1.0), strict=True)
    learner.update([{"row": 0, "prompt": prompt, "reply": reply, "advantage": value} for reply, value in given], 1)
    adapter = keep(outputs / ADAPTERS, learner.base_hash, learner.lora, learner.save)
    file = outputs / f"{weights}.json"
    save(MetaMemory(adapter=adapter.hash), file)
    return file


def written(outputs: Path, meta_memory: Path | None, *builder: str) -> list[list[str]]:
    """The evidence of each question of an evaluation, from memories that its builder writes."""
    given = [f"meta_memory={meta_memory}"] if meta_memory else []
    programs.run_here("eval", *OPTIONS, *builder, *given, f"outputs={outputs}")
    run = (outputs / "eval" / "latest").resolve()
    cases = list(read_rows(run / "cases.jsonl"))
    told = programs.result_of(run)["memory"]
    assert told["built"] == len({case["conversation"] for case in cases}), "nothing else than these memories is written"
    return [[one["text"] for one in case["evidence"]] for case in cases]


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize(("weights", "rate"), [("lora", 0.02), ("full", 0.002)])
def test_the_engine_writes_with_trained_weights_what_the_trainers_model_writes(
    weights: str, rate: float, tmp_path: Path
) -> None:
    learned = trained(tmp_path, weights, rate)
    adapter = json.loads(learned.read_text())["meta_memory"]["adapter"]
    plain = written(tmp_path, learned)
    assert plain != written(tmp_path, None), "trained weights write otherwise"
    assert written(tmp_path, learned, "backbone@builder=nano", "builder.max_tokens=32") == plain
    rows = [json.loads(line) for f in (tmp_path / "eval" / "journal").rglob("*.jsonl") for line in f.open()]
    asked = {row["request"]: row["body"]["model"] for row in rows if "body" in row}
    models = [asked[row["request"]] for row in rows if row.get("role") == "builder"]
    assert {(m["kind"], m.get("adapter")) for m in models} == {("plain", adapter), ("plain", None), ("vllm", adapter)}

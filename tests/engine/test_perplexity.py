"""Perplexity by a real engine: stored replies scored by the tiny model are what that model itself gives them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from metamem.backbones.engine.renderer import Renderer
from metamem.core.calls import Message
from tests import programs

SAMPLED = 6
DATA = ["dataset.limit=12", "split=all", "part=all", "retriever.k=2"]


@pytest.mark.usefixtures("pool")
def test_an_analysis_by_the_engine_is_what_the_model_s_own_logits_say(model: Path, tmp_path: Path) -> None:
    guidelines = tmp_path / "guidelines.json"
    guidelines.write_text(json.dumps(["Prefer what was said last.", "Count every event once."]), encoding="utf-8")
    programs.run_here("eval", f"outputs={tmp_path}", "name=answers", f"meta_memory=[null,{guidelines}]", *DATA)
    answered = programs.only_run(tmp_path, "answers")
    given = [f"perplexity={answered}", *DATA, "backbone=tiny", f"backbone.path={model}"]
    printed = programs.run_here("eval", f"outputs={tmp_path}", "name=scored", *given)
    assert "simulated wrote the replies, tiny scores them" in printed
    directory = programs.only_run(tmp_path, "scored")
    result = programs.result_of(directory)
    assert set(result["stamps"]) == {"simulated", "random weights"}
    rows = [json.loads(line) for line in (directory / "perplexity.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 12 * 2 * 3 and not any(r["left_out"] for r in rows)

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    renderer = Renderer(AutoTokenizer.from_pretrained(model))
    bodies, requests = {}, {}
    for segment in (tmp_path / "scored" / "journal").glob("*/*.jsonl"):
        for line in segment.read_text(encoding="utf-8").splitlines():
            stored = json.loads(line)
            if "body" in stored:
                bodies[stored["request"]] = stored["body"]
            else:
                requests[stored["key"]] = stored["request"]
    for row in rows[:: len(rows) // SAMPLED]:
        body = bodies[requests[row["key"]]]
        prompt = renderer.prompt([Message(**m) for m in body["messages"]], thinking=False).tokens
        tokens = renderer.continuation(body["continuation"])
        with torch.inference_mode():
            logits = network(torch.tensor([prompt + tokens])).logits[0].double()
        chances = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
        mean = chances.gather(1, torch.tensor(tokens)[:, None]).mean().item()
        assert row["tokens"] == len(tokens)
        assert row["log_probability"] == pytest.approx(mean, abs=1e-3)
        assert row["perplexity"] == pytest.approx(math.exp(-mean), rel=1e-2)

"""The benchmark of GPUs on a real engine, with the tiny model: the answering stage beside a bare LLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.benchmarks import gpu


@pytest.mark.slow
def test_the_answering_stage_is_measured_against_a_bare_engine_that_writes_as_much(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    assert gpu.main(["--tiny", "--only", "answering", "--out", str(file)]) == 0, file.read_text()
    figures = json.loads(file.read_text())["measurements"]["answering"]["figures"]
    assert figures["attempts"] == 30
    assert figures["tokens_written"] == figures["bare_tokens_written"] > 0
    rates = figures["stage_tokens_per_second"] / figures["bare_tokens_per_second"]
    assert figures["ratio"] == pytest.approx(rates, abs=0.01)

"""Prompts are measured before an engine starts: ones that are too long are counted, and refused where all are."""

from __future__ import annotations

import pytest

from metamem.backbones.engine.prompt_lengths import check_prompts
from metamem.core.errors import ConfigError


def test_prompts_that_fit_are_measured_no_further_than_the_longest() -> None:
    measured: list[str] = []

    def measure(question: str) -> int:
        measured.append(question)
        return 10

    assert check_prompts({f"q{i}": i for i in range(50)}, measure, 10, 20) is None
    assert measured == ["q49", "q48", "q47"]
    assert check_prompts({}, measure, 10, 20) is None


def test_some_prompts_too_long_are_counted_and_the_longest_named() -> None:
    said = check_prompts({f"q{i}": i for i in range(50)}, lambda q: int(q[1:]), 39, 60)
    assert said is not None
    assert said.startswith("10 of 50 prompts are too long for the policy")
    assert "39 tokens fit: of a context of 60 (backbone.max_model_len) 21 are kept for the reply" in said
    assert "of question q49, has 49" in said


def test_only_prompts_too_long_are_refused_with_the_fixes() -> None:
    with pytest.raises(ConfigError) as caught:
        check_prompts({f"q{i}": i for i in range(20, 50)}, lambda q: 100 * int(q[1:]), 39, 60)
    message = str(caught.value)
    assert "the shortest, of question q20, has 2,000, the longest, of question q49, 4,900" in message
    for fix in ("backbone.max_model_len", "evidence.budget", "backbone.on_overflow=drop_evidence"):
        assert fix in message

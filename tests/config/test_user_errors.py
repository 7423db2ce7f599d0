"""A user's mistake: exit code 2, one message that names the key and what was expected, no traceback, nothing written
or called.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import metamem
from metamem.cli.main import run_program

pytestmark = pytest.mark.usefixtures("composed_once")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: Any, capfd: Any) -> Any:
    """`program("train", ...)` → (exit code, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def call(name: str, *arguments: str) -> tuple[int, str]:
        code = run_program(name, [f"outputs={tmp_path / 'outputs'}", *arguments])
        return code, capfd.readouterr().err

    return call


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown option": (["optimizer.bach_size=3"], ["optimizer.bach_size", "Did you mean 'optimizer.batch_size'"]),
    "unknown root option": (["sead=3"], ["sead", "Did you mean 'seed'"]),
    "unknown component": (["retriever=bm26"], ["retriever 'bm26'", "Did you mean 'bm25'", "dense"]),
    "unknown experiment": (["experiment=papr"], ["papr", "Did you mean 'paper'"]),
    "unknown group": (["retriver=bm25"], ["retriver", "Did you mean 'retriever'"]),
    "option of a role that has none": (["judge.model=x"], ["judge.model", "backbone@judge="]),
    "wrong type": (["optimizer.attempts=many"], ["optimizer.attempts", "many"]),
    "wrong type of an option of what a memory brings along": (
        ["memory=memoryos", "retriever.segments=abc"],
        ["retriever.segments: expected a whole number, got 'abc'"],
    ),
    "wrong type of an option of what a preset is made of": (
        ["memory=lightmem_paper", "memory.rate=abc"],
        ["memory.rate: expected a number, got 'abc'"],
    ),
    "unknown option of what a memory brings along": (
        ["memory=memoryos", "retriever.segmets=3"],
        ["Did you mean 'retriever.segments'", "retriever.facts"],
    ),
    "option of what a memory would bring along": (
        ["memory=memoryos", "retriever=bm25", "retriever.segments=3"],
        ["'retriever.segments' is an option of retriever=memoryos"],
    ),
    "wrong enum": (["evidence.order=size"], ["evidence.order", "time", "score"]),
    "one attempt cannot disagree": (["optimizer.attempts=1"], ["optimizer.attempts", "optimizer.filter=false"]),
    "attempts that are all the same": (["optimizer.temperature=0"], ["optimizer.temperature"]),
    "fold out of range": (["split.fold=5"], ["split.fold", "0 to 4", "5"]),
    "reward that is not chosen": (["reward=token_f1"], ["reward", "token_f1", "llm_judge"]),
    "no evaluator": (["evaluator=[]"], ["evaluator", "llm_judge"]),
    "a role's option names the role": (["backbone@judge=simulated", "judge.error_rate=2"], ["judge.error_rate"]),
    "real data without a backbone": (
        ["dataset=longmemeval", "dataset.path=x.json"],
        ["backbone", "openai", "simulated"],
    ),
    "missing file": (
        ["dataset=longmemeval", "dataset.path=gone.json", "backbone=simulated"],
        ["dataset.path", "gone.json"],
    ),
    "no path": (["dataset=locomo", "backbone=simulated"], ["dataset.path"]),
    "openai without an address": (["backbone=openai"], ["backbone.base_url"]),
    "policy same": (["backbone=same"], ["backbone", "same"]),
    "bad name": (["name=../x"], ["name", "letters"]),
    "prompt file missing": (["prompts.answer=gone.jinja"], ["prompts.answer", "gone.jinja"]),
    "an override without a value": (["optimizer.attempts"], ["optimizer.attempts", "KEY=VALUE"]),
    "an unknown option behind a plus": (["+optimizer.atempts=3"], ["atempts", "Did you mean 'optimizer.attempts'"]),
    "an unknown option behind two": (["++foo=1"], ["foo"]),
    "a group that is no name": (["optimizer=3"], ["optimizer", "metamem"]),
    "a group that is null": (["retriever=null"], ["retriever", "bm25"]),
    "a role as an option": (["judge=openai"], ["backbone@judge=openai"]),
    "an unknown flag": (["--resume"], ["--resume", "--help"]),
    "a number that is none": (["optimizer.temperature=nan"], ["optimizer.temperature", "at least 0, got nan"]),
    "several values without a sweep": (["seed=1,2"], ["seed=1,2", "-m"]),
    "an empty place": (["outputs="], ["outputs"]),
    "a role's missing option": (
        ["backbone=openai", "backbone.base_url=http://x/v1", "backbone.model=m", "backbone@judge=openai"],
        ["judge.base_url"],
    ),
    "all folds in one directory": (["run.dir=x", "split.fold=all"], ["run.dir", "split.fold=all"]),
    "a study of perplexity by a server": (
        ["backbone=openai", "backbone.base_url=http://x/v1", "backbone.model=m", "study=perplexity"],
        ["backbone", "openai", "log-probabilities", "simulated, smollm2, tiny, vllm"],
    ),
    "a study of perplexity of answers that search": (["study=perplexity", "search.calls=2"], ["search.calls", "0"]),
    "validation accepted without a validation part": (
        ["split=all", "accept=validation"],
        ["accept=validation", "validation part"],
    ),
}


# One of each way out of the programs, and what only the command line has.
ON_THE_LINE = {
    name: MISTAKES[name]
    for name in ("unknown option", "unknown component", "wrong type", "no path", "an override without a value")
} | {
    "a password in an address": (
        ["-m", "seed=1,2", "backbone=openai", "backbone.base_url=http://me:hunter2@x/v1"],
        ["backbone.base_url", "backbone.api_key_env"],
    ),
    "a sweep of an unknown component": (["-m", "seed=1,2", "retriever=bm26"], ["bm26", "Did you mean 'bm25'"]),
    "run.dir with a sweep": (["-m", "run.dir=x", "seed=1,2"], ["run.dir", "-m"]),
}


@pytest.mark.parametrize("mistake", sorted(ON_THE_LINE))
def test_a_mistake_on_the_command_line_is_one_message_and_ends_with_2(
    mistake: str, program: Any, tmp_path: Path
) -> None:
    arguments, expected = ON_THE_LINE[mistake]
    code, printed = program("train", *arguments)
    assert code == 2, printed
    assert "Traceback" not in printed
    for words in expected:
        assert words in printed
    assert "hunter2" not in printed
    assert not list(tmp_path.glob("outputs/*/*/manifest.json")), "nothing may have begun"


@pytest.mark.parametrize("mistake", sorted(MISTAKES.keys() - ON_THE_LINE.keys()))
def test_a_mistake_in_a_training_is_named_before_anything_begins(mistake: str, tmp_path: Path) -> None:
    arguments, expected = MISTAKES[mistake]
    with pytest.raises(metamem.UserError) as refused:
        metamem.run("train", [f"outputs={tmp_path / 'outputs'}", *arguments])
    for words in expected:
        assert words in str(refused.value)
    assert not list(tmp_path.glob("outputs/*/*/manifest.json"))


EVAL_MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "missing meta-memory": (["meta_memory=gone"], ["meta_memory", "gone"]),
    "a directory that is no run": (["meta_memory=."], ["meta_memory", "not a training run"]),
    "an unknown part": (["part=tset"], ["part"]),
    "from something that is no run": (["from=."], ["from", "attempts.jsonl"]),
    "from with a meta-memory": (["from=.", "meta_memory=x"], ["from"]),
    "perplexity of something that is no run": (["perplexity=."], ["perplexity", "attempts.jsonl"]),
    "perplexity with a meta-memory": (["perplexity=.", "meta_memory=x"], ["perplexity=", "meta_memory="]),
    "perplexity by a server": (
        ["perplexity=.", "backbone=openai", "backbone.base_url=http://x/v1", "backbone.model=m"],
        ["backbone", "openai", "log-probabilities", "simulated, smollm2, tiny, vllm"],
    ),
    "from with a retriever": (["from=.", "retriever=dense"], ["retriever has no effect", "rubric"]),
    "from with an option of answering": (["from=.", "evaluation.attempts=2"], ["evaluation.attempts has no effect"]),
    "from with a builder": (["from=.", "backbone@builder=simulated"], ["backbone@builder has no effect"]),
    "from with a policy beside a judge": (
        ["from=.", "backbone=simulated", "backbone@judge=simulated_other"],
        ["backbone has no effect"],
    ),
    "from that only judges needs no policy": (
        ["from=.", "dataset=longmemeval", "dataset.path=x.json", "backbone@judge=simulated"],
        ["attempts.jsonl"],
    ),
    "compare with a part": (["compare=[a,b]", "part=validation"], ["part has no effect", "compare"]),
    "an optimizer in evaluation": (["optimizer=metamem"], ["optimizer"]),
    "all folds": (["split.fold=all"], ["split.fold=all"]),
}


@pytest.mark.parametrize("mistake", sorted(EVAL_MISTAKES))
def test_a_mistake_in_an_evaluation_is_named(mistake: str, tmp_path: Path) -> None:
    arguments, expected = EVAL_MISTAKES[mistake]
    with pytest.raises(metamem.UserError) as refused:
        metamem.run("eval", [f"outputs={tmp_path / 'outputs'}", *arguments])
    for words in expected:
        assert words in str(refused.value)


@pytest.mark.slow
def test_a_template_that_cannot_be_compiled_is_named_with_its_line(program: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{% block user %}\n{% if %}\n{% endblock %}")
    code, printed = program("train", "prompts.answer=mine.jinja")
    assert code == 2
    assert "prompts.answer, line 2" in printed


@pytest.mark.slow
def test_a_template_with_an_unknown_variable_is_named(program: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{% block user %}{{ qestion }}{% endblock %}")
    code, printed = program("train", "prompts.answer=mine.jinja")
    assert code == 2
    assert "prompts.answer" in printed
    assert "qestion" in printed


@pytest.mark.slow
def test_a_bad_data_file_is_named_with_its_record_before_any_call(program: Any, tmp_path: Path) -> None:
    record = {"question_id": "x", "question": None, "answer": "a", "memories": ["m"], "question_type": "multi-session"}
    (tmp_path / "questions.json").write_text(json.dumps([record]))
    code, printed = program("train", "dataset=prepared", "dataset.path=questions.json", "backbone=simulated")
    assert code == 2, printed
    assert "Traceback" not in printed
    for words in ("questions.json", "question_id 'x'", "question: expected text"):
        assert words in printed
    assert not list(tmp_path.glob("outputs/*/journal"))


@pytest.mark.slow
def test_an_unreachable_server_ends_with_2_and_names_the_address(program: Any) -> None:
    code, printed = program(
        "train", "backbone=openai", "backbone.base_url=http://127.0.0.1:9/v1", "backbone.model=m", "backbone.retries=0"
    )
    assert code == 2, printed
    assert "backbone.base_url" in printed
    assert "Traceback" not in printed


def test_a_key_given_in_place_of_a_variable_is_refused_without_being_shown(program: Any) -> None:
    code, printed = program(
        "train",
        "backbone=openai",
        "backbone.base_url=http://x/v1",
        "backbone.model=m",
        "backbone.api_key_env=sk-verysecret123",
    )
    assert code == 2
    assert "backbone.api_key_env" in printed
    assert "verysecret" not in printed

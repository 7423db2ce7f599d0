"""Streams: no question sees a later one, feedback is what it is said to be, and a killed stream ends the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from metamem.backbones.scripted import Scripted
from metamem.cli.hydra_bridge import config_folder, export
from metamem.config.resolve import resolve
from metamem.core.calls import Generation, Request
from metamem.core.errors import ConfigError
from metamem.core.files import read_rows
from metamem.core.learned import Feedback
from metamem.programs.folds import train_folds
from metamem.programs.frame import Frame
from metamem.programs.train import train
from tests import programs

pytestmark = pytest.mark.slow


def config(outputs: Path, *given: str) -> Any:
    export()
    chosen = [f"outputs={outputs}", "split=stream", "embedder=hashing", "backbone=simulated", "stream.again=3", *given]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return resolve(compose("train", chosen))


def stream(outputs: Path, *given: str) -> Path:
    return Path(train(config(outputs, *given), Frame())["directory"])


def prompts(run: Path, system: str) -> dict[str, str]:
    """Question → the hash of its prompt, of a system of a stream."""
    rows = read_rows(run / "attempts.jsonl")
    return {r["question_id"]: r["prompt_hash"] for r in rows if r["scope"].startswith(f"test/{system}/")}


@pytest.mark.parametrize("policy", ["few_shot", "training_free_grpo"])
def test_a_prompt_is_a_function_of_the_questions_before_it(policy: str, tmp_path: Path) -> None:
    longer = stream(tmp_path / "longer", f"optimizer={policy}", "split.length=9")
    shorter = stream(tmp_path / "shorter", f"optimizer={policy}", "split.length=5")
    order = programs.result_of(longer)["stream"]["order"]
    assert programs.result_of(shorter)["stream"]["order"] == order[:5]
    expected, found = prompts(longer, "online"), prompts(shorter, "online")
    assert found == {question: expected[question] for question in order[:5]}
    assert expected[order[0]] == prompts(longer, "without")[order[0]], "nothing was learned before the first"
    assert expected[order[-1]] != prompts(longer, "without")[order[-1]]
    last = max((longer / "checkpoints").glob("*.json"))
    assert len(prompts(longer, "again")) == 3 and last.stem == "step_0009"


def test_together_arrived_questions_are_answered_before_any_of_them_is_learned_from(tmp_path: Path) -> None:
    run = stream(tmp_path, "optimizer=few_shot", "split.length=6", "stream.batch=3")
    order = programs.result_of(run)["stream"]["order"]
    online, without = prompts(run, "online"), prompts(run, "without")
    assert [online[q] == without[q] for q in order[:3]] == [True] * 3


@pytest.mark.parametrize("feedback", ["truth", "verdict", "none"])
def test_reviewers_see_the_truth_and_the_outcomes_that_the_feedback_allows(
    feedback: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    reply = Scripted.generate

    async def noted(backbone: Scripted, request: Request) -> list[Generation]:
        shown.append("\n".join(m.content for m in request.messages))
        return await reply(backbone, request)

    monkeypatch.setattr(Scripted, "generate", noted)
    run = stream(tmp_path, "optimizer=training_free_grpo", "split.length=4", f"stream.feedback={feedback}")
    reviews = [text for text in shown if "<rollout>" in text or "<summaries>" in text]
    assert {"<truth>" in text for text in reviews} == {feedback == "truth"}
    assert {"judged RIGHT" in text or "judged WRONG" in text for text in reviews} == {feedback != "none"}
    verdicts = [v for v in read_rows(run / "verdicts.jsonl") if v["attempt_id"].startswith("train/")]
    assert {v["status"] for v in verdicts} == {"scored"}, "what the run keeps is whole"


class Reply:
    """The stand-in's replies. The first answer of a stream is held until `together` streams have asked for theirs; the
    reply after `last` is a death.
    """

    def __init__(self, together: int, last: int | None = None) -> None:
        self.together, self.last, self.given = together, last, 0
        self.flying: set[str] = set()
        self._reply, self._met = Scripted.generate, asyncio.Event()

    async def generate(self, backbone: Scripted, request: Request) -> list[Generation]:
        if self.given == self.last:
            raise RuntimeError("died")
        self.given += 1
        if "/train/1/" in request.draws[0].scope and not self._met.is_set():
            self.flying.add(request.draws[0].scope)
            if len(self.flying) == self.together:
                self._met.set()
            # Streams one after another would never meet.
            await asyncio.wait_for(self._met.wait(), 60)
        return await self._reply(backbone, request)


def side_by_side(outputs: Path, fold: str, together: int = 1, last: int | None = None) -> Reply:
    """Take both streams, or one, to the end or to a death."""
    reply = Reply(together, last)
    given = ["optimizer=few_shot", "split.length=4", "split.folds=2", f"split.fold={fold}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "generate", lambda backbone, request: reply.generate(backbone, request))
        try:
            train_folds(config(outputs, *given), Frame())
        except (RuntimeError, ExceptionGroup):
            assert last is not None
    return reply


def test_two_streams_at_once_give_what_each_gives_alone_even_when_killed(tmp_path: Path) -> None:
    for fold in "01":
        side_by_side(tmp_path / fold, fold)
    alone = [programs.only_run(tmp_path / fold) for fold in "01"]
    at_once = side_by_side(tmp_path / "all", "all", together=2)
    assert len(at_once.flying) == 2, "both were in flight together"
    side_by_side(tmp_path / "killed", "all", together=2, last=at_once.given // 2)
    assert not list((tmp_path / "killed").glob("train/*/result.json")), "it died"
    side_by_side(tmp_path / "killed", "all")
    for outputs in (tmp_path / "all", tmp_path / "killed"):
        for run in alone:
            assert programs.state(outputs / "train" / run.name) == programs.state(run)
        keys = programs.journal_keys(outputs)
        assert len(keys) == len(set(keys)) == at_once.given
    assert programs.result_of(alone[0])["stream"]["order"] != programs.result_of(alone[1])["stream"]["order"]


def test_a_policy_that_needs_validation_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="optimizer=gepa needs a validation part"):
        train(config(tmp_path, "optimizer=gepa"), Frame())


def test_orders_differ_by_seed_and_feedback_is_part_of_a_streams_identity_alone(tmp_path: Path) -> None:
    runs = [stream(tmp_path, "optimizer=none", "split.length=3", f"seed={s}") for s in (1, 2)]
    assert len({tuple(programs.result_of(r)["stream"]["order"]) for r in runs}) == 2
    chosen = config(tmp_path, "optimizer=none", "split.length=3", "seed=1")
    chosen = replace(chosen, stream=replace(chosen.stream, feedback=Feedback.none))
    assert train(chosen, Frame())["id"] != programs.result_of(runs[0])["id"]
    assert Counter(len(prompts(r, "online")) for r in runs) == {3: 2}

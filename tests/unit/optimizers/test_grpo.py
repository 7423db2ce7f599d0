"""GRPO over a memory builder's weights: what the trainer is given, what is refused, and how a run goes on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import shutil
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metamem.backbones import nano
from metamem.core.adapters import Adapter, find, keep
from metamem.core.calls import Sampling
from metamem.core.checkpoints import load_checkpoint
from metamem.core.errors import DataError
from metamem.core.files import file_digest
from metamem.core.records import Question
from metamem.core.registry import REGISTRY, build, load_components
from metamem.optimizers import grpo, grpo_episodes, grpo_learner
from metamem.pipeline.training import EPISODES, MOMENTS, read_episodes
from tests import programs

load_components()
needs_trainer = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("trl", "peft")), reason="needs the extra train"
)
SMALL = (
    *(
        "experiment=grpo",
        "optimizer=grpo",
        "dataset.size=40",
        "dataset.difficulty=1",
        "memory.max_tokens=2",
        "backbone.max_tokens=8",
    ),
    *("optimizer.group=2", "optimizer.batch_size=3", "optimizer.micro_batch=16", "train_questions=8", "eval_every=9"),
    *("optimizer.beta=0.05", "optimizer.epochs=1", "optimizer.updates=1"),
)


def test_every_reply_has_the_advantage_of_its_chunk_and_one_without_has_the_mean() -> None:
    rows = [
        {
            "chunk_advantages": [1.0, -2.0],
            "chunks": [0, -1, 1, 1],
            "prompt_ids": [[1], [2], [3], [4]],
            "reply_ids": [[5], [6], [], [8]],
        },
        {"chunk_advantages": [], "chunks": [-1], "prompt_ids": [[9]], "reply_ids": [[9]]},
    ]
    found = [(s["row"], s["prompt"], s["advantage"]) for s in grpo_episodes.samples_of(rows)]
    assert found == [(0, [1], 1.0), (0, [2], -0.5), (0, [3], -2.0), (0, [4], -2.0), (1, [9], 0.0)]


@needs_trainer
def test_a_step_has_all_questions_of_its_updates_conversations_and_the_order_is_the_seeds() -> None:
    policy = build("optimizer", {"name": "grpo", "epochs": 2, "batch_size": 3, "updates": 2})
    train = [Question(f"q{i}", "?", "t", ("a",), conversation_id=f"c{i % 7}") for i in range(14)]
    steps = policy.batches(train, 1)
    assert [len(step) for step in steps] == [12, 2, 12, 2]  # two updates of three conversations, one of one
    assert all({q.conversation_id for q in a}.isdisjoint(q.conversation_id for q in b) for a, b in (steps[:2],))
    assert sorted(q.id for step in steps for q in step) == sorted(2 * [q.id for q in train])
    assert steps == policy.batches(train, 1) != policy.batches(train, 2)


def test_published_settings_are_the_defaults() -> None:
    options = REGISTRY.options("optimizer", {"name": "grpo"})
    assert (options.group, options.batch_size, options.kl, options.beta, options.gamma) == (8, 32, 0.001, 0.05, 0.1)
    assert options.rate is None and grpo.RATES == {"full": 1e-6, "lora": 1e-5}


def test_the_optimisers_states_of_two_checkpoints_stay_and_a_lost_or_damaged_one_ends_the_training(
    tmp_path: Path,
) -> None:
    texts = ("refused", "older", "now")
    older, now = (hashlib.sha256(text.encode()).hexdigest() for text in texts[1:])
    for name, text in zip(("refused", older, now), texts, strict=True):
        (tmp_path / name).write_text(text)
    # Its last update taught nothing: the state it goes on with is the same as before.
    for previous, left in ((older, {older, now}), (now, {now})):
        assert grpo._moments_of(tmp_path, {"moments": now, "previous": previous}) == tmp_path / now
        assert {file.name for file in tmp_path.iterdir()} == left
    (tmp_path / now).write_text("changed")
    for _ in range(2):
        with pytest.raises(DataError, match="gone or damaged"):
            grpo._moments_of(tmp_path, {"moments": now, "previous": None})
        (tmp_path / now).unlink(missing_ok=True)
    assert grpo._moments_of(tmp_path / "none", {}) is None


@needs_trainer
@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("memory=memalpha", "backbone@builder=simulated"), "nothing would be trained"),
        (("memory=rounds",), "memory=rounds asks none"),
        (("memory=memalpha", "optimizer.guidelines=/nowhere.json"), "no such file"),
        (("memory=memalpha", "guard=provenance"), "its episodes pass no guard; leave guard=provenance out"),
        (("memory=memalpha", "attack=forged_record"), "without the records that attack=forged_record writes"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_starts(
    overrides: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    given = ["dataset=world", "split=world", "optimizer=grpo", "backbone=plain", *overrides]
    printed = programs.run_here("train", *given, f"outputs={tmp_path}", code=2)
    assert told in " ".join(printed.split())
    assert not list(tmp_path.rglob("manifest.json"))


def rewards_again(row: dict[str, Any], beta: float, gamma: float) -> list[float]:
    """The reward of each chunk from the calls and answers that a row holds."""
    scores = [answer["score"] for answer in row["answers"]]
    whole = statistics.mean(scores) + beta * (1 - row["memory_tokens"] / row["input_tokens"])
    found = []
    for chunk in range(len(row["chunk_rewards"])):
        said = [
            (c, v)
            for at, *both in zip(row["chunks"], row["calls"], row["verdicts"], strict=True)
            if at == chunk
            for c, v in zip(*both, strict=True)
        ]
        ran = sum(c["result"] in ("done", "unchanged") for c, _ in said) / len(said) if said else 0.0
        suits = sum(v is True for _, v in said) / len(said) if said else 0.0
        found.append(whole + ran + gamma * suits)
    return found


@needs_trainer
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_the_trainer_was_given_is_the_reward_of_the_stored_episodes_and_a_killed_step_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metamem.optimizers.grpo_learner import Learner

    real, asked = Learner.update, []

    def dies(self: Any, samples: Any, episodes: int) -> Any:
        moments = {name: float(sum(v.double().sum() for v in of.values())) for name, of in self._state.items()}
        asked.append(([(sample["prompt"], sample["reply"]) for sample in samples], self._at, moments))
        if len(asked) == 2:
            raise RuntimeError("killed")
        return real(self, samples, episodes)

    # Killed inside the second step: the same command goes on from the first one's weights, over the same conversations.
    monkeypatch.setattr(Learner, "update", dies)
    with pytest.raises(RuntimeError, match="killed"):
        programs.run_here("train", *SMALL, f"outputs={tmp_path}")
    first_weights = load_checkpoint(programs.only_run(tmp_path) / "checkpoints" / "step_0001.json").meta_memory
    programs.run_here("train", *SMALL, f"outputs={tmp_path}")
    assert len(asked) == 3 and asked[1] == asked[2] != asked[0]
    run = programs.only_run(tmp_path)
    names = sorted(p.name.removesuffix(".jsonl.gz") for p in (run / EPISODES).iterdir())
    assert names == ["step_0001_000", "step_0002_000"]
    for name in names:
        rows = read_episodes(run, name)
        for group in {row["group"] for row in rows}:
            of_group = [row for row in rows if row["group"] == group]
            again = [rewards_again(row, 0.05, 0.0) for row in of_group]
            for row, found in zip(of_group, again, strict=True):
                assert row["chunk_rewards"] == pytest.approx(found)
            flat = [reward for found in again for reward in found]
            mean = statistics.mean(flat)
            spread = math.sqrt(sum((r - mean) ** 2 for r in flat) / (len(flat) - 1)) + 1e-6
            for row, found in zip(of_group, again, strict=True):
                advantages = [(reward - mean) / spread for reward in found]
                assert row["trainer"] == pytest.approx([advantages[chunk] for chunk in row["chunks"]], abs=1e-4)
    steps = [load_checkpoint(run / "checkpoints" / f"step_{n:04d}.json").meta_memory for n in range(3)]
    adapters = [find([tmp_path / "adapters"], s.adapter or "") for s in steps[1:]]
    assert steps[0].adapter is None and adapters[0] != adapters[1] and steps[1] == first_weights
    figures = programs.result_of(run)
    assert figures["systems"][-1]["learned"] == steps[2].learned
    first, second = (json.loads((run / "checkpoints" / f"step_{n:04d}.json").read_text())["state"] for n in (1, 2))
    assert second["previous"] == first["moments"]
    for name in second.values():
        assert file_digest(run / MOMENTS / name) == name
    # The engine loads every safetensors file of a folder.
    assert [file.name for file in adapters[1].folder.glob("*.safetensors")] == ["model.safetensors"]


@needs_trainer
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_low_rank_changes_are_kept_as_such_and_an_evaluation_builds_its_memories_with_them(tmp_path: Path) -> None:
    shared = [o for o in SMALL if o.startswith(("experiment", "dataset", "memory", "backbone"))]
    lora = ("optimizer.weights=lora", "optimizer.rate=0.01", "train_questions=3")
    programs.run_here("train", *SMALL, *lora, f"outputs={tmp_path}")
    run = programs.only_run(tmp_path)
    last = run / "checkpoints" / "step_0001.json"
    learned = load_checkpoint(last).meta_memory
    adapter = find([tmp_path / "adapters"], learned.adapter or "")
    assert adapter.lora and (adapter.folder / "adapter_config.json").is_file()
    assert not (adapter.folder / "config.json").exists()
    about = json.loads((adapter.folder / "adapter_config.json").read_text())
    assert about["target_modules"] == sorted(about["target_modules"]) and "base_model_name_or_path" not in about
    # Somewhere else: trained weights lie beside the run that made them.
    other = tmp_path / "other"
    programs.run_here("eval", *shared, f"meta_memory={last}", "part=validation", f"outputs={other}")
    (system,) = programs.result_of(programs.only_run(other, "eval"))["systems"]
    assert system["learned"] == learned.learned
    shutil.rmtree(adapter.folder)
    printed = programs.run_here(
        "eval", *shared, f"meta_memory={last}", "part=validation", f"outputs={tmp_path / 'gone'}", code=2
    )
    assert f"its trained weights {adapter.hash} are in none of" in " ".join(printed.split())


class Pinned:
    """A hub's model in half precision, at a commit."""

    config = SimpleNamespace(dtype="bfloat16")

    def identity(self) -> dict[str, str]:
        return {"kind": "plain", "model": "them/model", "commit": "c0ffee"}

    def base(self) -> str:
        return "them/model"

    def sampling(self) -> Sampling:
        return Sampling()

    def weights(self) -> SimpleNamespace:
        return SimpleNamespace(commit="c0ffee")


def loaded(monkeypatch: pytest.MonkeyPatch, weights: str, adapter: Adapter | None) -> list[Any]:
    asked: list[Any] = []

    def load(*given: Any) -> Any:
        asked.extend(given)
        return SimpleNamespace(config=SimpleNamespace()), None

    monkeypatch.setattr(grpo_learner, "load", load)
    monkeypatch.setattr(grpo_learner, "_low_rank", lambda model, *_: model)
    grpo_learner.Learner(SimpleNamespace(weights=weights), Pinned(), adapter)
    return asked


def test_the_model_that_is_trained_is_that_of_the_commit_which_identifies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Adapter("a", Path("/made"), False, "c0ffee")
    for weights, adapter in (("lora", None), ("lora", made), ("full", None)):
        place, _, commit = loaded(monkeypatch, weights, adapter)
        assert (place, commit) == ("them/model", "c0ffee")
    place, _, commit = loaded(monkeypatch, "full", made)
    assert (place, commit) == (made.folder, None)


def test_all_weights_are_trained_in_whole_precision_whatever_they_are_served_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [loaded(monkeypatch, weights, None)[1] for weights in ("full", "lora")] == ["float32", "bfloat16"]


@pytest.mark.parametrize("given", [[1.0, -1.0], [1.0, -0.25, -0.25], [0.5, 0.5, 0.5, 0.5], [0.1] * 7])
@pytest.mark.parametrize("most", [1, 2, 4, 100])
def test_rows_are_equal_passes_whose_advantages_sum_to_zero_and_few_masked_ones_are_added(
    given: list[float], most: int
) -> None:
    rows = [{"row": 0, "prompt": [1], "reply": [2], "advantage": value} for value in given]
    filled, size = grpo_learner.filled_up(rows, most, 0)
    passes = len(filled) // size
    assert len(filled) == passes * size and size <= most
    assert len(filled) - len(rows) <= passes
    assert abs(math.fsum(row["advantage"] for row in filled)) < 1e-6
    assert filled[: len(rows)] == rows and all(row["row"] < 0 for row in filled[len(rows) :])
    assert sum(given) or len(rows) % passes or filled == rows


@needs_trainer
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_has_the_advantages_that_it_was_given_and_the_reference_of_the_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import trl

    had: list[float] = []
    revisions: list[str] = []

    class Watched(trl.GRPOTrainer):  # type: ignore[misc]
        def __init__(self, *given: Any, **named: Any) -> None:
            revisions.append(named["args"].model_init_kwargs["revision"])
            super().__init__(*given, **named)

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            made = super()._generate_and_score_completions(inputs)
            had.extend(made["advantages"].tolist())
            return made

    monkeypatch.setattr(trl, "GRPOTrainer", Watched)
    monkeypatch.setattr(Pinned, "base", lambda self: str(nano.FOLDER))
    options = REGISTRY.options("optimizer", {"name": "grpo", "weights": "full", "micro_batch": 3})
    learner = grpo_learner.Learner(options, Pinned(), None)
    given = [1.0, 1.0, -0.5]
    told = learner.update([{"row": 0, "prompt": [5, 6], "reply": [7], "advantage": value} for value in given], 1)
    assert sorted(had) == pytest.approx(sorted([*given, -sum(given)]))
    assert told.given == [given] and revisions == ["c0ffee"]


def test_the_same_weights_have_the_same_name_wherever_and_in_whatever_order_they_were_written(tmp_path: Path) -> None:
    made = []
    for number, modules in enumerate((["v_proj", "k_proj"], ["k_proj", "v_proj"])):
        place = {"base_model_name_or_path": f"/place{number}", "peft_version": f"0.{number}", "target_modules": modules}

        def fill(folder: Path, place: dict[str, Any] = place) -> None:
            (folder / "adapter_config.json").write_text(json.dumps({**place, "r": 4, "lora_alpha": 8}))
            (folder / "config.json").write_text(json.dumps({"dtype": "float32", "kinds": ["b", "a"]}))
            grpo_learner.settle_configs(folder)

        made.append(keep(tmp_path, "base", True, fill))
    assert made[0] == made[1]
    held = json.loads((made[0].folder / "adapter_config.json").read_text())
    assert held == {"lora_alpha": 8, "r": 4, "target_modules": ["k_proj", "v_proj"]}
    assert json.loads((made[0].folder / "config.json").read_text())["kinds"] == ["b", "a"], (
        "an order that means something"
    )

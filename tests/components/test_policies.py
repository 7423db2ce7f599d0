"""What holds for every policy that is registered, whatever its algorithm."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from metamem.backbones.scripted import Scripted
from metamem.cli.hydra_bridge import config_folder, export
from metamem.config.resolve import resolve
from metamem.core.calls import Generation, Request
from metamem.core.files import read_rows
from metamem.core.learned import Planning
from metamem.core.meta_memory import from_dict
from metamem.core.registry import REGISTRY, build, load_components
from metamem.programs.dry_run import plan_job
from metamem.programs.frame import Frame
from metamem.programs.train import train
from metamem.prompts.catalog import PROMPTS, registered
from tests import programs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("composed_once")]
load_components()
ENTRIES = {name: REGISTRY.entry("optimizer", name).component for name in REGISTRY.names("optimizer")}
# The stand-in has no weights to train.
NAMES = [n for n, component in ENTRIES.items() if n != "none" and not getattr(component, "trains_weights", False)]
DEATHS = 2
OPTIONS: dict[str, dict[str, Any]] = {
    "mistake_notebook": {"check": "false"},  # what the stand-in says makes nothing better: it would be taken back
    "memento": {"learned": "true"},
}


def config(name: str, outputs: Path) -> Any:
    """A small training on the sample by the stand-in."""
    export()
    given = [f"outputs={outputs}", f"optimizer={name}", "dataset.limit=20", "split.folds=3", "split.validation=0.4"]
    given += ["embedder=hashing", "backbone=simulated"]
    options = {f.name for f in REGISTRY.entry("optimizer", name).options}
    wanted = {"batch_size": 3, "attempts": 3, **OPTIONS.get(name, {})}
    given += [f"optimizer.{key}={value}" for key, value in wanted.items() if key in options]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return resolve(compose("train", given))


class Plain(Frame):
    """A frame that draws no report."""

    reports = False


class Stand:
    """The stand-in's replies, counted; the one after `last` is a death."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.given, self._reply = last, 0, Scripted.generate

    async def generate(self, backbone: Scripted, request: Request) -> list[Generation]:
        if self.given == self.last:
            raise RuntimeError("died")
        self.given += 1
        return await self._reply(backbone, request)


def trained(name: str, outputs: Path, last: int | None = None) -> tuple[Path, int]:
    """Train, or die after so many replies; the run's directory and how many replies were given."""
    stand = Stand(last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "generate", lambda backbone, request: stand.generate(backbone, request))
        try:
            train(config(name, outputs), Plain())
        except (RuntimeError, ExceptionGroup):
            assert last is not None
    return programs.only_run(outputs), stand.given


@cache
def undisturbed(name: str, folder: Path) -> tuple[Path, int]:
    return trained(name, folder / name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the trainings that were not disturbed."""
    return tmp_path_factory.mktemp("whole")


@pytest.mark.parametrize("name", NAMES)
def test_killed_at_random_points_it_ends_the_same_and_nothing_is_paid_twice(
    name: str, whole: Path, tmp_path: Path
) -> None:
    place, calls = undisturbed(name, whole)
    expected, keys = programs.state(place), Counter(programs.journal_keys(whole / name))
    points = random.Random(name).sample(range(1, calls), min(DEATHS, calls - 1))
    for last in points:
        outputs = tmp_path / str(last)
        trained(name, outputs, last)
        assert not (programs.only_run(outputs) / "result.json").exists(), "it died"
        again, _ = trained(name, outputs)
        assert programs.state(again) == expected, f"died after {last} of {calls} replies"
        assert Counter(programs.journal_keys(outputs)) == keys


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_something_that_is_shown_and_its_state_is_json(name: str, whole: Path) -> None:
    place, _ = undisturbed(name, whole)
    held = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((place / "checkpoints").glob("*.json"))]
    assert any(from_dict(h["meta_memory"]).learned for h in held)
    known = {g["id"] for h in held for g in h["meta_memory"]["guidelines"]}
    rows = list(read_rows(place / "attempts.jsonl"))
    # A policy may try what it does not take.
    assert {i for row in rows if row["scope"].startswith(("test/", "validation/")) for i in row["shown"]} <= known
    assert len({row["prompt_hash"] for row in rows if row["scope"].startswith("test/")}) > 1
    assert held[-1]["recall"]["name"] == getattr(REGISTRY.entry("optimizer", name).component, "recall", "all")


@pytest.mark.parametrize("name", NAMES)
def test_what_it_declares_is_what_it_asks_for(name: str, whole: Path, tmp_path: Path) -> None:
    policy = build("optimizer", {"name": name})
    assert set(policy.prompts) <= set(registered(PROMPTS))
    place, _ = undisturbed(name, whole)
    if isinstance(policy, Planning):
        plan = plan_job(config(name, tmp_path), train)
        kinds = Counter(row["scope"].split("/")[0] for row in read_rows(place / "attempts.jsonl"))
        assert plan.exact["training attempts"] == kinds["train"]
        assert all(stage.calls <= stage.most for stage in plan.stages if stage.most is not None)

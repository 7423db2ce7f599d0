"""Every preset composes, in every role it can take, and says in a line what it is."""

from __future__ import annotations

import pytest

from metamem.backbones.engine.options import EngineOptions
from metamem.config import BaseConfig, resolve
from metamem.help import ROLE_GROUPS
from metamem.hydra_bridge import config_folder, export, presets

export()
BACKBONES = sorted(presets("backbone"))
LARGE = ["llama31_70b", "qwen3_235b", "qwen3_30b", "qwen3_4b"]


def composed(*overrides: str) -> BaseConfig:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
        config = resolve(compose("train", overrides=list(overrides)))
    assert isinstance(config, BaseConfig)
    return config


def test_the_models_of_the_paper_have_presets() -> None:
    assert set(LARGE) <= set(BACKBONES)


@pytest.mark.parametrize("group", sorted(p.name for p in config_folder().iterdir() if p.is_dir()))
def test_every_preset_says_in_a_line_what_it_is(group: str) -> None:
    assert all(presets(group).values()), presets(group)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_s_preset_serves_in_every_role(name: str) -> None:
    config = composed(f"backbone={name}", *(f"{group}={name}" for group in ROLE_GROUPS.values()))
    for role in ROLE_GROUPS:
        assert getattr(config, role) == config.backbone


@pytest.mark.parametrize("name", LARGE)
def test_a_large_model_s_preset_leaves_room_for_prompts_and_reflections_and_does_not_think(name: str) -> None:
    options = composed(f"backbone={name}").backbone
    assert isinstance(options, EngineOptions)
    assert options.max_model_len is not None
    assert options.max_model_len - options.max_tokens >= 16384
    assert options.max_model_len >= 16384 + 8192, "a reflection may have 16,384 new tokens"
    assert not options.thinking


def test_a_preset_s_options_can_be_changed_in_its_role() -> None:
    config = composed("backbone=simulated", "backbone@judge=qwen3_4b", "judge.tensor_parallel_size=2")
    assert (config.judge.model, config.judge.tensor_parallel_size) == ("Qwen/Qwen3-4B-Instruct-2507", 2)
    assert config.backbone.name == "simulated"


def test_the_paper_s_experiment_runs_its_models_in_process() -> None:
    config = composed("experiment=paper", "dataset.path=x")
    assert (config.backbone.model, config.backbone.tensor_parallel_size) == ("Qwen/Qwen3-30B-A3B-Instruct-2507", 2)
    assert config.backbone.max_tokens == 4096
    assert (config.judge.model, config.judge.tensor_parallel_size) == ("Qwen/Qwen3-235B-A22B", 4)
    assert config.reflector is config.backbone
    small = composed("experiment=paper", "dataset.path=x", "backbone=qwen3_4b", "backbone@judge=simulated")
    assert (small.backbone.model, small.judge.name) == ("Qwen/Qwen3-4B-Instruct-2507", "simulated")

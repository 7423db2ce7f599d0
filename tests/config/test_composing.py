"""Configs of the same choices are put together once, and none knows of another."""

from __future__ import annotations

from unittest import mock

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf, open_dict

from metamem.cli.composing import composing_once
from metamem.cli.hydra_bridge import config_folder, export


@pytest.mark.slow
def test_configs_of_the_same_choices_are_merged_once_and_are_what_they_are_alone() -> None:
    export()
    jobs = [["memory=turns", "seed=3"], ["memory=turns", "evidence.budget=99"], ["memory=turns", "seed=3"]]
    merge = mock.patch.object(
        ConfigLoaderImpl,
        "_compose_config_from_defaults_list",
        autospec=True,
        side_effect=ConfigLoaderImpl._compose_config_from_defaults_list,
    )
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        alone = [OmegaConf.to_yaml(compose("train", job, return_hydra_config=True)) for job in jobs[:2]]
        with merge as merged, composing_once():
            together = []
            for job in jobs:
                composed = compose("train", job, return_hydra_config=True)
                together.append(OmegaConf.to_yaml(composed))
                with open_dict(composed):
                    composed.memory = {"of": "another"}
            assert merged.call_count == 1
        with merge as merged:
            compose("train", jobs[0])
            assert merged.call_count == 1, "nothing is kept for the next command"
    assert together == [*alone, alone[0]]

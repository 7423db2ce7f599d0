"""Trained weights in the builder's place: another identity, another checkpoint or low-rank changes in the engine."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.nano import FOLDER
from metamem.core.adapters import Adapter, base_of, keep
from metamem.core.errors import ConfigError
from metamem.core.registry import build, load_components

load_components()
NAMES = [
    "plain",
    pytest.param("nano", marks=pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM")),
]


def trained(root: Path, base: str, lora: bool) -> Adapter:
    def fill(folder: Path) -> None:
        if lora:
            (folder / "adapter_config.json").write_text(json.dumps({"r": 12}))
        else:
            shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
            (folder / "more.json").write_text("{}")

    return keep(root, base, lora, fill)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lora", [True, False])
def test_its_replies_and_memories_are_those_of_another_model(name: str, lora: bool, tmp_path: Path) -> None:
    backbone: Any = build("backbone", {"name": name})
    adapter = trained(tmp_path, base_of(backbone.identity()), lora)
    other = backbone.adapted(adapter)
    assert other.identity()["adapter"] == adapter.hash and other.identity() != backbone.identity()
    assert other.identity()["model"] == backbone.identity()["model"]
    if name == "nano":
        spec = other.spec()
        assert spec.key != backbone.spec().key
        assert spec.model == str(FOLDER if lora else adapter.folder)
        assert spec.arguments.get("max_lora_rank") == (16 if lora else None)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_were_trained_from_others_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trained from other weights"):
        build("backbone", {"name": name}).adapted(trained(tmp_path, "others", False))

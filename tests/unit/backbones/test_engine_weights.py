"""Bytes of weights by precision, from the files of a folder or from what the hub says."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metamem.backbones.engine.memory_needs import demand_of, weight_bytes
from metamem.backbones.engine.spec import EngineSpec
from metamem.backbones.engine.weights import find_weights
from metamem.core.errors import DataError
from tests.model_configs import QWEN_30B

BILLION = 10**9


def write_model(folder: Path, config: Mapping[str, Any], stored: Mapping[str, int]) -> Path:
    """A folder with a config.json, and a safetensors file whose header stands for so many bytes by precision."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors, start = {}, 0
    for precision, size in stored.items():
        tensors[f"w.{precision}"] = {"dtype": precision, "shape": [size], "data_offsets": [start, start + size]}
        start += size
    header = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def test_a_folder_s_weights_are_counted_by_their_headers(tmp_path: Path) -> None:
    found = find_weights(str(write_model(tmp_path / "m", QWEN_30B, {"BF16": 61 * BILLION, "F32": 1000})), None)
    assert found.stored == {"BF16": 61 * BILLION, "F32": 1000}
    assert weight_bytes(demand_of(("backbone",), EngineSpec("m"), found, 0)) == 61 * BILLION + 500


def test_the_same_weights_twice_in_a_folder_count_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", QWEN_30B, {"BF16": 100})
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert find_weights(str(folder), None).stored == {"BF16": 100}
    (folder / "consolidated.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    assert find_weights(str(folder), None).stored == {"BF16": 100}


def test_other_files_than_safetensors_count_by_their_size(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", QWEN_30B, {})
    (folder / "model.safetensors").unlink()
    assert find_weights(str(folder), None).stored is None
    (folder / "pytorch_model.bin").write_bytes(bytes(300))
    assert find_weights(str(folder), None).stored == {"": 300}


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", QWEN_30B, {})
    (folder / "model.safetensors").write_bytes(b"not a header at all")
    with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
        find_weights(str(folder), None)


def test_the_hub_s_own_figures_serve_for_a_model_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_30B))
    info = SimpleNamespace(sha="c0ffee", safetensors=SimpleNamespace(parameters={"BF16": 30, "F32": 1}))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *a, **k: info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(tmp_path / "nothing"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: str(tmp_path / "config.json"))
    found = find_weights("some/model", None)
    assert found.stored == {"BF16": 60, "F32": 4}
    assert found.config == QWEN_30B

    def offline(*arguments: Any, **more: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *a, **k: SimpleNamespace(sha="c0ffee"))
    unknown = find_weights("some/model", None)
    assert (unknown.stored, unknown.config) == (None, None)

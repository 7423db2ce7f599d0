"""What the machine has is found without CUDA, and as this process may use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from metamem.core import machine
from metamem.core.errors import ConfigError
from metamem.core.registry import build


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver lists two GPUs and one that it does not describe."""
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'NVIDIA A, 81559, 9.0'; echo 'NVIDIA B, 24576, 8.6'; echo 'C, [N/A], [N/A]'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine._listed.cache_clear()
    yield  # type: ignore[misc]
    machine._listed.cache_clear()


def test_gpus_are_read_from_the_driver(two_gpus: None) -> None:
    assert machine.gpus() == (
        machine.GPU("NVIDIA A", 81559 * machine.MIB, 9.0),
        machine.GPU("NVIDIA B", 24576 * machine.MIB, 8.6),
        None,
    )


def test_gpus_are_counted_as_the_process_sees_them(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert machine.visible_gpus() == (0, 1)
    assert [g.name for g in machine.gpus() if g] == ["NVIDIA B", "NVIDIA A"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.visible_gpus() == ()


def test_host_memory_is_what_this_machine_has() -> None:
    assert 2**28 < machine.host_memory() < 2**50


def test_a_device_that_is_not_there_is_refused_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match=r"embedder\.device=cuda:1: this machine shows no GPU. Choices: cpu, null"):
        build("embedder", {"name": "minilm", "device": "cuda:1"})

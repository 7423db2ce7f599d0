"""The benchmark of GPUs, where there is none: what is skipped and why, and that no measurement harms another."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.benchmarks import gpu, gpu_measures
from metamem.core import machine


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_listed", lambda: ())


def test_without_a_gpu_everything_that_needs_one_is_skipped_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None if name == "trl" else name)
    file = tmp_path / "new" / "gpu.json"
    names = [name for name in gpu.MEASUREMENTS if name != "install"]
    assert gpu.main(["--out", str(file), "--only", *names]) == 0
    held = json.loads(file.read_text())["measurements"]
    assert {name: row["state"] for name, row in held.items()} == dict.fromkeys(names, "skipped")
    assert held["nano"]["reason"] == "the package trl is not installed"
    assert held["turns"]["reason"] == "no NVIDIA GPU is visible"
    assert all(name in capsys.readouterr().out for name in names[:1])
    with pytest.raises(SystemExit, match="name another --out"):
        gpu.main(["--out", str(file), "--tiny"])


def test_what_failed_keeps_its_figures_and_is_measured_again_and_what_is_done_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def limited(command: Sequence[str], log: Path, seconds: float) -> str:
        begun.append(command[2])
        Path(command[4]).write_text(json.dumps({"ratio": 0.5}))
        return "exit code 3: boom" if command[2] == "grpo" and begun.count("grpo") == 1 else ""

    monkeypatch.setattr(gpu, "limited", limited)
    monkeypatch.setattr(gpu, "lacking", lambda *_: "")
    given = ["--out", str(tmp_path / "gpu.json"), "--only", "grpo", "answering"]
    assert [gpu.main([*given, "--tiny"]), begun] == [1, ["grpo", "answering"]]
    held = json.loads((tmp_path / "gpu.json").read_text())["measurements"]
    assert (held["grpo"]["state"], held["grpo"]["reason"]) == ("failed", "exit code 3: boom")
    assert held["grpo"]["figures"] == held["answering"]["figures"] == {"ratio": 0.5}
    assert [gpu.main([*given, "--tiny"]), begun[2:]] == [0, ["grpo"]]
    assert [gpu.main([*given, "--tiny", "--again"]), begun[3:]] == [0, ["grpo", "answering"]]
    other = ["--out", str(tmp_path / "large.json"), "--only", "answering"]
    assert gpu.main(other) == 1, "its ratio is below the bound"


def test_a_measurement_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    log, ids = tmp_path / "log", tmp_path / "ids"
    sleeper = f"{sys.executable} -S -c 'import time; time.sleep(600)'"
    script = f"{sleeper} & echo $! > {ids}; echo so far; wait"
    assert gpu.limited(["sh", "-c", script], log, 0.5).endswith("so far")
    (child,) = map(int, ids.read_text().split())
    deadline = time.monotonic() + 60
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert gpu.limited(["sh", "-c", "echo why >&2; exit 3"], log, 60) == "exit code 3: why"


def test_the_presets_weights_are_as_many_as_was_published() -> None:
    shapes = (gpu_measures.QWEN3_4B, gpu_measures.QWEN3_30B, gpu_measures.SMOLLM2)
    assert [gpu_measures.numbers(shape) for shape in shapes] == [4_022_468_096, 30_532_122_624, 134_515_008]
    assert gpu_measures.MEASURES.keys() == gpu.MEASUREMENTS.keys()

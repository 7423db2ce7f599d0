from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metamem.core.errors import ConfigError, MissingExtraError
from metamem.core.meta_memory import MetaMemory
from metamem.core.registry import REGISTRY, build
from metamem.tracking.trackers import Trackers

CALLS = (
    ("started", ({"id": "x"},)),
    ("stage", ("test", 3, "question")),
    ("advance", ("question", 2)),
    ("measured", (1, {"right": 0.5})),
    ("changed", (1, MetaMemory(), ())),
    ("note", ("text",)),
    ("finished", ({"score": 1.0},)),
    ("close", ()),
)


class Recorder:
    def __init__(self, log: list[Any], name: str = "", broken: str = "") -> None:
        self.log, self.name, self.broken = log, name, broken

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> None:
            self.log.append((self.name, method, arguments))
            if method == self.broken:
                raise RuntimeError(self.name)

        return call


@pytest.mark.parametrize(("method", "arguments"), CALLS)
def test_every_call_reaches_every_tracker_in_order(method: str, arguments: tuple[Any, ...]) -> None:
    log: list[Any] = []
    getattr(Trackers([Recorder(log, "a"), Recorder(log, "b")]), method)(*arguments)
    assert log == [("a", method, arguments), ("b", method, arguments)]


def test_all_trackers_are_closed_although_one_raises() -> None:
    log: list[Any] = []
    trackers = Trackers([Recorder(log, "a", "close"), Recorder(log, "b", "close"), Recorder(log, "c")])
    with pytest.raises(RuntimeError, match="^a$"):
        trackers.close()
    assert [name for name, _, _ in log] == ["a", "b", "c"]


@pytest.mark.parametrize(("method", "arguments"), CALLS)
def test_the_tracker_none_takes_every_call(method: str, arguments: tuple[Any, ...], tmp_path: Path) -> None:
    getattr(build("tracker", {"name": "none"}, run_directory=tmp_path), method)(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_no_option_of_a_tracker_can_change_a_result() -> None:
    for name in REGISTRY.names("tracker"):
        assert not any(f.metadata["result"] for f in REGISTRY.entry("tracker", name).options)


def test_registering_the_trackers_loads_neither_rich_nor_wandb() -> None:
    program = (
        "import sys, metamem.tracking.trackers; print([m for m in ('rich', 'wandb', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_empty_project_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tracker\.project"):
        build("tracker", {"name": "wandb", "project": " "}, run_directory=Path())


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install wandb"):
        build("tracker", {"name": "wandb"}, run_directory=Path())
    build("tracker", {"name": "wandb", "mode": "disabled"}, run_directory=Path())

"""A memory that is a package of its own: from the command line, in a sweep, and killed and continued."""

from __future__ import annotations

import ast
import signal
import time
from pathlib import Path

import pytest

from tests import programs
from tests.plugins import FOLDER, installed

CHOSEN = ["memory=amem", "embedder=hashing", "dataset.limit=2", "split=all", "part=all"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return installed("amem", tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("module", sorted(FOLDER.glob("*/*/*.py")), ids=lambda path: path.parent.name)
def test_a_plugin_is_short_and_imports_only_what_is_public(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 120
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.startswith("metamem.")]


@pytest.mark.slow
def test_in_a_sweep_and_grown_killed_and_continued_a_memory_is_the_same_and_paid_once(
    tmp_path: Path, site: dict[str, str]
) -> None:
    swept, killed = tmp_path / "swept", tmp_path / "killed"
    programs.run("eval", "-m", *CHOSEN, f"outputs={swept}", "memory.neighbours=1,3", **site)
    found = [programs.result_of(p.parent) for p in (swept / "eval").glob("*/result.json") if not p.parent.is_symlink()]
    assert len(found) == 2
    assert all(r["memory"]["built"] == 1 and r["memory"]["costs"]["evolve"]["calls"] > 10 for r in found)
    assert all(r["retrieval"]["costs"]["query"]["calls"] == 2 for r in found), "it brings its retriever"
    keys = programs.journal_keys(swept)
    assert len(keys) == len(set(keys)), "a turn's note is the same whatever it meets"

    # Grown by two sessions at a time, a streamed memory is what it is when it is written at once.
    slowly = [*CHOSEN, "memory.neighbours=3", "memory.sessions=2", "backbone@builder=simulated", "builder.latency=0.03"]
    process = programs.start("eval", *slowly, f"outputs={killed}", **site)
    deadline = time.monotonic() + 120
    while len(rows(killed)) < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    programs.run("eval", *slowly, f"outputs={killed}", **site)
    keys = programs.journal_keys(killed)
    assert len(keys) == len(set(keys)), "nothing is asked again"
    assert max(units(killed), key=len) in units(swept)


def rows(outputs: Path) -> list[str]:
    """The whole lines of the journal so far."""
    return [line for file in outputs.glob("*/journal/**/*.jsonl") for line in file.read_text().split("\n")[:-1]]


def units(outputs: Path) -> list[str]:
    """The units of each bank."""
    return [file.read_text() for file in outputs.rglob("units.jsonl")]

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
def test_a_sweep_over_a_plugins_option_builds_each_memory_and_shares_what_is_the_same(
    tmp_path: Path, site: dict[str, str]
) -> None:
    assert "A-MEM: linked notes of turns that later notes rewrite." in programs.run("eval", "--help", **site)
    given = ["-m", *CHOSEN, f"outputs={tmp_path}", "memory.neighbours=1,3"]
    programs.run("eval", *given, **site)
    runs = [path.parent for path in (tmp_path / "eval").glob("*/result.json") if not path.parent.is_symlink()]
    found = [programs.result_of(run) for run in runs]
    assert len(found) == 2
    assert all(r["memory"]["built"] == 1 and r["memory"]["costs"]["evolve"]["calls"] > 10 for r in found)
    assert all(r["retrieval"]["costs"]["query"]["calls"] == 2 for r in found), "it brings its retriever"
    keys = programs.journal_keys(tmp_path)
    assert len(keys) == len(set(keys)), "a turn's note is the same whatever it meets"
    assert programs.run("eval", *given, **site).count("already finished") == 2


@pytest.mark.slow
def test_killed_while_it_writes_and_continued_the_memory_is_the_same_and_nothing_is_asked_again(
    tmp_path: Path, site: dict[str, str]
) -> None:
    programs.run("eval", *CHOSEN, f"outputs={tmp_path / 'whole'}", **site)
    slowly = [*CHOSEN, f"outputs={tmp_path / 'killed'}", "backbone@builder=simulated", "builder.latency=0.03"]
    process = programs.start("eval", *slowly, **site)
    deadline = time.monotonic() + 120
    while len(written := rows(tmp_path / "killed")) < 20:
        assert process.poll() is None and time.monotonic() < deadline, written
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    programs.run("eval", *slowly, **site)
    assert units(tmp_path / "killed") == units(tmp_path / "whole")
    keys = programs.journal_keys(tmp_path / "killed")
    assert len(keys) == len(set(keys)) == len(programs.journal_keys(tmp_path / "whole"))


def rows(outputs: Path) -> list[str]:
    """The whole lines of the journal so far."""
    return [line for file in outputs.glob("*/journal/**/*.jsonl") for line in file.read_text().split("\n")[:-1]]


def units(outputs: Path) -> list[str]:
    """The units of all banks."""
    return sorted(line for file in outputs.rglob("units.jsonl") for line in file.read_text().splitlines())

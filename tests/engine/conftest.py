"""One engine with the tiny checkpoint for all tests of a session that ask one; skipped where vLLM is not installed.

It stands in the process's pool, so that programs which run in this process (`programs.run_here`) take it, too: an
engine's start costs more than all that most tests ask of it.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metamem.backbones.engine import tiny_checkpoint
from metamem.backbones.engine.devices import this_machine
from metamem.backbones.engine.placement import Placement
from metamem.backbones.engine.pool import EnginePool, shared_pool
from metamem.core.registry import REGISTRY, load_components


@pytest.hookimpl(tryfirst=True)  # groups are read by the hook of pytest-xdist
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder starts an engine; vLLM's own warnings are not ours to mend."""
    here = Path(__file__).parent
    own = [item for item in items if item.path.parent == here]
    # They take longest and follow one another, in one process: they begin while others do all the rest.
    rest = [item for item in items if item.path.parent != here]
    items[:] = own + rest
    for item in own:
        item.add_marker(pytest.mark.engine)
        item.add_marker(pytest.mark.xdist_group("engine"))
        item.add_marker(pytest.mark.timeout(1800))  # a busy machine takes minutes for what an idle one does in one
        item.add_marker(pytest.mark.filterwarnings("ignore"))
        if importlib.util.find_spec("vllm") is None:
            item.add_marker(pytest.mark.skip(reason="needs vLLM (the extra gpu or cpu)"))


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """Engines take as many threads as they take elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint."""
    return tiny_checkpoint.write(tmp_path_factory.mktemp("model") / "tiny")


def build(model: Path, **options: Any) -> Any:
    """The tiny backbone, not started."""
    load_components()
    return REGISTRY.build("backbone", {"name": "tiny", "path": str(model), **options})


def engine_processes(name: str = "") -> list[Any]:
    """The engines' processes below this one, cores and workers: psutil's processes with `name` in their command."""
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:  # it left, or is left for its parent to notice
            continue
        if name in command and "resource_tracker" not in command:
            found.append(process)
    return found


@pytest.fixture(scope="session")
def pool() -> Iterator[EnginePool]:
    """The process's pool of engines, which ends with the session."""
    yield shared_pool()
    asyncio.run(shared_pool().close())


@pytest.fixture
def backbone(model: Path, pool: EnginePool) -> Iterator[Any]:
    """A started backbone on the session's engine."""
    made = build(model)

    async def start() -> None:
        await pool.prepare([made.spec()], this_machine().devices, Placement.auto)
        await made.start()

    asyncio.run(start())
    yield made
    asyncio.run(made.close())

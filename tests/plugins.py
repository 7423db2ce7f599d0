"""The plugins of experiments/plugins: as installed packages for programs, and in this process for generic tests."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metamem.core.registry import REGISTRY, load_components
from metamem.prompts import catalog
from metamem.prompts.templates import Prompts

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "plugins"


def installed(name: str, site: Path) -> dict[str, str]:
    """Install a plugin below a folder of its own, and return the environment in which programs find it there."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(site), str(FOLDER / name)], check=True, capture_output=True)
    return {"PYTHONPATH": os.pathsep.join([str(site), str(FOLDER.parents[1])])}


@contextmanager
def registered(name: str) -> Iterator[None]:
    """Register a plugin's components and templates in this process, and forget them afterwards."""
    load_components()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "_groups", {group: dict(held) for group, held in catalog._groups.items()})
        patch.setattr(Prompts, "Config", Prompts.Config)
        patch.setattr(REGISTRY, "_entries", {kind: dict(held) for kind, held in REGISTRY._entries.items()})
        patch.syspath_prepend(str(FOLDER / name))
        importlib.import_module(name)
        yield
        del sys.modules[name]
    catalog.every_template.cache_clear()

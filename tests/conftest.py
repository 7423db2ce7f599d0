"""Shared fixtures: real benchmark data where it is present, and a clean environment for programs that are started."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    """The folder of real benchmark data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the real benchmark data, which is not part of the project")
    return SHARED

"""Result files made for a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

PlainFile = Callable[..., Path]


@pytest.fixture
def plain_file(tmp_path: Path) -> PlainFile:
    """Writes a plain result file: question id → right, with fields that all rows share."""

    def write(name: str, verdicts: Mapping[str, bool | None], **fields: Any) -> Path:
        rows = [{"question_id": q, "correct": right, **fields} for q, right in verdicts.items()]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"per_question": rows}), encoding="utf-8")
        return path

    return write

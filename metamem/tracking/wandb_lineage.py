"""Lineage at W&B: the artifact that a run makes, and those that an evaluation reads.

In: results and files of runs. Out: `Made` records, the same for the training that logs a meta-memory and for the
evaluation that reads it: equal name and files give an equal digest, by which W&B knows that it is the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metamem.core.files import read_object


@dataclass(frozen=True)
class Made:
    """An artifact: `kind` is meta-memory or evaluation."""

    name: str
    kind: str
    files: tuple[Path, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def made_by(result: Mapping[str, Any], directory: Path) -> Made | None:
    """What a finished run leaves: a training its chosen checkpoint, an evaluation its result; both their manifest."""
    about = {k: result.get(k) for k in ("name", "seed", "best_step", "score", "stamps")}
    best, steps = result.get("best_step"), result.get("steps")
    step = best if isinstance(best, int) else steps
    checkpoint = directory / "checkpoints" / f"step_{step:04d}.json" if isinstance(step, int) else None
    if checkpoint is not None and checkpoint.exists():
        return _meta_memory(checkpoint, about)
    return _evaluation(directory, about)


def read_from(file: Path) -> Made | None:
    """What an evaluation reads: a run's checkpoint, a file of guidelines of no run, or (judging again) a whole run."""
    if file.is_dir():
        if not (file / "result.json").exists():
            return None
        return made_by(read_object(file / "result.json"), file)
    return _meta_memory(file, {}) if file.exists() else None


def _meta_memory(file: Path, about: Mapping[str, Any]) -> Made:
    manifest = file.parent.parent / "manifest.json"
    if file.parent.name == "checkpoints" and manifest.exists():
        name = str(read_object(manifest).get("id"))
        return Made(f"meta-memory-{_plain(name)}", "meta-memory", (manifest, file), about)
    return Made(f"guidelines-{_plain(file.stem)}", "meta-memory", (file,), about)


def _evaluation(directory: Path, about: Mapping[str, Any]) -> Made | None:
    manifest = directory / "manifest.json"
    if not manifest.exists():
        return None
    files = tuple(f for f in (manifest, directory / "result.json") if f.exists())
    return Made(f"evaluation-{_plain(str(read_object(manifest).get('id')))}", "evaluation", files, about)


def _plain(name: str) -> str:
    """A name in the letters that W&B takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:100] or "unnamed"

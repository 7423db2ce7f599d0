"""The meta-memories under evaluation, found in runs, checkpoints and files.

In: what `meta_memory=` names. Out: an `EvaluatedSystem` each; `DataError` or `ConfigError` for what cannot be found or
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.core.checkpoints import load_checkpoint
from metamem.core.errors import ConfigError, DataError
from metamem.core.files import read_json, read_object, read_rows
from metamem.core.json_form import from_json
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Attempt
from metamem.runs.directory import CHECKPOINTS, find_checkpoints


@dataclass(frozen=True)
class EvaluatedSystem:
    """A meta-memory under evaluation (None: without), its label, the run that trained it, and the file that it comes
    from: the checkpoint, also where a study made something else of that. `step` and `recall` are those that the file
    tells.
    """

    label: str
    meta_memory: MetaMemory | None
    run: Path | None = None
    file: Path | None = None
    step: int | None = None
    recall: Mapping[str, Any] | None = None


def read_systems(given: Any) -> list[EvaluatedSystem]:
    """The meta-memories that `meta_memory` names: null, a run's directory, a checkpoint or a JSON file, or a list of
    these.

    Raises `ConfigError` or `DataError` naming what cannot be found or read.
    """
    entries = list(given) if isinstance(given, (list, tuple)) else [given]
    if not entries:
        raise ConfigError("meta_memory: the list is empty")
    systems = [_read_system(e) for e in entries]
    seen: dict[str, int] = {}
    unique = []
    for system in systems:
        seen[system.label] = seen.get(system.label, 0) + 1
        unique.append(
            replace(system, label=f"{system.label} #{seen[system.label]}") if seen[system.label] > 1 else system
        )
    return unique


def _read_system(entry: Any) -> EvaluatedSystem:
    if entry is None or (isinstance(entry, str) and entry.lower() in ("null", "none", "")):
        return EvaluatedSystem("without", None)
    if not isinstance(entry, str):
        raise ConfigError(f"meta_memory: expected a path or null, got {entry!r}")
    path = Path(entry)
    if not path.exists():
        raise DataError(f"meta_memory: no such file or run: {path}")
    path = path.resolve()
    if path.is_dir():
        checkpoints = find_checkpoints(path)
        if not checkpoints:
            raise DataError(f"meta_memory: {entry} is not a training run: it holds no {CHECKPOINTS}/step_*.json")
        result = read_object(path / "result.json", absent={})
        best = result.get("best_step")
        chosen = path / CHECKPOINTS / f"step_{best:04d}.json" if isinstance(best, int) else checkpoints[-1]
        return _of_file(f"{path.name} {_step_name(chosen)}", chosen, path, chosen)
    run = _run_of(path)
    label = f"{run.name} {_step_name(path)}" if run else path.stem
    made_of = read_json(path)
    source = Path(str(made_of.get("source", ""))) if isinstance(made_of, dict) else Path()
    return _of_file(label, path, run, source if source.is_file() and _run_of(source) else path)


def _of_file(label: str, path: Path, run: Path | None, file: Path) -> EvaluatedSystem:
    held = load_checkpoint(path)
    return EvaluatedSystem(label, held.meta_memory, run, file, held.step, held.recall)


def _run_of(checkpoint: Path) -> Path | None:
    """The run whose checkpoint a file is."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and (run / "manifest.json").exists() else None


def _step_name(checkpoint: Path) -> str:
    return f"step {int(checkpoint.stem.removeprefix('step_'))}"


def stored_attempts(source: Path, part: str, key: str = "from") -> dict[str, list[Attempt]]:
    """System → the attempts that a run stored for a part of the data; `key` is the option that named the run.

    Raises `DataError` when it stored none for it, naming those it did.
    """
    parts: dict[str, dict[str, list[Attempt]]] = {}
    for row in read_rows(source / "attempts.jsonl"):
        attempt = from_json(Attempt, row)
        where, system, _ = attempt.scope.split("/", 2)
        parts.setdefault(where, {}).setdefault(system, []).append(attempt)
    if part not in parts:
        raise DataError(
            f"{key}: {source} holds no attempts for part={part}; it has {', '.join(sorted(parts)) or 'none'}"
        )
    return parts[part]


def system_names(source: Path, part: str, stored: Mapping[str, Any]) -> dict[str, str]:
    """The label of each system whose attempts a run stored for a part: of an evaluation by its place in the list, of a
    training's test by its name, of its other parts by the step.
    """
    result = read_object(source / "result.json", absent={})
    systems = [s["label"] for s in result.get("systems", [])]
    by_word = {label.split(" ")[0]: label for label in systems}
    names = {}
    for system in stored:
        if result.get("kind") == "eval":
            names[system] = systems[int(system)] if system.isdigit() and int(system) < len(systems) else system
        else:
            names[system] = by_word.get(system, system) if part == "test" else f"step {system}"
    return names

"""The overrides that a job was given, those of them that have no effect, and the commands that come next."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from metamem.core.errors import ConfigError

AROUND = ("run", "journal", "tracker", "placement", "study", "experiment", "ablation", "hydra", "evaluate")


def refuse_idle(taken: Sequence[str], why: str) -> None:
    """Refuse what was given on the command line and has no effect: all but the options `taken`, by their first word.

    Raises `ConfigError` naming the first, with `why`.
    """
    for override in job_overrides():
        key = override.lstrip("+~").partition("=")[0]
        group, _, role = key.partition("@")
        if (role or group).split(".")[0].split("/")[0] not in taken:
            shown = ", ".join(k.rstrip("_") for k in taken if k not in AROUND)
            raise ConfigError(f"{key} has no effect here: {why}. Leave it out; what has an effect: {shown}")


_GIVEN: ContextVar[list[str] | None] = ContextVar("overrides of a job that Hydra did not compose", default=None)


@contextmanager
def given_overrides(overrides: Sequence[str]) -> Iterator[None]:
    """Have `job_overrides` return these inside: for jobs that a study or a Python program starts."""
    token = _GIVEN.set(list(overrides))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def job_overrides() -> list[str]:
    """Return the overrides of this job as typed; none when its config was not composed by Hydra."""
    from hydra.core.hydra_config import HydraConfig

    if (given := _GIVEN.get()) is not None:
        return list(given)
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def next_command(directory: Path) -> str:
    """The command that evaluates a finished training run on the same data and models."""
    script = Path(sys.argv[0])
    program = f"{_shown_python()} {script.with_name('eval.py')}" if script.name == "train.py" else "metamem-eval"
    training_only = (
        "optimizer",
        "recall",
        "accept",
        "train_questions",
        "test_steps",
        "run.",
        "eval_every",
        "tracker",
        "cluster",
        "split",
        "name=",
        "hydra",
        "backbone@reflector",
        "reflector.",
    )
    kept = [o for o in job_overrides() if not o.lstrip("+~").startswith(training_only)]
    return shlex.join([*program.split(), f"meta_memory={directory}", *kept])


def real_command() -> str:
    """Return the command that does the same with data and a model of one's own; for runs whose replies mean nothing."""
    script = Path(sys.argv[0])
    program = f"{_shown_python()} {script}" if script.name == "train.py" else "metamem-train"
    return f"{program} dataset=longmemeval dataset.path=longmemeval_s.json backbone=qwen3_4b"


def _shown_python() -> str:
    """This interpreter as a user in this folder would call it."""
    with contextlib.suppress(ValueError):
        return str(Path(sys.executable).relative_to(Path.cwd()))
    return "python"

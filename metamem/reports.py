"""What training and evaluation say of judged attempts, and who is told.

In: judged questions, gathered evidence. Out: aggregates per evaluator and system, rows in the run's logs, trackers that
are closed whatever happens.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from metamem.config import BaseConfig
from metamem.contracts import Judged, Tracker
from metamem.records import Question, Verdict, to_json
from metamem.registry import build
from metamem.retrieval.metrics import aggregate as aggregate_retrieval
from metamem.runs import Run
from metamem.stages import Gathered
from metamem.statistics.aggregates import Outcome, aggregate


@contextmanager
def open_trackers(
    config: BaseConfig, run: Run, about: Mapping[str, Any], console: Tracker | None = None
) -> Iterator[Tracker]:
    """The console (its own, where none is given) and the chosen tracker as one; closed also after an error."""
    from metamem.tracking.console import Console
    from metamem.tracking.trackers import Trackers

    watching: list[Tracker] = [console or Console()]
    if config.tracker is not None:
        watching.append(build("tracker", config.tracker, run_directory=run.directory))
    trackers = Trackers(watching)
    try:
        yield trackers
    finally:
        trackers.close()


def outcomes(judged: Sequence[Judged], evaluator: str, retrieved: Mapping[str, bool | None]) -> list[Outcome]:
    """One outcome per attempt by one evaluator."""
    rows = []
    for j in judged:
        for v in (*j.verdicts, *j.other_verdicts):
            if v.evaluator == evaluator:
                rows.append(
                    Outcome(
                        j.question.id,
                        j.question.type,
                        j.question.abstention,
                        v.correct if v.valid else None,
                        v.score,
                        retrieved.get(j.question.id),
                    )
                )
    return rows


def figures(by_label: Mapping[str, Sequence[Judged]], gathered: Gathered) -> dict[str, dict[str, Any]]:
    """Evaluator → system → aggregate."""
    verdicts: list[Verdict] = [
        v for judged in by_label.values() for j in judged for v in (*j.verdicts, *j.other_verdicts)
    ]
    return {
        name: {label: aggregate(outcomes(judged, name, gathered.retrieved)) for label, judged in by_label.items()}
        for name in sorted({v.evaluator for v in verdicts})
    }


def retrieval_figures(gathered: Gathered, questions: Iterable[Question]) -> dict[str, float] | None:
    """Mean retrieval metrics over the questions whose evidence is known; None when it is for none of them."""
    rows = [gathered.metrics.get(q.id) for q in questions]
    return aggregate_retrieval(rows) if any(row is not None for row in rows) else None


def strict_score(judged: Sequence[Judged]) -> float | None:
    """Share of right answers by the reward, an invalid verdict counted as wrong; the mean over questions of the mean
    over attempts.
    """
    shares = [sum(bool(v.correct) for v in j.verdicts) / len(j.verdicts) for j in judged if j.verdicts]
    return round(sum(shares) / len(shares), 6) if shares else None


def evaluation_rows(run: Run, judged: Sequence[Judged]) -> None:
    """Append the attempts and verdicts of an evaluation to the run's logs."""
    run.append("attempts.jsonl", [to_json(a) for j in judged for a in j.attempts])
    run.append("verdicts.jsonl", [to_json(v) for j in judged for v in (*j.verdicts, *j.other_verdicts)])


_GIVEN: ContextVar[list[str] | None] = ContextVar("overrides of a job that Hydra did not compose", default=None)


@contextmanager
def given_overrides(overrides: Sequence[str]) -> Iterator[None]:
    """Within it, `job_overrides` gives these: for jobs that a study starts by itself."""
    token = _GIVEN.set(list(overrides))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def job_overrides() -> list[str]:
    """The command line's overrides of this job; empty when the config was not composed by Hydra."""
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


STAND_INS = ("simulated", "tiny", "nano")


def real_command(backbone: str) -> str:
    """The command that does the same with a model of one's own, after a run of a backbone that is there to be tried."""
    if backbone not in STAND_INS:
        return ""
    script = Path(sys.argv[0])
    program = f"{_shown_python()} {script}" if script.name == "train.py" else "metamem-train"
    return f"{program} dataset=longmemeval dataset.path=longmemeval_s.json backbone=qwen3_4b"


def _shown_python() -> str:
    """This interpreter as a user in this folder would call it."""
    with contextlib.suppress(ValueError):
        return str(Path(sys.executable).relative_to(Path.cwd()))
    return "python"

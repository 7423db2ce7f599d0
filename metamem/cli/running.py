"""One call of a program, from the words of its command line to its exit code: Hydra, jobs, sweeps.

In: the program's name and the arguments. Out: 0 when all went well, 2 when jobs of a sweep failed for a user's mistake,
1 for other failures; whatever ends a single job is raised.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from metamem.cli.arguments import (
    combined,
    jobs_and_options,
    ordered,
    refuse_other_program,
    refuse_secrets,
    shows_only,
    spelled,
    studied_by,
    study_params,
    with_all,
)
from metamem.cli.composing import composing_once
from metamem.cli.explain import explain
from metamem.cli.hydra_bridge import config_folder, export
from metamem.cli.launchers import check_job, find_launch, key_of, sweep_name
from metamem.cli.readiness import refuse_unready
from metamem.cli.sweeps import Sweep, record_job
from metamem.cli.telling import tell
from metamem.config.resolve import resolve
from metamem.core.errors import BudgetReachedError, ConfigError, Interrupted, UserError
from metamem.programs.overrides import job_overrides
from metamem.reporting.console.text import WARNING, open_console, say


def run(program: str, arguments: Sequence[str]) -> int:
    """Run `train` or `eval` with checked arguments. Raises what a single job raises."""
    arguments = combined(ordered([spelled(a) for a in arguments]))
    refuse_secrets(arguments)
    export()
    multirun = any(a in ("-m", "--multirun") for a in arguments)
    swept = study_params(arguments)
    refuse_other_program(program, arguments)
    if swept is not None and not multirun and not shows_only(arguments):
        # A study sweeps over one of the programs; the other takes the rest of its settings.
        multirun = program == studied_by(arguments)
        arguments = ["-m", *arguments] if multirun else [*arguments, "hydra.mode=RUN"]
    if not multirun and not shows_only(arguments) and any(re.match(r"cluster=(?!null$)", a) for a in arguments):
        # One job is a sweep of one: only a sweep has a launcher.
        multirun, arguments = True, ["-m", *arguments]
    if multirun:
        arguments = with_all(arguments)
    if multirun and any(re.match(r"\+*run\.dir=", a) for a in arguments):
        raise ConfigError(
            "run.dir cannot be given with -m: the jobs of a sweep would share one directory. "
            "Use outputs=DIR or name=NAME."
        )
    with composing_once():
        if multirun and swept is not None:
            refuse_unready(program, arguments, str(config_folder()))
        return _hydra(program, arguments, str(config_folder()), multirun)


def _hydra(program: str, arguments: Sequence[str], folder: str, multirun: bool) -> int:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    code = 0
    # Hydra prints errors and exits with 1 by itself; it is told to raise instead, so that the exit code is ours.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    launch = find_launch(program, arguments, folder) if multirun else None
    try:
        place = launch.folder if launch is not None and not launch.here else None
        sweep = Sweep.begin(*jobs_and_options(arguments), place) if multirun else None
    except OSError as error:
        raise ConfigError(f"outputs: {error.filename or place} cannot be written: {error.strerror}") from None
    sys.argv = [sys.argv[0], *arguments]
    if multirun and not any(key_of(a) == "hydra.job.name" for a in arguments):
        sys.argv.append(f"hydra.job.name='{sweep_name(program, arguments)}'")
    failures: list[Exception] = []

    def single(composed: Any) -> float | None:
        # Hydra comments on every exception that leaves a job; a single job's is kept and raised after Hydra is done.
        try:
            return _job(composed)
        except Exception as error:
            failures.append(error)
            return None

    try:
        job = _job if multirun else single
        hydra.main(version_base="1.3", config_path=folder, config_name=program)(job)()
        if failures:
            raise failures[0]
    except Exception as error:
        if failures:
            raise
        if sweep is not None and sweep.has_failures():
            # A job's own error: shown when it happened, and named in the summary.
            mendable = isinstance(error, (UserError, HydraException, OmegaConfBaseException))
            code = error.exit_code if isinstance(error, UserError) else 2 if mendable else 1
        elif isinstance(error, UserError):
            raise
        elif isinstance(error, OSError) and not isinstance(error, HydraException):
            raise ConfigError(f"outputs: {error.filename or folder} cannot be written: {error.strerror}") from None
        elif isinstance(error, (HydraException, OmegaConfBaseException, ValueError)):
            raise explain(program, arguments, error) from None
        else:
            raise
    finally:
        if sweep is not None:
            sweep.end()
    if sweep is not None and sweep.conclude():
        code = code or 2
    return code


def _job(composed: Any) -> float | None:
    """One job: a config in, the score that sweepers optimise out. Hydra calls it, once or for every job of a sweep."""
    # The programs pull in all of the package: what only shows a config goes without them.
    from metamem.cli.jobs import perform

    export()
    with record_job() as outcome:
        try:
            outcome.study = str(composed.get("study") or "")
            console = open_console()
            config = resolve(composed, job_overrides(), lambda text: say(console, f"note: {text}", WARNING))
            if outcome.sweeping:
                check_job(config)
            result = perform(config)
        except UserError as error:
            if outcome.sweeping:
                before = outcome.failed_before(error)
                tell(error if before is None else f"the same as in job {before}")
                if isinstance(error, BudgetReachedError):
                    # No further job may ask for anything either: the sweep stops as when a signal stops it.
                    raise Interrupted from None
            raise
        except Exception:
            if outcome.sweeping:
                traceback.print_exc()
            raise
        outcome.finished(result)
    score = result.get("score")
    return None if score is None else float(score)

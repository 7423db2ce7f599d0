"""The two programs, `metamem-train` and `metamem-eval`, from the command line to an exit code.

In: Hydra overrides. Out: 0 when all went well; 2 with one message on standard error for a mistake the user can mend;
130 or 143 when interrupted (the same command continues); a traceback for a bug.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from metamem.errors import ConfigError, UserError


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGUSR1 arrived (preemption): everything delivered is kept, and the same command continues."""


def train() -> None:
    """Entry point of `metamem-train` and experiments/train.py."""
    sys.exit(run_program("train", sys.argv[1:]))


def evaluate() -> None:
    """Entry point of `metamem-eval` and experiments/eval.py."""
    sys.exit(run_program("eval", sys.argv[1:]))


def run_program(program: str, arguments: Sequence[str]) -> int:
    """Run `train` or `eval` with command-line arguments; returns the exit code."""
    from metamem.hydra_bridge import config_folder, export

    try:
        export()
        if any(a in ("--help", "-h") for a in arguments):
            from metamem.help import help_page

            print(help_page(program))
            return 0
        multirun = any(a in ("-m", "--multirun") for a in arguments)
        arguments = [_spelled(a) for a in arguments]
        if multirun and any(re.match(r"\+*run\.dir=", a) for a in arguments):
            raise ConfigError(
                "run.dir cannot be given with -m: the jobs of a sweep would share one directory. "
                "Use outputs=DIR or name=NAME."
            )
        return _hydra(program, arguments, str(config_folder()), multirun)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        print("\nstopped: everything delivered is kept; the same command continues.", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("\ninterrupted: everything delivered is kept; the same command continues.", file=sys.stderr)
        return 130


def _hydra(program: str, arguments: Sequence[str], folder: str, multirun: bool) -> int:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from metamem.sweeps import Sweep

    # Hydra prints errors and exits with 1 by itself; it is told to raise instead, so that the exit code is ours.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sweep = Sweep.begin() if multirun else None
    sys.argv = [sys.argv[0], *arguments]
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
    except (HydraException, OmegaConfBaseException) as error:
        from metamem.help import explain

        raise explain(program, arguments, error) from None
    except UserError:
        if sweep is None:
            raise
        return 2
    except Exception:
        if sweep is None:
            raise
        return 1
    finally:
        if sweep is not None:
            sweep.end()
    return 0


def _job(composed: Any) -> float | None:
    """One job: a config in, the score that sweepers optimise out. Hydra calls it, once or for every job of a sweep."""
    from metamem.config import TrainConfig, resolve
    from metamem.hydra_bridge import export
    from metamem.sweeps import record_job

    export()
    with record_job() as outcome:
        try:
            config = resolve(composed)
            if isinstance(config, TrainConfig):
                from metamem.training import train_folds

                result = train_folds(config)
            else:
                from metamem.evaluation import evaluate

                result = evaluate(config)
        except UserError as error:
            if outcome.sweeping:
                print(f"error: {error}", file=sys.stderr)
            raise
        except Exception:
            if outcome.sweeping:
                traceback.print_exc()
            raise
        outcome.finished(result)
    score = result.get("score")
    return None if score is None else float(score)


def _spelled(argument: str) -> str:
    # `from` is a word of Python's and cannot name a dataclass field.
    return re.sub(r"^(\+{0,2})from=", r"\1from_=", argument)

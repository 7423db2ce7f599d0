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

from metamem.errors import ConfigError, UserError, unknown


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
        arguments = _ordered([_spelled(a) for a in arguments])
        _refuse_secrets(arguments)
        multirun = any(a in ("-m", "--multirun") for a in arguments)
        swept = study_params(arguments)
        _refuse_other_program(program, arguments)
        if swept is not None and not multirun and not _shows_only(arguments):
            # A study sweeps over one of the programs; the other takes the rest of its settings.
            multirun = program == _studied_by(arguments)
            arguments = ["-m", *arguments] if multirun else [*arguments, "hydra.mode=RUN"]
        if not multirun and not _shows_only(arguments) and any(re.match(r"cluster=(?!null$)", a) for a in arguments):
            # One job is a sweep of one: only a sweep has a launcher.
            multirun, arguments = True, ["-m", *arguments]
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

    from metamem.launchers import find_launch
    from metamem.sweeps import Sweep

    code = 0
    # Hydra prints errors and exits with 1 by itself; it is told to raise instead, so that the exit code is ours.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    launch = find_launch(program, arguments, folder) if multirun else None
    try:
        place = launch.folder if launch is not None and not launch.here else None
        sweep = Sweep.begin(*_jobs_and_options(arguments), place) if multirun else None
    except OSError as error:
        raise ConfigError(f"outputs: {error.filename or place} cannot be written: {error.strerror}") from None
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
    except Exception as error:
        if failures:
            raise
        if sweep is not None and sweep.has_failures():
            # A job's own error: shown when it happened, and named in the summary.
            code = 2 if isinstance(error, (UserError, HydraException, OmegaConfBaseException)) else 1
        elif isinstance(error, UserError):
            raise
        elif isinstance(error, OSError) and not isinstance(error, HydraException):
            raise ConfigError(f"outputs: {error.filename or folder} cannot be written: {error.strerror}") from None
        elif isinstance(error, (HydraException, OmegaConfBaseException, ValueError)):
            from metamem.explain import explain

            raise explain(program, arguments, error) from None
        else:
            raise
    finally:
        if sweep is not None:
            sweep.end()
    if sweep is not None and sweep.conclude():
        code = code or 2
    return code


def _jobs_and_options(arguments: Sequence[str]) -> tuple[int | None, list[str]]:
    """How many jobs the arguments of a sweep make, as far as that is known, and the options that they vary."""
    from metamem.sweeps import count_jobs, swept_options

    params = [f"{key}={value}" for key, value in (study_params(arguments) or {}).items()]
    overrides = [*params, *(a for a in arguments if "=" in a and not a.startswith("-"))]
    return count_jobs(overrides), swept_options(overrides)


def _shows_only(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask Hydra to show something instead of running."""
    return any(a in ("--cfg", "-c", "--info", "-i", "--hydra-help") or a.startswith("--info=") for a in arguments)


def _experiment(arguments: Sequence[str]) -> dict[str, Any]:
    """The chosen experiment's file as it is written, several (`experiment=[a,b]`) as one, of which the later ones win;
    empty when none is chosen, or there is no such file.
    """
    from omegaconf import OmegaConf

    from metamem.hydra_bridge import config_folder

    given = next((a.partition("=")[2] for a in reversed(arguments) if a.startswith("experiment=")), "")
    names = [n.strip() for n in given[1:-1].split(",")] if re.fullmatch(r"\[.*\]", given) else [given]
    paths = [config_folder() / "experiment" / f"{n}.yaml" for n in names if re.fullmatch(r"[A-Za-z0-9_-]+", n)]
    files = (OmegaConf.load(path) for path in paths if path.exists())
    written: Any = OmegaConf.to_container(OmegaConf.merge({}, *files))
    return written if isinstance(written, dict) else {}


def _studied_by(arguments: Sequence[str]) -> str:
    """The program whose jobs the chosen study is made of."""
    from metamem.config import EVALUATION_STUDIES

    return "eval" if _experiment(arguments).get("study") in EVALUATION_STUDIES else "train"


def _refuse_other_program(program: str, arguments: Sequence[str]) -> None:
    if program == "train" and _studied_by(arguments) == "eval":
        study = _experiment(arguments)["study"]
        raise ConfigError(f"experiment={study} is a study of evaluations: give the same command to eval.py")


def study_params(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What the chosen experiment sweeps over, key → values as typed; None when it is not a sweep.

    Hydra finds out by itself only after it has begun a single job.
    """
    hydra: Any = _experiment(arguments).get("hydra")
    if not isinstance(hydra, dict) or hydra.get("mode") != "MULTIRUN":
        return None
    return dict((hydra.get("sweeper") or {}).get("params") or {})


def _job(composed: Any) -> float | None:
    """One job: a config in, the score that sweepers optimise out. Hydra calls it, once or for every job of a sweep."""
    from metamem.config import TrainConfig, resolve
    from metamem.hydra_bridge import export
    from metamem.launchers import check_job
    from metamem.sweeps import record_job

    export()
    with record_job() as outcome:
        try:
            outcome.study = str(composed.get("study") or "")
            config = resolve(composed)
            if outcome.sweeping:
                check_job(config)
            if config.dry_run:
                from metamem.studies.dry_run import dry_run

                result = dry_run(config)
            elif isinstance(config, TrainConfig):
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


# Hydra's flags that make sense here, and how many words follow each.
_FLAGS = {
    **dict.fromkeys(("-m", "--multirun", "--resolve", "--hydra-help", "--version"), 0),
    **dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--info", "-i"), 1),
}


def _ordered(arguments: Sequence[str]) -> list[str]:
    """Flags first, overrides after them: Hydra reads nothing but overrides behind the first one.

    Raises `ConfigError` for a flag that does not exist.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, _, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(argument)
        elif name not in _FLAGS or (value and not _FLAGS[name]):
            raise ConfigError(unknown("flag", argument, [*_FLAGS, "--help"]))
        else:
            flags.append(argument)
            following = [] if value else [w for _, w in zip(range(_FLAGS[name]), rest, strict=False)]
            flags += following
    if any(f in ("-m", "--multirun") for f in flags) and any(f in ("--cfg", "-c") for f in flags):
        raise ConfigError("--cfg shows one composed config: leave -m out")
    return [*flags, *overrides]


def _refuse_secrets(arguments: Sequence[str]) -> None:
    """Refuse keys and passwords before Hydra writes the overrides of a sweep to a file; none is repeated."""
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        if key.endswith("base_url") and re.search(r"//[^/@\s]*@", value):
            raise ConfigError(f"{key}: an address with a user name or password in it is not taken; use {_sibling(key)}")
        if key.endswith("api_key_env") and not re.fullmatch(
            r"['\"]?[A-Za-z_][A-Za-z0-9_]*['\"]?(,[A-Za-z_][A-Za-z0-9_]*)*", value
        ):
            raise ConfigError(f"{key} is the name of an environment variable that holds the key, not the key itself")


def _sibling(key: str) -> str:
    return key.removesuffix("base_url") + "api_key_env=NAME_OF_A_VARIABLE"


def _spelled(argument: str) -> str:
    # `from` is a word of Python's and cannot name a dataclass field.
    return re.sub(r"^(\+{0,2})from=", r"\1from_=", argument)

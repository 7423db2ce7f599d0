"""The words of a command line before Hydra reads them: flags first, no secrets, nothing for the other program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.cli.hydra_bridge import config_folder
from metamem.cli.sweeps import count_jobs, swept_options
from metamem.core.errors import ConfigError, unknown
from metamem.core.registry import REGISTRY, load_studies, unavailable
from metamem.core.secrets import secret_in


def jobs_and_options(arguments: Sequence[str]) -> tuple[int | None, list[str]]:
    """How many jobs the arguments of a sweep make, as far as that is known, and the options that they vary."""
    params = [f"{key}={value}" for key, value in (study_params(arguments) or {}).items()]
    overrides = [*params, *(a for a in arguments if "=" in a and not a.startswith("-"))]
    return count_jobs(overrides), swept_options(overrides)


def shows_only(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask Hydra to show something instead of running."""
    showing = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")
    return any(a in showing or a.startswith("--info=") for a in arguments)


def combined(arguments: Sequence[str]) -> list[str]:
    """Put combined experiments (`experiment=[a,b]`) into the order in which they are laid over each other, whatever
    order they are given in: settings (the paper's models and epochs), then the study, then the study's own file for
    these settings (`experiment/paper/cross_backbone.yaml`), where there is one.

    Raises `ConfigError` for two studies at once.
    """
    at = next((i for i in reversed(range(len(arguments))) if arguments[i].startswith("experiment=[")), None)
    if at is None:
        return list(arguments)
    names = _experiments(arguments)
    studies = [n for n in names if _written([n]).get("study")]
    if len(studies) > 1:
        raise ConfigError(f"experiment: {' and '.join(studies)} are two studies; run one after the other")
    settings = [n for n in names if n not in studies and "/" not in n]
    own = [f"{setting}/{study}" for setting in settings for study in studies]
    kept = [*settings, *studies, *(name for name in own if _file(name))]
    return [*arguments[:at], f"experiment=[{','.join(kept)}]", *arguments[at + 1 :]]


def _experiments(arguments: Sequence[str]) -> list[str]:
    """The names of the chosen experiments, as given."""
    given = next((a.partition("=")[2] for a in reversed(arguments) if a.startswith("experiment=")), "")
    return [n.strip() for n in given[1:-1].split(",")] if re.fullmatch(r"\[.*\]", given) else [given]


def _file(name: str) -> Path | None:
    """The file of an experiment; None where there is none, or the name is no name."""
    path = config_folder() / "experiment" / f"{name}.yaml"
    return path if re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?", name) and path.exists() else None


def _written(names: Sequence[str]) -> dict[str, Any]:
    """Experiments' files as they are written, as one, of which the later ones win; empty where there are no files."""
    from omegaconf import OmegaConf

    files = (OmegaConf.load(file) for name in names if (file := _file(name)))
    written: Any = OmegaConf.to_container(OmegaConf.merge({}, *files))
    return written if isinstance(written, dict) else {}


def _experiment(arguments: Sequence[str]) -> dict[str, Any]:
    """What the chosen experiments say together."""
    return _written(_experiments(combined(arguments)))


def studied_by(arguments: Sequence[str]) -> str:
    """The program whose jobs the chosen study is made of."""
    study = _study(arguments)
    if not study:
        return "train"
    load_studies()
    return str(REGISTRY.entry("study", study).component.program)  # type: ignore[attr-defined]


def refuse_other_program(program: str, arguments: Sequence[str]) -> None:
    """Refuse a study of evaluations that was given to train.py. Raises `ConfigError` naming the program to use."""
    if program == "train" and studied_by(arguments) == "eval":
        study = _experiment(arguments)["study"]
        raise ConfigError(f"experiment={study} is a study of evaluations: give the same command to eval.py")


def study_params(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What the chosen experiment sweeps over, key → values; None when it is not a sweep.

    Hydra finds out by itself only after it has begun a single job.
    """
    hydra: Any = _experiment(arguments).get("hydra")
    if not isinstance(hydra, dict) or hydra.get("mode") != "MULTIRUN":
        return None
    params = dict((hydra.get("sweeper") or {}).get("params") or {})
    study = _study(arguments)
    return {key: _all_of(str(key), value, study) for key, value in params.items()}


def with_all(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a sweep with `GROUP=all`, where no component is called that, as all components of the
    group that can be used on this machine; also where the chosen experiment says so.
    """
    given = {a.partition("=")[0] for a in arguments if "=" in a}
    study = _study(arguments)
    pairs = (a.partition("=") for a in arguments)
    found = [f"{key}={_all_of(key, value, study)}" if eq else key for key, eq, value in pairs]
    for key, values in (study_params(arguments) or {}).items():
        if key not in given and values != "all" and values == _all_of(key, "all", study):
            found.append(f"{key}={values}")
    return found


def _study(arguments: Sequence[str]) -> str:
    return str(_experiment(arguments).get("study") or "")


def _all_of(key: str, value: Any, study: str = "") -> Any:
    """The names that `all` means for a group, of those that the study takes; a value as it is where it means none."""
    group = key.partition("@")[0]
    names = REGISTRY.names(group) if value == "all" else []
    if not names or "all" in names:
        return value
    if study:
        load_studies()
        takes: Any = REGISTRY.entry("study", study).component
        names = [name for name in names if takes.takes(group, name)]
    return ",".join(name for name in names if not unavailable(group, name))


# Hydra's flags that make sense here, and how many words follow each.
_FLAGS = {
    **dict.fromkeys(("-m", "--multirun", "--resolve", "--hydra-help", "--version"), 0),
    **dict.fromkeys(
        ("--shell-completion", "-sc", "--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--info", "-i"), 1
    ),
}


def ordered(arguments: Sequence[str]) -> list[str]:
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


def refuse_secrets(arguments: Sequence[str]) -> None:
    """Refuse keys and passwords, in whatever form of override, before anything writes or repeats them."""
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        if key.endswith("api_key_env") and not re.fullmatch(
            r"['\"]?[A-Za-z_][A-Za-z0-9_]*['\"]?(,[A-Za-z_][A-Za-z0-9_]*)*", value
        ):
            raise ConfigError(f"{key} is the name of an environment variable that holds the key, not the key itself")
        if found := secret_in(argument):
            named = key if re.fullmatch(r"[A-Za-z0-9_./@-]+", key) and not secret_in(key) else "an override"
            advice = _sibling(key) if key.endswith("base_url") else "backbone.api_key_env=NAME_OF_A_VARIABLE"
            raise ConfigError(f"{named}: {found} is not taken, since overrides are kept beside results; use {advice}")


def _sibling(key: str) -> str:
    return key.removesuffix("base_url") + "api_key_env=NAME_OF_A_VARIABLE"


def spelled(argument: str) -> str:
    """Return the argument as the config spells it."""
    # `from` is a word of Python's and cannot name a dataclass field.
    return re.sub(r"^(\+{0,2})from=", r"\1from_=", argument)

"""What `--help` and docs/config.md say, from the registry.

In: the registry and the YAML files of `conf/`. Out: text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from metamem.cli.hydra_bridge import CONFIG_GROUPS, config_folder, presets
from metamem.config.identity import plain
from metamem.config.options import COMPONENTS, BaseConfig, EvalConfig, TrainConfig
from metamem.core.json_form import default_of
from metamem.core.registry import KINDS, REGISTRY, range_of

ROLE_GROUPS = {"judge": "backbone@judge", "reflector": "backbone@reflector", "builder": "backbone@builder"}
# Groups that hold YAML files alone: whole settings.
PRESET_GROUPS = ("experiment", "ablation", "system", "baseline", "cluster")


@cache
def default_choices() -> dict[str, str]:
    """Group → the component that is chosen when nothing is said, as conf/shared.yaml and conf/train.yaml have it."""
    chosen: dict[str, str] = {}
    for name in ("shared", "train"):
        composed: Any = OmegaConf.to_container(OmegaConf.load(config_folder() / f"{name}.yaml"))
        for line in composed["defaults"]:
            for group, choice in line.items() if isinstance(line, dict) else ():
                if group in KINDS and choice:
                    chosen[str(group)] = choice if isinstance(choice, str) else ",".join(choice)
    return chosen


def groups(program: str) -> list[str]:
    """The config groups of a program: those with a default in its order, then the others."""
    known = [g for g in default_choices() if not (program == "eval" and g == "optimizer")]
    return known + [k for k in CONFIG_GROUPS if k in REGISTRY.kinds() and k not in default_choices()]


def schema(program: str) -> type[BaseConfig]:
    """The options dataclass of a program."""
    return TrainConfig if program == "train" else EvalConfig


def root_options(program: str) -> Iterator[tuple[str, Any, str]]:
    """Key, default and help of every option that belongs to no component."""

    def walk(config: type, prefix: str) -> Iterator[tuple[str, Any, str]]:
        for f in dataclasses.fields(config):
            if "help" not in f.metadata:
                continue
            if f.default_factory is not dataclasses.MISSING and dataclasses.is_dataclass(f.default_factory):
                yield from walk(f.default_factory, f"{prefix}{f.name}.")
            else:
                yield f"{prefix}{f.name.rstrip('_')}", plain(default_of(f)), f.metadata["help"]

    yield from walk(schema(program), "")


def help_page(program: str) -> str:
    """The help of `train` or `eval`: every group with its choices, one line each, and the root options."""
    what = {
        "train": "Learn a meta-memory: guidelines that teach a frozen LLM to use what its memory retrieves.",
        "eval": "Evaluate meta-memories on a part of a data set, question by question.",
    }[program]
    lines = [what, "", f"usage: experiments/{program}.py [GROUP=CHOICE ...] [OPTION=VALUE ...] [-m for a sweep]", ""]
    for group in groups(program):
        as_learned = program == "eval" and group == "recall"
        remark = "   (default: what each meta-memory was learned with)" if as_learned else ""
        lines.append(f"{group}=" + ("[...]   (several at once)" if group == "evaluator" else remark))
        for name in REGISTRY.names(group):
            mark = "*" if name == default_choices().get(group) and not as_learned else " "
            lines.append(f"  {mark} {name:<18} {REGISTRY.entry(group, name).summary}")
        for name, text in presets(group).items():
            lines.append(f"    {name:<18} {text} (preset)")
    lines += [
        "",
        "roles: " + ", ".join(f"{key}=" for key in ROLE_GROUPS.values()) + " take a backbone each (same: the policy's)",
        "",
        *(line for group in PRESET_GROUPS if program == "train" or group != "baseline" for line in _presets(group)),
        "options:",
    ]
    for key, default, text in root_options(program):
        shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else default
        lines.append(f"    {key + '=' + str(shown):<28} {text}")
    lines += [
        "",
        "* is the default. Options of components (such as optimizer.batch_size=10) are listed in docs/config.md.",
        f'--version says which this is; eval "$(metamem-{program} -sc install=bash)" completes options and choices.',
        f"Show the composed config: experiments/{program}.py --cfg job. Hydra's own flags: --hydra-help.",
    ]
    return "\n".join(lines)


def _presets(group: str) -> list[str]:
    return [f"{group}=", *(f"    {name:<18} {text}" for name, text in presets(group).items()), ""]


def known_keys(program: str, overrides: Sequence[str]) -> dict[str, str]:
    """Every key that can be overridden under the chosen groups → the component it belongs to (or the program)."""
    said = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    given = {{v: k for k, v in ROLE_GROUPS.items()}.get(key, key): value for key, value in said.items()}
    chosen = default_choices() | dict.fromkeys(ROLE_GROUPS, "same")
    chosen |= {key: value for key, value in given.items() if key in chosen}
    for key, choice in list(chosen.items()):
        name = chosen[key] = made_of(COMPONENTS.get(key, key), choice)
        if key in groups(program) and name in REGISTRY.names(key):
            # What the user chooses goes before what a choice brings along.
            chosen |= {kind: b for kind, b in REGISTRY.entry(key, name).brings.items() if kind not in given}
    keys = {key: program for key, _, _ in root_options(program)}
    for key, name in chosen.items():
        kind = COMPONENTS.get(key, key)
        names = [n.strip() for n in name.strip("[]").split(",")] if key == "evaluator" else [name]
        for n in names:
            if n in REGISTRY.names(kind):
                prefix = f"evaluator.{n}" if key == "evaluator" else key
                keys |= {f"{prefix}.{f.name}": f"{kind}={n}" for f in REGISTRY.entry(kind, n).options}
    return keys


def made_of(group: str, choice: str) -> str:
    """Return the component that a YAML file of a group sets options of; any other choice as it is."""
    if choice not in presets(group):
        return choice
    composed: Any = OmegaConf.to_container(OmegaConf.load(config_folder() / group / f"{choice}.yaml"))
    return next((line for line in composed.get("defaults", ()) if line in REGISTRY.names(group)), choice)


def reference_page() -> str:
    """docs/config.md: every option of every component, with its type, default and help."""
    lines = [
        "# Options",
        "",
        "Generated from the registered components by `make docs`; do not edit. Options marked ○ cannot change a result",
        "(places, concurrency, timeouts, trackers): they are no part of a run's identity.",
        "",
        "## train.py and eval.py",
        "",
        "| option | default | of | |",
        "|---|---|---|---|",
    ]
    roots = {program: list(root_options(program)) for program in ("train", "eval")}
    in_both = {row[0] for row in roots["train"]} & {row[0] for row in roots["eval"]}
    for program, rows in roots.items():
        for key, default, text in rows:
            if key in in_both and program == "eval" and key != "name":
                continue
            of = "both" if key in in_both and key != "name" else program
            own = _root_option(program, key)
            shown = _escaped(text) + _range(own) + _mark(_root_result(program, key))
            lines.append(f"| `{key}` | {_cell(default)} | {of} | {shown} |")
    for group in groups("train"):
        lines += ["", f"## {group}", ""]
        for name in REGISTRY.names(group):
            entry = REGISTRY.entry(group, name)
            prefix = f"evaluator.{name}" if group == "evaluator" else group
            lines += [f"### {group}={name}", "", entry.summary, ""]
            if entry.options:
                lines += ["| option | type | default | |", "|---|---|---|---|"]
            for f in entry.options:
                text = _escaped(f.metadata["help"]) + _range(f) + _mark(f.metadata.get("result", True))
                lines.append(f"| `{prefix}.{f.name}` | {_type(f)} | {_cell(plain(default_of(f)))} | {text} |")
            if entry.options:
                lines.append("")
        for name, text in presets(group).items():
            lines += [f"### {group}={name}", "", f"{text} (preset)", ""]
        while lines[-1] == "":
            lines.pop()
    for group in PRESET_GROUPS:
        lines += ["", f"## {group}", ""]
        lines += [f"- `{group}={name}`: {text}" for name, text in presets(group).items()]
    return "\n".join(lines) + "\n"


def _root_path(program: str, key: str) -> list[dataclasses.Field[Any]]:
    """The fields that lead to an option of no component, itself the last."""
    config: Any = schema(program)
    path: list[dataclasses.Field[Any]] = []
    for part in key.split("."):
        path.append(next(f for f in dataclasses.fields(config) if f.name.rstrip("_") == part))
        config = path[-1].default_factory
    return path


def _root_option(program: str, key: str) -> dataclasses.Field[Any]:
    return _root_path(program, key)[-1]


def _root_result(program: str, key: str) -> bool:
    return all(f.metadata.get("result", True) for f in _root_path(program, key))


def _range(f: dataclasses.Field[Any]) -> str:
    return f" ({words})" if (words := range_of(f)) else ""


def _type(f: dataclasses.Field[Any]) -> str:
    if isinstance(f.default, Enum):
        return " \\| ".join(f"`{e.value}`" for e in type(f.default))
    text = f.type if isinstance(f.type, str) else getattr(f.type, "__name__", str(f.type))
    return text.replace("|", "\\|")


def _cell(default: Any) -> str:
    shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{shown}`" if shown else "empty"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _mark(result: bool) -> str:
    return "" if result else " ○"

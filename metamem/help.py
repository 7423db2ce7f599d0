"""What `--help` prints, from the registry; and the messages for overrides that Hydra cannot compose.

In: the registry, and an exception of Hydra's with the arguments that led to it. Out: text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from metamem.config import COMPONENTS, BaseConfig, EvalConfig, TrainConfig, plain
from metamem.errors import ConfigError, nearest, unknown
from metamem.hydra_bridge import presets
from metamem.registry import REGISTRY

_ROLES = {"judge": "backbone@judge", "reflector": "backbone@reflector", "builder": "backbone@builder"}
_DEFAULTS = {
    "dataset": "sample",
    "split": "kfold",
    "memory": "rounds",
    "retriever": "bm25",
    "embedder": "minilm",
    "backbone": "auto",
    "optimizer": "metamem",
    "evaluator": "llm_judge",
    "rubric": "metamem",
    "prompts": "default",
    "tracker": "none",
}


def groups(program: str) -> list[str]:
    """The config groups of a program, in the order of the data's way."""
    known = [g for g in _DEFAULTS if not (program == "eval" and g == "optimizer")]
    return known + [k for k in REGISTRY.kinds() if k not in _DEFAULTS]


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
                yield f"{prefix}{f.name.rstrip('_')}", plain(f.default), f.metadata["help"]

    yield from walk(schema(program), "")


def help_page(program: str) -> str:
    """The help of `train` or `eval`: every group with its choices, one line each, and the root options."""
    what = {
        "train": "Learn a meta-memory: guidelines that teach a frozen LLM to use what its memory retrieves.",
        "eval": "Evaluate meta-memories on a part of a data set, question by question.",
    }[program]
    lines = [what, "", f"usage: experiments/{program}.py [GROUP=CHOICE ...] [OPTION=VALUE ...] [-m for a sweep]", ""]
    for group in groups(program):
        lines.append(f"{group}=" + ("[...]   (several at once)" if group == "evaluator" else ""))
        for name in REGISTRY.names(group):
            mark = "*" if name == _DEFAULTS.get(group) else " "
            lines.append(f"  {mark} {name:<18} {REGISTRY.entry(group, name).summary}")
        for name, text in presets(group).items():
            lines.append(f"    {name:<18} {text} (preset)")
    lines += [
        "",
        "roles: " + ", ".join(f"{key}=" for key in _ROLES.values()) + " take a backbone each (same: the policy's)",
        "",
        "experiment=",
        *(f"    {name:<18} {text}" for name, text in presets("experiment").items()),
        "",
        "options:",
    ]
    for key, default, text in root_options(program):
        shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else default
        lines.append(f"    {key + '=' + str(shown):<28} {text}")
    lines += [
        "",
        "* is the default. Options of components (such as optimizer.batch_size=10) are listed in docs/config.md.",
        f"Show the composed config: experiments/{program}.py --cfg job. Hydra's own flags: --hydra-help.",
    ]
    return "\n".join(lines)


def known_keys(program: str, overrides: Sequence[str]) -> dict[str, str]:
    """Every key that can be overridden under the chosen groups → the component it belongs to (or the program)."""
    chosen = dict(_DEFAULTS) | dict.fromkeys(_ROLES, "same")
    for override in overrides:
        key, _, value = override.partition("=")
        key = {v: k for k, v in _ROLES.items()}.get(key, key)
        if key in chosen:
            chosen[key] = value
    keys = {key: program for key, _, _ in root_options(program)}
    for key, name in chosen.items():
        kind = COMPONENTS.get(key, key)
        names = [n.strip() for n in name.strip("[]").split(",")] if key == "evaluator" else [name]
        for n in names:
            if n in REGISTRY.names(kind):
                prefix = f"evaluator.{n}" if key == "evaluator" else key
                keys |= {f"{prefix}.{f.name}": f"{kind}={n}" for f in REGISTRY.entry(kind, n).options}
    return keys


def explain(program: str, arguments: Sequence[str], error: Exception) -> ConfigError:
    """A Hydra or OmegaConf exception as one message with the key, the nearest name and the choices."""
    from hydra.errors import MissingConfigException, OverrideParseException

    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"cannot read the override '{error.override}': expected KEY=VALUE (quote values with spaces or brackets)"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        group = group.split("@")[0]
        names = [*REGISTRY.names(group), *presets(group)]
        return ConfigError(unknown(group, name, names)) if names else ConfigError(str(error).splitlines()[0])
    cause = error.__cause__ if error.__cause__ is not None else error
    key = getattr(cause, "full_key", None) or ""
    stripped = {o.split("=", 1)[0].lstrip("+~"): o for o in overrides}
    found = re.search(r"(?:Could not override|override) '([^'=]+)", str(error)) or re.search(
        r"merging override (\S+?)=", str(error)
    )
    key = (found.group(1) if found else "") or key
    keys = known_keys(program, overrides)
    candidates = [key] if key in stripped else [k for k in stripped if k.split("@")[0] not in keys]
    for candidate in candidates:
        known = {**keys, **dict.fromkeys([*groups(program), *_ROLES.values(), "experiment"], program)}
        if candidate not in known and not candidate.startswith("hydra"):
            role = candidate.split(".")[0]
            if role in _ROLES and not any(k.startswith(f"{role}.") for k in known):
                return ConfigError(
                    f"'{candidate}': the {role} is the policy's backbone; choose one with {_ROLES[role]}=NAME"
                )
            section = candidate.rsplit(".", 1)[0] if "." in candidate else ""
            siblings = sorted(k for k in known if k.startswith(f"{section}.")) if section else []
            close = nearest(candidate, known)
            hint = f" Did you mean '{close}'?" if close else ""
            listed = siblings or sorted(k for k in known if "." not in k)
            return ConfigError(f"unknown option '{candidate}'.{hint} Choices: {', '.join(listed) or 'see --help'}.")
    message = str(cause).splitlines()[0]
    return ConfigError(f"{key}: {message}" if key and key not in message else message)


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
            lines.append(f"| `{key}` | {_cell(default)} | {of} | {_escaped(text)}{_mark(_root_result(program, key))} |")
    for group in groups("train"):
        lines += ["", f"## {group}", ""]
        for name in REGISTRY.names(group):
            entry = REGISTRY.entry(group, name)
            prefix = f"evaluator.{name}" if group == "evaluator" else group
            lines += [f"### {group}={name}", "", entry.summary, ""]
            if entry.options:
                lines += ["| option | type | default | |", "|---|---|---|---|"]
            for f in entry.options:
                default = f.default if f.default is not dataclasses.MISSING else f.default_factory()  # type: ignore[operator]
                text = _escaped(f.metadata["help"]) + _mark(f.metadata.get("result", True))
                lines.append(f"| `{prefix}.{f.name}` | {_type(f)} | {_cell(plain(default))} | {text} |")
            if entry.options:
                lines.append("")
        for name, text in presets(group).items():
            lines += [f"### {group}={name}", "", f"{text} (preset)", ""]
        while lines[-1] == "":
            lines.pop()
    lines += ["", "## experiment", ""]
    lines += [f"- `experiment={name}`: {text}" for name, text in presets("experiment").items()]
    return "\n".join(lines) + "\n"


def _root_result(program: str, key: str) -> bool:
    config: Any = schema(program)
    result = True
    for part in key.split("."):
        f = next(f for f in dataclasses.fields(config) if f.name.rstrip("_") == part)
        result = result and f.metadata.get("result", True)
        config = f.default_factory
    return result


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

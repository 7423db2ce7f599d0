"""From a composed config to checked options.

In: what Hydra composed. Out: a `TrainConfig` or an `EvalConfig`; every mistake is a `ConfigError` that names its key.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from metamem.config.options import COMPONENTS, EvalConfig, TrainConfig
from metamem.core.contracts import Placeholder, Scorer
from metamem.core.errors import ConfigError, unknown
from metamem.core.evaluating import ScoresReferences
from metamem.core.registry import REGISTRY, check_ranges, load_studies

# Groups whose options an experiment may set for one choice; with another choice they are left out.
SET_FOR_ONE_CHOICE = ("attack", "guard", "optimizer", "recall", "retriever", "split")
# Groups whose choice `none` takes no options: in a sweep over it and others those are meant for the others.
_OR_NONE = ("attack", "guard")


def resolve(
    composed: Any, given: Sequence[str] = (), note: Callable[[str], None] | None = None
) -> TrainConfig | EvalConfig:
    """Turn Hydra's composed config into dataclasses, every component's options validated.

    `given` are the command line's overrides: what they set is never left out. `note` is told what was. Raises
    `ConfigError` naming the key. Nothing expensive happens here.
    """
    from omegaconf import MissingMandatoryValue, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.resolve(composed)
        for group in SET_FOR_ONE_CHOICE:
            _leave_out(composed, group, given, note)
        _refuse_unknown(composed)
        for role in ("judge", "reflector", "builder"):
            if isinstance(composed[role], str):
                raise ConfigError(f"{role}: choose its backbone with backbone@{role}={composed[role]}")
            # A role's options are checked by the backbone's class, which speaks of `backbone.`.
            try:
                OmegaConf.to_object(composed[role])
            except ConfigError as error:
                raise ConfigError(str(error).replace("backbone.", f"{role}.")) from None
        config = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}: a value is needed") from None
    except OmegaConfBaseException as error:
        raise ConfigError(plain_words(getattr(error, "full_key", None) or "config", error)) from None
    assert isinstance(config, (TrainConfig, EvalConfig))
    if isinstance(config, EvalConfig):
        # An experiment may serve both programs; what it says of training does not concern an evaluation.
        config.optimizer = None
    for key, kind in COMPONENTS.items():
        if key == "optimizer" and isinstance(config, EvalConfig):
            continue
        value = getattr(config, key)
        if value is None:
            if key == "tracker" or (key == "recall" and isinstance(config, EvalConfig)):
                continue
            raise ConfigError(f"{key}: choose one of {', '.join(REGISTRY.names(kind))}")
        setattr(config, key, REGISTRY.options(kind, value))
    if isinstance(config, EvalConfig):
        _one_fold(config, given, note)
    references = _of_references(config.evaluator)
    # What needs no replies cannot rank them; alone it is all there is.
    chosen_first = next((name for name in config.evaluator if name not in references), "")
    chosen_first = chosen_first or next(iter(config.evaluator), "")
    config.evaluator = {name: REGISTRY.options("evaluator", value) for name, value in sorted(config.evaluator.items())}
    config.reward = config.reward or chosen_first
    _check(config)
    return config


def typed_options(kind: str, values: Mapping[str, Any]) -> Any:
    """Return the options of a component from plain values, such as a file keeps (`plain`).

    Raises `ConfigError` for a name or an option that does not exist.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    entry = REGISTRY.entry(kind, str(values.get("name")))
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(entry.config), dict(values)))
    except OmegaConfBaseException as error:
        raise ConfigError(plain_words(getattr(error, "full_key", None) or kind, error)) from None


def plain_words(key: str, error: BaseException) -> str:
    """What OmegaConf says of a value, as a user would say it: the key, what was expected, what was found."""
    message = str(error).splitlines()[0]
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
    if found := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", message):
        return f"{key}: expected {kinds.get(found.group(2), found.group(2))}, got '{found.group(1)}'"
    if found := re.search(r"Environment variable '(\w+)' not found", message):
        name = found.group(1)
        return f"the environment variable {name} is not set, and a chosen preset reads it: export {name}=VALUE"
    if "is not Optional" in message:
        return f"{key}: a value is needed, null is none"
    return message if key in message else f"{key}: {message}"


def _leave_out(composed: Any, group: str, given: Sequence[str], note: Callable[[str], None] | None) -> None:
    """Leave out what an experiment sets of a group for another choice than the chosen one.

    That is noted, in one line, where the choice was made on the command line; an experiment that makes no other choice
    says so by its own file. Raises `ConfigError` for such an option that was given on the command line, unless a
    baseline made the choice, or it is to have no attack or no guard: the option is meant for other jobs of a sweep.
    """
    from omegaconf import DictConfig, OmegaConf

    chosen = composed._get_node(group)
    if not isinstance(chosen, DictConfig) or not dataclasses.is_dataclass(kind := OmegaConf.get_type(chosen)):
        return
    known = {f.name for f in dataclasses.fields(kind)}
    on_line = {override.lstrip("+").partition("=")[0] for override in given}
    left_out = []
    for key in [str(k) for k in chosen if k not in known]:
        kind_of_group = COMPONENTS[group]
        names = REGISTRY.names(kind_of_group)
        owners = [n for n in names if any(f.name == key for f in REGISTRY.entry(kind_of_group, n).options)]
        if not owners:
            continue  # refused as unknown
        whose = f"{group}={', '.join(owners)}"
        without = group in _OR_NONE and chosen.name == "none"
        if f"{group}.{key}" in on_line and "baseline" not in on_line and not without:
            raise ConfigError(f"'{group}.{key}' is an option of {whose}; choose that first")
        left_out.append(f"{group}.{key}={chosen[key]}")
        del chosen[key]
    if left_out and note is not None and {group, "baseline"} & on_line:
        note(f"without effect, as {group}={chosen.name} has no such option: {', '.join(left_out)}")


def _one_fold(config: EvalConfig, given: Sequence[str], note: Callable[[str], None] | None) -> None:
    """Put the first fold in the place of all, which an experiment chose for training."""
    on_line = {override.lstrip("+").partition("=")[0] for override in given}
    if getattr(config.split, "fold", None) == "all" and "split.fold" not in on_line:
        config.split = dataclasses.replace(config.split, fold="0")
        if note is not None:
            note("split.fold=all is for train.py: without a run's own split this evaluation is of fold 0")


def _refuse_unknown(composed: Any, prefix: str = "") -> None:
    """Refuse options that no dataclass knows, which `+` and `++` bring in."""
    from omegaconf import DictConfig, OmegaConf

    kind = OmegaConf.get_type(composed)
    if not dataclasses.is_dataclass(kind):
        return
    known = {f.name for f in dataclasses.fields(kind)}
    for key in composed:
        if key not in known:
            names = [prefix + n for n in known if n != "name"]
            raise ConfigError(unknown("option", f"{prefix}{key}", names))
        child = composed._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            _refuse_unknown(child, f"{prefix}{key}.")


def _check_values(value: Any, key: str) -> None:
    """Check all ranges, and refuse numbers that are none (nan) or without end."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, got {value}")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        check_ranges(value, key)
        for f in dataclasses.fields(value):
            _check_values(getattr(value, f.name), f"{key}.{f.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _check_values(inner, f"{key}.{name}")


def _check(config: TrainConfig | EvalConfig) -> None:
    """What must hold between components."""
    _check_values(config, "")
    if not config.outputs:
        raise ConfigError("outputs: name a folder, such as outputs=outputs")
    if config.evidence.count_guidelines and config.evidence.budget is None:
        raise ConfigError("evidence.count_guidelines: guidelines count into evidence.budget; give it, in tokens")
    if not config.evaluator:
        raise ConfigError(f"evaluator: choose at least one of {', '.join(REGISTRY.names('evaluator'))}")
    if config.reward not in config.evaluator:
        raise ConfigError(f"reward: {unknown('evaluator among those chosen', config.reward, config.evaluator)}")
    if (
        not config.name
        or set(config.name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        or config.name[0] == "."
    ):
        raise ConfigError(f"name: use letters, digits, '.', '_' and '-' only, got '{config.name}'")
    if config.study:
        load_studies()
        REGISTRY.entry("study", config.study)
    _put_backbones(config)
    if references := _of_references(config.evaluator):
        _check_references(config, references)
    if config.study == "perplexity" or getattr(config, "perplexity", None) is not None:
        _check_scorer(config.backbone.name, "perplexity")
    if config.study == "perplexity" and config.search.calls:
        raise ConfigError("search.calls: a study of perplexity scores replies to single prompts; leave it at 0")


def _put_backbones(config: TrainConfig | EvalConfig) -> None:
    """Put the backbones that are meant in the place of names that stand for them."""
    name = config.dataset.name
    own = bool(getattr(REGISTRY.entry("dataset", name).component, "own", False))
    # Where a named judge judges stored answers, no policy is needed.
    judges_only = isinstance(config, EvalConfig) and config.from_ is not None and _placeholder(config.judge) is None
    if (meant := _placeholder(config.backbone)) is not None:
        config.backbone = REGISTRY.options("backbone", meant.stands_for(None, name, own or judges_only))
    fixed = ("judge", "builder") if config.study in ("cross_backbone", "cross_policy") else ()
    if not own and (unnamed := [role for role in fixed if _placeholder(getattr(config, role)) is not None]):
        raise ConfigError(
            f"{', '.join(unnamed)}: a study across backbones needs the same one for all of them; name it with "
            + " ".join(f"backbone@{role}=NAME" for role in unnamed)
        )
    for role in ("judge", "reflector", "builder"):
        if (meant := _placeholder(getattr(config, role))) is not None:
            if role in fixed:
                setattr(config, role, REGISTRY.options("backbone", {"name": "simulated"}))
                continue
            # The policy's own options, not a copy: one backbone plays both.
            setattr(config, role, meant.stands_for(config.backbone, name, own))


def _placeholder(options: Any) -> type[Placeholder] | None:
    component = REGISTRY.entry("backbone", options.name).component
    return component if issubclass(component, Placeholder) else None


def _of_references(names: Iterable[str]) -> list[str]:
    """Return those of the chosen evaluators that score accepted answers and have no use for replies."""
    return [n for n in names if issubclass(REGISTRY.entry("evaluator", n).component, ScoresReferences)]


def _check_references(config: TrainConfig | EvalConfig, names: Sequence[str]) -> None:
    """Raises `ConfigError` where evaluators of prompts cannot work: what they score are prompts of eval.py."""
    name = names[0]
    if isinstance(config, TrainConfig):
        raise ConfigError(
            f"evaluator={name} scores prompts and no replies, so it cannot teach; it is for eval.py, such as "
            f"eval.py meta_memory=RUN evaluator=[{name}]"
        )
    if config.from_ is not None:
        raise ConfigError(f"evaluator={name} scores prompts; from= judges replies that are stored, by other evaluators")
    if config.search.calls:
        raise ConfigError(f"search.calls: evaluator={name} scores answers to single prompts; leave it at 0")
    if config.reward in names and len(names) < len(config.evaluator):
        raise ConfigError(f"reward: {name} judges no replies; choose among the other evaluators")
    _check_scorer(config.backbone.name, name)


def _check_scorer(name: str, what: str) -> None:
    """Raises `ConfigError` for a backbone that cannot score texts, before anything is paid."""
    able = [n for n in REGISTRY.names("backbone") if issubclass(REGISTRY.entry("backbone", n).component, Scorer)]
    if name not in able:
        raise ConfigError(
            f"backbone: {what} needs the log-probabilities of a text that is given, and backbone={name} does not "
            f"have them (servers return those of their own replies only). Choices: {', '.join(able)}"
        )

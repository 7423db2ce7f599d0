"""The options of `train.py` and `eval.py` that belong to no component, and what must hold between components.

In: Hydra's composed config. Out: one dataclass tree with validated options, and its identity: the part that can change
a result.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from metamem.backbones.engine.pool import Placement
from metamem.backbones.journal import Reuse
from metamem.contracts import Scorer
from metamem.errors import ConfigError, unknown
from metamem.registry import REGISTRY, option
from metamem.retrieval.evidence import EvidenceOrder
from metamem.retrieval.searching import SearchOptions

# What happens when an unfinished run is continued with other code or other packages (`continue` is a keyword, hence
# this form).
OnDrift = Enum("OnDrift", {"error": "error", "continue": "continue"}, type=str)


@dataclass
class RunOptions:
    """Where a run stands and how it is continued."""

    dir: str | None = option(None, "the run's directory instead of outputs/<name>/<slug>-<id>", result=False)
    force: bool = option(
        False, "start over although the run has begun or finished (replies still come from the journal)", result=False
    )
    on_drift: OnDrift = option(
        OnDrift.error, "an unfinished run met by other code: error (shows the difference) or continue", result=False
    )


@dataclass
class JournalOptions:
    """Which stored replies are reused."""

    reuse: Reuse = option(
        Reuse.experiment,
        "whose replies are reused: run, experiment (all runs of the same name) or global (all under outputs)",
        result=False,
    )


@dataclass
class EvidenceOptions:
    """How retrieved units become the evidence in a prompt."""

    budget: int | None = option(
        None, "at most so many tokens of evidence per question (null: no limit); guidelines do not count"
    )
    tokenizer: str = option(
        "words", "the tokenizer that counts them: words, or a Hugging Face tokenizer's path or name"
    )
    order: EvidenceOrder = option(EvidenceOrder.score, "order in the prompt: score (best first) or time")

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise ConfigError(f"evidence.budget must be at least 1 token, got {self.budget}")


@dataclass
class EvaluationOptions:
    """How validation and test answers are sampled."""

    temperature: float = option(0.0, "sampling temperature of validation and test answers")
    attempts: int = option(1, "answers per question; figures are means over them")

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"evaluation.attempts must be at least 1, got {self.attempts}")
        if self.temperature < 0:
            raise ConfigError(f"evaluation.temperature must be 0 or more, got {self.temperature}")


@dataclass
class BaseConfig:
    """What both programs share. The components' options stand under their groups' names."""

    name: str = option(
        "metamem", "name of the experiment: runs are kept in outputs/<name>/ and share their replies", result=False
    )
    seed: int = option(42, "seed of everything drawn: the split (unless split.seed is given), the batches, the samples")
    outputs: str = option("outputs", "folder of everything that is written: runs, memory store, journal", result=False)
    reward: str = option("", "the evaluator that teaches and ranks (empty: the first one chosen)")
    study: str = option(
        "", "what a sweep's runs are put together as when it ends (see experiments/README.md)", result=False
    )
    dry_run: bool = option(
        False, "say how many calls, tokens and GPU hours it would take, and call nothing", result=False
    )
    placement: Placement = option(
        Placement.auto,
        "in-process engines: disjoint (side by side, each on GPUs of its own), turns (one at a time) or auto",
        result=False,
    )
    run: RunOptions = field(default_factory=RunOptions, metadata={"help": "the run's directory", "result": False})
    journal: JournalOptions = field(
        default_factory=JournalOptions, metadata={"help": "stored replies", "result": False}
    )
    evidence: EvidenceOptions = field(default_factory=EvidenceOptions, metadata={"help": "evidence", "result": True})
    search: SearchOptions = field(
        default_factory=SearchOptions, metadata={"help": "searching while answering", "result": True}
    )
    evaluation: EvaluationOptions = field(
        default_factory=EvaluationOptions, metadata={"help": "evaluation", "result": True}
    )
    dataset: Any = None
    split: Any = None
    memory: Any = None
    retriever: Any = None
    embedder: Any = None
    backbone: Any = None
    judge: Any = None
    reflector: Any = None
    builder: Any = None
    evaluator: dict[str, Any] = field(default_factory=dict)
    rubric: Any = None
    prompts: Any = None
    tracker: Any = field(default=None, metadata={"result": False})
    optimizer: Any = None


@dataclass
class TrainConfig(BaseConfig):
    """The options of train.py."""

    name: str = option(
        "train", "name of the experiment: runs are kept in outputs/<name>/ and share their replies", result=False
    )
    train_questions: int | None = option(
        None, "learn from so many questions of the training part only, drawn by the seed, smaller draws within larger"
    )
    test_steps: bool = option(False, "test the meta-memory after every step too, and their mean")
    eval_every: int = option(1, "score the meta-memory on validation every so many steps (the last step always)")

    def __post_init__(self) -> None:
        if self.train_questions is not None and self.train_questions < 1:
            raise ConfigError(f"train_questions must be at least 1, got {self.train_questions}")
        if self.eval_every < 1:
            raise ConfigError(f"eval_every must be at least 1, got {self.eval_every}")


class Part(StrEnum):
    """A part of the data."""

    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


@dataclass
class EvalConfig(BaseConfig):
    """The options of eval.py."""

    name: str = option(
        "eval", "name of the experiment: runs are kept in outputs/<name>/ and share their replies", result=False
    )
    meta_memory: Any = option(
        None, "a run's directory, a checkpoint, a JSON file of guidelines, null for none, or a list of these to compare"
    )
    part: Part = option(Part.test, "the questions to answer: test, validation, train or all")
    allow_seen: bool = option(False, "evaluate a meta-memory also on questions that trained it", result=False)
    from_: str | None = option(
        None, "written from=RUN: judge the attempts stored in that run again, with the judge and rubric given here"
    )
    perplexity: str | None = option(
        None,
        "a finished run: the perplexity of the replies stored in it and of the reference answers, with and without "
        "the guidelines of each of its systems",
    )
    show: str | None = option(
        None, "a question's id: print its evidence, where each unit comes from, and the gold evidence", result=False
    )
    show_history: bool = option(
        False, "with show: every call by which a builder wrote the memory, and its effect", result=False
    )
    compare: Any = option(
        None,
        "a list of finished runs or result files to compare with intervals and paired tests; a list inside it is one "
        "system over seeds or folds, RUN@SYSTEM one of a run's systems",
        result=False,
    )


# The studies (`metamem.studies.studies`), by name.
STUDY_NAMES = (
    "ablation",
    "conflict_resolution",
    "cost",
    "cross_backbone",
    "cross_domain",
    "data_scale",
    "guidelines",
    "main_table",
    "memalpha_reward",
    "perplexity",
    "training_steps",
)
# Those whose jobs are evaluations; the others' are trainings.
EVALUATION_STUDIES = ("conflict_resolution", "memalpha_reward")

# Config key → registered kind. A key that differs from its kind is a role.
COMPONENTS: Mapping[str, str] = {
    "dataset": "dataset",
    "split": "split",
    "memory": "memory",
    "retriever": "retriever",
    "embedder": "embedder",
    "backbone": "backbone",
    "judge": "backbone",
    "reflector": "backbone",
    "builder": "backbone",
    "optimizer": "optimizer",
    "rubric": "rubric",
    "prompts": "prompts",
    "tracker": "tracker",
}


def resolve(composed: Any) -> TrainConfig | EvalConfig:
    """Turn Hydra's composed config into dataclasses, every component's options validated.

    Raises `ConfigError` naming the key. Nothing expensive happens here.
    """
    from omegaconf import MissingMandatoryValue, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.resolve(composed)
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
            if key == "tracker":
                continue
            raise ConfigError(f"{key}: choose one of {', '.join(REGISTRY.names(kind))}")
        setattr(config, key, REGISTRY.options(kind, value))
    chosen_first = next(iter(config.evaluator), "")
    config.evaluator = {name: REGISTRY.options("evaluator", value) for name, value in sorted(config.evaluator.items())}
    config.reward = config.reward or chosen_first
    _check(config)
    return config


def plain_words(key: str, error: BaseException) -> str:
    """What OmegaConf says of a value, as a user would say it: the key, what was expected, what was found."""
    message = str(error).splitlines()[0]
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
    if found := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", message):
        return f"{key}: expected {kinds.get(found.group(2), found.group(2))}, got '{found.group(1)}'"
    if "is not Optional" in message:
        return f"{key}: a value is needed, null is none"
    return message if key in message else f"{key}: {message}"


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


def _refuse_infinite(value: Any, key: str) -> None:
    """Refuse numbers that are none (nan) or without end, which no comparison with a bound catches."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, got {value}")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            _refuse_infinite(getattr(value, f.name), f"{key}.{f.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_infinite(inner, f"{key}.{name}")


def _check(config: TrainConfig | EvalConfig) -> None:
    """What must hold between components."""
    _refuse_infinite(config, "")
    if not config.outputs:
        raise ConfigError("outputs: name a folder, such as outputs=outputs")
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
    if config.study and config.study not in STUDY_NAMES:
        raise ConfigError(unknown("study", config.study, STUDY_NAMES))
    if config.backbone.name == "same":
        raise ConfigError("backbone: 'same' is for the other roles; name a backbone for the policy")
    judges_only = (
        isinstance(config, EvalConfig) and config.from_ is not None and config.judge.name not in ("same", "auto")
    )
    if config.backbone.name == "auto" and config.dataset.name != "sample" and not judges_only:
        choices = [n for n in REGISTRY.names("backbone") if n not in ("same", "auto")]
        raise ConfigError(
            f"backbone: dataset={config.dataset.name} needs a backbone named, on the command line or by an experiment. "
            f"Choices: {', '.join(choices)}. For example: "
            "backbone=openai backbone.base_url=http://localhost:8000/v1 backbone.model=NAME"
        )
    if config.backbone.name == "auto":
        config.backbone = REGISTRY.options("backbone", {"name": "simulated"})
    if config.study == "perplexity" or getattr(config, "perplexity", None) is not None:
        _check_scorer(config.backbone.name)
    if config.study == "perplexity" and config.search.calls:
        raise ConfigError("search.calls: a study of perplexity scores replies to single prompts; leave it at 0")
    for role in ("judge", "builder"):
        if config.study == "cross_backbone" and getattr(config, role).name == "same":
            raise ConfigError(
                f"{role}: a study across backbones needs one {role} for all of them; name it with backbone@{role}=NAME"
            )
    for role in ("judge", "reflector", "builder"):
        if getattr(config, role).name in ("same", "auto"):
            setattr(config, role, config.backbone)


def _check_scorer(name: str) -> None:
    """Raises `ConfigError` for a backbone that cannot score texts, before anything is paid."""
    able = [n for n in REGISTRY.names("backbone") if issubclass(REGISTRY.entry("backbone", n).component, Scorer)]
    if name not in able:
        raise ConfigError(
            f"backbone: perplexity needs the log-probabilities of a text that is given, and backbone={name} does not "
            f"have them (servers return those of their own replies only). Choices: {', '.join(able)}"
        )


def identity(value: Any) -> Any:
    """The part of an options tree that can change a result, as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: identity(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.metadata.get("result", True)
        }
    if isinstance(value, Mapping):
        return {str(k): identity(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [identity(v) for v in value]
    return value.value if isinstance(value, Enum) else value


def plain(value: Any) -> Any:
    """A whole options tree as plain JSON values, to be kept beside the results. Options never hold keys, only names
    of variables.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name.rstrip("_"): plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.value if isinstance(value, Enum) else value

"""The roles that models play in a run, and what decides the replies of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from metamem.config.identity import identity
from metamem.config.options import BaseConfig, EvalConfig
from metamem.core.contracts import Backbone, Constant, MemoryConstructor, Trainable
from metamem.core.errors import ConfigError, UserError
from metamem.core.evaluating import (
    AsksByTemplates,
    AsksJudge,
    BoundsJudge,
    Rubric,
    ScoresMemories,
    ScoresReferences,
)
from metamem.core.guarded import Guard
from metamem.core.learned import Optimizer, TrainsWeights
from metamem.core.records import Question
from metamem.core.registry import REGISTRY

ROLES = {"policy": "backbone", "judge": "judge", "reflector": "reflector", "builder": "builder"}


def judged_questions(config: BaseConfig, questions: Sequence[Question]) -> list[Question]:
    """Return the questions that a judge will be asked about, as the rubric sees them."""
    asking = (c for c in _evaluators(config) if issubclass(c, AsksJudge))
    return [question for component in asking for question in component.wants(questions)]


def scores_memories(config: BaseConfig, built: bool) -> bool:
    """Tell whether this is an evaluation with an evaluator that has figures of the memories themselves; `built`: a
    builder's model writes them.
    """
    scoring: list[Any] = [c for c in _evaluators(config) if issubclass(c, ScoresMemories)]
    evaluates = isinstance(config, EvalConfig) and config.from_ is None
    return evaluates and any(component.scores(built) for component in scoring)


def judge_templates(config: BaseConfig) -> dict[str, Sequence[str]]:
    """Return evaluator → the templates by which it asks the judge itself, for those that do."""
    asking: dict[str, Any] = {name: REGISTRY.entry("evaluator", name).component for name in config.evaluator}
    return {name: c.templates() for name, c in asking.items() if issubclass(c, AsksByTemplates)}


def answers_wanted(config: BaseConfig) -> bool:
    """Tell whether any evaluator has a use for replies; else no question is answered."""
    return not all(issubclass(component, ScoresReferences) for component in _evaluators(config))


def judge_calls(config: BaseConfig) -> int | None:
    """Return the most calls to the judge about one answer; None where an evaluator that asks it does not say."""
    total = 0
    for name, options in config.evaluator.items():
        component: Any = REGISTRY.entry("evaluator", name).component
        if issubclass(component, AsksJudge) or issubclass(component, AsksByTemplates):
            most = component.asks_at_most(options) if issubclass(component, BoundsJudge) else None
            if most is None:
                return None
            total += most
    return total


def _evaluators(config: BaseConfig) -> list[type]:
    return [REGISTRY.entry("evaluator", name).component for name in config.evaluator]


def used_roles(
    config: BaseConfig, rubric: Rubric | None, builds: bool, optimizer: Optimizer | None, guard: Guard
) -> list[str]:
    """Return the roles that a program uses; `builds`: a memory or a retriever asks the builder's model."""
    judging_only = isinstance(config, EvalConfig) and config.from_ is not None
    used = {
        "policy": not judging_only,
        "judge": rubric is not None
        or bool(judge_templates(config))
        or scores_memories(config, builds)
        or "judge" in guard.needs,
        "reflector": optimizer is not None and bool(optimizer.prompts),
        "builder": builds,
    }
    return [role for role, wanted in used.items() if wanted]


def refuse_constants(config: BaseConfig, playing: Mapping[str, Backbone]) -> None:
    """Raise `ConfigError` where a role other than the policy is played by a backbone that always says the same."""
    for role, backbone in playing.items():
        if role != "policy" and isinstance(backbone, Constant):
            raise ConfigError(
                f"{ROLES[role]}: backbone={getattr(config, ROLES[role]).name} always says the same, so it can only "
                f"answer; name another one with backbone@{ROLES[role]}=NAME"
            )


def trains_weights(optimizer: Optimizer | None) -> bool:
    """Tell whether a policy trains the builder's weights."""
    return isinstance(optimizer, TrainsWeights) and optimizer.trains_weights


def refuse_untrainable(
    config: BaseConfig,
    optimizer: Optimizer | None,
    memory: MemoryConstructor,
    builder: Backbone,
    stream: bool,
    guard: Guard,
    records: bool,
) -> None:
    """Raise `ConfigError` where a policy that trains weights has none to train, or would train them otherwise than the
    run says: its episodes pass no guard and hold none of the `records` that an attack writes into memories.
    """
    if not trains_weights(optimizer) or config.optimizer is None:
        return
    name, known = config.optimizer.name, config.builder.name
    if not guard.open:
        raise ConfigError(f"optimizer={name}: its episodes pass no guard; leave guard={config.guard.name} out")
    if records:
        raise ConfigError(
            f"optimizer={name}: the memories of its episodes are its own, without the records that "
            f"attack={config.attack.name} writes; choose an attack that is said in the conversation, or train without"
        )
    if "builder" not in memory.needs:
        raise ConfigError(
            f"optimizer={name} trains the model that writes memories, and memory={config.memory.name} asks none; "
            "choose one such as memory=memalpha or memory=memory_r1"
        )
    if not isinstance(builder, Trainable):
        stand_in = "a stand-in without weights, so that nothing would be trained"
        why = stand_in if builder.identity().get("stamp") else "which cannot be trained from here"
        raise ConfigError(
            f"optimizer={name}: the builder is backbone={known}, {why}. Name a model that can be: "
            "backbone@builder=plain builder.model=..."
        )
    if stream:
        raise ConfigError(f"optimizer={name} learns from a training part, not from a stream: choose another split")


def role_identity(config: BaseConfig, role: str, backbones: Mapping[str, Backbone]) -> dict[str, Any]:
    """What decides a role's replies: the model by what it is, not by where it is, and how it samples."""
    place = ("base_url", "model", "identity", "path", "name")
    options = {k: v for k, v in identity(getattr(config, ROLES[role])).items() if k not in place}
    with speaking_of(key_of(backbones[role], backbones)):
        return {"model": dict(backbones[role].identity()), "options": options}


def key_of(backbone: Backbone, backbones: Mapping[str, Backbone]) -> str:
    """The config key of the first role that a backbone plays."""
    return next(ROLES[role] for role, known in backbones.items() if known is backbone)


@contextmanager
def speaking_of(key: str) -> Iterator[None]:
    """Backbones speak of `backbone.`; a user who mistook an option of a role's is told of that role's."""
    try:
        yield
    except UserError as error:
        if key == "backbone":
            raise
        raise type(error)(str(error).replace("backbone.", f"{key}.").replace("backbone=", f"backbone@{key}=")) from None

"""Experiments combine: every study under the paper's settings, in either order, to the paper's models and epochs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from metamem.cli.arguments import combined, studied_by, study_params, with_all
from metamem.cli.hydra_bridge import config_folder, export
from metamem.config.resolve import resolve
from metamem.core.errors import ConfigError
from metamem.core.registry import REGISTRY, load_studies, unavailable
from metamem.pipeline.prepare import prepare
from tests.config.test_presets import composed

load_studies()
STUDIES = REGISTRY.names("study")
POLICIES = ("Qwen/Qwen3-30B-A3B-Instruct-2507", "meta-llama/Llama-3.1-70B-Instruct")
JUDGE = "Qwen/Qwen3-235B-A22B"
# What some variants of a study change on purpose.
OTHER_ATTEMPTS, OTHER_FOLD = ("two_attempts", "ten_attempts"), "other_fold"


def ends_of(params: dict[str, Any]) -> Iterator[list[str]]:
    """The first and the last job of a sweep, as overrides."""
    values = {key: str(value).split(",") for key, value in params.items()}
    for end in (0, -1) if any(len(v) > 1 for v in values.values()) else (0,):
        yield [f"{key}={value[end]}" for key, value in values.items()]


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_under_the_papers_settings_has_its_models_judge_epochs_and_memory(
    study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LONGMEMEVAL", "LOCOMO", "MEMORYAGENTBENCH"):
        monkeypatch.setenv(name, f"{name.lower()}.json")
    arguments = combined([f"experiment=[paper,{study}]"])
    assert arguments == combined([f"experiment=[{study},paper]"]), "in either order"
    program, params = studied_by(arguments), study_params(arguments)
    assert params
    for job in ends_of(params):
        config: Any = composed(program, *arguments, *job)
        varied = " ".join(job)
        assert config.study == study
        assert (config.backbone.model, config.reflector) == (config.backbone.model, config.backbone)
        assert config.backbone.model in POLICIES[: 1 + (study in ("cross_backbone", "cross_policy"))]
        assert config.judge.model == JUDGE and not config.judge.thinking
        if "system=" not in varied:
            assert config.builder.model == POLICIES[0], "one builder writes what all read"
        if program == "eval":
            continue
        if study == "streams":
            continue  # a stream has no folds, and its policies pass over it once
        assert config.dataset.name in ("longmemeval", "locomo") and config.split.name == "metamem_published"
        assert config.split.fold == ("1" if OTHER_FOLD in varied else "all")
        if "memory=" not in varied and config.optimizer.name != "none":
            assert (config.memory.name, config.memory.rate, config.memory.update) == ("lightmem", 0.8, False)
            assert config.memory.messages_use == "hybrid"
        if config.optimizer.name == "metamem":
            o = config.optimizer
            assert (o.epochs, o.batch_size, o.drop_last, o.temperature) == (5, 50, True, 0.7)
            assert o.attempts == 5 or any(name in varied for name in OTHER_ATTEMPTS)


def test_the_studies_of_policies_sweep_over_every_one_that_answers_are_given() -> None:
    entries = {name: REGISTRY.entry("optimizer", name).component for name in REGISTRY.names("optimizer")}
    recalls = {name: REGISTRY.entry("recall", getattr(c, "recall", "all")).component for name, c in entries.items()}
    weighty = {name for name, c in entries.items() if getattr(c, "trains_weights", False)}
    expected = {name for name in entries.keys() - weighty if name != "none" and not hasattr(recalls[name], "evidence")}
    swept = {
        study: study_params(combined([f"experiment={study}"]))["optimizer"].split(",")
        for study in ("policies", "cross_policy", "streams")
    }
    assert sorted(swept["policies"]) == sorted(swept["cross_policy"]) == sorted(expected)
    alone = {name for name in expected if not getattr(entries[name], "needs_validation", False)}
    assert sorted(swept["streams"]) == sorted(alone), "a stream has no validation part"


def test_the_papers_second_backbone_is_llama_and_both_read_memories_of_one_builder() -> None:
    seeds = {"seed": "42,43,44"}
    assert study_params(combined(["experiment=[cross_backbone,paper]"])) == {
        "backbone": "qwen3_30b,llama31_70b",
        **seeds,
    }
    assert study_params(["experiment=cross_backbone"]) == {"backbone": "simulated,simulated_other", **seeds}


@pytest.mark.slow
def test_the_papers_table_has_each_systems_own_evidence_and_learns_for_its_own_method_only() -> None:
    rows = {}
    for name in ("full_context", "naive_rag", "amem", "memoryos", "mem0", "metamem"):
        config: Any = composed("train", *combined(["experiment=[main_table,paper]"]), f"baseline={name}")
        rows[name] = (config.memory.name, config.retriever.name, config.optimizer.name)
        assert (config.evidence.budget, str(config.evidence.order.value)) == (None, "score")
        if name in ("full_context", "naive_rag", "metamem"):
            assert getattr(config.retriever, "k", 20) == 20
    assert rows == {
        "full_context": ("full_context", "full", "none"),
        "naive_rag": ("rounds", "dense", "none"),
        "amem": ("amem", "amem", "none"),
        "memoryos": ("memoryos", "memoryos", "none"),
        "mem0": ("mem0", "dense", "none"),
        "metamem": ("lightmem", "dense", "metamem"),
    }


@pytest.mark.slow
def test_a_system_keeps_its_own_retriever_under_the_papers_settings() -> None:
    arguments = combined(["experiment=[conflict_resolution,paper]"])
    for system, retriever in (("memagent", "full"), ("memalpha", "memalpha"), ("rag", "bm25")):
        config = composed("eval", *arguments, f"system={system}")
        assert config.retriever.name == retriever, system


@pytest.mark.slow
def test_options_of_learning_are_for_the_jobs_of_a_table_that_learn() -> None:
    export()
    given = ["experiment=main_table", "optimizer.epochs=3"]
    with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
        alone, learning, refused = (
            [*given, "baseline=naive_rag"],
            [*given, "baseline=metamem"],
            ["optimizer=none", "+optimizer.epochs=3"],
        )
        assert resolve(compose("train", overrides=alone), alone).optimizer.name == "none"
        assert resolve(compose("train", overrides=learning), learning).optimizer.epochs == 3
        with pytest.raises(ConfigError, match="'optimizer.epochs' is an option of optimizer=.*metamem"):
            resolve(compose("train", overrides=refused), refused)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "more", "refused"),
    [
        ("judge", [], True),
        ("builder", ["memory=memalpha"], True),
        ("builder", [], False),  # rounds ask no builder
        ("judge", ["evaluator=[exact_match]"], False),
        ("judge", ["allow_stand_in=true"], False),
    ],
)
def test_a_stand_in_beside_a_real_policy_is_refused_on_a_benchmark_only(
    tmp_path: Path, role: str, more: list[str], refused: bool
) -> None:
    shutil.copy(config_folder().parent / "metamem" / "datasets" / "data" / "sample.json", tmp_path / "benchmark.json")
    real = ["backbone=openai", "backbone.base_url=http://localhost:1/v1", "backbone.model=m"]
    given = [*real, f"dataset.path={tmp_path / 'benchmark.json'}", f"backbone@{role}=simulated", *more]
    config = composed("train", "dataset=longmemeval", f"outputs={tmp_path}", *given)
    if refused:
        with pytest.raises(ConfigError, match=rf"{role}: simulated .* would play the {role} beside a real policy"):
            prepare(config)
    else:
        assert prepare(config).contents["roles"]
    tried = composed("train", "dataset=longmemeval", given[3], "backbone=simulated", f"outputs={tmp_path}")
    assert prepare(tried).for_trying, "the stand-in in every role is a trial"
    constant = composed("eval", "dataset=longmemeval", given[3], "backbone=constant", "backbone@judge=simulated")
    assert prepare(constant).for_trying, "one answer to everything is no real policy"
    own = composed("train", *real, f"backbone@{role}=simulated", *more, f"outputs={tmp_path}")
    assert prepare(own).dataset.own


def test_two_studies_at_once_are_refused_and_other_names_stay_for_hydra_to_judge() -> None:
    with pytest.raises(ConfigError, match="cost and data_scale are two studies"):
        combined(["experiment=[cost,data_scale]"])
    assert combined(["experiment=[cost,papre]"]) == ["experiment=[papre,cost]"]
    assert combined(["experiment=cost", "seed=1"]) == ["experiment=cost", "seed=1"]
    again = combined(["experiment=[paper,cross_memory]"])
    assert combined(again) == again, "a job is told what its sweep was told"


@pytest.mark.slow
def test_an_evaluation_under_a_studys_settings_is_of_one_fold() -> None:
    assert composed("eval", "experiment=data_scale").split.fold == "0"
    assert composed("train", "experiment=data_scale").split.fold == "all"
    assert composed("train", "experiment=data_scale", "dataset=world", "split=world").split.name == "world"


def test_all_of_a_group_is_every_component_that_can_be_used_and_no_component_of_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    every = [n for n in REGISTRY.names("memory") if not unavailable("memory", n)]
    assert {"amem", "turns", "none"} < set(every) and "lightmem_upstream" not in every
    expanded = with_all(["experiment=memory_systems", "split=all", "retriever=all"])
    assert f"memory={','.join(every)}" in expanded and "split=all" in expanded
    assert f"retriever={','.join(REGISTRY.names('retriever'))}" in expanded
    named = with_all(["experiment=memory_systems", "memory=amem,mem0"])
    assert [a for a in named if a.startswith("memory=")] == ["memory=amem,mem0"]


@pytest.mark.slow
def test_options_of_an_attack_and_a_guard_are_for_the_jobs_that_have_one() -> None:
    export()
    with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
        for attack, guard in (("none", "none"), ("trigger", "none"), ("none", "amemguard")):
            given = [f"attack={attack}", f"guard={guard}", "attack.share=0.5", "guard.memories=3"]
            config: Any = resolve(compose("eval", overrides=given), given)
            assert getattr(config.attack, "share", None) == (0.5 if attack == "trigger" else None)
            assert getattr(config.guard, "memories", None) == (3 if guard == "amemguard" else None)
        for given in (["attack=trigger", "attack.copies=3"], ["guard=provenance", "guard.memories=3"]):
            with pytest.raises(ConfigError, match="choose that first"):
                resolve(compose("eval", overrides=given), given)


@pytest.mark.slow
def test_what_an_experiment_sets_for_other_choices_is_noted_where_somebody_chose() -> None:
    export()
    notes: list[str] = []
    with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
        for given in (["experiment=nano"], ["experiment=nano", "optimizer=none"]):
            resolve(compose("train", overrides=given), given, notes.append)
            assert bool(notes) == (len(given) > 1), "what was not chosen is the experiment's own affair"
    (note,) = notes
    assert note.startswith("without effect, as optimizer=none has no such option: optimizer.")

"""The registry: one place for a name; a mistake is told with the choices; what is cheap stays cheap."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

import metamem
from metamem.core.errors import ConfigError
from metamem.core.registry import REGISTRY, Registry, load_components, option


class Fruit:
    """A fruit.

    More about it.
    """

    @dataclass
    class Config:
        """What it is like."""

        weight: int = option(3, "grams")
        seeds: list[str] = option(["a"], "its seeds", result=False)

    def __init__(self, config: Config, *, basket: str = "none") -> None:
        self.config, self.basket = config, basket


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.register("fruit", "apple")(Fruit)
    return made


def test_a_component_is_built_from_its_name_with_checked_options_and_the_dependencies_it_names(
    registry: Registry,
) -> None:
    fruit = registry.build("fruit", {"name": "apple", "weight": 5}, basket="red", unwanted=1)
    assert (fruit.config.weight, fruit.basket) == (5, "red")


def test_lists_in_options_are_not_shared_between_instances(registry: Registry) -> None:
    first, second = (registry.options("fruit", {"name": "apple"}) for _ in range(2))
    first.seeds.append("b")
    assert second.seeds == ["a"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"name": "aple"}, ["fruit 'aple'", "Did you mean 'apple'", "Choices: apple"]),
        ({"name": "apple", "wieght": 3}, ["wieght", "Did you mean 'weight'"]),
        ({"weight": 3}, ["no name", "apple"]),
        (5, ["expected a mapping"]),
    ],
)
def test_a_mistake_is_told_with_the_nearest_choice(registry: Registry, config: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        registry.build("fruit", config)
    assert all(w in str(error.value) for w in words)


def test_a_name_cannot_be_taken_twice_by_different_classes(registry: Registry) -> None:
    class Other(Fruit):
        """Another."""

    registry.register("fruit", "apple")(Fruit)
    with pytest.raises(ConfigError, match="already registered"):
        registry.register("fruit", "apple")(Other)


def test_a_component_without_help_is_refused(registry: Registry) -> None:
    class Bare:
        @dataclass
        class Config:
            """Nothing."""

    with pytest.raises(ConfigError, match="docstring"):
        registry.register("fruit", "bare")(Bare)

    class Loose:
        """Loose."""

        @dataclass
        class Config:
            """Loose options."""

            weight: int = 3

    with pytest.raises(ConfigError, match="option"):
        registry.register("fruit", "loose")(Loose)


def test_every_component_of_the_project_has_a_one_line_help_and_a_help_per_option() -> None:
    load_components()
    for entry in REGISTRY:
        assert 10 < len(entry.summary) < 160, entry
        assert all(f.metadata["help"] for f in entry.options), entry


def test_importing_composing_and_help_load_no_heavy_library() -> None:
    code = """
import sys
import metamem
from metamem.cli.hydra_bridge import export, config_folder
from metamem.cli.help import help_page, reference_page
export(); help_page("train"); reference_page()
from hydra import compose, initialize_config_dir
from metamem.config.resolve import resolve
with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
    resolve(compose("train")); resolve(compose("eval"))
heavy = ["pydantic", "torch", "vllm", "transformers", "wandb", "sentence_transformers", "openai", "bm25s", "scipy"]
print([m for m in heavy if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_named_result_neutral_option_is_marked_on_its_entry(registry: Registry) -> None:
    entry = registry.entry("fruit", "apple")
    assert [(f.name, f.metadata["result"]) for f in entry.options] == [("weight", True), ("seeds", False)]
    assert entry.summary == "A fruit."


@pytest.mark.parametrize("name", metamem.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(metamem, name) is not None

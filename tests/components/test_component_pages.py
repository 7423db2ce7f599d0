"""The pages of docs/components say of every component what it is, where it comes from and what it costs."""

from __future__ import annotations

import pytest

from metamem.cli.component_pages import component_pages, costs_of, on_nano, source_of
from metamem.core.registry import REGISTRY, load_studies

load_studies()


@pytest.mark.parametrize("kind", REGISTRY.kinds())
def test_every_component_has_a_row_with_all_its_options(kind: str) -> None:
    rows = [line.split(" | ") for line in component_pages()[f"{kind}.md"].splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"| `{name}`" for name in REGISTRY.names(kind)]
    for row, name in zip(rows, REGISTRY.names(kind), strict=True):
        assert all(f"`{field.name}`" in row[-1] for field in REGISTRY.entry(kind, name).options)


@pytest.mark.parametrize(
    ("kind", "name", "costs"),
    [
        ("memory", "rounds", []),
        ("memory", "mem0", ["builder calls", "embeddings"]),
        ("memory", "lightmem", ["builder calls", "embeddings", "weights"]),
        ("retriever", "bm25", []),
        ("retriever", "dense", ["embeddings"]),
        ("evaluator", "llm_judge", ["judge calls"]),
        ("evaluator", "token_f1", []),
        ("optimizer", "metamem", ["reflector calls"]),
        ("optimizer", "none", []),
        ("backbone", "openai", ["server"]),
        ("backbone", "vllm", ["weights"]),
        ("recall", "similar", ["embeddings"]),
    ],
)
def test_what_a_component_costs_is_what_it_works_with(kind: str, name: str, costs: list[str]) -> None:
    assert costs_of(REGISTRY.entry(kind, name)) == costs


@pytest.mark.parametrize(
    ("kind", "name", "paper"),
    [
        ("memory", "mem1", "2506.15841"),  # its module speaks of three papers
        ("memory", "memalpha", "2509.25911"),  # its package names it
        ("retriever", "bm25", ""),
    ],
)
def test_the_source_is_the_paper_that_the_documentation_names(kind: str, name: str, paper: str) -> None:
    source = source_of(REGISTRY.entry(kind, name))
    assert (paper in source) if paper else not source


def test_every_policy_says_what_it_can_do_with_the_smallest_model() -> None:
    silent = {name for name in REGISTRY.names("optimizer") if not on_nano(REGISTRY.entry("optimizer", name))}
    assert silent == {"grpo", "none"}, "these ask no language model, or train one"

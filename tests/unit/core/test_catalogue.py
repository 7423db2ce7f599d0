"""The catalogue of templates: each file registers itself, plugins add theirs, and each example can be read."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metamem.core.calls import Generation, Message
from metamem.core.errors import ConfigError
from metamem.core.registry import REGISTRY, load_components
from metamem.evaluators.points import GRADES, read_grade, read_same
from metamem.memory.builder_contracts import Contract
from metamem.memory.lightmem.replies import read_decision, read_facts
from metamem.memory.memalpha.state import Limits
from metamem.memory.memalpha.tools import schemas
from metamem.optimizers.operations import read_operations
from metamem.prompts import catalog
from metamem.prompts.catalog import PROMPTS, Template, every_template, registered
from metamem.prompts.examples import FoundTemplate, find_template, render_example
from metamem.prompts.templates import Prompts, add_templates
from metamem.replies.tool_calls import Call, read_calls
from metamem.replies.verdicts import read_verdict
from metamem.studies.guideline_kinds import read_kinds

load_components()
TOOLS = {
    "memorise": schemas(Limits(len)),
    "memorise_published": schemas(Limits(len), Contract.published),
}
WITH_EXAMPLE = [t for t in every_template() if t.example]


def calls(text: str) -> list[Any]:
    found = read_calls(Generation(text), [tool for tools in TOOLS.values() for tool in tools])
    assert all(isinstance(call, Call) for call in found)
    return found


# What reads the replies to a template; of the others any text will do.
READERS: dict[str, Callable[[str], Any]] = {
    "answer": lambda text: text.split("\n")[-1].startswith("Answer: ") or text.count("[") == 0,
    "propose": lambda text: read_operations(text).operations,
    "consolidate": lambda text: read_operations(text).operations,
    "extract": lambda text: read_facts(text, 10).facts,
    "update": read_decision,
    **dict.fromkeys(TOOLS, calls),
    "content_fits": read_verdict,
    "kinds": read_kinds,
    "rubric-point": lambda text: read_grade(text) in GRADES,
    "event-order": lambda text: read_same(text, 2, 2),
}


def prompt_of(template: Template) -> tuple[Message, ...]:
    """A prompt with the template's sections, each with two entries."""
    if template.name == "consolidate" and template.sections:
        inside = "[P1] add: Look twice.\n[P2] delete G1"
    elif template.name == "consolidate":
        inside = "P1 add Look twice."
    else:
        inside = "[1] user: I moved to Oslo.\n[2] user: It rains."
    parts = [f"<{tag}>\n{inside}\n</{tag}>" for tag in sorted(template.sections - {"tool_call"})] or [inside]
    return (Message("user", "\n".join([*(line for line in template.lines if line[0] != "<"), *parts])),)


@pytest.mark.parametrize("template", WITH_EXAMPLE, ids=lambda t: f"{t.group}/{t.name}")
def test_the_example_of_a_template_is_read_by_its_reader(template: Template) -> None:
    judged = template.group.startswith("rubric/")
    reader = READERS.get(template.name, read_verdict if judged else str.strip)
    proposed = {"P1": read_operations('[{"action": "add", "text": "Look twice."}]').operations[0]}
    for draw in range(20):
        tools = TOOLS.get(template.name, ())
        text = render_example(FoundTemplate(template, prompt_of(template), 0), random.Random(draw), tools)
        if template.name == "consolidate":
            assert read_operations(text, proposed=proposed).operations
        else:
            assert reader(text), text


@pytest.mark.parametrize("template", WITH_EXAMPLE, ids=lambda t: f"{t.group}/{t.name}")
def test_a_prompt_is_known_by_its_sections_and_lines(template: Template) -> None:
    found = find_template(prompt_of(template))
    assert found is not None
    assert (found.template.example, found.turn) == (template.example, 0)


def test_every_template_of_the_project_says_what_it_is_for_and_an_example_is_neither_rendered_nor_hashed() -> None:
    for template in every_template():
        assert "block example" not in template.text
        assert template.help or template.group != PROMPTS
    answer = registered(PROMPTS)["answer"]
    assert Prompts(Prompts.Config()).texts()["answer"] == answer.hash
    source = answer.path.read_text(encoding="utf-8")
    assert catalog.split_example(source.replace("{% block example %}", "{% block example %}x"))[0] == answer.text


def test_needed_are_the_sections_outside_of_conditions() -> None:
    memorise = registered(PROMPTS)["memorise"]
    assert memorise.needed == {"chunk"}
    assert memorise.sections == {"chunk", "core", "semantic", "episodic", "instruction", "tool_call"}
    assert registered("rubric/metamem")["adversarial"].sections == {"question", "truth", "response", "forbidden"}


@pytest.mark.parametrize(
    ("section", "entries"),
    [
        ("[1] a\n[9] b\n\n[2] c", [("1", "a\n[9] b"), ("2", "c")]),
        ("[G2] a\n[1] b\n[G7] c", [("G2", "a\n[1] b"), ("G7", "c")]),
        ("a\n\n b", [("", "a"), ("", " b")]),
        ("", []),
    ],
)
def test_entries_of_a_section_end_at_the_next_mark_of_their_kind(section: str, entries: list[tuple[str, str]]) -> None:
    example = "{% for line in lines('chunk') %}{{ [line.id, line.text] | tojson }}\n{% endfor %}"
    template = dataclasses.replace(registered(PROMPTS)["memorise"], example=example)
    asked = FoundTemplate(template, (Message("user", f"<chunk>\n{section}\n</chunk>"),), 0)
    made = render_example(asked, random.Random(0)).splitlines()
    assert [tuple(json.loads(line)) for line in made] == entries


# --- plugins ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of templates; what is registered meanwhile is gone afterwards."""
    monkeypatch.setattr(catalog, "_groups", {group: dict(held) for group, held in catalog._groups.items()})
    monkeypatch.setattr(Prompts, "Config", Prompts.Config)
    monkeypatch.setattr(REGISTRY, "_entries", {kind: dict(held) for kind, held in REGISTRY._entries.items()})
    yield tmp_path
    every_template.cache_clear()


NOTE = """{#- A note about a fragment. Variables: fragment. -#}
{% block user %}
<fragment>
{{ fragment }}
</fragment>
{% endblock %}
{% block example %}
It says: {{ text("fragment") }}
{% endblock %}
"""


def test_a_plugins_template_is_rendered_hashed_replaced_and_answered_as_our_own(folder: Path) -> None:
    (folder / "note.jinja").write_text(NOTE)
    before = Prompts(Prompts.Config()).identity()
    add_templates(folder)
    prompts = REGISTRY.build("prompts", {"name": "default"})
    prompts.check()
    messages = prompts.render("note", fragment="a </fragment> b")
    assert messages == (Message("user", "<fragment>\na ‹/fragment> b\n</fragment>"),)
    assert prompts.identity() == before
    assert prompts.identity(["note"]) == {**before, "note": registered(PROMPTS)["note"].hash}
    asked = find_template(messages)
    assert asked is not None
    assert render_example(asked, random.Random(0)) == "It says: a ‹/fragment> b"
    options = {o.name: o.metadata["help"] for o in REGISTRY.entry("prompts", "nano").options}
    assert options["note"] == "A note about a fragment"
    mine = folder / "mine.jinja"
    mine.write_text("{% block user %}{{ fragments }}{% endblock %}")
    with pytest.raises(ConfigError, match="Did you mean 'fragment'"):
        REGISTRY.build("prompts", {"name": "default", "note": str(mine)}).check()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("answer", NOTE, "'answer' of .* is already registered by"),
        ("my-note", NOTE, "letters, digits and '_'"),
        ("note", NOTE.split("-#}")[1], "first comment"),
    ],
)
def test_a_template_that_cannot_be_registered_is_refused(folder: Path, name: str, text: str, told: str) -> None:
    (folder / f"{name}.jinja").write_text(text)
    with pytest.raises(ConfigError, match=told):
        add_templates(folder)


def test_a_folder_without_templates_and_a_template_that_nobody_registered_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="holds no template"):
        add_templates(folder)
    with pytest.raises(ConfigError, match="memory=mine needs the template 'anser'.*Did you mean 'answer'"):
        Prompts(Prompts.Config()).require("memory=mine", ["anser"])


def test_an_example_that_is_no_jinja_names_its_file(folder: Path) -> None:
    (folder / "note.jinja").write_text(NOTE.replace("text(", "txt("))
    add_templates(folder)
    asked = find_template((Message("user", "<fragment>\na\n</fragment>"),))
    assert asked is not None
    with pytest.raises(ConfigError, match=r"note\.jinja: 'txt' is undefined"):
        render_example(asked, random.Random(0))

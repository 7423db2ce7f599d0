"""The short prompts of `prompts=nano` and `rubric=nano`."""

from __future__ import annotations

import pytest

from metamem.core.meta_memory import Guideline
from metamem.core.records import Question
from metamem.evaluators.rubrics import NanoRubric
from metamem.prompts.catalog import registered
from metamem.prompts.templates import NANO, NanoPrompts, Prompts

MEMORIES = ["2023-05-20 (Sat) 09:00 user: I sent Anna tea", "2023-05-03 (Wed) 09:00 user: I sent Anna milk", "undated"]


def answer(**values: object) -> str:
    given = {"guidelines": [], "memories": MEMORIES, "question": "what did I send Anna?", "date": "", **values}
    (message,) = NanoPrompts(NanoPrompts.Config()).render("answer", **given)
    return message.content


def test_memories_stand_in_the_order_of_time_under_their_day() -> None:
    lines = answer().splitlines()
    assert lines == [
        "answer",
        "3 user: I sent Anna milk",
        "20 user: I sent Anna tea",
        "undated",
        "Q what did I send Anna",
    ]


def test_guidelines_come_first_so_that_their_tokens_are_shared() -> None:
    assert answer(guidelines=[Guideline("G1", "Use the newest.")]).startswith("answer\n- Use the newest.\n3 user:")


def test_text_cannot_close_a_section_here_either() -> None:
    assert "<|im_end|>" not in answer(memories=["2023-05-20 (Sat) 09:00 user: <|im_end|>"])


def test_every_prompt_compiles_and_what_it_has_no_role_for_is_the_defaults() -> None:
    nano, default = NanoPrompts(NanoPrompts.Config()), Prompts(Prompts.Config())
    assert all(isinstance(nano.variables(name), frozenset) for name in nano.texts())
    own = {name for name in default.texts() if nano.texts()[name] != default.texts()[name]}
    assert own == set(registered(NANO)) > {"answer", "closed_book", "reflect", "propose", "consolidate", "repair"}


def test_a_template_of_ones_own_replaces_one_of_nano(tmp_path) -> None:  # type: ignore[no-untyped-def]
    own = tmp_path / "a.jinja"
    own.write_text("{% block user %}{{ question }}{% endblock %}")
    prompts = NanoPrompts(NanoPrompts.Config(answer=str(own)))
    prompts.check()
    (message,) = prompts.render("answer", question="who?")
    assert message.content == "who?"


@pytest.mark.parametrize("kind", ["knowledge-update", "multi-session", "any other"])
def test_the_rubric_shows_truth_and_response_alone_for_every_type(kind: str) -> None:
    rubric = NanoRubric(NanoRubric.Config())
    asked = Question("q", "who?", kind, ("tea",))
    assert rubric.render(asked, "milk", "D").split() == ["judge", "T", "tea", "R", "milk"]

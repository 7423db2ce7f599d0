"""Prompts: the one without meta-memory is the same less the guidelines, and data stays inside its section."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.core.errors import ConfigError
from metamem.core.meta_memory import from_texts
from metamem.prompts.catalog import PROMPTS as OWN
from metamem.prompts.catalog import registered
from metamem.prompts.templates import Prompts

PROMPTS = Prompts(Prompts.Config())
CASE = {"memories": ["2024-01-01 (Mon) 10:00 user: a", "b"], "question": "q?", "date": "2024-02-01 (Thu) 10:00"}


def answer(texts: list[str], **case: object) -> list[str]:
    guidelines = list(from_texts(texts).guidelines)
    return [m.content for m in PROMPTS.render("answer", guidelines=guidelines, **{**CASE, **case})]


def test_the_prompt_without_meta_memory_is_the_same_less_the_guidelines() -> None:
    without, with_guidelines = answer([]), answer(["Use dates.", "Count."])
    assert with_guidelines[1] == without[1]
    start = with_guidelines[0].index("Guidelines on using")
    end = with_guidelines[0].index("</guidelines>") + len("</guidelines>")
    assert (with_guidelines[0][:start] + with_guidelines[0][end:]).strip() == without[0].strip()


def test_guidelines_come_first_then_evidence_then_question() -> None:
    text = "\n".join(answer(["Use dates."]))
    places = [text.index(mark) for mark in ("<guidelines>", "<memories>", "<question>")]
    assert places == sorted(places)


def test_the_question_s_date_is_in_the_prompt() -> None:
    assert "2024-02-01 (Thu) 10:00" in answer([])[1]


@given(
    st.lists(
        st.sampled_from(
            ["</memories>", "<question>", "</ Question >", "<guidelines>", "{{ 7 * 7 }}", "{% raw %}", "x < y", "\n"]
        ),
        max_size=6,
    ).map("".join)
)
def test_no_memory_closes_or_opens_a_section_or_is_executed(text: str) -> None:
    user = answer([], memories=[text, "b"], question=text)[1]
    assert len(re.findall(r"<\s*/?\s*(?:memories|question|guidelines)\b", user, re.IGNORECASE)) == 4
    assert user.count("{{ 7 * 7 }}") == 2 * text.count("{{ 7 * 7 }}")
    assert "49" not in user


def test_every_template_compiles_and_its_text_is_part_of_the_identity(tmp_path: Path) -> None:
    assert set(PROMPTS.texts()) == {*registered(OWN)}
    assert all(isinstance(PROMPTS.variables(name), frozenset) for name in PROMPTS.texts())
    mine = tmp_path / "answer.jinja"
    mine.write_text("{% block user %}{{ question }}{% endblock %}")
    other = Prompts(Prompts.Config(answer=str(mine)))
    changed = {n for n in PROMPTS.texts() if other.texts()[n] != PROMPTS.texts()[n]}
    assert changed == {"answer"}


def test_a_template_without_a_user_block_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "answer.jinja"
    mine.write_text("{{ question }}")
    with pytest.raises(ConfigError, match="no block named 'user'"):
        Prompts(Prompts.Config(answer=str(mine))).check()

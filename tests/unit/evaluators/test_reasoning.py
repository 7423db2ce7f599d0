"""Where reasoning ends: whole blocks, a closing tag alone, an opening tag alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.replies.reasoning import split_reasoning

PLAIN = st.text(alphabet="ab <>/\n[]", max_size=30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rome", ("Rome", "", True)),
        ("  Rome\n", ("Rome", "", True)),
        ("", ("", "", True)),
        ("<think>Is it Rome?</think>\n\nRome", ("Rome", "Is it Rome?", True)),
        ("<think>\n\n</think>\n\nRome", ("Rome", "", True)),
        ("Is it Rome?\n</think>\n\nRome", ("Rome", "Is it Rome?", True)),
        ("<think>Is it Rome?", ("", "Is it Rome?", False)),
        ("Rome <think>or is it", ("Rome", "or is it", False)),
        ("<think>a</think>Ro<think>b</think>me", ("Rome", "a\nb", True)),
        ("<think>a <think> b</think>Rome", ("Rome", "a\nb", True)),
        ("<think>so </think> ends it</think>Rome", ("Rome", "so\nends it", True)),
        ("<Thinking>a</Thinking>Rome", ("Rome", "a", True)),
        ("[THINK]a[/THINK]Rome", ("Rome", "a", True)),
        ("[think]", ("[think]", "", True)),
        ("<thinker>a", ("<thinker>a", "", True)),
    ],
)
def test_reasoning_is_split_from_the_answer(text: str, expected: tuple[str, str, bool]) -> None:
    assert split_reasoning(text) == expected


@given(PLAIN, PLAIN)
def test_a_finished_block_before_an_answer_leaves_the_answer(reasoning: str, answer: str) -> None:
    assert split_reasoning(f"<think>{reasoning}</think>{answer}") == (answer.strip(), reasoning.strip(), True)


@given(st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "a", " "]), max_size=20).map("".join))
def test_the_answer_never_holds_a_tag(text: str) -> None:
    answer, reasoning, _ = split_reasoning(text)
    assert not any(tag in answer + reasoning for tag in ("<think>", "</think>", "[THINK]", "[/THINK]"))


@given(st.text(max_size=60))
def test_nothing_of_a_text_without_tags_is_reasoning(text: str) -> None:
    if "think" not in text.casefold():
        assert split_reasoning(text) == (text.strip(), "", True)

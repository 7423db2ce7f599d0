"""What a builder's reply is read as: facts with their messages, decisions, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.memory.lightmem.replies import Facts, read_decision, read_facts
from metamem.replies.json_in_text import UnreadableError

ONE = '{"facts": [{"source": 0, "fact": "The user has a cat."}]}'
CAT = ((0, "The user has a cat."),)


@pytest.mark.parametrize(
    "reply",
    [
        ONE,
        f"```json\n{ONE}\n```",
        f"Here are the facts [of 1 message]:\n```\n{ONE}\n```\nThat is all.",
        f"<think>Which ones? {{maybe}}</think>{ONE}",
        f"maybe</think>\n{ONE}",
        ONE.replace('"facts"', '"data"'),
        '[{"source": 0, "fact": "The user has a cat."}]',
        '{"source": 0, "fact": "The user has a cat."}',
        '{"facts": [{"source": "[0]", "fact": "The user  has a\\ncat."},]}',
        "{'facts': [{'source': 0, 'fact': 'The user has a cat.'}]}",
        '{"facts": [{"Source_ID": 0.0, "text": "The user has a cat."}]}',
        f'{{"facts": []}}\nWait, there is one.\n{ONE}',
        f'{{"facts": [{ONE[11:-2]}, {ONE[11:-2]}]}}',
    ],
    ids=str,
)
def test_facts_are_read_however_they_are_wrapped(reply: str) -> None:
    assert read_facts(reply, 1) == Facts(CAT, {"nowhere": 0, "malformed": 0})


@pytest.mark.parametrize(
    "reply", ["", "  ", "no facts", "<think>it goes on", '"a string"', "[1, 2]", '{"facts": ["a", 3]}', "{", "[" * 5000]
)
def test_a_reply_without_facts_is_unreadable_not_empty(reply: str) -> None:
    with pytest.raises(UnreadableError):
        read_facts(reply, 1)


def test_an_empty_list_says_that_there_is_nothing() -> None:
    assert read_facts('{"facts": []}', 3).facts == ()


def test_a_fact_of_a_message_that_does_not_exist_is_refused_and_counted() -> None:
    items = [{"source": s, "fact": f"f{s}"} for s in (-1, 0, 1, 2, 99)] + [{"fact": "of nothing"}, {"source": True}, 7]
    read = read_facts(json.dumps({"facts": items}), 2)
    assert read.facts == ((0, "f0"), (1, "f1"))
    assert read.refused == {"nowhere": 3, "malformed": 3}


@given(st.integers(12, 200))
def test_of_a_reply_that_was_cut_the_whole_facts_count(length: int) -> None:
    items = [{"source": i, "fact": f'Fact "{i}" {{of}} [many]'} for i in range(4)]
    whole = json.dumps({"facts": items})
    cut = whole[: min(length, len(whole) - 1)]
    ends = [whole.index(json.dumps(item)) + len(json.dumps(item)) for item in items]
    kept = sum(end <= len(cut) for end in ends)
    if not kept:
        with pytest.raises(UnreadableError):
            read_facts(cut, 4)
    else:
        read = read_facts(cut, 4)
        assert read.cut
        assert [source for source, _ in read.facts] == list(range(kept))


@given(st.text(max_size=80))
def test_no_reply_raises_anything_but_unreadable(text: str) -> None:
    for read in (lambda t: read_facts(t, 2), read_decision):
        for reply in (text, '{"facts": [' + text, f'{{"action": "{text}'):
            try:
                read(reply)
            except UnreadableError:
                pass


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"action": "update", "text": "New  text."}', ("update", "New text.")),
        ('```json\n{"action": "DELETE", "text": ""}\n```', ("delete", "")),
        ('{"action": "ignore", "text": "left over"}', ("ignore", "")),
        ('[{"action": "update", "new_memory": "New"}]', ("update", "New")),
    ],
)
def test_decisions_are_read(reply: str, expected: tuple[str, str]) -> None:
    assert read_decision(reply) == expected


@pytest.mark.parametrize(
    "reply",
    ["", "delete it", '{"action": "merge"}', '{"action": "update", "text": " "}', '{"action": "delete", "te', "[]"],
)
def test_a_decision_that_cannot_be_told_is_unreadable(reply: str) -> None:
    with pytest.raises(UnreadableError):
        read_decision(reply)

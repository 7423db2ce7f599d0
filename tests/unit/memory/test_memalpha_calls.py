"""Calls of tools: read whole and valid, or refused with a reply; none crashes, none does half of something."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.core.calls import Generation, ToolCall
from metamem.memory.builder_contracts import Contract
from metamem.memory.memalpha.state import Limits, LongCore, Memory, MemoryPart
from metamem.memory.memalpha.tools import Result, execute, schemas
from metamem.replies.tool_calls import Call, Malformed, read_calls


def words(text: str) -> int:
    return len(text.split())


LIMITS = Limits(words, core_tokens=6, long_core=LongCore.refuse)
TOOLS = schemas(LIMITS)
GOOD = '{"name": "insert", "arguments": {"memory": "semantic", "content": "a fact"}}'


def tagged(inner: str) -> str:
    return f"<tool_call>\n{inner}\n</tool_call>"


def call(name: Any = "insert", **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def memory() -> Memory:
    held = Memory(LIMITS)
    held.update(MemoryPart.core, "", "who they are")
    held.insert(MemoryPart.semantic, "one")
    held.insert(MemoryPart.episodic, "two")
    return held


# kind of fault → the reply, and a word of what the model is told
MALFORMED: dict[str, tuple[str, str]] = {
    "truncated in a text": (
        tagged('{"name": "insert", "arguments": {"memory": "semantic", "content": "a f'),
        "valid JSON",
    ),
    "truncated without an end": ('<tool_call>{"name": "insert", "arguments": {"memory": "sem', "too early"),
    "truncated after the arguments": ('<tool_call>{"name": "insert", "arguments": {"memory": "semantic"', "too early"),
    "a brace missing": (tagged(GOOD[:-1]), "valid JSON"),
    "a brace too many": (tagged(GOOD + "}"), "more than one"),
    "two objects between the tags": (tagged(GOOD + "\n" + GOOD), "more than one"),
    "text after the JSON": (tagged(GOOD + " and so on"), "more than one"),
    "text before the JSON": (tagged("Here it is: " + GOOD), "valid JSON"),
    "nothing between the tags": (tagged(""), "valid JSON"),
    "tags in tags": (tagged(tagged(GOOD)), "valid JSON"),
    "an opened call in a cut one": (
        '<tool_call>{"name": "insert", "arg<tool_call>' + GOOD + "</tool_call>",
        "valid JSON",
    ),
    "single quotes": (tagged(GOOD.replace('"', "'")), "valid JSON"),
    "a trailing comma": (tagged(GOOD.replace('"a fact"', '"a fact",')), "valid JSON"),
    "a comment": (tagged("// note\n" + GOOD), "valid JSON"),
    "not a number": (tagged(GOOD.replace('"a fact"', "NaN")), "NaN"),
    "an argument given twice": (tagged(GOOD.replace('"content"', '"memory"')), "twice"),
    "a list of calls": (tagged(f"[{GOOD}]"), "found a list"),
    "a text instead of an object": (tagged('"insert"'), "found text"),
    "no name": (tagged('{"arguments": {"memory": "semantic", "content": "x"}}'), "name is missing"),
    "a name that is a number": (tagged(call(7, memory="semantic", content="x")), "name is missing"),
    "an unknown name": (tagged(call("inserts", memory="semantic", content="x")), "Did you mean 'insert'"),
    "no arguments": (tagged('{"name": "insert"}'), "found null"),
    "arguments that are a list": (tagged('{"name": "insert", "arguments": ["semantic", "x"]}'), "found a list"),
    "arguments as cut text": (tagged(json.dumps({"name": "insert", "arguments": '{"memory": "sem'})), "too early"),
    "arguments under another key": (tagged(GOOD.replace('"arguments"', '"parameters"')), "found null"),
    "a needed argument missing": (tagged(call(memory="semantic")), "needs the argument content"),
    "a needed argument null": (tagged(call(memory="semantic", content=None)), "needs the argument content"),
    "an unknown argument": (tagged(call(memory="semantic", content="x", contents="y")), "unknown argument"),
    "content that is a list": (tagged(call(memory="semantic", content=["x"])), "must be a string, found a list"),
    "content that is a number": (tagged(call(memory="semantic", content=7)), "must be a string, found a number"),
    "content that is true": (tagged(call(memory="semantic", content=True)), "must be a string, found true"),
    "an unknown memory": (tagged(call(memory="procedural", content="x")), "unknown memory of insert"),
    "an insert into core": (tagged(call(memory="core", content="x")), "unknown memory of insert"),
    "JSON without tags": (f"```json\n{GOOD}\n```", "no call was found"),
    "an end without a beginning": (f"{GOOD}\n</tool_call>", "no call was found"),
    "a call as Python": ('insert(memory="semantic", content="a fact")', "no call was found"),
    "another family's form": (
        "<function=insert><parameter=memory>semantic</parameter></function>",
        "no call was found",
    ),
    "nesting without end": ("<tool_call>" + '{"a":' * 100_000, "JSON"),
    "a number without end": (tagged(call(memory="semantic", content="x").replace('"x"', "1" * 5000)), "JSON"),
}
# kind of fault → the call, which is well formed, and what the memory answers
REFUSED: dict[str, tuple[str, str]] = {
    "an id that never was": (call("update", memory="semantic", id="s9", content="x"), "no item 's9'; its ids are s1"),
    "an id of the other list": (call("delete", memory="semantic", id="e1"), "no item 'e1'"),
    "no id": (call("delete", memory="episodic"), "needs id"),
    "an empty text": (call(memory="semantic", content=" "), "empty"),
    "core too long": (
        call("update", memory="core", content="one two three four five six seven"),
        "7; write it shorter",
    ),
}


def test_there_are_thirty_kinds_of_malformed_calls_and_more() -> None:
    assert len(MALFORMED) + len(REFUSED) >= 30


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_call_changes_nothing_is_counted_once_and_gets_a_reason(kind: str) -> None:
    text, told = MALFORMED[kind]
    held, before = memory(), memory()
    calls = read_calls(Generation(text), TOOLS)
    (outcome,) = execute(held, calls, chunk=1)
    assert outcome.result is Result.malformed
    assert outcome.failed
    assert told in outcome.reply
    assert held == before


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_call_does_not_hide_the_good_one_before_it(kind: str) -> None:
    held = memory()
    outcomes = execute(held, read_calls(Generation(tagged(GOOD) + "\n" + MALFORMED[kind][0]), TOOLS), chunk=1)
    assert outcomes[0].result is Result.done
    assert [i.text for i in held.items(MemoryPart.semantic)] == ["one", "a fact"]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_call_that_the_memory_refuses_changes_nothing_and_gets_a_reason(kind: str) -> None:
    text, told = REFUSED[kind]
    held, before = memory(), memory()
    (outcome,) = execute(held, read_calls(Generation(tagged(text)), TOOLS), chunk=1)
    assert outcome.result is Result.refused
    assert told in outcome.reply
    assert held == before


@pytest.mark.parametrize(
    "text",
    [
        tagged(GOOD),
        f"<tool_call>{GOOD}</tool_call>",
        f"<tool_call>{GOOD}",  # the end tag is missing, the call is whole
        tagged(f"```json\n{GOOD}\n```"),
        f"```\n{tagged(GOOD)}\n```",
        f"I keep this.\n{tagged(GOOD)}\nDone.",
        f"<Tool_Call> {GOOD} </ tool_call>",
        tagged(json.dumps({"name": "insert", "arguments": '{"memory": "semantic", "content": "a fact"}'})),
        tagged(GOOD[:-1] + ', "id": "call_1"}'),
    ],
)
def test_a_whole_call_is_read_however_it_is_set(text: str) -> None:
    assert read_calls(Generation(text), TOOLS) == [Call("insert", {"memory": "semantic", "content": "a fact"})]


def test_a_reply_without_calls_has_none() -> None:
    for text in ("", "Nothing here is worth keeping.", 'She said "name": her name is {Ann}.', "insert (nothing)"):
        assert read_calls(Generation(text), TOOLS) == []


def test_a_line_break_in_a_text_is_read_as_one() -> None:
    (read,) = read_calls(Generation(tagged(GOOD.replace("a fact", "a\nfact"))), TOOLS)
    assert isinstance(read, Call) and read.arguments["content"] == "a\nfact"


def test_calls_that_a_server_read_come_before_those_in_the_text() -> None:
    sent = ToolCall("delete", '{"memory": "core"}')
    assert [c.name for c in read_calls(Generation(tagged(GOOD), calls=(sent,)), TOOLS) if isinstance(c, Call)] == [
        "delete",
        "insert",
    ]


@pytest.mark.parametrize("arguments", ["", "null", "[]", '{"memory": "core"', '{"memory": "core"} {}', '{"memory": 1}'])
def test_a_servers_call_with_bad_arguments_is_refused(arguments: str) -> None:
    (read,) = read_calls(Generation("", calls=(ToolCall("delete", arguments),)), TOOLS)
    assert isinstance(read, Malformed)


contents = st.text(max_size=30) | st.sampled_from([tagged(GOOD), "</tool_call>", '"}}', "```"])
valid = st.one_of(
    st.builds(
        lambda m, c: ("insert", {"memory": m, "content": c}), st.sampled_from(["semantic", "episodic"]), contents
    ),
    st.builds(lambda i, c: ("update", {"memory": "semantic", "id": i, "content": c}), contents, contents),
    st.builds(lambda i: ("delete", {"memory": "episodic", "id": i}), contents),
)


@given(st.lists(valid, max_size=5), st.booleans(), st.booleans())
def test_what_was_called_is_what_is_read_whatever_the_texts_hold(
    made: list[tuple[str, dict[str, Any]]], native: bool, ascii_only: bool
) -> None:
    if native:
        generation = Generation("", calls=tuple(ToolCall(n, json.dumps(a, ensure_ascii=ascii_only)) for n, a in made))
    else:
        written = [json.dumps({"name": n, "arguments": a}, ensure_ascii=ascii_only) for n, a in made]
        generation = Generation("\n".join(tagged(w) for w in written))
    assert read_calls(generation, TOOLS) == [Call(n, a) for n, a in made]


MARKS = [
    "<tool_call>",
    "</tool_call>",
    "{",
    "}",
    '"',
    ",",
    ":",
    "[",
    "]",
    "```",
    "\n",
    "\\",
    "name",
    "arguments",
    "insert",
]
HALVES = [GOOD, GOOD[: len(GOOD) // 2], GOOD[len(GOOD) // 2 :], "null", "7", "é\ud800"]
pieces = st.sampled_from(MARKS + HALVES)


@settings(max_examples=100)
@given(st.lists(pieces, max_size=25).map("".join))
def test_no_reply_crashes_the_reader_or_corrupts_the_memory(text: str) -> None:
    held = memory()
    execute(held, read_calls(Generation(text), TOOLS), chunk=1)
    assert Memory.replay(LIMITS, held.changes) == held


@given(st.lists(valid, min_size=1, max_size=3), st.integers(1, 60))
def test_of_a_reply_that_was_cut_only_whole_calls_are_read(made: list[tuple[str, dict[str, Any]]], lost: int) -> None:
    written = "\n".join(tagged(json.dumps({"name": n, "arguments": a})) for n, a in made)
    read = [c for c in read_calls(Generation(written[:-lost], "length"), TOOLS) if isinstance(c, Call)]
    assert read == [Call(n, a) for n, a in made][: len(read)]


def test_each_outcome_names_the_change_it_made() -> None:
    held = Memory(LIMITS)
    text = "\n".join(
        tagged(c)
        for c in (
            call(memory="semantic", content="a"),
            call(memory="semantic", content=" a "),
            call("update", memory="core", content="who"),
            call("delete", memory="semantic", id="s1"),
        )
    )
    outcomes = execute(held, read_calls(Generation(text), TOOLS), chunk=4)
    assert [(o.result.value, o.id, o.change) for o in outcomes] == [
        ("done", "s1", 1),
        ("skipped", "s1", None),
        ("done", "core", 2),
        ("done", "s1", 3),
    ]
    assert [c.number for c in held.changes] == [1, 2, 3]


def test_a_disabled_part_is_not_offered() -> None:
    few = schemas(Limits(words, disabled=frozenset({MemoryPart.core, MemoryPart.semantic})))
    assert json.dumps(few).count("semantic") == json.dumps(few).count("core") == 0
    (read,) = read_calls(Generation(tagged(GOOD)), few)
    assert isinstance(read, Malformed)
    assert schemas(Limits(words, disabled=frozenset(MemoryPart))) == ()
    only_core = schemas(Limits(words, disabled=frozenset({MemoryPart.semantic, MemoryPart.episodic})))
    assert [t["function"]["name"] for t in only_core] == ["update", "delete"]
    assert all("id" not in t["function"]["parameters"]["properties"] for t in only_core)


def test_the_published_contract_does_the_same_under_its_own_names() -> None:
    tools = schemas(LIMITS, Contract.published)
    assert [t["function"]["name"] for t in tools] == ["new_memory_insert", "memory_update", "memory_delete"]
    text = "\n".join(
        tagged(c)
        for c in (
            call("new_memory_insert", memory_type="episodic_memory", content="a"),
            call("memory_update", memory_type="core_memory", new_content="b"),
            call("memory_update", memory_type="episodic_memory", memory_id="e1", new_content="c"),
        )
    )
    held = Memory(LIMITS)
    outcomes = execute(held, read_calls(Generation(text), tools), 0, contract=Contract.published)
    assert not any(o.failed for o in outcomes)
    assert [i.text for part in MemoryPart for i in held.items(part)] == ["b", "c"]

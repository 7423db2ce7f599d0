"""Searching a memory for a call of the tool: what is offered, what is found, what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from metamem.core.banks import MemoryBank
from metamem.core.errors import ConfigError
from metamem.core.records import MemoryUnit, Question
from metamem.core.registry import build, load_components
from metamem.replies.tool_calls import Call
from metamem.retrieval.searching import RefusedSearch, Searcher, SearchOptions
from metamem.retrieval.tools import Tools
from metamem.store.store import MemoryStore

load_components()
QUESTION = Question("q", "Where?", "t", ("Oslo",), conversation_id="c")
TEXTS = {
    "core": ["Ann lives in Oslo."],
    "semantic": ["Oslo is a city.", "Rome is a city.", "Cats sleep a lot."],
    "episodic": ["Ann went to Oslo in May.", "Bo went to Rome.", "Ann slept."],
}
BANK = MemoryBank(
    "b", "c", tuple(MemoryUnit(f"{k[0]}{i}", t, kind=k) for k, ts in TEXTS.items() for i, t in enumerate(ts, 1))
)


def searcher(**options: Any) -> Searcher:
    tools = Tools(build("embedder", {"name": "hashing"}), MemoryStore())
    return Searcher(SearchOptions(calls=3, **options), tools, "words", ("core",))


def found(made: Searcher, shown: tuple[str, ...] = (), bank: MemoryBank = BANK, **arguments: Any) -> list[str]:
    evidence = asyncio.run(made.find(Call("search", arguments), bank, QUESTION, shown))
    assert [e.rank for e in evidence] == list(range(len(evidence)))
    return [e.unit.id for e in evidence]


def test_all_lists_are_searched_but_those_that_are_always_shown() -> None:
    assert found(searcher(), query="Oslo") == ["s1", "e1"]
    tools = Tools(build("embedder", {"name": "hashing"}), MemoryStore())
    assert found(Searcher(SearchOptions(calls=3), tools, "words"), query="Oslo") == ["s1", "c1", "e1"]


def test_one_list_is_searched_where_it_is_named() -> None:
    assert found(searcher(), query="Oslo", memory="episodic") == ["e1"]


def test_what_is_shown_already_is_left_out() -> None:
    assert found(searcher(), ("s1",), query="Oslo") == ["e1"]
    assert found(searcher(), ("s1", "e1"), query="Oslo") == []


def test_no_more_than_k_are_found_and_a_call_may_ask_for_fewer() -> None:
    assert len(found(searcher(k=2), query="Ann Bo Oslo Rome")) == 2
    assert len(found(searcher(k=2), query="Ann Bo Oslo Rome", k=1)) == 1


def test_a_search_by_meaning_ranks_every_unit_and_one_by_words_only_those_that_share_one() -> None:
    assert len(found(searcher(), query="Ann slept", method="embedding")) == 6
    assert found(searcher(), query="Ann slept", method="embedding")[0] == "e3"
    assert found(searcher(), query="Ann slept", method="bm25") == ["e3", "e1"]
    assert found(searcher(methods=["embedding"]), query="zzz") != []


def test_what_a_search_gives_keeps_to_its_tokens() -> None:
    assert found(searcher(tokens=8), query="Oslo") == ["s1"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"query": "  "}, "the query is empty"),
        ({"query": "x", "k": 0}, "k must be from 1 to 10, found 0"),
        ({"query": "x", "k": 11}, "k must be from 1 to 10, found 11"),
        ({"query": "x", "k": 10**30}, "k must be from 1 to 10"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_with_the_reason(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(RefusedSearch, match=told):
        found(searcher(), **arguments)


def offered(made: Searcher, bank: MemoryBank) -> dict[str, Any]:
    (tool,) = made.tools(bank)
    properties: dict[str, Any] = tool["function"]["parameters"]["properties"]
    return properties


def test_only_arguments_that_leave_a_choice_are_offered() -> None:
    assert list(offered(searcher(), BANK)) == ["memory", "query", "method", "k"]
    assert offered(searcher(), BANK)["memory"]["enum"] == ["semantic", "episodic"]
    one_list = MemoryBank("b", "c", tuple(u for u in BANK.units if u.kind == "semantic"))
    assert list(offered(searcher(methods=["bm25"]), one_list)) == ["query", "k"]
    assert searcher().tools(MemoryBank("b", "c", ())) == ()
    assert searcher().tools(MemoryBank("b", "c", BANK.units[:1])) == (), "core alone is no list"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"calls": -1}, "search.calls must be at least 0"),
        ({"k": 0}, "search.k must be at least 1"),
        ({"tokens": 0}, "search.tokens must be at least 1 or null"),
        ({"methods": ["bm52"]}, "search.methods: unknown method 'bm52'. Did you mean 'bm25'"),
        ({"methods": []}, "search.methods: name at least one"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SearchOptions(**options)

"""Graphiti's own package with our models: dates, ids, turns and failures are those of the conversation and the run."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from typing import Any

import pytest

from metamem.core.banks import MemoryBank
from metamem.core.calls import Failure
from metamem.core.records import Conversation, Session, Turn
from metamem.core.registry import build, load_components
from tests.writing import Scripted, write

# Not imported here: the package reports its use unless it is told not to before.
if find_spec("graphiti_core") is None or find_spec("kuzu") is None:
    pytest.skip("graphiti-core and kuzu are not installed (the extra graphiti)", allow_module_level=True)
load_components()
pytestmark = pytest.mark.slow  # the package takes seconds to import
TOWNS = ("Oslo", "Bergen")


def session(day: int, *texts: str) -> Session:
    said = tuple(Turn(f"{day}:{n}", ("user", "assistant")[n % 2], text, "Ann") for n, text in enumerate(texts))
    return Session(f"s{day}", datetime(2023, 5, day, 9), said)


TALK = Conversation(
    "c",
    (session(3, "I live in Oslo.", "So you do."), session(8, "I moved to Bergen, 'really'.", "Oslo, Bergen: towns.")),
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> Any:
        raise AssertionError("the package reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def shown(text: str, tag: str) -> str:
    return re.split(rf"</?{tag}>", text)[1].strip()


def graph(place: str, text: str) -> str:
    """Entities are Ann and the towns of a message; it says that she lives in each, and the second ends the first."""
    if place == "ExtractedEntities":
        message = shown(text, "CURRENT MESSAGE")
        made: Any = {"extracted_entities": [{"name": n, "entity_type_id": 0} for n in ("Ann", *TOWNS) if n in message]}
    elif place == "ExtractedEdges":
        message = shown(text, "CURRENT_MESSAGE")
        day = re.findall(r"2023-05-0\d", shown(text, "REFERENCE_TIME"))[0]
        made = {"edges": [_lives(town, day) for town in TOWNS if town in message]}
    elif place == "EdgeDuplicate":
        ended = re.findall(r"'idx': (\d+), 'fact': 'Ann lives in Oslo'", text.replace('"', "'"))
        made = {"duplicate_facts": [], "contradicted_facts": [int(n) for n in ended]}
    elif place == "SummarizedEntities":
        made = {"summaries": []}
    else:
        raise AssertionError(f"an unknown request: {place}")
    return json.dumps(made)


def _lives(town: str, day: str) -> dict[str, Any]:
    fact = {"source_entity_name": "Ann", "target_entity_name": town, "relation_type": "LIVES_IN"}
    return {**fact, "fact": f"Ann lives in {town}", "valid_at": f"{day}T00:00:00Z", "invalid_at": None}


def written(script: Callable[[str, str], str | Failure]) -> MemoryBank:
    return write(build("memory", {"name": "graphiti"}), TALK, Scripted(script))


def test_a_fact_knows_the_turns_that_state_it_and_ends_when_another_contradicts_it() -> None:
    prompts: list[tuple[str, str]] = []

    def watched(place: str, text: str) -> str:
        prompts.append((place, text))
        return graph(place, text)

    bank = written(watched)
    oslo, bergen = sorted(bank.units, key=lambda unit: unit.id)
    assert (oslo.text, oslo.found_by) == ("Ann lives in Oslo (from 2023-05-03 until 2023-05-08)", "Ann lives in Oslo")
    assert (oslo.session_id, oslo.time, oslo.turn_ids) == ("s3", datetime(2023, 5, 3, 9), ("3:0", "8:1"))
    assert oslo.until == datetime(2023, 5, 8)
    assert (bergen.text, bergen.turn_ids) == ("Ann lives in Bergen (from 2023-05-08)", ("8:0", "8:1"))
    assert bergen.until is None
    assert (bank.counts["unread_episodes"], bank.complete) == (0, True)
    assert bank.costs["build"].calls == len(prompts)
    messages = [shown(text, "CURRENT MESSAGE") for place, text in prompts if place == "ExtractedEntities"]
    assert messages[0] == "Ann: I live in Oslo." and len(messages) == 4
    assert not any(f"{datetime.now():%Y-%m-%d}" in text for _, text in prompts), "its clock is the conversation's"


def test_its_prompts_and_facts_are_the_same_each_time() -> None:
    asked: list[list[tuple[str, str]]] = []

    def once() -> MemoryBank:
        asked.append([])
        return written(lambda place, text: (asked[-1].append((place, text)), graph(place, text))[1])

    assert once().units == once().units
    assert asked[0] == asked[1] and asked[0]


def current(place: str, text: str) -> str:
    return shown(text, "CURRENT MESSAGE") if place == "ExtractedEntities" else ""


def test_a_reply_of_the_wrong_form_loses_its_episode_alone_and_is_counted() -> None:
    bank = written(lambda place, text: "no JSON" if "moved" in current(place, text) else graph(place, text))
    assert (bank.counts["unread_episodes"], bank.complete) == (1, True)
    turns = {unit.key: unit.turn_ids for unit in bank.units}
    assert turns["Ann lives in Bergen"] == ("8:1",) and turns["Ann lives in Oslo"][0] == "3:0"


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_lost_call_stops_the_conversation_also_where_the_package_goes_on_without_it(swallowed: bool) -> None:
    seen: list[str] = []

    def losing(place: str, text: str) -> str | Failure:
        seen.append(place)
        if place == ("EdgeTimestamps" if swallowed else "ExtractedEdges"):
            return Failure("gone")
        undated = graph(place, text)
        return undated.replace("2023-05-03T00:00:00Z", "") if swallowed else undated

    bank = written(losing)
    assert (bank.complete, bank.units, [unread.reason for unread in bank.unread]) == (False, (), ["gone"])
    assert seen == ["ExtractedEntities", "ExtractedEdges", *["EdgeTimestamps"] * swallowed]


def test_text_that_is_hostile_to_a_query_language_is_stored_as_it_is() -> None:
    hostile = "Ann's \"}) DETACH DELETE n // $uuid \\ \u202e 😀 O'Brien AND NOT"

    def script(place: str, text: str) -> str:
        made = json.loads(graph(place, text))
        if place == "ExtractedEntities":
            made["extracted_entities"].append({"name": hostile, "entity_type_id": 0})
        for edge in made.get("edges", ()):
            edge.update(target_entity_name=hostile, fact=f"Ann wrote {hostile}")
        return json.dumps(made)

    bank = written(script)
    assert [unit.key for unit in bank.units] == [f"Ann wrote {hostile}"] and bank.units[0].turn_ids == (
        "3:0",
        "8:0",
        "8:1",
    )


def test_the_versions_of_the_package_and_its_database_are_in_its_identity() -> None:
    identity = build("memory", {"name": "graphiti"}).identity()
    assert identity["package"]["name"] == "graphiti_core"
    assert re.match(r"\d+\.\d+", identity["package"]["version"]) and re.match(r"\d+\.\d+", identity["kuzu"])

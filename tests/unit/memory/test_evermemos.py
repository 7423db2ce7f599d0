"""EverMemOS's own packages with our models: cells, episodes and facts know their turns; failures are the run's."""

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
from metamem.core.errors import MissingExtraError
from metamem.core.records import Conversation, Session, Turn
from metamem.core.registry import build, load_components
from tests.writing import Scripted, write

# Not imported here: a namespace whose parts may be missing.
if find_spec("everalgo") is None or find_spec("bpe_openai") is None:
    pytest.skip("the packages everalgo are not installed (the extra evermemos)", allow_module_level=True)
load_components()
pytestmark = pytest.mark.slow  # the package takes seconds to import


def session(day: int) -> Session:
    said = [Turn(f"{day}:{i}", ("user", "assistant")[i % 2], f"word{day}x{i} <|endoftext|>", "Ann") for i in range(4)]
    return Session(f"s{day}", datetime(2023, 5, day, 9), tuple(said))


TALK = Conversation("c", (session(3), session(8)))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> Any:
        raise AssertionError("the packages reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def kind_of(text: str) -> str:
    if "episode boundaries" in text:
        return "boundaries"
    return "facts" if '"atomic_fact"' in text else "episode"


def telling(place: str, text: str) -> str:
    """A session is cut after its second message; an episode names its words, and each is a fact."""
    kind, words = kind_of(text), list(dict.fromkeys(re.findall(r"word\dx\d", text)))
    if kind == "boundaries":
        return json.dumps({"reasoning": "", "boundaries": [2], "should_wait": False})
    if kind == "episode":
        return json.dumps({"title": "Words", "content": f"Ann said {' and '.join(words)}."})
    return json.dumps({"atomic_facts": {"time": "then", "atomic_fact": [f"Ann said {word}" for word in words]}})


def written(script: Callable[[str, str], str | Failure]) -> MemoryBank:
    return write(build("memory", {"name": "evermemos"}), TALK, Scripted(script))


def test_a_session_is_cut_into_cells_and_episodes_and_facts_know_the_turns_of_theirs() -> None:
    days: list[str] = []

    def watched(place: str, text: str) -> str:
        days.extend(re.findall(r"\[(20\d\d-\d\d-\d\d) 09:00:00\] Ann: word", text))
        return telling(place, text)

    bank = written(watched)
    units = [(u.kind, u.text, u.session_id, u.turn_ids) for u in bank.units]
    for day in (3, 8):
        for first in (0, 2):
            turns, words = (f"{day}:{first}", f"{day}:{first + 1}"), [f"word{day}x{first}", f"word{day}x{first + 1}"]
            assert ("episode", f"Ann said {' and '.join(words)}.", f"s{day}", turns) in units
            assert all(("fact", f"Ann said {word}", f"s{day}", turns) in units for word in words)
    assert len(units) == 12 and bank.complete
    assert set(days) == {"2023-05-03", "2023-05-08"}, "the clock is that of the messages"
    assert (bank.costs["build"].calls, bank.units[0].time) == (10, datetime(2023, 5, 3, 9))
    assert written(telling).units == bank.units


def test_a_reply_of_the_wrong_form_is_counted_and_loses_only_what_it_was_asked_for() -> None:
    def broken(kind: str) -> MemoryBank:
        return written(lambda place, text: "no JSON" if kind_of(text) == kind else telling(place, text))

    whole = broken("boundaries")
    assert (whole.counts["unread_boundaries"], whole.complete) == (2, True)
    assert {u.turn_ids for u in whole.units} == {tuple(f"{day}:{i}" for i in range(4)) for day in (3, 8)}
    assert (broken("episode").counts["unread_episodes"], broken("episode").units) == (4, ())
    bare = broken("facts")
    assert (bare.counts["unread_facts"], {u.kind for u in bare.units}) == (4, {"episode"})


def test_a_lost_call_is_never_an_empty_memory() -> None:
    lost = written(lambda place, text: Failure("gone") if kind_of(text) == "facts" else telling(place, text))
    assert not lost.complete and lost.units == ()
    assert {unread.reason for unread in lost.unread} == {"gone"}


def test_all_versions_are_in_the_identity_and_a_missing_or_strange_set_is_told_with_its_pins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    identity = build("memory", {"name": "evermemos"}).identity()
    assert identity["package"]["version"] == identity["versions"]["everalgo-user-memory"]
    assert set(identity["versions"]) == {"everalgo-user-memory", "everalgo-boundary", "everalgo-core"}
    memory = build("memory", {"name": "evermemos"})
    with monkeypatch.context() as patched:
        patched.setattr("importlib.metadata.version", lambda name: "9.9")
        with pytest.raises(MissingExtraError, match=r"not everalgo-user-memory==9\.9.*\n.*everalgo-core==0\.3\.0"):
            memory.identity()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install everalgo-user-memory==0\.4\.0 .*bpe-openai"):
        build("memory", {"name": "evermemos"})

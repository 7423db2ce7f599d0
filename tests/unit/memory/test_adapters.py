"""A memory of another package: our models inside, its prints and ids outside, a failed call never an empty memory."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from metamem.core.calls import Failure, Generation, Request, Sampling, Usage
from metamem.core.contracts import MemoryContext, Reply
from metamem.core.errors import ConfigError, MissingExtraError
from metamem.core.records import Conversation, Session, Turn
from metamem.core.registry import build, load_components
from metamem.memory.adapters.base import Fact, Made, Models, PackageMemory
from metamem.memory.growing import grown

load_components()
STRANGER = """
import logging, os

def remember(texts, ask, swallow):
    print("a whole prompt")
    logging.getLogger("stranger.inside").warning("a line")
    made = []
    for text in texts:
        try:
            made.append(ask(text))
        except Exception:
            if not swallow:
                raise RuntimeError("no idea what to do")
    return made[::-1]
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is none of ours, as it would be installed."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "__init__.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DO_NOT_TRACK", "")  # so that it is taken back
    monkeypatch.delenv("DO_NOT_TRACK")
    yield tmp_path / "stranger"
    sys.modules.pop("stranger", None)


class Stranger(PackageMemory):
    package = "stranger"
    install = ("stranger==1.2", "what-it-needs")

    def __init__(self, swallow: bool = False) -> None:
        super().__init__("stranger", 100)
        self.swallow = swallow

    def build(self, sessions: Sequence[Session], models: Models) -> Made:
        ask = lambda text: models.ask([{"role": "user", "content": text}], "stranger")[0]  # noqa: E731
        texts = [turn.text for session in sessions for turn in session.turns]
        found = self.load("stranger").remember(texts, ask, self.swallow)
        return Made([Fact(text, sessions[0].time, sessions[0].id) for text in found], {"letters": sum(map(len, found))})


class Builder:
    """Replies with the prompt in capitals; what `wrong` names fails or raises."""

    label = "builder"

    def __init__(self, **wrong: Failure | Exception) -> None:
        self.wrong = wrong
        self.asked: list[str] = []

    def sampling(self) -> Sampling:
        return Sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        text = request.messages[0].content
        self.asked.append(text)
        found = self.wrong.get(text)
        if isinstance(found, Exception):
            raise found
        return [Reply("", found or Generation(text.upper(), usage=Usage(3, 2)))]


def talk(*sessions: str) -> Conversation:
    """A conversation of sessions, each a word per turn."""
    made = []
    for s, words in enumerate(sessions):
        turns = tuple(Turn(f"{s}:{t}", "user", word) for t, word in enumerate(words.split()))
        made.append(Session(f"s{s}", datetime(2024, 1, 1) + timedelta(days=s), turns))
    return Conversation("c", tuple(made))


def context(builder: Builder) -> MemoryContext:
    return MemoryContext(builder, build("embedder", {"name": "hashing"}))


@pytest.mark.usefixtures("stranger")
def test_the_builder_is_asked_its_cost_is_kept_and_units_are_numbered_by_time_and_text() -> None:
    bank = asyncio.run(grown(Stranger(), None, talk("b a c"), context(Builder())))
    assert [(u.id, u.text, u.session_id) for u in bank.units] == [
        ("fact0", "A", "s0"),
        ("fact1", "B", "s0"),
        ("fact2", "C", "s0"),
    ]
    assert (bank.costs["build"].calls, bank.costs["build"].prompt_tokens) == (3, 9)
    assert bank.counts == {"letters": 3, "facts": 3}
    assert bank.complete


@pytest.mark.usefixtures("stranger")
def test_a_bank_grows_by_the_sessions_that_it_does_not_cover() -> None:
    memory, builder = Stranger(), Builder()
    bank = asyncio.run(grown(memory, None, talk("a"), context(builder)))
    bank = asyncio.run(grown(memory, bank, talk("a", "b c"), context(builder)))
    assert builder.asked == ["a", "b", "c"]
    assert [u.id for u in bank.units] == ["fact0", "1/fact0", "1/fact1"]
    assert (bank.sessions, bank.counts["facts"], bank.costs["build"].calls) == (2, 3, 3)


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("swallow", [False, True])
def test_after_a_failed_call_nothing_more_is_asked_and_there_is_no_memory(swallow: bool) -> None:
    builder = Builder(b=Failure("gone"))
    bank = asyncio.run(grown(Stranger(swallow), None, talk("a b c d"), context(builder)))
    assert builder.asked == ["a", "b"]
    assert bank.units == ()
    assert [(u.reason, u.delivered) for u in bank.unread] == [("gone", False)]
    assert not bank.complete


@pytest.mark.usefixtures("stranger")
def test_a_server_of_a_package_that_does_not_answer_is_a_call_that_was_not_delivered() -> None:
    class Served(Stranger):
        def build(self, sessions: Sequence[Session], models: Models) -> Made:
            models.lose("the server is gone")  # also where the package goes on
            return Made([Fact("half of it")])

    bank = asyncio.run(grown(Served(), None, talk("a"), context(Builder())))
    assert [(u.reason, u.delivered) for u in bank.unread] == [("the server is gone", False)]
    assert (bank.units, bank.complete) == ((), False)


@pytest.mark.slow
@pytest.mark.usefixtures("stranger")
def test_an_error_of_ours_is_raised_though_the_package_swallows_it() -> None:
    with pytest.raises(ConfigError, match="a wrong key"):
        asyncio.run(grown(Stranger(swallow=True), None, talk("a b"), context(Builder(b=ConfigError("a wrong key")))))


def test_a_bug_of_the_package_is_raised(stranger: Path) -> None:
    (stranger / "__init__.py").write_text("def remember(*given): raise ZeroDivisionError('a bug')")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        asyncio.run(grown(Stranger(), None, talk("a"), context(Builder())))


@pytest.mark.usefixtures("stranger")
def test_a_package_prints_logs_and_reports_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    asyncio.run(grown(Stranger(), None, talk("a"), context(Builder())))
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("stranger").propagate
    assert sys.modules["stranger"].os.environ["DO_NOT_TRACK"] == "1"


@pytest.mark.slow
def test_version_and_source_of_the_package_are_in_the_identity(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Stranger().identity()["package"]
    assert (before["name"], before["version"]) == ("stranger", "unknown")
    (stranger / "__init__.py").write_text(STRANGER + "# changed")
    assert Stranger().identity()["package"]["source"] != before["source"]
    fake = SimpleNamespace(packages_distributions=lambda: {"stranger": ["stranger-lib"]}, version=lambda name: "1.2")
    monkeypatch.setattr("metamem.memory.adapters.base.importlib.metadata", fake)
    assert Stranger().identity()["package"]["version"] == "1.2"


def test_a_package_that_is_missing_is_told_with_the_commands_that_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    pip = f"  {sys.executable} -m pip install"
    with pytest.raises(MissingExtraError) as caught:
        Stranger()
    assert f"{pip} stranger==1.2\n{pip} what-it-needs" in str(caught.value)
    with pytest.raises(MissingExtraError, match="--no-deps git"):
        build("memory", {"name": "lightmem_upstream"})
    monkeypatch.setattr(Stranger, "python", (4, 0))
    with pytest.raises(MissingExtraError, match=r"needs Python 4\.0 or later; .* is 3\."):
        Stranger()

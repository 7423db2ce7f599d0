"""Mem-α's memory as a component: streams whole, shown as the paper shows it, the same whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.journal import Journal
from metamem.backbones.openai import OpenAIBackbone
from metamem.cli.python import composed
from metamem.core.banks import MemoryBank
from metamem.core.calls import Generation, Message, Request
from metamem.core.contracts import Dataset, MemoryContext
from metamem.core.errors import ConfigError
from metamem.core.records import Conversation, MemoryUnit, Session, Turn
from metamem.core.registry import REGISTRY, load_components
from metamem.memory import histories
from metamem.memory.chunks import chunks_of, counter
from metamem.memory.growing import Memories, grown, scribe_of
from metamem.memory.memalpha.constructor import MemAlpha, units_of
from metamem.memory.memalpha.episode import Episode
from metamem.memory.memalpha.history import replayed
from metamem.memory.memalpha.state import Memory, MemoryPart
from metamem.programs.show import show
from metamem.prompts.templates import Prompts
from metamem.store.store import MemoryStore
from tests.retrieving import ask, ranked
from tests.server import Reply, Server

load_components()
PROMPTS = Prompts(Prompts.Config())


class Scripted:
    """A builder that answers by a function of the request's last message."""

    max_samples = 1

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply = reply
        self.requests: list[Request] = []

    def identity(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    def sampling(self) -> Any:
        from metamem.core.calls import Sampling

        return Sampling()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def generate(self, request: Request) -> list[Generation]:
        self.requests.append(request)
        return [Generation(self.reply(request.messages[-1].content))]


def context(folder: Path, backbone: Any = None) -> MemoryContext:
    backbone = backbone or REGISTRY.build("backbone", {"name": "simulated"})
    return MemoryContext(JournaledCaller(backbone, Journal(folder, "e", "r"), "builder"), prompts=PROMPTS)


def memory(name: str = "memalpha", **options: Any) -> Any:
    return REGISTRY.build("memory", {"name": name, **options})


def document(*chunks: str, id: str = "doc", task: str = "") -> Conversation:
    opening = [Session("task", None, (Turn("task", "task", task),))] if task else []
    held = [Session(f"c{i}", None, (Turn(f"c{i}", "document", c),)) for i, c in enumerate(chunks)]
    return Conversation(id, (*opening, *held))


def called(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def built(constructor: Any, conversation: Conversation, here: MemoryContext) -> MemoryBank:
    return asyncio.run(grown(constructor, None, conversation, here))


def streams(shared: Path, **options: Any) -> Dataset:
    path = str(shared / "memoryagentbench_conflict_resolution.json")
    dataset: Dataset = REGISTRY.build("dataset", {"name": "memoryagentbench", "path": path, **options}).load()
    return dataset


@pytest.mark.slow
def test_a_6k_context_is_written_down_whole_by_the_simulated_builder(shared: Path, tmp_path: Path) -> None:
    dataset = streams(shared, sources=["factconsolidation_sh_6k"])
    (conversation,) = dataset.conversations.values()
    scribe = scribe_of(memory(), conversation, context(tmp_path))
    episode: Episode = asyncio.run(memory().episode(conversation, scribe))
    assert (scribe.counts["chunks"], scribe.unread) == (2, [])
    assert scribe.counts["calls_malformed"] == scribe.counts["calls_refused"] == 0
    facts = {line for s in conversation.sessions for line in s.turns[0].text.split("\n")[:-1]}
    held = {item.text for part in (MemoryPart.semantic, MemoryPart.episodic) for item in episode.memory.items(part)}
    overtaken = {c.before for c in episode.memory.changes if c.before is not None}
    lost = {f for f in facts if f not in held | overtaken and len(f.split()) > 4}
    assert lost <= {"Here is a list of facts:"}
    assert Memory.replay(episode.memory.limits, episode.memory.changes) == episode.memory


@pytest.mark.slow
def test_all_eight_contexts_are_written_down_whole(shared: Path, tmp_path: Path) -> None:
    dataset = streams(shared)
    here, constructor = context(tmp_path), memory(max_tokens=100_000)

    async def all_of_them() -> list[MemoryBank]:
        return await asyncio.gather(*(grown(constructor, None, c, here) for c in dataset.conversations.values()))

    for bank, conversation in zip(asyncio.run(all_of_them()), dataset.conversations.values(), strict=True):
        text = "".join(t.text for s in conversation.sessions for t in s.turns)
        for cut in (constructor, memory("memagent", chunk_tokens=700), memory("chunks", chunk_tokens=100)):
            options = cut.config
            chunks = chunks_of(conversation.sessions, options.chunk_tokens, counter(options.tokenizer))
            assert "".join(chunk.text for chunk in chunks) == text
        assert bank.history[-1].chunk == bank.counts["chunks"] - 1
        assert not bank.unread
        assert not bank.counts.get("calls_malformed") and not bank.counts.get("calls_refused")
        assert bank.counts["chunks_without_calls"] == 0
        assert len(bank.units) > bank.counts["input_tokens"] / 40


def test_each_unit_names_the_turns_it_was_written_from_and_lists_stand_in_order(tmp_path: Path) -> None:
    day = datetime(2023, 5, 20, 2, 21)
    said = Session(
        "s1", day, (Turn("t1", "user", "I live in Oslo with two cats."), Turn("t2", "assistant", "Nice cats."))
    )
    bank = built(memory(), Conversation("c", (said,)), context(tmp_path))
    kinds = [u.kind for u in bank.units]
    assert kinds == sorted(kinds, key=["core", "semantic", "episodic"].index) and len(kinds) > 1
    assert {u.time for u in bank.units if u.kind == "core"} == {None}
    assert {u.time for u in bank.units if u.kind != "core"} == {day}
    assert all(u.turn_ids == ("t1", "t2") for u in bank.units)


def test_the_prompt_shows_core_whole_the_newest_items_and_the_chunk(tmp_path: Path) -> None:
    backbone = Scripted(
        lambda prompt: "\n".join(
            [
                called("update", memory="core", content="about it"),
                *(called("insert", memory="semantic", content=f"{prompt[-40:-30]}{i}") for i in range(4)),
            ]
        )
    )
    built(
        memory(newest=3, core_tokens=7), document("First.", "Second </chunk> <tool_call>."), context(tmp_path, backbone)
    )
    system, user = (m.content for m in backbone.requests[1].messages)
    assert "<core>\nabout it\n</core>" in user
    assert [f"[s{i}]" in user for i in range(1, 5)] == [False, True, True, True]
    assert "(1 older items of semantic are not shown.)" in user
    assert "Second ‹/chunk> ‹tool_call>." in user
    assert "at most 7 tokens" in system
    assert [t["function"]["name"] for t in backbone.requests[1].tools] == ["insert", "update", "delete"]


def test_tools_in_the_prompt_are_not_sent_apart(tmp_path: Path) -> None:
    backbone = Scripted(lambda _: called("insert", memory="semantic", content="x"))
    bank = built(memory(tools="prompt"), document("First."), context(tmp_path, backbone))
    (request,) = backbone.requests
    assert request.tools == ()
    assert '"name":"insert"' in request.messages[0].content and "<tool_call>" in request.messages[0].content
    assert [u.text for u in bank.units] == ["x"]


# --- the history


def edits(prompt: str) -> str:
    """Every kind of call, by what the prompt shows."""
    if "First" in prompt:
        calls = [("insert", {"memory": "semantic", "content": w}) for w in ("a", "b", "a")]
        calls += [("update", {"memory": "core", "content": "who"})]
    elif "Second" in prompt:
        calls = [("update", {"memory": "semantic", "id": "s1", "content": "c"})]
        calls += [("delete", {"memory": "semantic", "id": name}) for name in ("s2", "s2")] + [("remove", {})]
    else:
        return "Nothing here."
    return "\n".join(called(name, **arguments) for name, arguments in calls)


def test_a_banks_history_replays_it_change_by_change_and_comes_back_from_the_store(tmp_path: Path) -> None:
    constructor, stream = memory(), document("First.", "Second.", "Third.")
    store, identity = MemoryStore(tmp_path / "memory"), {"name": "memalpha"}
    here = context(tmp_path, Scripted(edits))
    bank = asyncio.run(Memories(constructor, identity, store, here).of(stream))
    assert [(e.chunk, e.result, e.id, e.before, e.after) for e in bank.history] == [
        (0, "done", "s1", None, "a"),
        (0, "done", "s2", None, "b"),
        (0, "skipped", "s1", None, None),
        (0, "done", "core", None, "who"),
        (1, "done", "s1", "a", "c"),
        (1, "done", "s2", "b", None),
        (1, "refused", "s2", None, None),
        (1, "malformed", "", None, None),
        (2, "none", "", None, None),
    ]
    whole = replayed(constructor.writer.limits, bank.history)
    assert units_of(whole, constructor.chunks(stream)) == list(bank.units)
    then = replayed(constructor.writer.limits, bank.history, 3)
    assert [i.text for part in MemoryPart for i in then.items(part)] == ["who", "a", "b"]
    (file,) = (tmp_path / "memory").rglob("history.jsonl")
    assert [json.loads(line)["result"] for line in file.read_text().splitlines()] == [e.result for e in bank.history]
    fresh = asyncio.run(Memories(constructor, identity, MemoryStore(tmp_path / "memory"), here).of(stream))
    assert fresh == bank
    keys = {
        json.loads(line)["key"]
        for p in tmp_path.rglob("e/journal/r/*.jsonl")
        for line in p.read_text().splitlines()
        if line.startswith('{"key"')
    }
    assert {e.key for e in bank.history} == keys, "every reply is in the history, by its key in the journal"


def test_a_history_in_words(tmp_path: Path) -> None:
    bank = built(memory(), document("First.", "Second.", "Third."), context(tmp_path, Scripted(edits)))
    keys = list(dict.fromkeys(e.key for e in bank.history))
    assert list(histories.lines(bank.history)) == [
        f"chunk 0 (journal key {keys[0]})",
        "  insert semantic s1: a",
        "  insert semantic s2: b",
        "  skipped: insert semantic s1: nothing to do: s1 is so already",
        "  update core: who",
        f"chunk 1 (journal key {keys[1]})",
        "  update semantic s1: c (before: a)",
        "  delete semantic s2, which was: b",
        "  refused: delete semantic s2: semantic holds no item 's2'; its ids are s1",
        '  malformed: {"name": "remove", "arguments": {}}: unknown tool \'remove\'. Choices: delete, insert, update.',
        f"chunk 2 (journal key {keys[2]})",
        "  nothing was called",
    ]
    assert list(histories.of_unit(bank.history, "s1")) == [
        "chunk 0: insert semantic s1: a",
        "chunk 1: update semantic s1: c (before: a)",
    ]
    expected = "8 calls over 3 chunks (5 done, 1 malformed, 1 refused, 1 skipped), 1 replies without a call"
    assert histories.summary(bank.history) == expected


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_a_question_is_shown_with_how_its_memory_was_written(
    tmp_path: Path, whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "chunks": ["0. Ann lives in the city of Oslo.", "1. Ann lives in the city of Rome."],
        "questions_and_answers": [{"question": "Where does Ann live?", "answer": "Rome"}],
        "data_source": "squad",
    }
    (tmp_path / "data.json").write_text(json.dumps([row]))
    given = ["dataset=memalpha", f"dataset.path={tmp_path / 'data.json'}", "backbone=simulated", "split=all"]
    given += [
        "system=memalpha",
        "evaluator=by_source",
        f"outputs={tmp_path}",
        "show='squad#1/q0'",
        f"show_history={str(whole).lower()}",
    ]
    show(composed("eval", given))
    printed = capsys.readouterr().out
    assert re.search(r"    \| chunk 0: insert (\w+ )[se]1: 0\. Ann lives in the city of Oslo\.", printed)
    assert re.search(r"history: (\d) calls over 2 chunks \(\1 done\), 0 replies without a call", printed)
    assert ("  chunk 1 (journal key " in printed) == whole == ("show_history=true" not in printed)


def test_the_simulated_builder_finds_its_tools_in_the_prompt_too(tmp_path: Path) -> None:
    stream = document("Ann lives in the city of Oslo.")
    shown, sent = (built(memory(tools=t), stream, context(tmp_path / t)) for t in ("prompt", "request"))
    assert [u.text for u in shown.units] == [u.text for u in sent.units] != []


def test_refused_calls_are_asked_for_again_with_their_reasons_as_often_as_allowed(tmp_path: Path) -> None:
    def reply(prompt: str) -> str:
        if "s9" in prompt:
            return called("insert", memory="semantic", content="b")
        good, bad = called("insert", memory="semantic", content="a"), called("delete", memory="semantic", id="s9")
        return good + bad

    backbone = Scripted(reply)
    bank = built(memory(repairs=2), document("First."), context(tmp_path, backbone))
    assert [u.text for u in bank.units] == ["a", "b"]
    assert (bank.counts["calls_done"], bank.counts["calls_refused"]) == (2, 1)
    assert "semantic holds no item 's9'; its ids are s1" in backbone.requests[1].messages[-1].content
    assert len(backbone.requests) == 2
    once = built(memory(), document("First."), context(tmp_path / "other", Scripted(reply)))
    assert [u.text for u in once.units] == ["a"]


def test_a_disabled_part_is_neither_shown_nor_offered_nor_written(tmp_path: Path) -> None:
    bank = built(memory(disabled=["semantic", "core"]), document("Ann lives in the city of Oslo."), context(tmp_path))
    assert [u.kind for u in bank.units] == ["episodic"]
    backbone = Scripted(lambda _: called("insert", memory="semantic", content="x"))
    bank = built(memory(disabled=["semantic"]), document("First."), context(tmp_path / "b", backbone))
    assert bank.units == () and bank.counts["calls_malformed"] == 1
    assert "semantic" not in "".join(m.content for m in backbone.requests[0].messages)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"disabled": ["semantics"]}, "Did you mean 'semantic'"),
        ({"disabled": ["core", "semantic", "episodic"]}, "at least one part"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        memory(**options)


# --- what is shown for a question


def units(*kinds: str) -> tuple[MemoryUnit, ...]:
    return tuple(MemoryUnit(f"{kind}{i}", f"{kind} number{i}", kind=kind) for i, kind in enumerate(kinds))


def shown(bank: MemoryBank, text: str, **options: Any) -> list[str]:
    retriever = REGISTRY.build("retriever", {"name": "memalpha", **options})
    (evidence,) = ranked(retriever, bank, [ask(text)])
    assert [e.rank for e in evidence] == list(range(len(evidence)))
    return [e.unit.id for e in evidence]


def test_everything_is_shown_when_it_fits_and_core_first() -> None:
    bank = MemoryBank("b", "c", units("semantic", "core", "episodic", "semantic"))
    assert shown(bank, "number3") == ["core1", "semantic0", "semantic3", "episodic2"]


def test_core_and_the_best_of_each_list_are_shown_when_not_all_fits() -> None:
    bank = MemoryBank("b", "c", units("core", *["semantic"] * 20, *["episodic"] * 20))
    ids = shown(bank, "what of number20, number7 and number33?", whole_tokens=0, k=2)
    assert ids == ["core0", "semantic7", "semantic20", "episodic33", "episodic21"]
    assert len(shown(bank, "number7", whole_tokens=0)) == 31
    assert shown(MemoryBank("b", "c", ()), "x") == shown(MemoryBank("b", "c", ()), "x", whole_tokens=0) == []


# --- baselines


def test_chunks_are_the_stream_as_it_is(tmp_path: Path) -> None:
    bank = built(memory("chunks"), document("One fact. ", "Two facts."), context(tmp_path))
    assert [u.text for u in bank.units] == ["One fact. ", "Two facts."]


def test_a_long_context_keeps_the_newest_chunks_that_fit(tmp_path: Path) -> None:
    stream = document(*(f"w{i} w w w w" for i in range(6)))
    bank = built(memory("long_context", tokens=16, chunk_tokens=8), stream, context(tmp_path))
    assert [u.text.split()[0] for u in bank.units] == ["w3", "w4", "w5"]
    assert bank.counts == {"input_tokens": 30, "memory_tokens": 15}
    with pytest.raises(ConfigError, match=r"memory.tokens must be at least memory.chunk_tokens"):
        memory("long_context", tokens=7, chunk_tokens=8)


@pytest.mark.parametrize("name", ["memagent", "mem1"])
def test_notes_are_overwritten_at_each_chunk_in_view_of_the_question(name: str, tmp_path: Path) -> None:
    seen = []

    def reply(prompt: str) -> str:
        seen.append(prompt)
        return "" if "Second" in prompt else f" notes {len(seen)} "

    stream = document("First.", "Second.", "Third.", task="Who came <notes>?")
    bank = built(memory(name), stream, context(tmp_path, Scripted(reply)))
    assert [(u.kind, u.text) for u in bank.units] == [("notes", "notes 3")]
    assert all("Who came ‹notes>?" in prompt for prompt in seen) and "<notes>\nnotes 1\n</notes>" in seen[2]
    assert [u.reason for u in bank.unread] == ["no text to keep in the reply"]
    assert (bank.counts["input_tokens"], bank.counts["memory_tokens"]) == (6, 2)
    states = [(e.chunk, e.result, e.before, e.after) for e in bank.history]
    assert states == [(0, "done", None, "notes 1"), (1, "none", None, None), (2, "done", "notes 1", "notes 3")]


@pytest.mark.parametrize("in_tags", [True, False])
def test_published_mem1_keeps_what_stands_in_its_thinking_tags_and_else_the_state_before(
    in_tags: bool, tmp_path: Path
) -> None:
    def reply(prompt: str) -> str:
        state = "first" if "First." in prompt else "second"
        return f"<think> {state} </think> <answer>x</answer>" if in_tags or state == "first" else "no tags at all"

    bank = built(
        memory("mem1", contract="published"), document("First.", "Second."), context(tmp_path, Scripted(reply))
    )
    assert [u.text for u in bank.units] == ["second" if in_tags else "first"]
    assert [u.reply for u in bank.unread] == ([] if in_tags else ["no tags at all"])


@pytest.mark.parametrize("name", ["memalpha", "memagent", "mem1"])
def test_a_published_contract_has_a_prompt_of_its_own_and_a_memory_is_kept_apart_by_it(
    name: str, tmp_path: Path
) -> None:
    own, published = memory(name), memory(name, contract="published")
    assert own.prompts[0] != published.prompts[0] == f"{own.prompts[0]}_published"
    bank = built(published, document("Ann lives in Oslo.", "Bob has a dog."), context(tmp_path))
    assert bank.units and not bank.unread
    with pytest.raises(ConfigError, match="memory.contract: unknown choice 'publishd'"):
        memory(name, contract="publishd")


def test_simulated_notes_keep_to_their_limit(tmp_path: Path) -> None:
    stream = document(*(f"Fact {i}: Ann lives in the city of Oslo{i}." for i in range(30)), task="Where does Ann live?")
    bank = built(memory("memagent", max_tokens=40), stream, context(tmp_path))
    assert "Oslo29" in bank.units[0].text
    assert len(bank.units[0].text.split()) <= 40


# --- on a server


def writes(body: dict[str, Any]) -> Reply:
    """A builder as a function of what it is asked: one native call that names the chunk."""
    chunk = body["messages"][-1]["content"].split("<chunk>\n")[1].split("\n</chunk>")[0]
    return Reply("", "tool_calls", tool_calls=[("insert", json.dumps({"memory": "semantic", "content": chunk}))])


def on_server(server: Server | str, work: Callable[[MemoryContext], Any], folder: Path, concurrency: int = 32) -> Any:
    async def session() -> Any:
        url = server if isinstance(server, str) else server.url
        options = OpenAIBackbone.Config(base_url=url, model="test-model", max_concurrency=concurrency)
        backbone = OpenAIBackbone(options)
        await backbone.start()
        journal = Journal(folder, "e", "r")
        try:
            return await work(MemoryContext(JournaledCaller(backbone, journal, "builder"), prompts=PROMPTS))
        finally:
            journal.close()
            await backbone.close()

    return asyncio.run(session())


def test_native_calls_of_a_server_are_executed(tmp_path: Path) -> None:
    with Server(writes) as server:
        bank = on_server(server, lambda here: grown(memory(), None, document("One.", "Two."), here), tmp_path)
    assert [(u.kind, u.text) for u in bank.units] == [("semantic", "One."), ("semantic", "Two.")]
    assert [t["function"]["name"] for t in server.calls[0].body["tools"]] == ["insert", "update", "delete"]


@pytest.mark.slow
def test_64_episodes_of_20_chunks_go_on_at_once(tmp_path: Path) -> None:
    streams = [document(*(f"Fact {e} {c}." for c in range(20)), id=f"d{e}") for e in range(64)]
    constructor = memory()

    async def work(here: MemoryContext) -> tuple[float, float]:
        await grown(constructor, None, document("Warm up."), here)
        began, waited = time.perf_counter(), kept_waiting()
        await asyncio.gather(*(grown(constructor, None, s, here) for s in streams))
        return time.perf_counter() - began, kept_waiting() - waited

    took = []
    with a_server_of_its_own(0.05) as url:
        for attempt in range(3):
            seconds, waited = on_server(url, work, tmp_path / str(attempt))
            print(f"64 episodes of 20 chunks: {seconds:.2f} s, of which other programs took {waited:.2f} s")
            took.append(seconds - waited)
    # One after another the calls alone take 64 s, 32 at a time 2 s; what is printed tells how close it comes.
    assert min(took) < 64 * 20 * 0.05 / 8


def kept_waiting() -> float:
    """Seconds that this thread was ready to run while other programs had the cores (0 where that is not known)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


@contextmanager
def a_server_of_its_own(delay: float) -> Iterator[str]:
    """The URL of a server in a process of its own, so that it takes no time from the client's."""
    code = (
        "import sys; from tests.server import Server; from tests.unit.memory.test_memalpha_memory import writes\n"
        f"with Server(writes, delay={delay}, keep_calls=False) as server:\n"
        "    print(server.url, flush=True); sys.stdin.read()"
    )
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.mark.slow
def test_killed_at_any_reply_and_continued_the_memory_is_the_same_and_none_is_asked_for_again(tmp_path: Path) -> None:
    stream = document(*(f"Fact {c}." for c in range(21)))
    with Server(writes) as server:
        whole = on_server(server, lambda here: grown(memory(), None, stream, here), tmp_path / "whole")
    with Server(writes) as server:
        for kill in range(1, 21):

            async def until_killed(here: MemoryContext, kill: int = kill) -> None:
                task = asyncio.ensure_future(grown(memory(), None, stream, here))
                while server.delivered < kill and not task.done():  # noqa: ASYNC110 (another thread delivers)
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            on_server(server, until_killed, tmp_path / "parts")
        again = on_server(server, lambda here: grown(memory(), None, stream, here), tmp_path / "parts")
    assert again.units == whole.units
    # What was on its way when the task was cancelled was not delivered to it.
    assert server.delivered <= 21 + 20


def test_the_same_episode_at_every_concurrency(tmp_path: Path) -> None:
    def all_units(concurrency: int) -> list[Any]:
        streams = [document(*(f"Fact {e} {c}." for c in range(5)), id=f"d{e}") for e in range(8)]
        constructor = memory()

        async def work(here: MemoryContext) -> list[MemoryBank]:
            return await asyncio.gather(*(grown(constructor, None, s, here) for s in streams))

        with Server(writes) as server:
            banks = on_server(server, work, tmp_path / str(concurrency), concurrency)
        return [bank.units for bank in banks]

    assert all_units(1) == all_units(7)


def test_the_class_is_registered_under_its_name() -> None:
    assert REGISTRY.entry("memory", "memalpha").component is MemAlpha
    assert Message("user", "x").role == "user"

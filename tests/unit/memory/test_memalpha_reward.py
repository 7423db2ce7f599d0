"""The reward equals hand-worked episodes, at its bounds too; groups of episodes are stored whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.cli.memalpha_episodes import main, sample_and_store
from metamem.core.banks import Effect
from metamem.core.calls import Failure, Generation, Request, Sampling
from metamem.core.contracts import MemoryContext, Reply
from metamem.core.errors import ConfigError
from metamem.core.json_form import from_json
from metamem.core.learned import Judged
from metamem.core.records import Conversation, Question, Session, Status, Turn, Verdict
from metamem.core.registry import build, load_components
from metamem.evaluators import memalpha_terms as reward
from metamem.evaluators.memalpha_reward import ContentJudge, rewards
from metamem.memory.growing import grown
from metamem.memory.memalpha.state import Change, Limits, Memory
from metamem.prompts.templates import Prompts
from metamem.tracking.trackers import Trackers

PROMPTS = Prompts(Prompts.Config())

DONE, SAME, BAD, WORSE, SILENT = "done", "unchanged", "refused", "malformed", "none"


def effects(*chunks: tuple[str, ...]) -> list[Effect]:
    return [Effect(number, 0, "k", result, "insert") for number, chunk in enumerate(chunks) for result in chunk]


@pytest.mark.parametrize(
    ("chunks", "share"),
    [
        ((), 0.0),
        (((),), 0.0),
        (((DONE,),), 1.0),
        (((DONE, SAME, BAD, WORSE),), 0.5),
        (((BAD, WORSE), (BAD,)), 0.0),
        (((DONE,), ()), 0.5),
        (((DONE, BAD), (DONE,), (), (SAME, SAME)), (0.5 + 1 + 0 + 1) / 4),
        (((DONE,), (SILENT,)), 0.5),
        (((BAD, SILENT),), 0.0),
        (((DONE, SILENT),), 1.0),
    ],
)
def test_call_success_is_the_mean_over_chunks_of_what_was_executed(chunks: Any, share: float) -> None:
    assert reward.call_success(effects(*chunks), len(chunks)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("memory", "given_tokens", "term"),
    [(0, 100, 1.0), (25, 100, 0.75), (100, 100, 0.0), (150, 100, -0.5), (0, 0, 0.0), (5, 0, 0.0)],
)
def test_compression_is_one_less_memory_over_input(memory: int, given_tokens: int, term: float) -> None:
    assert reward.compression(memory, given_tokens) == term


@pytest.mark.parametrize(("suits", "share"), [([], 0.0), ([True], 1.0), ([False] * 3, 0.0), ([True, False], 0.5)])
def test_content_is_the_share_of_writes_that_suit(suits: list[bool], share: float) -> None:
    assert reward.content_share(suits) == share


def test_only_calls_that_wrote_something_are_judged() -> None:
    wrote = Effect(0, 0, "k", DONE, "insert", change=1, after="a")
    cleared = Effect(0, 0, "k", DONE, "delete", change=2, before="a")
    held = Effect(0, 0, "k", SAME, "insert", text="a")
    assert reward.writes([wrote, cleared, held]) == [wrote]


@pytest.mark.parametrize(
    ("terms", "beta", "gamma", "total"),
    [
        (reward.Terms(0.5, 1.0, 0.8, 0.6), 0.05, 0.1, 0.5 + 1.0 + 0.04 + 0.06),
        (reward.Terms(0.5, 1.0, 0.8, 0.6), 0.0, 0.0, 1.5),
        (reward.Terms(1.0, 1.0, 1.0, 1.0), 0.05, 0.1, 2.15),  # the most: everything right from an empty memory
        (reward.Terms(0.0, 0.0, -1.0, 0.0), 0.4, 0.1, -0.4),  # all calls bad, a memory twice its input
        (reward.Terms(0.0, 0.0, 1.0, 0.0), 0.05, 0.1, 0.05),  # no calls at all
    ],
)
def test_the_reward_is_the_weighted_sum(terms: reward.Terms, beta: float, gamma: float, total: float) -> None:
    assert terms.total(beta, gamma) == pytest.approx(total)


def test_advantages_by_hand() -> None:
    assert reward.advantages([1.0, 3.0]) == [-1.0, 1.0]
    assert reward.advantages([2.0, 2.0, 2.0]) == [0.0, 0.0, 0.0]
    assert reward.advantages([]) == []


@given(st.lists(st.floats(-1, 3), min_size=2, max_size=8))
def test_advantages_sum_to_nothing(rewards: list[float]) -> None:
    assert sum(reward.advantages(rewards)) == pytest.approx(0, abs=1e-6)


def test_the_papers_five_settings_are_there() -> None:
    assert len(set(reward.ABLATION)) == 5 and (reward.BETA, reward.GAMMA) in reward.ABLATION


# --- the memories of an evaluation, by hand


class Fixed:
    """A caller whose replies are a function of the prompt."""

    label = "fixed"

    def __init__(self, reply: Callable[[str], str | Failure]) -> None:
        self.reply = reply
        self.asked: list[str] = []

    def sampling(self) -> Sampling:
        return Sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        self.asked.append(request.messages[-1].content)
        said = self.reply(self.asked[-1])
        return [Reply("k", said if isinstance(said, Failure) else Generation(said))]


def insert(text: str, part: str = "semantic") -> str:
    return f'<tool_call>{{"name": "insert", "arguments": {{"memory": "{part}", "content": "{text}"}}}}</tool_call>'


def judged(conversation: str, *scores: float | None) -> list[Judged]:
    """Answers to a conversation's questions; None is a verdict that was not delivered."""
    made = []
    for number, score in enumerate(scores):
        question = Question(f"{conversation}{number}", "?", "squad", ("x",), conversation_id=conversation)
        status = Status.invalid if score is None else Status.scored
        verdict = Verdict("a", question.id, "memalpha_reward", status, score or 0.0, bool(score))
        made.append(Judged(question, (), (), (verdict,), False))
    return made


# Each chunk is two words, so that the input of two chunks has four tokens.
EPISODES: dict[str, tuple[list[str], dict[str, float]]] = {
    "empty memory, no calls": (["Nothing.", "Nothing."], {"calls": 0, "compression": 1, "content": 0}),
    "all calls bad": (["<tool_call>{", "<tool_call>{"], {"calls": 0, "compression": 1, "content": 0}),
    "memory longer than the input": (
        [insert("one two three four five six"), insert("good")],
        {"calls": 1, "compression": 1 - 7 / 4, "content": 0.5},
    ),
    "half of it": (
        [insert("good") + insert("good") + "<tool_call>{", insert("good") + "<tool_call>{"],
        {"calls": (2 / 3 + 1 / 2) / 2, "compression": 1 - 1 / 4, "content": 1},
    ),
    "one silent chunk": (["", insert("good fact")], {"calls": 1 / 2, "compression": 1 - 2 / 4, "content": 1}),
}


def rewarded(
    replies: list[str], answers: list[Judged], judge: Fixed, beta: float = 0.05, gamma: float = 0.1
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    load_components()
    constructor = build("memory", {"name": "memalpha"})
    held = [Session(f"c{i}", None, (Turn(f"c{i}", "document", text),)) for i, text in enumerate(("ab cd", "ef gh"))]
    builder = Fixed(lambda prompt: replies["ef gh" in prompt])
    bank = asyncio.run(
        grown(constructor, None, Conversation("c", tuple(held)), MemoryContext(builder, prompts=PROMPTS))
    )
    found = rewards({"c": bank}, {"without": answers}, ContentJudge(judge, PROMPTS), beta, gamma, Trackers([]))
    means, rows = asyncio.run(found)
    return means["without"], rows


@pytest.mark.parametrize("kind", EPISODES)
def test_a_hand_worked_episode_has_the_terms_that_were_worked_out(kind: str) -> None:
    replies, terms = EPISODES[kind]
    judge = Fixed(lambda prompt: "yes" if "good" in prompt else "no")
    found, (row,) = rewarded(replies, judged("c", 1.0, 0.0, 0.25), judge)
    assert {name: found[name] for name in terms} == pytest.approx(terms)
    assert found["task"] == pytest.approx(1.25 / 3)
    worth = 1.25 / 3 + terms["calls"] + 0.05 * terms["compression"] + 0.1 * terms["content"]
    assert found["reward"] == row["reward"] == pytest.approx(worth)
    assert (found["episodes"], found["left_out"], row["questions"]) == (1, 0, 3)


@pytest.mark.parametrize("lost", ["an answer", "a verdict on the content", "a call of the builder"])
def test_an_episode_that_was_not_wholly_delivered_has_no_reward(lost: str) -> None:
    failure = Failure("gone")
    judge = Fixed(lambda _: failure if lost == "a verdict on the content" else "yes")
    replies: list[Any] = [insert("a"), failure if lost == "a call of the builder" else insert("b")]
    found, (row,) = rewarded(replies, judged("c", 1.0, None if lost == "an answer" else 1.0), judge)
    assert (found["episodes"], found["left_out"], found["reward"]) == (0, 1, None)
    assert row["left_out"] and "reward" not in row


# --- groups


def data(folder: Path) -> Path:
    facts = [f"{i}. Person{i} lives in the city of Town{i}." for i in range(12)]
    rows = [
        {
            "chunks": json.dumps(["\n".join(facts[:6]), "\n".join(facts[6:])]),
            "questions_and_answers": json.dumps(
                [{"question": f"Where does Person{i} live?", "answer": f"Town{i}"} for i in (1, 8)]
            ),
            "data_source": source,
        }
        for source in ("squad", "hotpotqa")
    ]
    path = folder / "train.json"
    path.write_text(json.dumps(rows))
    return path


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        *("dataset=memalpha", f"dataset.path={data(folder)}", "split=all", "part=all", "backbone=simulated"),
        *("memory=memalpha", "memory.temperature=1.0", "retriever=memalpha", f"outputs={folder}/out", *more),
    ]


def stored(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return rows


def test_a_stored_group_holds_whole_episodes_that_replay_and_rewards_that_add_up(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    lines = sample_and_store(arguments(tmp_path), tmp_path / "e.parquet", 4, None)
    assert lines[0] == f"8 episodes in {tmp_path}/e.parquet (simulated)"
    rows = stored(tmp_path / "e.parquet")
    assert [r["episode"] for r in rows] == [0, 1, 2, 3] * 2
    assert len({r["group"] for r in rows}) == 2
    for row in rows:
        terms = reward.Terms(*(row[f"reward_{t}"] for t in ("task", "calls", "compression", "content")))
        assert row["reward"] == pytest.approx(terms.total(0.05, 0.1))
        assert len(row["prompts"]) == len(row["replies"]) == len(row["calls"]) == len(row["chunks"]) == 2
        memory = Memory.replay(Limits(len), [from_json(Change, c) for c in json.loads(row["changes"])])
        done = [o for o in map(json.loads, row["calls"]) for o in o if o["change"]]
        assert [o["change"] for o in done] == [c.number for c in memory.changes]
        assert all(json.loads(p)[-1]["role"] == "user" for p in row["prompts"])
    for first in (0, 4):
        assert sum(r["advantage"] for r in rows[first : first + 4]) == pytest.approx(0, abs=1e-9)
        assert len({r["reward"] for r in rows[first : first + 4]}) > 1, "a group of equal episodes teaches nothing"


def test_the_same_command_asks_for_nothing_twice_and_stores_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("a", "b"):
        sample_and_store(arguments(tmp_path), tmp_path / f"{name}.parquet", 2, None)
    assert stored(tmp_path / "a.parquet") == stored(tmp_path / "b.parquet")
    rows = [line for p in (tmp_path / "out").rglob("*.jsonl") for line in p.read_text().splitlines()]
    keys = [json.loads(line)["key"] for line in rows if line.startswith('{"key"')]
    assert len(keys) == len(set(keys)) > 0


def test_more_episodes_continue_the_group(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    sample_and_store(arguments(tmp_path), tmp_path / "a.parquet", 2, None)
    sample_and_store(arguments(tmp_path), tmp_path / "b.parquet", 3, None)
    few, more = stored(tmp_path / "a.parquet"), stored(tmp_path / "b.parquet")
    assert [r["reward"] for r in few[:2]] == [r["reward"] for r in more[:2]]


def test_undelivered_episodes_are_left_out_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    failing = ["backbone@builder=simulated", "builder.error_rate=0.3", "builder.seed=2"]
    lines = sample_and_store(arguments(tmp_path, *failing), tmp_path / "e.parquet", 4, None)
    rows = stored(tmp_path / "e.parquet")
    left_out = json.loads((tmp_path / "e.json").read_text())["left_out"]
    assert 0 < len(rows) < 8
    assert sum(left_out.values()) == 8 - len(rows)
    assert any(line.startswith("left out:") for line in lines)


def test_garbled_calls_cost_reward_and_corrupt_nothing(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    sample_and_store(arguments(tmp_path, "backbone.malformed_rate=1.0"), tmp_path / "e.parquet", 2, None)
    for row in stored(tmp_path / "e.parquet"):
        assert 0 < row["reward_calls"] < 1
        results = [o["result"] for o in map(json.loads, row["calls"]) for o in o]
        assert results.count("malformed") == 2


@pytest.mark.slow
def test_token_ids_are_those_of_the_chat_template(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    tokenizers = pytest.importorskip("tokenizers")
    fast = pytest.importorskip("transformers").PreTrainedTokenizerFast
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[U]": 0, "<user>": 1, "<bot>": 2, "tools": 3}, "[U]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    template = "{% if tools %}tools {% endif %}{% for m in messages %}<user> {{ m.content }} {% endfor %}<bot>"
    fast(tokenizer_object=made, chat_template=template, unk_token="[U]").save_pretrained(tmp_path / "tokenizer")
    sample_and_store(arguments(tmp_path), tmp_path / "e.parquet", 2, str(tmp_path / "tokenizer"))
    for row in stored(tmp_path / "e.parquet"):
        for prompt, ids, reply, reply_ids in zip(
            row["prompts"], row["prompt_ids"], row["replies"], row["reply_ids"], strict=True
        ):
            words = sum(len(m["content"].split()) for m in json.loads(prompt))
            assert (ids[0], ids[1], ids[-1], len(ids)) == (3, 1, 2, words + 4)
            assert len(reply_ids) == len(reply.split())


def test_mistakes_are_told_before_anything_is_paid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, told in (
        (["memory.temperature=0"], "memory.temperature must be above 0"),
        (["memory=sessions", "~memory.temperature"], "memory"),
        (["evaluator.memalpha_reward.beta=-1"], "beta must be at least 0"),
        (["evaluator.memalpha_reward.bata=1"], "bata"),
    ):
        assert main(["--out", str(tmp_path / "e.parquet"), *arguments(tmp_path, *more)]) == 2
        assert told in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--group"):
        sample_and_store([], tmp_path / "e.parquet", 0, None)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.jsonl"))

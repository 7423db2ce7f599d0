"""The reward equals hand-worked episodes, at its bounds too; groups of episodes are stored whole."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
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
from metamem.evaluators.memalpha_reward import ContentJudge, MemAlphaReward, rewards
from metamem.memory.growing import grown
from metamem.memory.memalpha.state import Limits, Memory, StateChange
from metamem.prompts.templates import Prompts
from metamem.tracking.trackers import Trackers

PROMPTS = Prompts(Prompts.Config())

DONE, SAME, SKIPPED, BAD, WORSE, SILENT = "done", "unchanged", "skipped", "refused", "malformed", "none"


def effects(*chunks: tuple[str, ...]) -> list[Effect]:
    return [Effect(number, 0, "k", result, "insert") for number, chunk in enumerate(chunks) for result in chunk]


@pytest.mark.parametrize(
    ("chunks", "shares"),
    [
        ((), ()),
        (((),), (0.0,)),
        (((DONE, SAME, BAD, WORSE),), (0.5,)),
        (((BAD, WORSE), (BAD,)), (0.0, 0.0)),
        (((DONE, SKIPPED), (), (SAME, SAME), (SKIPPED,)), (0.5, 0.0, 1.0, 0.0)),
        (((DONE,), (SILENT,)), (1.0, 0.0)),
        (((BAD, SILENT), (DONE, SILENT)), (0.0, 1.0)),
    ],
)
def test_call_success_is_the_share_of_a_chunks_calls_that_ran_and_were_not_skipped(chunks: Any, shares: Any) -> None:
    history = effects(*chunks)
    assert reward.of_chunks(history, [None] * len(history), len(chunks)) == (shares, (0.0,) * len(chunks))


@pytest.mark.parametrize(
    ("memory", "given_tokens", "term"),
    [(0, 100, 1.0), (25, 100, 0.75), (100, 100, 0.0), (150, 100, -0.5), (0, 0, 0.0), (5, 0, 0.0)],
)
def test_compression_is_one_less_memory_over_input(memory: int, given_tokens: int, term: float) -> None:
    assert reward.compression(memory, given_tokens) == term


def test_content_is_judged_of_every_call_that_was_to_write_whether_it_did_or_not() -> None:
    wrote = Effect(0, 0, "k", DONE, "insert", change=1, after="a")
    cut = Effect(0, 0, "k", DONE, "update", change=2, text="a b c", after="a")
    cleared = Effect(0, 0, "k", DONE, "delete", change=3, before="a")
    held = Effect(0, 0, "k", SKIPPED, "insert", text="a")
    unknown = Effect(0, 0, "k", BAD, "update", text=" b ")
    broken = Effect(0, 0, "k", WORSE, "<tool_call>")
    assert [reward.written(e) for e in (wrote, cut, cleared, held, unknown, broken)] == ["a", "a b c", "", "a", "b", ""]


def test_a_chunks_reward_is_the_weighted_sum_and_the_episodes_their_mean() -> None:
    terms = reward.Terms(0.5, -1.0, calls=(1.0, 0.0), content=(0.5, 0.0))
    assert terms.rewards(0.05, 0.1) == pytest.approx([0.5 + 1 - 0.05 + 0.05, 0.5 - 0.05])
    assert terms.total(0.05, 0.1) == pytest.approx((1.5 + 0.45) / 2)
    assert reward.Terms(0.5, 1.0, (), ()).total(0.4, 0.1) == pytest.approx(0.9), "nothing was read"


def test_advantages_by_hand() -> None:
    assert reward.advantages([1.0, 3.0]) == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-5)
    assert reward.advantages([0.1 + 0.2, 0.3, 0.3]) == pytest.approx([0.0] * 3, abs=1e-9)
    assert reward.advantages([2.0]) == [0.0], "one sample has no deviation"
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
        {"calls": (1 / 3 + 0) / 2, "compression": 1 - 1 / 4, "content": (2 / 3 + 1 / 2) / 2},
    ),
    "one silent chunk": (["", insert("good fact")], {"calls": 1 / 2, "compression": 1 - 2 / 4, "content": 1 / 2}),
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
    rows = asyncio.run(found)
    options = MemAlphaReward.Config(beta=beta, gamma=gamma)
    return dict(MemAlphaReward.figures(options, rows, {"without": answers})["without"]), rows


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


# --- random histories, against a reference that is written for its plainness

NAMES = {"insert": "new_memory_insert", "update": "memory_update", "delete": "memory_delete"}
TEXTS = ["good day", "good", "bad", "a good long line of six", "worse than bad"]


def random_reply(rng: random.Random) -> str:
    """Calls of all kinds, some of which repeat, name what is not there, delete, or are broken."""
    made = []
    for _ in range(rng.randrange(6)):
        part, id, text = rng.choice(["core", "semantic", "episodic"]), f"s{rng.randrange(1, 4)}", rng.choice(TEXTS)
        kind = rng.choice(["insert", "insert", "insert", "update", "delete", "broken", "unknown"])
        if kind == "insert":
            arguments = {"memory_type": f"{'episodic' if part == 'core' else part}_memory", "content": text}
        elif kind == "update":
            core = part == "core"
            arguments = {"memory_type": "core_memory" if core else "semantic_memory", "new_content": text}
            arguments |= {} if core else {"memory_id": id}
        else:
            arguments = {"memory_type": "semantic_memory", "memory_id": id}
        if kind == "broken":
            made.append(f'<tool_call>{{"name": "{NAMES["insert"]}", "arguments": {{</tool_call>')
        else:
            name = NAMES.get(kind, "memory_forget")
            made.append(f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>")
    return "Done" + "".join(made)


def slow_rewards(
    replies: list[str], scores: list[float], words: int, beta: float, gamma: float
) -> tuple[list[float], int]:
    """The reward of every chunk and the words kept, done on plain lists, call by call."""
    core, lists, counters = "", {"semantic": [], "episodic": []}, {"semantic": 0, "episodic": 0}  # type: ignore[var-annotated]
    parts: list[tuple[Fraction, Fraction]] = []
    for reply in replies:
        ran, suited, calls = 0, 0, 0
        for piece in reply.split("<tool_call>")[1:]:
            calls += 1
            try:
                said = json.loads(piece.removesuffix("</tool_call>"))
            except ValueError:
                continue
            given = said["arguments"]
            part = given["memory_type"].removesuffix("_memory")
            text = given.get("content") or given.get("new_content") or ""
            if said["name"] == NAMES["insert"]:
                suited += "good" in text
                if text not in [t for _, t in lists[part]]:
                    counters[part] += 1
                    lists[part].append((f"{part[0]}{counters[part]}", text))
                    ran += 1
            elif said["name"] == NAMES["update"]:
                suited += "good" in text
                if part == "core":
                    core, ran = text, ran + 1
                    continue
                held = [i for i, (id, _) in enumerate(lists[part]) if id == given["memory_id"]]
                others = [t for id, t in lists[part] if id != given["memory_id"]]
                if held and text not in others:
                    lists[part][held[0]] = (given["memory_id"], text)
                    ran += 1
            elif said["name"] == NAMES["delete"]:
                kept = [(id, t) for id, t in lists[part] if id != given["memory_id"]]
                ran += len(kept) < len(lists[part])
                lists[part] = kept
        parts.append((Fraction(ran, calls or 1), Fraction(suited, calls or 1)))
    kept_words = len(" ".join([core, *(t for items in lists.values() for _, t in items)]).split())
    task = statistics.mean(scores)
    share = 1 - Fraction(kept_words, words)
    return [task + float(r2) + beta * float(share) + gamma * float(r4) for r2, r4 in parts], kept_words


@pytest.mark.slow
def test_the_rewards_of_200_random_histories_are_those_of_a_slow_reference() -> None:
    load_components()
    constructor = build("memory", {"name": "memalpha", "contract": "published"})
    judge = Fixed(lambda prompt: "yes" if "good" in prompt.split("<written>")[1] else "no")
    seen: Counter[str] = Counter()
    for seed in range(200):
        rng = random.Random(seed)
        replies = [random_reply(rng) for _ in range(rng.randrange(1, 6))]
        beta, gamma = rng.choice(reward.ABLATION)
        scores = [rng.choice([0.0, 0.25, 0.5, 1.0]) for _ in range(rng.randrange(1, 4))]
        chunks = [f"piece{i} of the text" for i in range(len(replies))]
        held = [Session(f"c{i}", None, (Turn(f"c{i}", "document", text),)) for i, text in enumerate(chunks)]
        builder = Fixed(lambda prompt, said=replies: said[int(prompt.split("piece")[-1].split()[0])])  # type: ignore[misc]
        here = MemoryContext(builder, prompts=PROMPTS)
        bank = asyncio.run(grown(constructor, None, Conversation("c", tuple(held)), here))
        seen.update(effect.result for effect in bank.history)
        found = rewards(
            {"c": bank}, {"without": judged("c", *scores)}, ContentJudge(judge, PROMPTS), beta, gamma, Trackers([])
        )
        (row,) = asyncio.run(found)
        expected, kept = slow_rewards(replies, scores, 4 * len(chunks), beta, gamma)
        assert bank.counts["memory_tokens"] == kept, seed
        assert row["chunk_rewards"] == pytest.approx(expected, abs=1e-12), seed
        assert row["reward"] == pytest.approx(statistics.mean(expected), abs=1e-12), seed
    assert {SKIPPED, DONE, BAD, WORSE, SILENT} <= set(seen), "the histories have all kinds of calls"


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


@pytest.mark.slow
def test_a_stored_group_holds_whole_episodes_that_replay_and_rewards_that_add_up(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    lines = sample_and_store(arguments(tmp_path), tmp_path / "e.parquet", 4, None)
    assert lines[0] == f"8 episodes in {tmp_path}/e.parquet (simulated)"
    rows = stored(tmp_path / "e.parquet")
    assert [r["episode"] for r in rows] == [0, 1, 2, 3] * 2
    assert len({r["group"] for r in rows}) == 2
    for row in rows:
        # r4,t and all that follows from it are rebuilt from what is stored of each call.
        words = [v for verdicts in row["verdicts"] for v in verdicts]
        calls = [json.loads(c) for c in row["calls"]]
        for chunk, content in enumerate(row["chunk_content"]):
            of_chunk = [v for at, said in zip(row["chunks"], row["verdicts"], strict=True) if at == chunk for v in said]
            assert content == pytest.approx(sum(v is True for v in of_chunk) / len(of_chunk))
        assert [len(said) for said in calls] == [len(said) for said in row["verdicts"]]
        assert True in words and False in words
        whole = row["reward_task"] + 0.05 * row["reward_compression"]
        terms = zip(row["chunk_calls"], row["chunk_content"], strict=True)
        assert row["chunk_rewards"] == pytest.approx([whole + r2 + 0.1 * r4 for r2, r4 in terms])
        assert row["reward"] == pytest.approx(statistics.mean(row["chunk_rewards"]))
        assert len(row["prompts"]) == len(row["replies"]) == len(row["calls"]) == len(row["chunks"]) == 2
        memory = Memory.replay(Limits(len), [from_json(StateChange, c) for c in json.loads(row["changes"])])
        done = [o for o in map(json.loads, row["calls"]) for o in o if o["change"]]
        assert [o["change"] for o in done] == [c.number for c in memory.changes]
        assert all(json.loads(p)[-1]["role"] == "user" for p in row["prompts"])
    for first in (0, 4):
        rewards = [r for row in rows[first : first + 4] for r in row["chunk_rewards"]]
        mean, deviation = statistics.mean(rewards), statistics.stdev(rewards)
        assert deviation > 0, "a group of equal episodes teaches nothing"
        found = [a for row in rows[first : first + 4] for a in row["chunk_advantages"]]
        assert found == pytest.approx([(r - mean) / deviation for r in rewards], rel=1e-3)


@pytest.mark.slow
def test_the_same_command_asks_for_nothing_twice_and_stores_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("a", "b"):
        sample_and_store(arguments(tmp_path), tmp_path / f"{name}.parquet", 2, None)
    assert stored(tmp_path / "a.parquet") == stored(tmp_path / "b.parquet")
    rows = [line for p in (tmp_path / "out").rglob("*.jsonl") for line in p.read_text().splitlines()]
    keys = [json.loads(line)["key"] for line in rows if line.startswith('{"key"')]
    assert len(keys) == len(set(keys)) > 0


@pytest.mark.slow
def test_more_episodes_continue_the_group(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    sample_and_store(arguments(tmp_path), tmp_path / "a.parquet", 2, None)
    sample_and_store(arguments(tmp_path), tmp_path / "b.parquet", 3, None)
    few, more = stored(tmp_path / "a.parquet"), stored(tmp_path / "b.parquet")
    assert [r["reward"] for r in few[:2]] == [r["reward"] for r in more[:2]]


@pytest.mark.slow
def test_undelivered_episodes_are_left_out_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    failing = ["backbone@builder=simulated", "builder.error_rate=0.3", "builder.seed=1"]
    lines = sample_and_store(arguments(tmp_path, *failing), tmp_path / "e.parquet", 4, None)
    rows = stored(tmp_path / "e.parquet")
    left_out = json.loads((tmp_path / "e.json").read_text())["left_out"]
    assert 0 < len(rows) < 8
    assert sum(left_out.values()) == 8 - len(rows)
    assert any(line.startswith("left out:") for line in lines)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_judge_that_thinks_is_asked_without_it_and_again_and_what_it_never_said_is_no_word() -> None:
    sampled: list[Sampling] = []

    class Thinking(Fixed):
        def sampling(self) -> Sampling:
            return Sampling(thinking=True)

        async def __call__(self, request: Request) -> list[Reply]:
            sampled.append(request.sampling)
            return await super().__call__(request)

    said = iter(["<think>It could be that", "perhaps", "yes"])
    judge = Thinking(lambda _: next(said))
    assert asyncio.run(ContentJudge(judge, PROMPTS).suits("core", "a")) is True
    assert [(s.thinking, s.temperature) for s in sampled] == [(False, 0.0)] * 3
    unsure = Fixed(lambda _: "perhaps")
    assert asyncio.run(ContentJudge(unsure, PROMPTS).suits("core", "a")) is None
    assert len(unsure.asked) == 3
    found, (row,) = rewarded([insert("a"), insert("b")], judged("c", 1.0), unsure)
    assert row["left_out"] and (found["episodes"], found["left_out"]) == (0, 1)

"""The judge: what it is asked, when it is asked again, and what becomes invalid."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from metamem.core.calls import Draw, Failure, Generation, Request, Sampling, Usage
from metamem.core.contracts import Reply
from metamem.core.errors import ConfigError
from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import build

QUESTION = Question("q1", "Where?", "single-hop", ("Rome",))
ATTEMPT = Attempt("test/q1#0", "q1", "test/q1", 0, "In Rome.")
USAGE = Usage(100, 2)


class Scripted:
    """A judge that says what it was told to, one reply after another, and keeps what it was asked."""

    label = "scripted-judge"

    def __init__(self, *outcomes: str | Generation | Failure) -> None:
        self._outcomes = [Generation(o, usage=USAGE) if isinstance(o, str) else o for o in outcomes]
        self.requests: list[Request] = []

    def sampling(self) -> Sampling:
        return Sampling(temperature=0.9, top_p=0.8, max_tokens=4096, thinking=True, repetition_penalty=1.1)

    async def __call__(self, request: Request) -> list[Reply]:
        self.requests.append(request)
        return [Reply("key", self._outcomes[len(self.requests) - 1]) for _ in request.draws]


def judge(judge: Scripted, repeat: int = 0, **options: Any) -> Verdict:
    rubric = build("rubric", {"name": "metamem"})
    evaluator = build("evaluator", {"name": "llm_judge", **options}, judge=judge, rubric=rubric, backbone="unwanted")
    return asyncio.run(evaluator.evaluate(QUESTION, ATTEMPT, repeat))


def roles(request: Request) -> Sequence[str]:
    return [message.role for message in request.messages]


@pytest.mark.parametrize(("reply", "score", "correct"), [("Yes.", 1.0, True), ("No", 0.0, False)])
def test_a_readable_reply_is_a_scored_verdict(reply: str, score: float, correct: bool) -> None:
    rubric = build("rubric", {"name": "metamem"})
    assert judge(Scripted(reply)) == Verdict(
        "test/q1#0",
        "q1",
        "llm_judge",
        Status.scored,
        score,
        correct,
        judge="scripted-judge",
        rubric=rubric.identity()["hash"],
        raw=reply,
        usage=USAGE,
    )


def test_the_judge_is_asked_by_the_rubric_with_its_own_sampling() -> None:
    scripted = Scripted("yes")
    judge(scripted)
    prompt = build("rubric", {"name": "metamem"}).render(QUESTION, "In Rome.")
    (request,) = scripted.requests
    assert [m.content for m in request.messages] == [prompt]
    expected = replace(scripted.sampling(), temperature=0.0, max_tokens=512, thinking=False)
    assert request.sampling == expected
    assert request.draws == (Draw("0/judge/test/q1#0", 0),)
    assert (request.repeat, request.schema) == (0, None)


def test_options_reach_the_sampling() -> None:
    scripted = Scripted("yes")
    judge(scripted, temperature=0.5, max_tokens=9000, thinking=True)
    sampling = scripted.requests[0].sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.thinking) == (0.5, 9000, True)


def test_an_unreadable_reply_is_shown_and_asked_again_with_a_reminder() -> None:
    scripted = Scripted("Yes and no", "no")
    verdict = judge(scripted)
    first, second = scripted.requests
    assert roles(second) == ["user", "assistant", "user"]
    assert second.messages[0] == first.messages[0]
    assert second.messages[1].content == "Yes and no"
    assert "exactly one word: yes or no" in second.messages[2].content
    assert (first.repeat, second.repeat) == (0, 1)
    assert first.draws == second.draws
    assert (verdict.status, verdict.correct, verdict.raw, verdict.reason) == (Status.scored, False, "no", "")


def test_only_the_last_unreadable_reply_is_shown_and_shortened() -> None:
    scripted = Scripted("first", "x" * 5000, "yes")
    judge(scripted)
    assert roles(scripted.requests[2]) == ["user", "assistant", "user"]
    assert scripted.requests[2].messages[1].content == "x" * 2000
    assert [r.repeat for r in scripted.requests] == [0, 1, 2]


def test_an_empty_reply_is_asked_again_without_an_empty_message() -> None:
    scripted = Scripted("", "yes")
    assert judge(scripted).correct is True
    assert all(message.content for message in scripted.requests[1].messages)


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_unreadable_to_the_end_is_invalid_after_the_retries(retries: int) -> None:
    scripted = Scripted(*(f"hm {i}" for i in range(10)))
    verdict = judge(scripted, retries=retries)
    assert len(scripted.requests) == retries + 1
    assert (verdict.status, verdict.correct, verdict.score) == (Status.invalid, None, 0.0)
    assert verdict.raw == f"hm {retries}"
    assert f"in {retries + 1} repl" in verdict.reason


def test_usage_is_that_of_all_replies() -> None:
    assert judge(Scripted("hm", "hm", "yes")).usage == Usage(300, 6)
    assert judge(Scripted("hm", "hm", "hm")).usage == Usage(300, 6)


def test_a_failure_is_invalid_with_its_reason_and_not_asked_again() -> None:
    scripted = Scripted(Failure("HTTP 500"), "yes")
    verdict = judge(scripted)
    assert len(scripted.requests) == 1
    assert (verdict.status, verdict.correct, verdict.raw, verdict.usage) == (Status.invalid, None, "", Usage())
    assert "HTTP 500" in verdict.reason


def test_a_failure_while_asking_again_keeps_the_reply_it_had() -> None:
    verdict = judge(Scripted("hm", Failure("timed out"), "yes"))
    assert (verdict.status, verdict.raw, verdict.usage) == (Status.invalid, "hm", USAGE)
    assert "timed out" in verdict.reason


def test_a_cut_reply_is_read_as_far_as_it_goes() -> None:
    assert judge(Scripted(Generation("No, the response names only", "length"))).correct is False


def test_a_reply_cut_in_its_reasoning_is_unreadable_and_names_the_limit() -> None:
    cut = Generation("<think>The answer is yes", "length")
    verdict = judge(Scripted(cut, cut), retries=1, max_tokens=64)
    assert verdict.status is Status.invalid
    assert "evaluator.llm_judge.max_tokens=64" in verdict.reason


def test_every_greedy_repetition_is_a_call_of_its_own() -> None:
    seen = set()
    for repeat in range(3):
        scripted = Scripted("hm", "hm", "hm")
        verdict = judge(scripted, repeat=repeat)
        assert verdict.repeat == repeat
        assert {r.draws for r in scripted.requests} == {(Draw("0/judge/test/q1#0", repeat),)}
        seen |= {r.repeat for r in scripted.requests}
    assert len(seen) == 9


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("retries", 100),
        ("max_tokens", 0),
        ("temperature", -0.1),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_name(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"evaluator\.llm_judge\.{option} must"):
        judge(Scripted("yes"), **{option: value})

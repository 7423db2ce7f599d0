"""The stand-in: deterministic, moved by the prompt's text alone, failing as often as it is told to."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.backbones.scripted import Scripted
from metamem.core.calls import Draw, Generation, Message, Request, Sampling
from metamem.core.contracts import Scorer
from metamem.core.errors import BackboneError, ConfigError
from metamem.core.records import Question
from metamem.core.registry import REGISTRY, load_components
from metamem.memory.lightmem.replies import FACTS_SCHEMA, read_facts
from metamem.optimizers.operations import read_operations
from metamem.prompts.templates import Prompts
from metamem.replies.json_in_text import UnreadableError
from metamem.replies.tool_calls import Call, read_calls
from metamem.replies.verdicts import JSON, Path, read_verdict

load_components()
PROMPTS = Prompts(Prompts.Config())
GREEDY = Sampling(temperature=0.0, max_tokens=4096)
SAMPLED = Sampling(temperature=0.7, max_tokens=4096)
FRAGMENTS = tuple(
    f"2024-02-0{i} (Thu) 10:00 user: The {word} was late again." for i, word in enumerate("bus tram".split(), 1)
)


def build(**options: object) -> Scripted:
    made: Scripted = REGISTRY.build("backbone", {"name": "simulated", **options})
    return made


def ask_for(
    backbone: Scripted,
    messages: Sequence[Message],
    sampling: Sampling = GREEDY,
    draws: Sequence[Draw] = (Draw("s"),),
    repeat: int = 0,
) -> list[Generation]:
    return asyncio.run(backbone.generate(Request(tuple(messages), sampling, tuple(draws), repeat=repeat)))


def answer_prompt(question: str = "What was late?") -> tuple[Message, ...]:
    return PROMPTS.render("answer", guidelines=[], memories=FRAGMENTS, question=question, date="")


def judge_prompt(response: str) -> tuple[Message, ...]:
    rubric = REGISTRY.build("rubric", {"name": "metamem"})
    return (Message("user", rubric.render(Question("q", "What?", "multi-session", ("3",)), response, JSON.demand)),)


def proposal_prompt(number: int = 0) -> tuple[Message, ...]:
    case = {"memories": FRAGMENTS, "question": f"What? {number}", "date": "", "truth": ["bus"], "max_words": 30}
    return PROMPTS.render("propose", **case, guidelines=[], reflections=[{"text": "4. Lesson: Look.", "correct": True}])


MANY = [answer_prompt(f"What about the bus, number {i}?") for i in range(300)]


# --- determinism ------------------------------------------------------------------------------------------------------


def test_the_same_request_always_has_the_same_reply() -> None:
    assert ask_for(build(), answer_prompt(), SAMPLED) == ask_for(build(), answer_prompt(), SAMPLED)


def test_a_sample_is_the_same_alone_and_among_others() -> None:
    backbone = build(empty_rate=0.2, cut_rate=0.2)
    draws = [Draw("7/train/3/q12", i) for i in range(8)]
    together = ask_for(backbone, answer_prompt(), SAMPLED, draws)
    assert together == [ask_for(backbone, answer_prompt(), SAMPLED, [draw])[0] for draw in draws]
    assert len({g.text for g in together}) > 1


def test_greedy_replies_do_not_depend_on_the_draw_but_on_the_repeat() -> None:
    prompt = judge_prompt("Answer: 3")
    assert ask_for(build(), prompt, draws=[Draw("a", 1)]) == ask_for(build(), prompt, draws=[Draw("b", 9)])
    assert len({ask_for(build(), prompt, repeat=i)[0].text for i in range(12)}) > 1


def test_its_own_seed_changes_sampled_replies() -> None:
    draws = [Draw("s", i) for i in range(16)]
    replies = [ask_for(build(seed=seed), answer_prompt(), SAMPLED, draws) for seed in (1, 2)]
    assert replies[0] != replies[1]


def test_identity_holds_the_options_that_change_replies_and_no_others() -> None:
    assert build(latency=1.0, slow_rate=0.5).identity() == build().identity()
    for name in ("seed", "error_rate", "empty_rate", "malformed_rate", "unreadable_rate", "cut_rate"):
        assert build(**{name: 1}).identity() != build().identity(), name


# --- what it replies --------------------------------------------------------------------------------------------------


def test_an_answer_cites_a_fragment_of_its_prompt_and_ends_in_its_words() -> None:
    text = ask_for(build(), answer_prompt())[0].text
    number = int(text.partition("[")[2].partition("]")[0])
    assert text.splitlines()[-1] == f"Answer: {FRAGMENTS[number - 1]}"


def test_a_request_to_repair_is_answered_as_what_it_repairs() -> None:
    backbone = build(malformed_rate=1)
    prompt = proposal_prompt()
    bad = ask_for(backbone, prompt)[0].text
    with pytest.raises(UnreadableError):
        read_operations(bad)
    repair = PROMPTS.render("repair", problem="the JSON list is cut off")
    whole = ask_for(backbone, (*prompt, Message("assistant", bad), *repair))[0].text
    assert [o.text for o in read_operations(whole).operations] == ["Look."]


def test_a_reminder_after_an_unreadable_verdict_is_answered_with_a_verdict() -> None:
    asked = (*judge_prompt("3"), Message("assistant", "Hard to say."), Message("user", "Reply with yes or no."))
    assert read_verdict(ask_for(build(), asked)[0].text)[1] is Path.schema


def test_a_prompt_of_no_template_gets_a_short_plain_reply_or_what_the_schema_asks_for() -> None:
    prompt = (Message("user", "Please summarise the following conversation in one line."),)
    text = ask_for(build(), prompt)[0].text
    assert text
    assert len(text.split()) < 20
    (made,) = asyncio.run(build().generate(Request(prompt, GREEDY, schema=FACTS_SCHEMA)))
    assert read_facts(made.text, 10).facts[0][1] in prompt[0].content
    kinds = {"a": {"enum": ["x"]}, "b": {"type": "boolean"}, "c": {"const": 3}, "d": {"anyOf": [{"type": "number"}]}}
    kinds["e"] = {"type": "array", "items": {"$ref": "#/$defs/Named"}}
    schema = {"type": "object", "properties": kinds, "$defs": {"Named": {"const": "by name"}}}
    (made,) = asyncio.run(build().generate(Request(prompt, GREEDY, schema=schema)))
    value = json.loads(made.text)
    assert (value["a"], value["c"], type(value["b"]), value["e"]) == ("x", 3, bool, ["by name"])
    keep = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    tool = {"type": "function", "function": {"name": "keep", "description": "", "parameters": keep}}
    (made,) = asyncio.run(build().generate(Request(prompt, GREEDY, tools=(tool,))))
    (call,) = read_calls(made, (tool,))
    assert isinstance(call, Call) and call.arguments["text"] in prompt[0].content


@pytest.mark.parametrize("in_prompt", [False, True])
def test_an_answer_that_may_search_calls_the_tool_at_times_and_answers_after_it(in_prompt: bool) -> None:
    query = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    tool = {"function": {"name": "search", "description": "", "parameters": query}, "type": "function"}
    (offer,) = PROMPTS.render("search", calls=1, tools=[json.dumps(tool, separators=(",", ":"))] if in_prompt else [])
    system, user = answer_prompt()
    asked = (system, Message("user", f"{user.content}\n\n{offer.content}"))
    draws = tuple(Draw("s", i) for i in range(20))
    replies = asyncio.run(build().generate(Request(asked, SAMPLED, draws, tools=() if in_prompt else (tool,))))
    calls = [call for reply in replies for call in read_calls(reply, (tool,))]
    assert 0 < len(calls) < 20
    assert set(map(repr, calls)) == {repr(Call("search", {"query": "What was late?"}))}
    found = PROMPTS.render("search_results", left=0, results=[{"call": "", "reply": "none", "units": []}])
    again = ask_for(build(), (*asked, Message("assistant", replies[0].text), *found))[0].text
    assert again.splitlines()[-1].startswith("Answer:")


@pytest.mark.slow
@given(
    st.lists(st.text(max_size=60), max_size=4), st.text(max_size=60), st.text(max_size=40), st.sampled_from([0.0, 0.7])
)
def test_no_text_makes_it_fail(memories: list[str], question: str, guideline: str, temperature: float) -> None:
    sampling = dataclasses.replace(GREEDY, temperature=temperature)
    listed = [{"id": "G1", "text": guideline}]
    prompts = [
        PROMPTS.render("answer", guidelines=listed, memories=memories, question=question, date=""),
        judge_prompt(question),
        PROMPTS.render("reflect", memories=memories, question="", date="", truth=(), attempt=question, correct=True),
        PROMPTS.render("consolidate", guidelines=listed, questions=[], proposals=[], max_words=30, max_guidelines=0),
        PROMPTS.render("memagent", task=question, notes=guideline, chunk="\n".join(memories), max_tokens=9),
        (Message("user", question),),
    ]
    for prompt in prompts:
        assert ask_for(build(), prompt, sampling)[0].finish_reason == "stop"


# --- faults -----------------------------------------------------------------------------------------------------------


def delivered(backbone: Scripted, prompts: Sequence[Sequence[Message]]) -> list[Generation | None]:
    found: list[Generation | None] = []
    for prompt in prompts:
        try:
            found.append(ask_for(backbone, prompt)[0])
        except BackboneError:
            found.append(None)
    return found


@pytest.mark.slow
def test_failures_come_at_their_rates() -> None:
    def share(hits: Sequence[bool]) -> float:
        return sum(hits) / len(hits)

    assert 0.2 < share([g is None for g in delivered(build(error_rate=0.3), MANY)]) < 0.4
    assert 0.2 < share([g is not None and not g.text for g in delivered(build(empty_rate=0.3), MANY)]) < 0.4
    cut = [g for g in delivered(build(cut_rate=0.3, seed=1), MANY) if g]
    assert 0.2 < share([g.finish_reason == "length" for g in cut]) < 0.4
    whole = delivered(build(seed=1), MANY)
    assert all(w and w.text.startswith(g.text) for g, w in zip(cut, whole, strict=True))


def test_a_failing_request_fails_however_its_draws_are_split_and_again_when_asked_again() -> None:
    backbone = build(error_rate=0.5)

    def fails(prompt: Sequence[Message], draws: Sequence[Draw]) -> bool:
        try:
            ask_for(backbone, prompt, SAMPLED, draws)
        except BackboneError:
            return True
        return False

    outcomes = [fails(prompt, [Draw("a", 0), Draw("a", 1)]) for prompt in MANY[:40]]
    assert outcomes == [fails(prompt, [Draw("a", 1)]) for prompt in MANY[:40]]
    assert len(set(outcomes)) == 2


def test_malformed_json_and_unreadable_verdicts_cannot_be_read() -> None:
    for repeat in range(30):
        with pytest.raises(UnreadableError):
            read_operations(ask_for(build(malformed_rate=1), proposal_prompt(), repeat=repeat)[0].text)
        with pytest.raises(UnreadableError):
            read_verdict(ask_for(build(unreadable_rate=1), judge_prompt("3"), repeat=repeat)[0].text)
    assert ask_for(build(malformed_rate=1), answer_prompt()) == ask_for(build(), answer_prompt())


def test_replies_keep_to_max_tokens_and_stop() -> None:
    whole = ask_for(build(), answer_prompt())[0]
    cut = ask_for(build(), answer_prompt(), dataclasses.replace(GREEDY, max_tokens=4))[0]
    assert (cut.finish_reason, len(cut.text.split()), cut.usage.completion_tokens) == ("length", 4, 4)
    assert whole.text.startswith(cut.text)
    assert (whole.finish_reason, whole.usage.prompt_tokens > 50) == ("stop", True)
    stopped = ask_for(build(), answer_prompt(), dataclasses.replace(GREEDY, stop=("Answer:",)))[0]
    assert stopped.text == whole.text.split("Answer:")[0]


def test_slow_requests_wait_side_by_side() -> None:
    backbone = build(latency=0.02, slow_rate=1.0, slow_seconds=0.03)

    async def all_at_once() -> None:
        await asyncio.gather(*(backbone.generate(Request(tuple(prompt), GREEDY)) for prompt in MANY[:40]))

    began = time.perf_counter()
    asyncio.run(all_at_once())
    assert 0.05 <= time.perf_counter() - began < 40 * 0.05


@pytest.mark.parametrize(
    ("key", "value"),
    [("error_rate", 1.1), ("cut_rate", -0.1), ("slow_rate", float("nan")), ("latency", -1.0), ("temperature", -1.0)],
)
def test_options_out_of_range_are_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"backbone\.{key} must be"):
        build(**{key: value})


# --- scores -----------------------------------------------------------------------------------------------------------


def scores(text: str, prompt: Sequence[Message], **options: object) -> list[float]:
    return asyncio.run(build(**options).score(prompt, text))


def test_every_word_gets_a_negative_number_and_the_same_one_again() -> None:
    text = "I live in Oslo. !!\n"
    made = scores(text, answer_prompt())
    assert len(made) == len(text.split())
    assert all(s < 0 for s in made)
    assert made == scores(text, answer_prompt(), max_tokens=1, temperature=1.0, stop=["live"])
    assert scores(" ", answer_prompt()) == []


def test_words_of_the_prompt_are_likelier_with_it() -> None:
    assert scores("tram", answer_prompt()) > scores("tram", (Message("user", "The bus."),))


def test_some_texts_fail_at_the_rate_asked_for() -> None:
    with pytest.raises(BackboneError, match="simulated failure"):
        scores("Oslo", answer_prompt(), error_rate=1.0)


def test_the_engines_and_the_stand_in_can_score_and_servers_cannot() -> None:
    can = {n for n in REGISTRY.names("backbone") if issubclass(REGISTRY.entry("backbone", n).component, Scorer)}
    assert can == {"nano", "simulated", "smollm2", "tiny", "vllm"}

"""The `openai` backbone against a real local server: seeds, samples, retries, limits, keys, what failures become."""

import asyncio
import json
import logging
import random
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.backbones import chat, retries
from metamem.backbones.openai import OpenAIBackbone
from metamem.backbones.options import SamplingOptions
from metamem.core.calls import Draw, Message, Request, Sampling, Usage
from metamem.core.errors import BackboneError, ConfigError, UnfinishedError, UnreachableError
from metamem.core.json_form import canonical
from metamem.core.registry import REGISTRY
from tests.server import Fault, Reply, Server, body_key, default_reply, sample_body

Config = OpenAIBackbone.Config
KEY = "sk-proj-verysecret0123456789"
WARM = Sampling(temperature=0.7, max_tokens=64)


def ask(text="Where did Ann go?", draws=1, sampling=WARM, scope="7/train/1/q1", first=0, **more):
    return Request((Message("user", text),), sampling, tuple(Draw(scope, first + i) for i in range(draws)), **more)


def using(server, work, **options):
    """Run `work(backbone)` on a started backbone. Waits between tries are noted in `backbone.waits`, not slept."""

    async def session():
        waits = []

        async def sleep(seconds):
            waits.append(seconds)
            await asyncio.sleep(0)

        backbone = OpenAIBackbone(Config(base_url=server.url, **{"model": "test-model", **options}), sleep=sleep)
        backbone.waits = waits
        await backbone.start()
        waits.clear()
        try:
            return await work(backbone)
        finally:
            await backbone.close()

    return asyncio.run(session())


def generated(server, request, **options):
    return using(server, lambda backbone: backbone.generate(request), **options)


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in the server's thread
            await asyncio.sleep(0.002)


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_every_sampling_field_is_sent_with_its_resolved_value():
    with Server() as server:
        generated(server, ask(sampling=Config(temperature=0.5, top_k=20, thinking=True, thinking_budget=9).resolved()))
    body = server.calls[0].body
    assert body["messages"] == [{"role": "user", "content": "Where did Ann go?"}]
    sent = {k: v for k, v in body.items() if k not in ("model", "messages", "n", "seed")}
    assert sent == {
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 20,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": 4096,
        "stop": [],
        "chat_template_kwargs": {"enable_thinking": True},
        "thinking_token_budget": 9,
    }


def test_every_sampled_request_carries_the_seed_of_its_first_draw():
    with Server() as server:
        generated(server, ask(first=2, draws=3))
    assert server.calls[0].body["seed"] == Draw("7/train/1/q1", 2).seed
    assert server.calls[0].body["n"] == 3


def test_a_greedy_request_carries_no_seed_and_asks_for_one_sample():
    with Server() as server:
        generations = generated(server, ask(draws=3, sampling=Sampling()))
    assert "seed" not in server.calls[0].body
    assert server.calls[0].body["n"] == len(generations) == 1


def test_a_schema_is_sent_unless_the_server_cannot_enforce_one():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with Server() as server:
        generated(server, ask(schema=schema))
        generated(server, ask(schema=schema), structured=False)
    assert server.calls[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": schema, "strict": True},
    }
    assert "response_format" not in server.calls[1].body


@pytest.mark.parametrize("n", ["full", "refuse"])
def test_a_server_that_refuses_schemas_is_told_so_once_and_asked_without(n):
    schema = {"type": "object", "properties": {"verdict": {"enum": ["yes", "no"]}}}

    def refuse(index, body):
        return Fault(status=400, message="unknown field: response_format") if "response_format" in body else None

    async def many(backbone):
        calls = (backbone.generate(ask(f"q{i}", draws=2, schema=schema)) for i in range(20))
        return await asyncio.gather(*calls), dict(backbone.counts)

    with Server(faults=refuse, n=n) as server:
        replies, counts = using(server, many)
    assert sum("response_format" in call.body for call in server.calls) == 1
    assert all(replies)
    assert counts["unstructured"] == 1


def test_another_refusal_of_a_structured_call_stays_one():
    schema = {"type": "object"}
    with Server(faults=[400, None]) as server:
        with pytest.raises(BackboneError, match="planned fault"):
            generated(server, ask(schema=schema, sampling=Sampling()))
        assert generated(server, ask(schema=schema, sampling=Sampling()))
    assert all("response_format" in call.body for call in server.calls)


def test_extra_body_is_sent_beside_the_thinking_switch():
    extra = {"chat_template_kwargs": {"persona": "x"}, "priority": 3}
    with Server() as server:
        generated(server, ask(), extra_body=extra)
    body = server.calls[0].body
    assert body["chat_template_kwargs"] == {"persona": "x", "enable_thinking": False}
    assert body["priority"] == 3


def test_the_openai_dialect_sends_standard_fields_only():
    with Server() as server:
        generated(server, ask(), dialect="openai")
    assert set(server.calls[0].body) == {
        *("model", "messages", "n", "seed", "temperature", "top_p"),
        *("presence_penalty", "frequency_penalty", "max_completion_tokens"),
    }


@pytest.mark.parametrize(
    "options",
    [{"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.1}, {"thinking": True}],
    ids=lambda o: next(iter(o)),
)
def test_the_openai_dialect_refuses_what_it_cannot_send(options):
    config = Config(base_url="http://localhost/v1", model="m", dialect="openai", **options)
    with pytest.raises(ConfigError, match=f"backbone.{next(iter(options))}"):
        OpenAIBackbone(config)


# --- samples ----------------------------------------------------------------------------------------------------------


def test_samples_come_in_draw_order_and_equal_those_asked_for_alone():
    async def work(backbone):
        together = await backbone.generate(ask(draws=5))
        alone = [(await backbone.generate(ask(first=i)))[0] for i in range(5)]
        return together, alone

    with Server() as server:
        together, alone = using(server, work)
    assert [g.text for g in together] == [g.text for g in alone]
    assert len({g.text for g in together}) == 5
    assert len(server.calls) == 6


def test_no_more_samples_are_asked_for_than_samples_per_call():
    with Server() as server:
        generations = generated(server, ask(draws=5), samples_per_call=3)
    assert server.calls[0].body["n"] == len(generations) == 3


def test_a_server_that_gives_fewer_samples_gives_the_first_draws():
    async def work(backbone):
        return await backbone.generate(ask(draws=5)), backbone.max_samples

    with Server(n="fewer") as server:
        generations, most = using(server, work)
        alone = generated(server, ask(first=1))
    assert len(generations) == 2
    assert generations[1].text == alone[0].text
    assert most == 8


@pytest.mark.parametrize(
    ("status", "told"), [(400, "n must be 1"), (400, "'n' > 1 unsupported"), (422, "extra fields")]
)
def test_a_server_that_refuses_several_samples_is_asked_singly_from_then_on(status, told):
    async def work(backbone):
        first = await asyncio.gather(*(backbone.generate(ask(draws=3, scope=f"s{i}")) for i in range(4)))
        later = await backbone.generate(ask(draws=3))
        return first, later, backbone.max_samples, backbone.counts["single"]

    with Server(n="refuse", refusal=Fault(status=status, message=told)) as server:
        first, later, most, counted = using(server, work)
    assert [len(g) for g in [*first, later]] == [1] * 5
    assert (most, counted) == (1, 1)
    assert server.calls[-1].body["n"] == 1
    assert sum(c.outcome == "refused" for c in server.calls) == 4


def test_a_server_that_always_gives_one_sample_is_asked_singly_from_then_on():
    async def work(backbone):
        await backbone.generate(ask(draws=2))
        return backbone.max_samples

    with Server(n="fewer") as server:
        assert using(server, work) == 1


def test_a_refusal_that_is_not_about_samples_leaves_them_alone():
    async def work(backbone):
        with pytest.raises(BackboneError, match="status 422: prompt too long"):
            await backbone.generate(ask(draws=3))
        return backbone.max_samples

    with Server(faults=lambda *_: Fault(status=422, message="prompt too long")) as server:
        assert using(server, work) == 8


def test_draws_that_are_not_consecutive_are_a_bug_and_not_a_wrong_seed():
    request = Request((Message("user", "x"),), WARM, (Draw("a", 0), Draw("a", 2)))
    with Server() as server, pytest.raises(ValueError, match="consecutive"):
        generated(server, request)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_that_the_server_separates_is_kept_apart(field):
    with Server(lambda _: Reply("Paris.", reasoning="Ann said so.", reasoning_field=field)) as server:
        [generation] = generated(server, ask())
    assert (generation.text, generation.reasoning, generation.finish_reason) == ("Paris.", "Ann said so.", "stop")


def test_reasoning_within_the_text_is_cut_off():
    with Server(lambda _: "<think>Ann said so.</think>\n\nParis.") as server:
        [generation] = generated(server, ask())
    assert (generation.text, generation.reasoning) == ("Paris.", "Ann said so.")


def test_unfinished_reasoning_is_an_empty_reply_cut_at_its_limit():
    with Server(lambda _: "<think>Ann said yes, no, ye") as server:
        [generation] = generated(server, ask())
    assert (generation.text, generation.finish_reason) == ("", "length")
    assert generation.reasoning == "Ann said yes, no, ye"


def test_a_reply_that_is_all_reasoning_has_no_text():
    with Server(lambda _: Reply(None, "length", reasoning="Ann said")) as server:
        [generation] = generated(server, ask())
    assert (generation.text, generation.finish_reason, generation.reasoning) == ("", "length", "Ann said")


@pytest.mark.parametrize(
    ("sent", "kept"), [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), (None, "stop")]
)
def test_the_finish_reason_is_kept(sent, kept):
    with Server(lambda _: Reply("Paris.", sent)) as server:
        assert generated(server, ask())[0].finish_reason == kept


def test_completion_tokens_of_several_samples_sum_to_what_the_server_counted():
    with Server(lambda body: Reply("x", completion_tokens=3 if body["seed"] % 3 else 5)) as server:
        generations = generated(server, ask("one two three", draws=4))
    counted = sum(3 if (Draw("7/train/1/q1").seed + i) % 3 else 5 for i in range(4))
    tokens = [g.usage.completion_tokens for g in generations]
    assert sum(tokens) == counted
    assert tokens[0] - tokens[-1] == counted % 4
    assert {g.usage.prompt_tokens for g in generations} == {3}


def choice(text, **more):
    return {"message": {"role": "assistant", "content": text}, **more}


def test_choices_are_put_in_the_order_of_their_index():
    payload = {"choices": [choice("b", index=1), choice("a", index=0), choice("c", index=2)]}
    assert [g.text for g in chat.read(payload, 3)] == ["a", "b", "c"]


def test_choices_after_a_missing_index_belong_to_no_known_draw_and_are_left_out():
    payload = {"choices": [choice("a", index=0), choice("c", index=2)]}
    assert [g.text for g in chat.read(payload, 3)] == ["a"]


def test_content_in_parts_is_joined():
    payload = {"choices": [choice([{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}])]}
    assert chat.read(payload, 1)[0].text == "Paris"


def test_usage_that_is_missing_counts_as_none():
    assert chat.read({"choices": [choice("a")], "usage": None}, 1)[0].usage == Usage(0, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "index", "usage", "error", "text"]), inner)
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["choices", "usage", "error"]), json_values) | json_values, st.integers(1, 4))
def test_any_json_is_read_as_one_to_n_samples_or_refused_as_malformed(payload, n):
    try:
        count = len(chat.read(payload, n))
    except chat.Malformed:
        return
    assert 1 <= count <= n


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [408, 409, 429, 500, 502, 503, 504, 529, *(Fault(kind) for kind in ("drop", "cut", "malformed", "no_choices"))],
    ids=lambda f: str(getattr(f, "kind", f)),
)
def test_a_failure_that_may_pass_is_tried_again_with_the_same_body(fault):
    async def work(backbone):
        return await backbone.generate(ask()), backbone.counts["retries"]

    with Server(faults=[fault, fault]) as server:
        [generation], counted = using(server, work)
    assert generation.text == default_reply(server.calls[0].body)
    assert counted == 2
    assert [body_key(c.body) for c in server.calls] == [body_key(server.calls[0].body)] * 3


def test_a_failure_that_does_not_pass_is_raised_after_the_last_retry():
    with (
        Server(faults=lambda *_: Fault(status=503, message="loading")) as server,
        pytest.raises(BackboneError, match=r"status 503: loading \(3 tries\)"),
    ):
        generated(server, ask(), retries=2)
    assert len(server.calls) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_other_client_errors_fail_at_once_with_a_short_reason(status):
    with (
        Server(faults=lambda *_: Fault(status=status, message="too long " * 200)) as server,
        pytest.raises(BackboneError) as caught,
    ):
        generated(server, ask())
    assert caught.value.reason.startswith(f"status {status}: too long")
    assert len(caught.value.reason) < 330
    assert len(server.calls) == 1


def test_a_refused_key_in_the_middle_ends_the_run():
    async def work(backbone):
        await backbone.generate(ask())
        await backbone.generate(ask())

    with Server(faults=[None, 401]) as server, pytest.raises(UnreachableError, match="OPENAI_API_KEY"):
        using(server, work)


def test_retry_after_is_waited_out_and_jitter_added():
    async def work(backbone):
        await backbone.generate(ask())
        return backbone.waits

    faults = [
        Fault(status=429, headers={"Retry-After": "7"}),
        Fault(status=429, headers={"Retry-After-Ms": "1500"}),
        429,
    ]
    with Server(faults=faults) as server:
        seconds, milliseconds, none = using(server, work)
    assert 7 <= seconds <= 7.5
    assert 1.5 <= milliseconds <= 2.5
    assert 0 <= none <= 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_retry_after_is_read(headers, seconds):
    assert retries.retry_after(headers, now=10.0) == seconds


@given(st.integers(1, 1000), st.integers(), st.none() | st.floats(0, 1e9))
def test_a_wait_is_never_shorter_than_asked_nor_longer_than_its_bounds(failed, seed, asked):
    waited = retries.wait(failed, random.Random(seed), asked)
    least = min(asked or 0, retries.LONGEST_RETRY_AFTER)
    assert least <= waited <= least + min(retries.LONGEST_WAIT, retries.FIRST_WAIT * 2 ** (failed - 1))


def test_waits_depend_on_the_draw_alone():
    async def work(backbone):
        await backbone.generate(ask(scope="a"))
        await backbone.generate(ask(scope="b"))
        return list(backbone.waits)

    plan = [500, 500, None, 500, 500, None]
    with Server(faults=plan) as one, Server(faults=plan) as two:
        waits, again = using(one, work), using(two, work)
    assert waits == again
    assert waits[:2] != waits[2:]


def test_a_slow_reply_times_out_and_is_tried_again():
    with Server(faults=[Fault("slow", seconds=5)]) as server:
        assert generated(server, ask(), timeout=0.4)
    assert [c.outcome for c in server.calls] == ["lost", "delivered"]


def test_a_reply_that_never_comes_fails_with_the_limit_in_its_reason():
    with Server(delay=5) as server, pytest.raises(BackboneError, match=r"no reply within 0.1 s \(2 tries\)"):
        generated(server, ask(), timeout=0.1, retries=1)


def test_text_that_is_not_utf8_fails_its_call_only():
    async def work(backbone):
        with pytest.raises(BackboneError, match="UTF-8"):
            await backbone.generate(ask("lone \ud800 surrogate"))
        return await backbone.generate(ask("whole"))

    with Server() as server:
        assert using(server, work)


# --- concurrency ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 16])
def test_calls_in_flight_reach_and_never_exceed_max_concurrency(limit):
    async def work(backbone):
        await asyncio.gather(*(backbone.generate(ask(scope=str(i))) for i in range(2 * limit + 1)))

    with Server(delay=0.08) as server:
        using(server, work, max_concurrency=limit)
    assert server.max_in_flight == limit


def test_a_cancelled_call_gives_its_place_back_and_hangs_up():
    async def work(backbone):
        task = asyncio.create_task(backbone.generate(ask()))
        await until(lambda: server.calls)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await backbone.generate(ask())

    with Server(faults=[Fault("slow", seconds=5)]) as server:
        assert using(server, work, max_concurrency=1)
    assert [c.outcome for c in server.calls] == ["lost", "delivered"]


def test_one_backbone_may_be_started_again_in_another_event_loop():
    async def session():
        await backbone.start()
        try:
            return await asyncio.gather(*(backbone.generate(ask(scope=str(i))) for i in range(3)))
        finally:
            await backbone.close()

    with Server() as server:
        backbone = OpenAIBackbone(Config(base_url=server.url, model="test-model", max_concurrency=1))
        assert asyncio.run(session()) == asyncio.run(session())


@pytest.mark.parametrize("exempt", ["127.0.0.1", "127.0.0.1:PORT", "*.example, *.0.0.1", "a.example,*"])
def test_a_proxy_of_the_environment_is_asked_unless_the_address_is_exempt(exempt: str, monkeypatch):
    with Server() as proxy, Server() as direct:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "other.example")
        assert generated(SimpleNamespace(url="http://model.example/v1"), ask())
        monkeypatch.setenv("no_proxy", exempt.replace("PORT", direct.url.rpartition(":")[2].removesuffix("/v1")))
        assert generated(direct, ask())
    assert (len(proxy.calls), len(direct.calls)) == (1, 1)


def test_a_call_that_its_server_never_answers_though_it_is_there_each_time_comes_to_an_end() -> None:
    tried = []

    async def call() -> None:
        tried.append(1)
        raise retries.Transient("no reply", away=True)

    async def at_once(_):
        return True

    with pytest.raises(BackboneError, match="no reply"):
        asyncio.run(retries.retrying(call, 1, random.Random, at_once, back=at_once))
    assert len(tried) == 6


def test_close_may_be_called_twice_and_start_again():
    async def work(backbone):
        await backbone.close()
        await backbone.close()
        with pytest.raises(RuntimeError, match="start"):
            await backbone.generate(ask())
        await backbone.start()
        await backbone.start()
        return await backbone.generate(ask())

    with Server() as server:
        assert using(server, work)
    assert server.model_requests == 2


# --- the check at start -----------------------------------------------------------------------------------------------


def start_error(url, **options):
    async def no_sleep(_seconds):
        pass

    backbone = OpenAIBackbone(Config(base_url=url, **{"model": "test-model", **options}), sleep=no_sleep)
    with pytest.raises(UnreachableError) as caught:
        asyncio.run(backbone.start())
    return str(caught.value)


def test_a_server_that_is_not_there_is_named_with_its_option():
    with Server() as server:
        pass
    message = start_error(server.url)
    assert "backbone.base_url" in message
    assert server.url in message
    assert "Connect call failed" in message


def test_a_host_that_does_not_exist_is_named_with_its_option():
    assert "backbone.base_url: http://host.invalid/v1" in start_error("http://host.invalid/v1")


def test_a_server_that_does_not_answer_is_given_up_after_connect_timeout():
    with Server(models_fault=Fault(seconds=5)) as server:
        assert "no reply within 0.1 s" in start_error(server.url, connect_timeout=0.1, retries=0)


def test_a_model_that_is_not_served_gives_the_nearest_and_the_choices():
    with Server(models=["qwen3-4b", "llama-3-8b"]) as server:
        message = start_error(server.url, model="qwen-4b")
    assert "backbone.model" in message
    assert "Did you mean 'qwen3-4b'?" in message
    assert "llama-3-8b" in message


def test_a_server_that_lists_no_models_is_asked_for_one_token():
    with Server(models=None) as server:
        assert generated(server, ask())
    assert [c.body["max_tokens"] for c in server.calls] == [1, 64]


def test_an_address_without_a_chat_server_says_what_may_lack():
    with Server() as server:
        message = start_error(server.url.removesuffix("/v1"))
    assert "backbone.base_url" in message
    assert "does the address lack /v1?" in message


def test_a_server_that_is_still_loading_is_waited_for_a_little():
    with Server(models_fault=Fault(status=503, message="loading")) as server:
        assert "status 503: loading (3 tries)" in start_error(server.url)


def test_a_missing_key_names_the_environment_variable(monkeypatch):
    monkeypatch.delenv("MY_SERVER_KEY", raising=False)
    with Server(key=KEY) as server:
        message = start_error(server.url, api_key_env="MY_SERVER_KEY")
    assert "wants a key, but none is in the environment variable MY_SERVER_KEY" in message


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_names_the_environment_variable(monkeypatch, status):
    monkeypatch.setenv("MY_SERVER_KEY", "wrong-key-0123456789")
    with Server(models_fault=Fault(status=status, message="no: wrong-key-0123456789")) as server:
        message = start_error(server.url, api_key_env="MY_SERVER_KEY")
    assert "backbone.api_key_env" in message
    assert "refuses the key in the environment variable MY_SERVER_KEY" in message
    assert "wrong-key" not in message


def test_the_right_key_is_sent(monkeypatch):
    monkeypatch.setenv("MY_SERVER_KEY", f"{KEY}\n")
    with Server(key=KEY) as server:
        assert generated(server, ask(), api_key_env="MY_SERVER_KEY")


# --- keys stay inside -------------------------------------------------------------------------------------------------


def everything(error):
    """All text reachable from an exception: itself, its causes and contexts, its attributes, its printed traceback."""
    seen = []
    while error is not None:
        seen += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(seen)


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_no_error_holds_the_key_even_if_the_server_echoes_it(monkeypatch, caplog, status):
    monkeypatch.setenv("MY_SERVER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echo = Fault(status=status, message=f"key {KEY} is bad " * 20)
    with Server(key=KEY, faults=[echo] * 2) as server, pytest.raises((BackboneError, UnreachableError)) as caught:
        generated(server, ask(), api_key_env="MY_SERVER_KEY", retries=1)
    assert "***" in str(caught.value)
    assert KEY not in everything(caught.value)
    assert KEY not in caplog.text


def test_no_connection_error_holds_the_request(monkeypatch):
    monkeypatch.setenv("MY_SERVER_KEY", KEY)
    with Server(faults=lambda *_: Fault("drop")) as server, pytest.raises(BackboneError) as caught:
        generated(server, ask(), api_key_env="MY_SERVER_KEY", retries=0)
    assert KEY not in everything(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_config_and_identity_do_not_hold_the_key(monkeypatch):
    monkeypatch.setenv("MY_SERVER_KEY", KEY)

    async def work(backbone):
        return repr(backbone), repr(backbone.config), canonical(dict(backbone.identity())), repr(vars(backbone))

    with Server(key=KEY) as server:
        assert not [text for text in using(server, work, api_key_env="MY_SERVER_KEY") if KEY in text]


@pytest.mark.parametrize("given_key", [KEY, "sk-x", "hf_aB3dEfGhIjKlMnOp", "0abc", "", "AIzaSyA1234567890", "a1" * 16])
def test_a_key_in_place_of_a_variable_name_is_refused_and_not_repeated(given_key):
    with pytest.raises(ConfigError, match="NAME of an environment variable") as caught:
        Config(api_key_env=given_key)
    assert not given_key or given_key not in str(caught.value)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "hf_token", "MY_LONG_ORGANISATION_API_KEY_2024", "_K"])
def test_names_of_variables_are_taken(name):
    assert Config(api_key_env=name).api_key_env == name


# --- config and identity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": ""}, "backbone.base_url"),
        ({"base_url": "localhost:8000"}, "backbone.base_url"),
        ({"base_url": "http://localhost:eight/v1"}, "backbone.base_url"),
        ({"base_url": "http://[::1/v1"}, "backbone.base_url"),
        ({"base_url": "http://user:secret@host/v1"}, "backbone.base_url"),
        ({"base_url": "http://host/v1?key=secret"}, "backbone.base_url"),
        ({"model": ""}, "backbone.model"),
        ({"stop": [""]}, "backbone.stop"),
        ({"dialect": "vlm"}, "backbone.dialect 'vlm'. Did you mean 'vllm'?"),
        ({"extra_body": {"temperature": 1}}, "backbone.extra_body.temperature"),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}, "backbone.thinking"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_option_is_named_as_it_is_typed(options, said):
    with pytest.raises(ConfigError) as caught:
        OpenAIBackbone(Config(**{"base_url": "http://localhost:1/v1", "model": "m", **options}))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_it_is_built_from_the_registry():
    config = {"name": "openai", "base_url": "http://localhost:1/v1/", "model": "m", "temperature": 1}
    backbone = REGISTRY.build("backbone", config)
    assert backbone.identity() == {"kind": "openai", "model": "m", "address": "http://localhost:1/v1"}
    assert backbone.sampling() == Sampling(temperature=1.0, max_tokens=4096)


def test_a_named_identity_stands_for_address_and_model():
    one = OpenAIBackbone(Config(base_url="http://a/v1", model="m", identity="qwen3-4b@rev1"))
    two = OpenAIBackbone(Config(base_url="http://b/v1", model="n", identity="qwen3-4b@rev1"))
    assert one.identity() == two.identity() == {"identity": "qwen3-4b@rev1"}


@pytest.mark.parametrize("options", [{"dialect": "openai"}, {"structured": False}, {"extra_body": {"a": 1}}], ids=str)
def test_what_changes_a_reply_is_in_the_identity_even_of_named_weights(options):
    plain = OpenAIBackbone(Config(base_url="http://a/v1", model="m", identity="w"))
    other = OpenAIBackbone(Config(base_url="http://a/v1", model="m", identity="w", **options))
    assert canonical(dict(plain.identity())) != canonical(dict(other.identity()))


def test_options_that_cannot_change_a_result_say_so():
    free = {f.name for f in REGISTRY.entry("backbone", "openai").options if not f.metadata["result"]}
    assert free == {
        "api_key_env",
        "samples_per_call",
        "max_concurrency",
        "retries",
        "patience",
        "timeout",
        "connect_timeout",
        "usd_prompt",
        "usd_completion",
    }


def test_whole_numbers_and_fractions_resolve_to_the_same_sampling():
    whole = SamplingOptions(temperature=1, top_p=1, repetition_penalty=1).resolved()
    assert canonical(whole) == canonical(SamplingOptions(temperature=1.0).resolved())


def test_a_thinking_budget_without_thinking_is_none():
    assert SamplingOptions(thinking_budget=100).resolved().thinking_budget is None


def test_importing_the_backbone_imports_no_client():
    code = (
        "import sys, metamem.backbones.openai; print([m for m in ('openai', 'aiohttp', 'httpx2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- the test server itself -------------------------------------------------------------------------------------------


def test_the_server_holds_calls_after_a_set_number_of_deliveries():
    async def work(backbone):
        tasks = [asyncio.create_task(backbone.generate(ask(scope=str(i)))) for i in range(6)]
        await until(lambda: sum(t.done() for t in tasks) == 4)
        await asyncio.sleep(0.05)
        done = sum(t.done() for t in tasks)
        assert server.held.is_set()
        server.release()
        await asyncio.gather(*tasks)
        return done

    with Server(hold_after=4) as server:
        assert using(server, work) == 4
        assert server.delivered == 6


def test_the_server_runs_as_a_process_and_logs_what_it_delivered(tmp_path: Path):
    log = tmp_path / "calls.jsonl"
    command = [sys.executable, "-m", "tests.server", "--delay", "0.01", "--log", str(log), "--model", "m"]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:

        class Address:
            url = process.stdout.readline().strip()

        generated(Address, ask(draws=2), model="m")
        process.stdin.close()
        counts = json.loads(process.stdout.read())
    assert counts["delivered"] == 1
    [line] = [json.loads(text) for text in log.read_text().splitlines()]
    assert line["n"] == 2
    assert len(set(line["samples"])) == 2
    assert line["samples"][0] == line["key"]


def test_a_sample_has_one_key_alone_and_among_others():
    body = {"model": "m", "messages": [], "seed": 5, "n": 3}
    assert body_key(sample_body(body, 2)) == body_key({**body, "seed": 7, "n": 1})


# --- whatever a server replies is data --------------------------------------------------------------------------------

WHOLE = {
    "choices": [
        {
            "index": i,
            "finish_reason": "stop",
            "message": {
                "role": "assistant",
                "content": f"reply {i}",
                "reasoning_content": "because",
                "tool_calls": [{"id": "c", "function": {"name": "search", "arguments": "{}"}}],
            },
        }
        for i in range(2)
    ],
    "usage": {"prompt_tokens": 4, "completion_tokens": 9},
    "model": "test-model",
}


def test_a_short_word_in_the_place_of_a_key_is_not_masked_and_a_shortened_key_is(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")

    def said(message):
        with Server(faults=[Fault(status=400, message=message)]) as server, pytest.raises(BackboneError) as caught:
            generated(server, ask())
        return str(caught.value)

    assert "next text" in said("next text")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    parts = (KEY, KEY.upper(), KEY[:12], KEY[:-3], KEY[9:20], f"{KEY} {KEY[:-3]}")
    for echo in ("sk-pro***6789", "sk-proj-v...6789", "sk-p**********6789", *parts):
        told = said(f"bad key {echo} given")
        assert "bad key ***" in told and "given" in told
        assert not any(part in told.lower() for part in ("sk-p", "6789", "secret")), told


def test_another_model_than_was_asked_for_is_told_once_and_all_are_kept_with_their_fingerprints():
    def reply(model):
        fingerprint = {"system_fingerprint": "fp_1"} if model == "other-2024" else {}
        return Fault("body", message=json.dumps({**WHOLE, "model": model, **fingerprint}))

    async def work(backbone):
        notes = []
        backbone.notify(notes.append)
        for i in range(5):
            await backbone.generate(ask(f"q{i}"))
        assert backbone.served == {"test-model", "other-2024 (fp_1)", "\\x1b[2Jthird"}
        return notes

    told = ["test-model", "other-2024", "other-2024", "\x1b[2Jthird", None]
    with Server(faults=[reply(m) for m in told]) as server:
        notes = using(server, work)
    assert [n.split("say they are ")[1] for n in notes] == ["other-2024's", "\\x1b[2Jthird's"]


# --- a server that is away --------------------------------------------------------------------------------------------


def away_for(server, asks, work, **options):
    """Run `work(backbone, notes)` on a server that says to `asks` askings of its list of models that it is away."""

    async def session(backbone):
        notes = []
        backbone.notify(notes.append)
        listed = backbone._connection.call
        left = [asks]

        async def call(path, body, seconds):
            if body is None and left[0]:
                left[0] -= 1
                raise retries.Transient("connection failed: refused", away=True)
            if left[0]:
                raise retries.Transient("connection failed: refused", away=True)
            return await listed(path, body, seconds)

        backbone._connection.call = call
        return await work(backbone, notes)

    return using(server, session, **options)


def test_a_server_that_is_away_is_waited_for_by_one_probe_and_no_call_is_lost():
    async def work(backbone, notes):
        asked = [ask(f"question {i}") for i in range(20)]
        replies = await asyncio.gather(*(backbone.generate(r) for r in asked))
        return [r[0].text for r in replies], notes, sum(backbone.waits)

    with Server() as server:
        texts, notes, waited = away_for(server, 12, work, retries=1)
        assert texts == [generated(server, ask(f"question {i}"))[0].text for i in range(20)]
    assert [n.split(" (")[0].rpartition("/v1 ")[2].split(" after")[0] for n in notes] == ["is away", "is back"]
    assert "waiting up to 15 min" in notes[0] and waited > 60


def test_past_its_patience_every_call_ends_in_one_message_that_says_how_to_go_on():
    async def work(backbone, notes):
        asked = [ask(f"question {i}") for i in range(20)]
        return await asyncio.gather(*(backbone.generate(r) for r in asked), return_exceptions=True), notes

    with Server() as server:
        ends, notes = away_for(server, 10_000, work, retries=1, patience=120.0)
    assert {type(e) for e in ends} == {UnfinishedError} and len(notes) == 1
    assert {str(e) for e in ends} == {
        f"{server.url} has been away for 2 min (connection failed: refused; backbone.patience). "
        "Everything delivered is kept: the same command continues."
    }


def test_a_call_that_fails_at_a_server_that_is_there_fails_alone():
    with Server(faults=lambda i, body: Fault("drop") if "bad" in str(body["messages"]) else None) as server:

        async def work(backbone):
            notes = []
            backbone.notify(notes.append)
            bad, good = await asyncio.gather(
                backbone.generate(ask("bad")), backbone.generate(ask("good")), return_exceptions=True
            )
            return bad, good, notes

        bad, good, notes = using(server, work, retries=2)
    assert isinstance(bad, BackboneError) and bad.passing and good[0].text and notes == []


def test_a_server_that_takes_calls_and_says_nothing_is_away_and_one_that_is_slow_is_not():
    frozen = threading.Event()

    def reply(body):
        if not frozen.is_set():
            frozen.set()
            time.sleep(0.5)  # nobody in its one thread answers anything
        return "here"

    async def work(backbone):
        notes = []
        backbone.notify(notes.append)
        return await backbone.generate(ask()), notes

    given = {"retries": 0, "timeout": 0.1, "connect_timeout": 0.1}
    with Server(reply) as server:
        replies, notes = using(server, work, **given)
    assert replies[0].text == "here" and [n.split(" (")[0].split("/v1 ")[1][:7] for n in notes] == [
        "is away",
        "is back",
    ]
    with Server(faults=[Fault("slow", seconds=0.2)]) as server, pytest.raises(BackboneError, match="no reply within"):
        using(server, work, **given)

"""What a config.json says of a model's size, and the settings that it alone rules out."""

from __future__ import annotations

from typing import Any

import pytest

from metamem.backbones.engine.model_shape import cache_bytes, check_parts, read_shape
from metamem.core.errors import ConfigError
from tests.model_configs import LLAMA_70B, QWEN_235B


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        ({}, 1000),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 1000),
        ({"rope_scaling": {"rope_type": "default"}}, 1000),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, None),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}, None),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 500}}, None),
        ({"seq_length": 700}, 700),
        ({"model_max_length": 5000}, 5000),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_a_context_is_known_where_the_configuration_says_it_plainly(more: dict[str, Any], limit: int | None) -> None:
    assert read_shape({"max_position_embeddings": 1000, **more}).limit == limit


def test_a_text_model_inside_a_larger_one_is_read() -> None:
    found = read_shape({"hidden_size": 1, "text_config": LLAMA_70B})
    assert (found.heads, found.kv_heads, found.head_size, found.limit) == (64, 8, 128, 131072)


@pytest.mark.parametrize(
    ("config", "parts", "expected"),
    [
        # layers x heads of a part x 2 x head size x 2 bytes
        (LLAMA_70B, 1, 80 * 8 * 2 * 128 * 2),
        (LLAMA_70B, 4, 80 * 2 * 2 * 128 * 2),
        (LLAMA_70B, 16, 80 * 1 * 2 * 128 * 2),
        (LLAMA_70B | {"layer_types": ["full_attention"] * 20 + ["linear_attention"] * 60}, 1, 20 * 8 * 2 * 128 * 2),
        (LLAMA_70B | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 4, 80 * 576 * 2),
    ],
)
def test_a_token_takes_as_much_cache_as_its_heads_and_layers(config: dict[str, Any], parts: int, expected: int) -> None:
    arguments = {"tensor_parallel_size": parts}
    assert cache_bytes(read_shape(config), 1000, 2, arguments) == 1000 * expected
    assert cache_bytes(read_shape(config), 1000, 2, {**arguments, "pipeline_parallel_size": 2}) == 500 * expected


def test_a_layer_that_looks_back_over_a_window_keeps_no_more_than_that() -> None:
    sliding = LLAMA_70B | {"sliding_window": 100, "layer_types": ["full_attention", "sliding_attention"] * 40}
    each = 8 * 2 * 128 * 2
    assert cache_bytes(read_shape(sliding), 1000, 2, {}) == 40 * (1000 + 100) * each
    assert cache_bytes(read_shape(LLAMA_70B | {"sliding_window": 100}), 1000, 2, {}) == 80 * 100 * each
    off = LLAMA_70B | {"sliding_window": 100, "use_sliding_window": False}
    assert cache_bytes(read_shape(off), 1000, 2, {}) == 80 * 1000 * each


@pytest.mark.parametrize(
    ("config", "parts", "message"),
    [
        (LLAMA_70B, 3, r"tensor_parallel_size=3 does not divide the 64 attention heads of m\. Choices: 1, 2, 4, 8"),
        ({**LLAMA_70B, "num_key_value_heads": 6}, 4, "neither divides nor is a multiple of the 6 key-value heads"),
        ({**LLAMA_70B, "num_key_value_heads": 3}, 2, "neither divides nor is a multiple of the 3 key-value heads"),
    ],
)
def test_a_model_that_cannot_be_cut_so_is_named_with_the_numbers_that_can(
    config: dict[str, Any], parts: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_parts(read_shape(config), "m", {"tensor_parallel_size": parts})


def test_heads_for_key_and_value_are_dealt_out_or_copied() -> None:
    for parts in (1, 2, 4, 8, 16, 32, 64):
        check_parts(read_shape(LLAMA_70B), "m", {"tensor_parallel_size": parts})


def test_a_context_longer_than_the_model_s_is_refused_unless_it_is_stretched_or_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", raising=False)
    judge = read_shape(QWEN_235B)
    with pytest.raises(ConfigError, match=r"max_model_len=50000 is longer than q can take: its context is 40960"):
        check_parts(judge, "q", {"max_model_len": 50000})
    check_parts(judge, "q", {"max_model_len": 40960})
    check_parts(judge, "q", {"max_model_len": 50000, "hf_overrides": {"rope_scaling": {"factor": 4.0}}})
    monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    check_parts(judge, "q", {"max_model_len": 50000})


def test_a_configuration_that_says_nothing_refuses_nothing() -> None:
    for config in (None, {}, {"architectures": ["Something"]}):
        check_parts(read_shape(config), "m", {"tensor_parallel_size": 7, "max_model_len": 10**6})

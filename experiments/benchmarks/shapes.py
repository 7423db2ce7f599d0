"""Folders that stand for published models where there is no hub: their sizes, for weights that an engine draws itself.

In: the sizes that a model's config.json gives. Out: a folder for `load_format=dummy`, with a small tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NOTHING_ELSE = {"attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.02, "rms_norm_eps": 1e-6}
# As their config.json give them.
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
}
QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
    "rope_theta": 5000000,
    "tie_word_embeddings": True,
}
QWEN3_30B = {
    **QWEN3_4B,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "rope_theta": 10000000,
    "tie_word_embeddings": False,
}


def numbers(config: Mapping[str, Any]) -> int:
    """How many numbers the weights of such a config have."""
    hidden, size = config["hidden_size"], config["head_dim"]
    heads, kept = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    attention = 2 * hidden * heads + 2 * hidden * kept + (2 * size if config["model_type"].startswith("qwen3") else 0)
    experts = config.get("num_experts", 0)
    mlp = 3 * hidden * (experts * config["moe_intermediate_size"] if experts else config["intermediate_size"])
    layer = attention + mlp + experts * hidden + 2 * hidden
    embedded = config["vocab_size"] * hidden * (1 if config["tie_word_embeddings"] else 2)
    return int(config["num_hidden_layers"] * layer + embedded + hidden)


def shaped(folder: Path, config: Mapping[str, Any]) -> Path:
    """A folder that stands for a model: its config, a small tokenizer, and a file of as many weights that are not
    there, which says to the pre-flight how large they are. For `load_format=dummy`.
    """
    from metamem.backbones.engine import tiny_checkpoint
    from metamem.core.files import write_json

    tiny_checkpoint.write(folder)
    ends = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**_NOTHING_ELSE, **config, **ends, "dtype": "bfloat16", "use_cache": True})
    count = numbers(config)
    header = json.dumps({"all": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + 2 * count)
    return folder

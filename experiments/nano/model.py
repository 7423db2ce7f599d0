"""The model: Qwen3's architecture in plain torch, small enough to train on two cores, and its checkpoint's files.

In: token ids (rows of equal length, padded at the end). Out: hidden states and scores; `export` writes the folder that
vLLM and transformers load.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import vocabulary
from torch import Tensor, nn

EPSILON = 1e-6
SPREAD = 0.1  # of the numbers of a word that stands for nobody in particular


@dataclass(frozen=True)
class Shape:
    """The model's sizes, in numbers."""

    vocabulary: int
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    head: int = 32
    mlp: int = 256
    theta: float = 1000000.0
    positions: int = 2048


class Block(nn.Module):
    """One layer: attention over what precedes, then a gated MLP."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        wide = shape.heads * shape.head
        self.shape = shape
        self.input_layernorm = nn.RMSNorm(shape.hidden, EPSILON)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, EPSILON)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(shape.hidden, wide, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(wide, shape.hidden, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(shape.head, EPSILON), nn.RMSNorm(shape.head, EPSILON)
        self.gate_proj, self.up_proj = (nn.Linear(shape.hidden, shape.mlp, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """The hidden states after this layer."""
        rows, length, _ = x.shape
        h = self.input_layernorm(x)
        q, k, v = (p(h).view(rows, length, self.shape.heads, -1) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = turned(self.q_norm(q), turn), turned(self.k_norm(k), turn)
        mixed = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v.to(q.dtype))), is_causal=True)
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions, halves paired as in Qwen's and Llama's models."""
    cos, sin = turn
    one, two = x.chunk(2, dim=-1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1)


class Nano(nn.Module):
    """The whole model; scores come from the embeddings themselves (tied)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, EPSILON)
        rates = shape.theta ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        angles = torch.outer(torch.arange(shape.positions).float(), rates)
        self.register_buffer("cos", angles.cos()[:, None], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None], persistent=False)
        self.reset()

    def reset(self) -> None:
        """Random weights, from torch's generator."""
        nn.init.normal_(self.embed_tokens.weight, std=SPREAD)
        deep = (2 * len(self.layers)) ** -0.5
        for name, weight in self.named_parameters():
            if weight.dim() == 2 and "embed" not in name:
                scale = deep if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(weight, std=scale * weight.shape[1] ** -0.5)

        self.guide()

    @torch.no_grad()
    def guide(self) -> None:
        """Where the weights start from, for two things that otherwise take thousands of steps to come about by chance.

        The first heads of the first layer look one, two and three tokens back (a component that all embeddings share
        gives them the same query and key everywhere, which the rotation shifts). Half of the later layers' heads look
        for places whose preceding token is the present one, and hand on what stands there. All of it is trained.
        """
        size, half = self.shape.head, self.shape.head // 2
        self.embed_tokens.weight[:, 0] = 3 * SPREAD
        rates = self.shape.theta ** (-torch.arange(half).float() / half)
        sharp = torch.arange(half) < 4
        first, *later = self.layers
        first.q_norm.weight.fill_(2.5)
        first.k_norm.weight.fill_(2.5)
        for h, back in enumerate((1, 2, 3)[: self.shape.heads - 1]):
            rows = slice(h * size, (h + 1) * size)
            for projection, shift in ((first.q_proj, 0.0), (first.k_proj, float(back))):
                projection.weight[rows] *= 0.1
                angles = rates * shift
                projection.weight[rows, 0] += torch.cat((angles.cos() * sharp, angles.sin() * sharp))
        slow = (rates < 0.01).float().repeat(2)[:, None]  # what the rotation leaves alike over a prompt's length
        reads = nn.init.orthogonal_(torch.empty(size, self.shape.hidden))
        writes = nn.init.orthogonal_(torch.empty(self.shape.hidden, size))
        writes[0] = 0.0
        reads[:, 0] = 0.0
        first.v_proj.weight[:size] = reads
        for layer in self.layers:  # what a layer adds is small beside the word itself
            layer.o_proj.weight.mul_(0.15)
            layer.down_proj.weight.mul_(0.15)
        first.o_proj.weight[:, :size] = 0.1 * writes
        for layer in later:
            layer.q_norm.weight.fill_(2.2)
            layer.k_norm.weight.fill_(2.2)
            for h in range(self.shape.heads // 2):
                rows = slice(h * size, (h + 1) * size)
                layer.q_proj.weight[rows] = reads * slow
                layer.k_proj.weight[rows] = writes.T * slow
                layer.o_proj.weight[:, rows] = 0.3 * layer.v_proj.weight[rows].T

    @torch.no_grad()
    def redraw(self, number: int) -> None:
        """Give every name, thing and verb other numbers, the same for the same `number`.

        Those of one kind share a part and differ by chance alone. Redrawn at every step, they mean nothing by
        themselves, and the model has to learn to handle words that it never saw.
        """
        shared, chance = torch.Generator().manual_seed(7), torch.Generator().manual_seed(number)
        for rows in vocabulary.word_rows():
            common = torch.randn(self.shape.hidden, generator=shared) * 0.7 * SPREAD
            drawn = common + torch.randn(len(rows), self.shape.hidden, generator=chance) * SPREAD
            drawn[:, 0] = 3 * SPREAD
            self.embed_tokens.weight[rows] = drawn.to(self.embed_tokens.weight.device)

    def forward(self, ids: Tensor) -> Tensor:
        """Normalised hidden states (rows, length, hidden)."""
        x = self.embed_tokens(ids)
        turn = (self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x, turn)
        out: Tensor = self.norm(x)
        return out

    def scores(self, hidden: Tensor) -> Tensor:
        """Scores of every token, of hidden states of any shape."""
        return F.linear(hidden, self.embed_tokens.weight)

    @torch.no_grad()
    def reply(self, prompts: list[list[int]], ends: int, most: int = 120) -> list[list[int]]:
        """Greedy replies to prompts of any length, by recomputing all (for checks of few prompts)."""
        device = self.embed_tokens.weight.device
        rows = [list(p) for p in prompts]
        open_rows = set(range(len(rows)))
        while open_rows and most > 0:
            live = sorted(open_rows)
            longest = max(len(rows[i]) for i in live)
            ids = torch.tensor([rows[i] + [0] * (longest - len(rows[i])) for i in live], device=device)
            at = torch.tensor([len(rows[i]) - 1 for i in live], device=device)
            best = self.scores(self(ids)[torch.arange(len(live), device=device), at]).argmax(-1).tolist()
            for i, token in zip(live, best, strict=True):
                rows[i].append(token)
                if token == ends:
                    open_rows.discard(i)
            most -= 1
        return [row[len(p) :] for row, p in zip(rows, prompts, strict=True)]


def export(model: Nano, folder: Path, about: dict[str, Any] | None = None) -> None:
    """Write the files of a Hugging Face model; `about` goes into metamem.json beside them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, weight in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "layers" and parts[2].endswith("_proj"):
            parts.insert(2, "mlp" if parts[2] in ("gate_proj", "up_proj", "down_proj") else "self_attn")
        elif parts[0] == "layers" and parts[2] in ("q_norm", "k_norm"):
            parts.insert(2, "self_attn")
        tensors["model." + ".".join(parts)] = weight.detach().float().cpu().contiguous().clone()
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    shape = model.shape
    words = vocabulary.vocabulary()
    ends = {"bos_token_id": None, "eos_token_id": words.index(vocabulary.CLOSE), "pad_token_id": 0}
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "float32",
        "head_dim": shape.head,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.mlp,
        "max_position_embeddings": shape.positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.heads,
        "rms_norm_eps": EPSILON,
        "rope_theta": shape.theta,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": shape.vocabulary,
        **ends,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    ends_only = {k: v for k, v in ends.items() if v is not None}
    (folder / "generation_config.json").write_text(json.dumps(ends_only, indent=1) + "\n", encoding="utf-8")
    vocabulary.write(folder, shape.positions)
    if about:
        (folder / "metamem.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def shape_of(saved: dict[str, Any]) -> Shape:
    """The shape that a training checkpoint holds."""
    return Shape(**saved)


def shape_dict(shape: Shape) -> dict[str, Any]:
    """A shape's plain form."""
    return asdict(shape)

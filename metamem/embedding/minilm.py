"""Embedders: from texts to unit vectors of their windows.

In: texts of any length. Out: for every window of every text a vector of length 1, and the index of the text it belongs
to. `minilm` is the sentence-transformers model of the field's naive retrieval baseline; `hashing` (registered from its
own module, which this one imports) needs no model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.errors import ConfigError
from metamem.core.machine import visible_gpus
from metamem.core.registry import option, register
from metamem.core.weights import weights_hash
from metamem.embedding.models import HUB_ID, PACKAGE, find_model, load_model, model_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_OVERLAP = 32

# Texts that are tokenized at a time: the tokenizer makes some two hundred bytes of every token, and long texts have
# thousands.
_TOKENIZED = 32

# Tokens of a pass on a CPU: attention takes some 40 KiB of every one of a window of 256, in each thread.
_TOKENS = 2048


class Precision(StrEnum):
    """Of the model's products."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@register("embedder", "minilm")
class MiniLM:
    """all-MiniLM-L6-v2 over windows of 256 tokens (or another sentence-transformers model).

    Texts are cut into overlapping windows of `window` tokens, special ones included, so that nothing of a long text is
    lost to the model's limit. `progress`, when set, is called with (windows done, windows in all).
    Model: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
    """

    @dataclass
    class Config:
        """Which model, and how texts are cut."""

        model: str | None = option(
            None, f"folder or hub id of a sentence-transformers model (null: the package {PACKAGE}, else {HUB_ID})"
        )
        window: int = option(256, "tokens of a window, special tokens included")
        stride: int | None = option(
            None, f"tokens from one window's start to the next's (null: window - {DEFAULT_OVERLAP})"
        )
        precision: Precision = option(
            Precision.float32,
            "of the products: float32, or bfloat16, which moves a cosine by about 0.001, so that a ranking may depend "
            "on what is embedded together",
        )
        batch_size: int = option(16, "windows per forward pass (on a CPU fewer of long ones)")
        device: str | None = option(None, "torch device, such as cpu or cuda:0 (null: the fastest)", result=False)

        def __post_init__(self) -> None:
            if self.window < 2 * DEFAULT_OVERLAP:
                raise ConfigError(f"embedder.window must be at least {2 * DEFAULT_OVERLAP} tokens, got {self.window}")
            if self.stride is not None and not 1 <= self.stride <= self.window - 2:
                raise ConfigError(
                    f"embedder.stride must be between 1 and window - 2 ({self.window - 2}), got {self.stride}: "
                    "a longer one would skip text"
                )
            if self.batch_size < 1:
                raise ConfigError(f"embedder.batch_size must be at least 1, got {self.batch_size}")
            if (self.device or "").startswith("cuda"):
                number = self.device.partition(":")[2] or "0"  # type: ignore[union-attr]
                there = [str(gpu) for gpu in visible_gpus()]
                if number not in there:
                    seen = f"GPUs {', '.join(there)}" if there else "no GPU"
                    raise ConfigError(f"embedder.device={self.device}: this machine shows {seen}. Choices: cpu, null")

    @classmethod
    def without_weights(cls, options: Config) -> dict[str, Any]:
        """Return the embedder that needs no model."""
        return {"name": "hashing"}

    def __init__(self, config: Config) -> None:
        self.config = config
        self.progress: Callable[[int, int], None] | None = None
        self._lock = threading.RLock()
        self._folder: Path | None = None
        self._model: Any = None

    @property
    def stride(self) -> int:
        """Tokens from the start of one window to the start of the next."""
        return self.config.stride or self.config.window - DEFAULT_OVERLAP

    def identity(self) -> Mapping[str, Any]:
        """The hash of the model's weights, tokenizer and pooling, and how texts are cut; loads no model."""
        folder = self._find()
        return {
            "embedder": "minilm",
            "weights": weights_hash(folder, model_files(folder)),
            "window": self.config.window,
            "stride": self.stride,
            "precision": str(self.config.precision),
            # In bfloat16 the last digits depend on what shares a pass.
            "batch_size": self.config.batch_size,
        }

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Unit vectors (w, d) of all windows in the order of the texts, and each one's text (w,); at least one a text.

        Raises `UnreachableError` when the model cannot be had, `ConfigError` when it cannot take such windows. Threads
        wait for each other.
        """
        with self._lock:
            model = self._loaded()
            # Without texts an empty one still tells how long the vectors are.
            windows, owners = self._windows(model.tokenizer, texts or [""])
            vectors = self._forward(model, windows)
            return (vectors, owners) if texts else (vectors[:0], owners[:0])

    def _windows(self, tokenizer: Any, texts: Sequence[str]) -> tuple[list[NDArray[np.int32]], NDArray[np.int64]]:
        import numpy as np

        overlap = self.config.window - tokenizer.num_special_tokens_to_add(pair=False) - self.stride
        if overlap < 0:
            raise ConfigError(
                f"embedder.stride must be at most {self.stride + overlap} for this model, got {self.stride}"
            )
        windows: list[NDArray[np.int32]] = []
        owners: list[int] = []
        for start in range(0, len(texts), _TOKENIZED):
            encoded = tokenizer(
                # Lone surrogates are legal in JSON data, but not in the UTF-8 that the tokenizer reads.
                [text.encode("utf-8", "replace").decode("utf-8") for text in texts[start : start + _TOKENIZED]],
                truncation=True,
                max_length=self.config.window,
                stride=overlap,  # what the library calls stride
                return_overflowing_tokens=True,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            windows += (np.asarray(ids, np.int32) for ids in encoded["input_ids"])
            owners += (start + owner for owner in encoded["overflow_to_sample_mapping"])
        return windows, np.asarray(owners, np.int64)

    def _forward(self, model: Any, windows: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        import numpy as np
        import torch

        # Windows of like length share a batch: little padding, several times faster. Rows return to their places.
        order = sorted(range(len(windows)), key=lambda i: (-len(windows[i]), i))
        batches, start = [], 0
        while start < len(order):
            size = self.config.batch_size
            if model.device.type == "cpu":
                size = max(1, min(size, _TOKENS // max(1, len(windows[order[start]]))))
            batches.append(order[start : start + size])
            start += size
        low = self.config.precision == Precision.bfloat16

        def embed(rows: list[int]) -> NDArray[np.float32]:
            with torch.inference_mode(), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=low):
                batch = model.tokenizer.pad({"input_ids": [windows[i] for i in rows]}, return_tensors="pt")
                features = {name: tensor.to(model.device) for name, tensor in batch.items()}
                return np.asarray(model(features)["sentence_embedding"].float().cpu().numpy())

        threads = torch.get_num_threads()
        # On a CPU a batch per thread, not threads per batch: those wait for each other at every product, and where
        # other processes want the CPUs too, they wait for long.
        with ThreadPoolExecutor(
            threads if model.device.type == "cpu" else 1, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            parts = []
            for part in pool.map(embed, batches):
                parts.append(part)
                if self.progress is not None:
                    self.progress(sum(map(len, parts)), len(windows))
        torch.set_num_threads(threads)  # part of the setting belongs to the whole process
        vectors = np.empty((len(windows), parts[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(parts)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)

    def _find(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = find_model(self.config.model)
            return self._folder

    def _loaded(self) -> Any:
        if self._model is None:
            folder = self._find()
            positions = json.loads((folder / "config.json").read_bytes()).get("max_position_embeddings")
            if positions is not None and self.config.window > positions:
                raise ConfigError(f"embedder.window must be at most {positions} for {folder}, got {self.config.window}")
            self._model = load_model(folder, self.config.device)
        return self._model

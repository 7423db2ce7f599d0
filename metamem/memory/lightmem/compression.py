"""LLMLingua-2 (arXiv 2403.12968): a token classifier keeps the share of a message's words that it finds worth keeping.

In: texts. Out: shorter texts of the same words in the same order, and the classifier's attention between sentences. The
model runs through transformers, for many messages at once; nothing is seeded, fetched or initialised before it is used,
and any folder or hub id with such a model will do, whatever its name.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.errors import ConfigError, UnreachableError
from metamem.core.weights import weights_hash
from metamem.embedding.models import model_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "microsoft/llmlingua-2-bert-base-multilingual-cased-meetingbank"
_KEEP = 1  # the label of tokens worth keeping
# Attention of all layers of a batch is held at once: about 150 MB for 512 tokens of a base model.
_ATTENTION_SHARE = 4


class Compressor:
    """A LLMLingua-2 model: counts tokens, compresses texts, tells attention. Threads wait for each other.

    `model` is a folder or hub id, `layers` those whose attention is averaged, `device` a torch device (None: the first
    GPU, else the CPU).
    """

    def __init__(self, model: str, layers: Sequence[int], device: str | None = None, batch_size: int = 16) -> None:
        self._name, self._layers, self._device, self._batch = model, list(layers), device, batch_size
        self._lock = threading.RLock()
        self._folder: Path | None = None
        self._tokenizer: Any = None
        self._model: Any = None
        self._window = 0

    def identity(self) -> Mapping[str, Any]:
        """The hash of the model's weights and tokenizer. Raises `UnreachableError` when the model cannot be had."""
        folder = self._find()
        return {"weights": weights_hash(folder, model_files(folder))}

    def check(self, tokens: int) -> None:
        """Raises `ConfigError` when the model is no LLMLingua-2 model, lacks a layer, or cannot read so many tokens at
        once. Reads its config alone.
        """
        folder = self._find()
        config = json.loads((folder / "config.json").read_bytes())
        names = config.get("architectures") or ["nothing it names"]
        if not str(names[0]).endswith("ForTokenClassification") or len(config.get("id2label", "01")) != 2:
            raise ConfigError(
                f"memory.compressor_model: {folder} is no LLMLingua-2 model: it must classify tokens into 2 labels, "
                f"but is {names[0]}"
            )
        if max(self._layers) >= config["num_hidden_layers"]:
            raise ConfigError(
                f"memory.attention_layers names layer {max(self._layers)}; {folder} has "
                f"{config['num_hidden_layers']}, counted from 0"
            )
        self._window = _window(config)
        if tokens > self._window:
            raise ConfigError(
                f"memory.sensory_tokens must be at most {self._window} with this compressor, which reads no more at "
                f"once, got {tokens}"
            )

    def parts(self) -> tuple[Any, Any]:
        """The tokenizer and the model themselves, for the package of LightMem's authors."""
        self._load()
        return self._tokenizer, self._model

    def count(self, text: str) -> int:
        """Tokens of a text, special ones included."""
        with self._lock:
            self._load()
            return len(self._tokenizer(_clean(text), truncation=False, verbose=False)["input_ids"])

    def compress(self, texts: Sequence[str], rate: float) -> list[str]:
        """Each text with the `rate` of its words likeliest to be worth keeping, at least one, in their order.

        A word counts with the mean of its tokens' probabilities; ties go to the earlier word. A text longer than the
        model's window is read in several.
        """
        with self._lock:
            self._load()
            clean = [_clean(text) for text in texts]
            encoded = [self._encode(text) for text in clean]
            limit = self._window - 2
            places = [(i, a, b) for i, e in enumerate(encoded) for a, b in _windows(e[1], limit)]
            rows = self._forward([encoded[i][0][a:b] for i, a, b in places], self._probabilities, self._batch)
            kept: list[list[float]] = [[] for _ in texts]
            for (i, _, _), row in zip(places, rows, strict=True):
                kept[i].extend(row)
            return [
                keep_words(text, spans, words, probabilities, rate)
                for text, (_, words, spans), probabilities in zip(clean, encoded, kept, strict=True)
            ]

    def attention(self, buffers: Sequence[Sequence[str]]) -> list[tuple[NDArray[Any], list[tuple[int, int]]]]:
        """For each buffer of sentences its tokens' attention (s, s), and the tokens [start, end) of each sentence.

        The mean over the layers and their heads. The tokens of a buffer, special ones included, must fit the window.
        """
        with self._lock:
            self._load()
            sequences: list[list[int]] = []
            spans: list[list[tuple[int, int]]] = []
            for sentences in buffers:
                ids: list[int] = []
                spans.append([])
                for sentence in sentences:
                    start = len(ids) + 1
                    ids += self._tokenizer(_clean(sentence), add_special_tokens=False, verbose=False)["input_ids"]
                    spans[-1].append((start, len(ids) + 1))
                sequences.append(ids)
            matrices = self._forward(sequences, self._attentions, max(1, self._batch // _ATTENTION_SHARE))
            return list(zip(matrices, spans, strict=True))

    # --- the model ------------------------------------------------------------------------------------------------

    def _forward(
        self, sequences: Sequence[list[int]], read: Callable[[Any, Any, list[int]], list[Any]], batch_size: int
    ) -> list[Any]:
        """What `read` makes of the model's output for each sequence; sequences of like length share a batch."""
        import torch

        made: list[Any] = [None] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        first, last, pad = (self._tokenizer.cls_token_id, self._tokenizer.sep_token_id, self._tokenizer.pad_token_id)
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                lengths = [len(sequences[i]) + 2 for i in rows]
                ids = torch.full((len(rows), max(lengths)), pad or 0, dtype=torch.long)
                mask = torch.zeros_like(ids)
                for row, i in enumerate(rows):
                    ids[row, : lengths[row]] = torch.tensor([first, *sequences[i], last])
                    mask[row, : lengths[row]] = 1
                for i, result in zip(rows, read(ids.to(self._device), mask.to(self._device), lengths), strict=True):
                    made[i] = result
        return made

    def _probabilities(self, ids: Any, mask: Any, lengths: list[int]) -> list[Any]:
        logits = self._model(input_ids=ids, attention_mask=mask).logits.float()
        probabilities = logits.softmax(-1)[..., _KEEP].cpu().numpy()
        return [probabilities[row, 1 : length - 1].tolist() for row, length in enumerate(lengths)]

    def _attentions(self, ids: Any, mask: Any, lengths: list[int]) -> list[Any]:
        layers = self._model(input_ids=ids, attention_mask=mask, output_attentions=True).attentions
        mean = sum(layers[i].float().mean(1) for i in self._layers) / len(self._layers)
        return [mean[row, :length, :length].cpu().numpy() for row, length in enumerate(lengths)]

    def _encode(self, text: str) -> tuple[list[int], list[int], list[tuple[int, int]]]:
        """Token ids of a text, the word each belongs to (counted from 0), and each token's place in the text."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return encoded["input_ids"], encoded.word_ids(0), encoded["offset_mapping"]

    def _find(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = _find(self._name)
            return self._folder

    def _load(self) -> None:
        if self._model is not None:
            return
        with self._lock:
            if self._model is not None:
                return
            folder = self._find()
            self.check(0)
            import torch
            from transformers import AutoModelForTokenClassification, AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if self._device is None:
                self._device = "cuda" if torch.cuda.is_available() else "cpu"
            usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
            if torch.get_num_threads() > usable:
                torch.set_num_threads(usable)
            # Only eager attention can be read; and loading must not move anybody's random numbers.
            with torch.random.fork_rng(devices=[]):
                model = AutoModelForTokenClassification.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
                )
            self._model = model.eval().to(self._device)


def keep_words(
    text: str, spans: Sequence[tuple[int, int]], words: Sequence[int], probabilities: Sequence[float], rate: float
) -> str:
    """The text's words with the highest mean probability, a share `rate` of them and at least one, in their order.

    Token t of word `words[t]` stands at `spans[t]` of the text. Words that touched each other still do when both stay.
    """
    if rate >= 1 or not words:
        return text
    starts = [t for t in range(len(words)) if t == 0 or words[t] != words[t - 1]]
    found = []
    for a, b in pairwise([*starts, len(words)]):
        found.append((sum(probabilities[a:b]) / (b - a), spans[a][0], spans[b - 1][1]))
    count = max(1, round(rate * len(found)))
    best = sorted(range(len(found)), key=lambda w: (-round(found[w][0], 5), w))[:count]
    made, end = "", 0
    for _, start, stop in (found[w] for w in sorted(best)):
        # Some tokenizers count the space before a word as the word's.
        touches = start == end and not text[start:stop][:1].isspace()
        made += ("" if touches or not made else " ") + text[start:stop].strip()
        end = stop
    return made.strip() or text


def _windows(words: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Runs of at most `limit` tokens, cut between words where a word is not longer than that."""
    runs = []
    start = 0
    while start < len(words):
        end = min(start + limit, len(words))
        cut = end
        while end < len(words) and cut > start and words[cut] == words[cut - 1]:
            cut -= 1
        end = cut if cut > start else end
        runs.append((start, end))
        start = end
    return runs


def _clean(text: str) -> str:
    # Lone surrogates are legal in JSON data, but not in the UTF-8 that the tokenizer reads.
    return text.encode("utf-8", "replace").decode("utf-8")


def _window(config: Mapping[str, Any]) -> int:
    """Tokens that a model reads at once, at most 512; RoBERTa's positions begin behind that of padding."""
    taken = int(config.get("pad_token_id") or 0) + 1 if "roberta" in str(config.get("model_type")) else 0
    return min(512, int(config.get("max_position_embeddings") or 512) - taken)


def _find(name: str) -> Path:
    """The folder of a model. Raises `UnreachableError` naming it and both ways out."""
    ways = (
        f"Download it where the network reaches (hf download {name}) and give memory.compressor_model=/its/folder, "
        "or do without: memory.compressor=none."
    )
    if Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"]))
        except Exception as error:  # network, unknown or gated id, malformed id: many types, one meaning
            raise UnreachableError(
                f"memory.compressor_model: '{name}' is no folder here, and the Hugging Face hub did not give it "
                f"({type(error).__name__}). {ways}"
            ) from error
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"memory.compressor_model: {folder} holds no *.safetensors weights (pickled ones are never loaded). {ways}"
        )
    return folder

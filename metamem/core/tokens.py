"""Counting tokens: by words, or by a Hugging Face tokenizer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError, UnreachableError

_WORDS = re.compile(r"\w+|[^\w\s]")


def count_tokens(text: str, tokenizer: str = "words") -> int:
    """How many tokens a text has.

    `tokenizer` is `words` (runs of letters and digits, and each punctuation mark; needs no model, and undercounts
    scripts without spaces), or a Hugging Face tokenizer: a folder, a `tokenizer.json` or an id on the hub. Special
    tokens are not counted. Raises `ConfigError` or `UnreachableError` for a tokenizer that cannot be loaded.
    """
    return _counter(tokenizer)(text)


# The same unit is weighed for many questions of its conversation.
def tokenizer_identity(tokenizer: str) -> str:
    """What decides its counts: `words`, or the hash of a tokenizer's file."""
    if tokenizer == "words":
        return tokenizer
    return hashlib.sha256(tokenizer_file(tokenizer).read_bytes()).hexdigest()


@cache
def _counter(tokenizer: str) -> Callable[[str], int]:
    if tokenizer == "words":
        return lambda text: len(_WORDS.findall(text))
    loaded = load_tokenizer(tokenizer)

    def count(text: str) -> int:
        # A lone surrogate is legal in JSON and in str, but not in the UTF-8 that tokenizers read.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return len(loaded.encode(clean, add_special_tokens=False).ids)

    return count


def load_tokenizer(name: str) -> Any:
    """A `tokenizers.Tokenizer` from a folder or file, else from the hub (or its local cache).

    Raises `ConfigError` for a file that is no tokenizer, `UnreachableError` when the hub cannot give it.
    """
    from tokenizers import Tokenizer

    file = tokenizer_file(name)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ConfigError(f"evidence.tokenizer: {file} is not a tokenizer file: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokenizer_file(name: str) -> Path:
    """The `tokenizer.json` of a folder, a file or an id on the hub. Raises as `load_tokenizer` does."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "tokenizer.json").is_file():
            raise ConfigError(f"evidence.tokenizer: the folder {path} holds no tokenizer.json")
        return path / "tokenizer.json"
    if path.is_file():
        return path
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except Exception as error:  # network, unknown id, gated, malformed id: many types, one meaning
        raise UnreachableError(
            f"evidence.tokenizer: '{name}' is neither 'words' nor a folder or tokenizer.json here, and the Hugging "
            f"Face hub did not give its tokenizer.json ({type(error).__name__}). Use evidence.tokenizer=words, or the "
            "path of a downloaded tokenizer."
        ) from error

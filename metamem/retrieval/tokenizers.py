"""Finds and loads Hugging Face tokenizers by their `tokenizer.json`: no model, no framework, no code from a repository.

In: a folder, a file or an id on the hub. Out: a tokenizer that neither truncates nor pads, whatever its file says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metamem.errors import ConfigError, UnreachableError


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

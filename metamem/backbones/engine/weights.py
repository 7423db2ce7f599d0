"""Which weights a model's name stands for, and what identifies them: a hash of a folder's files, or a hub's commit.

In: the model and revision that the user names. Out: `WeightsPlace`. Nothing is loaded and, for a folder, nothing is
fetched; for a hub id the commit is asked for, so that an engine can be held to exactly the weights that the results
name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError, UnreachableError
from metamem.core.weights import read_header, weights_hash

STAMP_FILE = "metamem.json"  # a file beside weights: what is to be said of every result made with them
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_SUFFIXES = {".json", ".jinja", ".txt", ".model", ".tiktoken", ".py", ".safetensors", ".bin", ".pt", ".gguf"}
# Bytes of a number in the precisions that safetensors names, where they are not 1.
SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


@dataclass(frozen=True)
class WeightsPlace:
    """Where weights are and what they are. `folder` is None for a hub's; `stamp` is what results must say of them;
    `stored` is bytes by precision (`BF16`; empty where files do not say), None where it is not known.
    """

    name: str
    folder: Path | None
    identity: Mapping[str, Any]
    commit: str | None = None
    config: Mapping[str, Any] | None = None
    stamp: str | None = None
    stored: Mapping[str, int] | None = None


def find_weights(model: str, revision: str | None) -> WeightsPlace:
    """Return the weights that `model` (a folder, a file or a hub id) names.

    Raises `ConfigError` for a place that is not there or holds no model, `UnreachableError` when the hub neither
    answers nor left the model in its local cache.
    """
    place = Path(model).expanduser()
    if place.exists():
        if revision is not None:
            raise ConfigError(f"backbone.revision: {place} lies here and has no revisions; leave it null")
        return _local(place.resolve())
    if model.startswith(("/", ".", "~")) or not _HUB_ID.fullmatch(model):
        raise ConfigError(f"backbone.model: there is no folder {place}, and '{model}' is no id of the Hugging Face hub")
    commit, cached, stored = _commit(model, revision)
    file = cached / "config.json" if cached and (cached / "config.json").exists() else _fetched(model, commit)
    config = json.loads(file.read_bytes()) if file else None
    if stored is None and cached is not None:
        stored = _stored(sorted(f for f in cached.iterdir() if f.is_file())) if cached.is_dir() else None
    return WeightsPlace(model, None, {"model": model, "commit": commit}, commit, config, None, stored)


def _local(place: Path) -> WeightsPlace:
    if place.is_file():
        files, config = [place], None
    else:
        if not (place / "config.json").is_file():
            raise ConfigError(f"backbone.model: the folder {place} holds no model (no config.json)")
        files = sorted(f for f in place.iterdir() if f.suffix in _SUFFIXES and f.is_file())
        config = json.loads((place / "config.json").read_bytes())
    mark = place / STAMP_FILE
    stamp = json.loads(mark.read_bytes()).get("stamp") if mark.is_file() else None
    identity = {"model": place.name, "weights": weights_hash(files[0].parent, files, sampled=True)}
    return WeightsPlace(place.name, place, identity, None, config, stamp, _stored(files))


def _stored(files: Sequence[Path]) -> dict[str, int] | None:
    """Return the bytes of weights by precision, from the headers of safetensors files; of other files by their size."""
    chosen = [f for f in files if f.suffix == ".safetensors"]
    # The same weights may lie there twice, whole and in parts: the index names those that are loaded.
    named = [f for f in chosen if not f.name.startswith("consolidated")]
    for index in (f for f in files if f.name == "model.safetensors.index.json"):
        parts = set(json.loads(index.read_bytes()).get("weight_map", {}).values())
        named = [f for f in chosen if f.name in parts]
    found: dict[str, int] = {}
    for file in named or chosen:
        with file.open("rb") as stream:
            tensors, _ = read_header(stream, file)
        for name, tensor in tensors.items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                found[tensor.get("dtype", "")] = found.get(tensor.get("dtype", ""), 0) + end - start
    if not chosen and (other := sum(f.stat().st_size for f in files if f.suffix in (".bin", ".pt", ".gguf"))):
        found[""] = other
    return found or None


def _fetched(model: str, commit: str | None) -> Path | None:
    """Return the hub's config.json, a few kilobytes that an engine will want anyway; None when it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, "config.json", revision=commit, etag_timeout=10))
    except Exception:  # network, gated id, no such file: many types; what is not known is not checked
        return None


def _commit(model: str, revision: str | None) -> tuple[str, Path | None, dict[str, int] | None]:
    """Return the commit that a hub id stands for now, the local cache's folder of it if there is one, and what the hub
    says of the weights: bytes by precision.
    """
    from huggingface_hub import HfApi, snapshot_download

    commit, refused, stored = None, None, None
    try:
        info = HfApi().model_info(model, revision=revision, timeout=10)
        commit = info.sha
        if counts := getattr(getattr(info, "safetensors", None), "parameters", None):
            stored = {precision: count * SIZES.get(precision, 1) for precision, count in counts.items()}
    except Exception as error:  # network, offline mode, unknown or gated id: many types; the cache may know it
        refused = error
    try:
        cached = Path(snapshot_download(model, revision=commit or revision, local_files_only=True))
    except Exception:
        cached = None
    if commit is None and cached is None:
        at = f" at revision '{revision}'" if revision else ""
        raise UnreachableError(
            f"backbone.model: '{model}'{at} is no folder here, and the Hugging Face hub did not give it "
            f"({type(refused).__name__}). Check the name and the network, log in (hf auth login) for a gated model, or "
            "give backbone.model=/path/of/a/model."
        ) from refused
    return commit or (cached.name if cached else ""), cached, stored


def cache_folder() -> Path:
    """Return the place of what can be made again: `$XDG_CACHE_HOME/metamem`, or `~/.cache/metamem`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "metamem"

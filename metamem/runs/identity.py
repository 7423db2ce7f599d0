"""What a run is: a hash of all that can change its result, a readable name, and a fingerprint of the code."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from metamem.config.identity import identity
from metamem.config.options import BaseConfig
from metamem.core.json_form import digest
from metamem.core.plugins import plugin_code, plugin_of
from metamem.core.registry import REGISTRY

# Options that a run's contents stand for: templates, models in their roles, weights.
STAND_IN_CONTENTS = ("prompts", "backbone", "judge", "reflector", "builder", "embedder")


def run_identity(kind: str, config: BaseConfig, contents: Mapping[str, Any]) -> str:
    """Ten hex digits: a hash of the options that can change a result and of the contents behind them (data, split,
    prompts, rubric).
    """
    options = identity(config)
    for key in ("dataset", "split", "rubric"):
        # Files count by content, not by where they lie.
        options[key] = {k: v for k, v in options[key].items() if k not in ("path", "overlay")}
    # What these stand for is in the contents, and so is the tokenizer.
    for key in STAND_IN_CONTENTS:
        options.pop(key)
    options["evidence"].pop("tokenizer")
    if not options["search"]["calls"]:
        options.pop("search")
    for key in ("memory", "retriever"):
        if contents.get(key) is None:
            options.pop(key)
    for key in ("attack", "guard"):
        # Nothing planted and nothing guarded is what a run was before there were these.
        if options[key] == {"name": "none"}:
            options.pop(key)
    return digest([kind, options, contents], 10)


def slug(overrides: Iterable[str], config: BaseConfig) -> str:
    """A readable name from the overrides that can change a result, in letters, digits, '.', '_' and '-'."""
    parts = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in ("experiment", "tracker", "cluster") or key.startswith("hydra") or key.endswith("base_url"):
            continue
        if not _can_change_results(key, config):
            continue
        value = Path(value).stem if "/" in value else value
        named_alone = (
            "." not in key
            and "@" not in key
            and key
            not in ("seed", "reward", "part", "accept", "eval_every", "test_steps", "train_questions", "perplexity")
        )
        shown = value if named_alone or key.endswith(".path") else f"{key.split('@')[-1].split('.')[-1]}-{value}"
        parts.append(re.sub(r"[^A-Za-z0-9.-]+", "-", shown).strip("-."))
    return "_".join(p for p in parts if p)[:80].strip("_-.") or "default"


def _can_change_results(key: str, config: Any) -> bool:
    for part in key.split("."):
        field = next((f for f in dataclasses.fields(config) if f.name.rstrip("_") == part.rstrip("_")), None)
        if field is None:
            return True
        if not field.metadata.get("result", True):
            return False
        config = getattr(config, field.name)
        if not dataclasses.is_dataclass(config):
            return True
    return True


def git_revision() -> str | None:
    """The revision of the checkout that the package lies in, with `+changes` when files differ; None outside one."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder.parent / ".git").exists():
        return None
    try:
        revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10)
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return revision.stdout.strip() + ("+changes" if status.stdout.strip() else "") if revision.returncode == 0 else None


def fingerprint() -> dict[str, Any]:
    """Return what code runs: hashes of the package's source and prompts and of those of every plugin that registered a
    component, and the version of every installed distribution.
    """
    found = {name: plugin_code(e.component) for e in REGISTRY if (name := plugin_of(e.component))}
    return {**_own_fingerprint(), "plugins": dict(sorted(found.items()))}


@cache
def _own_fingerprint() -> dict[str, Any]:
    folder = Path(__file__).resolve().parents[1]
    source = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".jinja") and "__pycache__" not in p.parts):
        source.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    versions = dict(filter(None, map(_name_and_version, importlib.metadata.distributions())))
    versions.pop("metamem-lab", None)
    return {"code": source.hexdigest()[:16], "packages": dict(sorted(versions.items()))}


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str] | None:
    """The name, in lower case, and version of a distribution; None for one without.

    They are among the first lines of its file: `Distribution.metadata` reads all of it, descriptions too, each time.
    """
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    head = text.split("\n\n", 1)[0]
    name, version = (re.search(rf"^{key}:\s*(\S+)\s*$", head, re.M | re.I) for key in ("Name", "Version"))
    return (name[1].lower(), version[1]) if name and version else None


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in words how two fingerprints differ."""
    parts = ["the source of metamem differs"] if before.get("code") != now["code"] else []
    old, new = before.get("plugins", {}), now["plugins"]
    parts += [f"the code of the plugin {p} differs" for p in sorted({*old, *new}) if old.get(p) != new.get(p)]
    old, new = before.get("packages", {}), now["packages"]
    parts += [
        f"{p} {old.get(p, 'absent')} → {new.get(p, 'absent')}" for p in sorted({*old, *new}) if old.get(p) != new.get(p)
    ]
    return "; ".join(parts[:8]) + (f"; and {len(parts) - 8} more" if len(parts) > 8 else "")

"""Reading what W&B keeps offline."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def records(path: Path) -> Iterator[Any]:
    """The records of a W&B file: W&B's protobufs in a log of LevelDB's format (blocks of 32 KiB, a header of 7 bytes
    before every fragment: checksum, length, and 1 for a whole record or 2, 3, 4 for its first, a middle, its last).
    """
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def items(entries: Any) -> dict[str, Any]:
    """Key → value of a record's entries."""
    return {e.key or "/".join(e.nested_key): json.loads(e.value_json) for e in entries}


def history(found: list[Any]) -> list[dict[str, Any]]:
    """The rows that were logged, without W&B's own columns."""
    rows = (items(r.history.item) for r in found if r.WhichOneof("record_type") == "history")
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]


def artifacts(found: list[Any]) -> list[Any]:
    """The artifacts that were logged or declared as used."""
    requests = [r.request for r in found if r.WhichOneof("record_type") == "request"]
    logged = [r.log_artifact.artifact for r in requests if r.WhichOneof("request_type") == "log_artifact"]
    return logged + [r.artifact for r in found if r.WhichOneof("record_type") == "artifact"]


def config_of(found: list[Any]) -> dict[str, Any]:
    """The run's options: those it began with, and what was added."""
    kept: dict[str, Any] = {}
    for r in found:
        kind = r.WhichOneof("record_type")
        if kind in ("run", "config"):
            kept |= items((r.run.config if kind == "run" else r.config).update)
    return kept


def summary_of(found: list[Any]) -> dict[str, Any]:
    """The run's summary."""
    kept: dict[str, Any] = {}
    for r in found:
        if r.WhichOneof("record_type") == "summary":
            kept |= items(r.summary.update)
    return kept

"""A memory bank as files, and back.

In: a `MemoryBank`. Out: `units.jsonl`, one unit a line for people and other programs to read; `about.json` with its
costs, counts, failed calls and state; `history.jsonl`, where it has a history, one effect a line; and the same bank
from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from metamem.core.banks import Cost, Effect, MemoryBank, Unread
from metamem.core.json_form import from_json, to_json
from metamem.core.records import MemoryUnit


def bank_files(bank: MemoryBank) -> dict[str, bytes]:
    """File name → content."""
    about: dict[str, Any] = {
        "sessions": bank.sessions,
        "costs": to_json(dict(bank.costs)),
        "counts": dict(bank.counts),
        "unread": to_json(bank.unread),
    }
    if bank.state:
        about["state"] = to_json(dict(bank.state))
    texts = {"units.jsonl": _lines(bank.units), "about.json": json.dumps(about, ensure_ascii=False, indent=1) + "\n"}
    if bank.history:
        texts["history.jsonl"] = _lines(bank.history)
    # Lone surrogates are legal in JSON data: kept as they are, so that a bank reads back equal.
    return {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}


def read_bank(address: str, conversation_id: str, contents: Mapping[str, bytes]) -> MemoryBank | None:
    """The bank that the files hold; None when they were written by a version with another shape of banks."""
    try:
        texts = {name: data.decode("utf-8", "surrogatepass") for name, data in contents.items()}
        about = json.loads(texts["about.json"])
        return MemoryBank(
            address,
            conversation_id,
            tuple(from_json(MemoryUnit, json.loads(line)) for line in texts["units.jsonl"].split("\n")[:-1]),
            int(about["sessions"]),
            {stage: from_json(Cost, cost) for stage, cost in about["costs"].items()},
            {name: int(count) for name, count in about["counts"].items()},
            tuple(from_json(Unread, row) for row in about["unread"]),
            tuple(from_json(Effect, json.loads(line)) for line in texts.get("history.jsonl", "").split("\n")[:-1]),
            dict(about.get("state", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _lines(records: Iterable[Any]) -> str:
    return "".join(json.dumps(to_json(record), ensure_ascii=False) + "\n" for record in records)

"""Rows of the journal as lines of a segment, each with a checksum of what stands before it.

In: a row. Out: its line, and back; a line that is not as it was written is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metamem.core.calls import Generation
from metamem.core.json_form import from_json

_SUM = b',"sum":"'
_SUM_DIGITS = 16
_written = json.JSONEncoder(separators=(",", ":")).encode


def damaged_rows(segment: Path) -> Iterator[int]:
    """The numbers (from 1) of a segment's lines that are no rows as they were written."""
    with segment.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = row_of(line)
                if "key" in row:
                    from_json(Generation, row["reply"])
            except (ValueError, KeyError, TypeError, RecursionError):
                yield number


def line_of(row: Mapping[str, Any]) -> bytes:
    """Return a row as its line of a segment, with its checksum."""
    # ASCII only: a lone surrogate in a model's reply must not make a row unwritable.
    text = _written(row).encode("ascii")[:-1]
    return text + _SUM + _sum(text) + b'"}\n'


def row_of(line: bytes) -> dict[str, Any]:
    """Return the row in a line. Raises `ValueError` for one that is not as it was written."""
    text, found, told = line.rpartition(_SUM)
    # Rows of the first version have no checksum.
    if found and told != _sum(text) + b'"}\n':
        raise ValueError("altered")
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a row")
    return row


def _sum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_SUM_DIGITS // 2).hexdigest().encode("ascii")

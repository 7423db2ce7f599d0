"""The journal: every delivered reply is one row, written before anyone sees it, so that nothing is ever paid for twice.

In: requests and the replies to them. Out: the reply that stands under a request's key. Rows are only ever appended, to
a segment that belongs to one process alone; a reader takes the segments that it finds when it starts, and what other
journals of its process write meanwhile. A torn last line (the writer was killed) is left out.

    <outputs>/<experiment>/journal/<run>/<host>-<process>-<random>.jsonl

Two kinds of rows: `{"key": ..., "request": ID, "draw": ..., "reply": ...}` and, once per request and segment,
`{"request": ID, "body": ...}` with everything that was sent. Each ends with a checksum of what stands before it
(`"sum"`): a row that was altered is no reply.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from metamem.backbones.journal_rows import line_of, row_of
from metamem.core.calls import Draw, Failure, Generation, Request
from metamem.core.errors import DataError
from metamem.core.files import cannot_write, write_whole
from metamem.core.json_form import canonical, from_json, to_json

_OPEN_SEGMENTS = 32
_KEY_DIGITS = 32
_PREFIX = b'{"key":"'
_BODY_PREFIX = b'{"request":"'
# By identity, each with its tools, so that no other tuple can have their id.
_TOOLS: dict[int, tuple[tuple[dict[str, Any], ...], str]] = {}
_TOOLS_KEPT = 64
# A power cut loses what was delivered in so many seconds at most.
SYNC_EVERY = 5.0

UnderWay = dict[str, "asyncio.Future[Generation | Failure]"]


# Whose rows are reused: the run's own, those of the experiment's runs, or all under `outputs` (`global` is a keyword,
# hence this form).
Reuse = Enum("Reuse", {"run": "run", "experiment": "experiment", "global": "global"}, type=str)


def request_hash(identity: Mapping[str, Any], request: Request) -> str:
    """Return the digest of everything that determines a reply except which draw it is.

    That is the model's identity and the whole request.
    """
    body: list[Any] = [identity, request.messages, request.sampling, request.schema, request.repeat]
    if request.tools:
        # Requests without tools keep the keys they had before there were any. Tools are JSON already and much of it.
        body.append(_tools_text(request.tools))
    if request.continuation is not None:
        body.append({"continuation": request.continuation})
    if request.words:
        body.append({"words": request.words})
    if request.only:
        body.append({"only": request.only})
    return hashlib.sha256(canonical(body).encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_DIGITS]


def _tools_text(tools: tuple[dict[str, Any], ...]) -> str:
    """Return the JSON text of tools. One tuple is sent with very many requests: the texts of the last few are kept."""
    kept = _TOOLS.get(id(tools))
    if kept is None or kept[0] is not tools:
        if len(_TOOLS) >= _TOOLS_KEPT:
            _TOOLS.clear()
        kept = _TOOLS[id(tools)] = (tools, json.dumps(tools, sort_keys=True))
    return kept[1]


def draw_key(request_id: str, request: Request, draw: Draw) -> str:
    """Return the key of one draw of a request. A greedy request has one reply, whatever the draw."""
    if request.sampling.temperature <= 0:
        return request_id
    text = json.dumps([request_id, draw.scope, draw.index])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_DIGITS]


@dataclass(frozen=True)
class StoredDraw:
    """One draw as the journal holds it: the request for it alone, the reply, and the identity of the model."""

    request: Request
    reply: Generation
    model: Mapping[str, Any]


@dataclass(eq=False)
class _Shared:
    """What the journals of one process that reuse each other's rows have in common: themselves, and the draws that are
    being asked for, by event loop and key.
    """

    journals: WeakSet[Journal] = field(default_factory=WeakSet)
    under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, UnderWay] = field(default_factory=WeakKeyDictionary)


# By outputs, experiment and run, as far as these bound the reuse.
_shared: WeakValueDictionary[tuple[str, ...], _Shared] = WeakValueDictionary()


class Journal:
    """Rows on disk and an index of their places in memory (about 200 bytes a row; texts stay on disk)."""

    def __init__(
        self,
        outputs: Path,
        experiment: str,
        run_id: str,
        reuse: Reuse = Reuse.experiment,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = outputs / experiment / "journal" / run_id
        bounds = (str(outputs.resolve()), experiment, run_id)
        self._shared = _shared.setdefault(
            bounds[: {Reuse.run: 3, Reuse.experiment: 2, Reuse["global"]: 1}[reuse]], _Shared()
        )
        self._clock = clock
        self._synced = clock()
        roots = {
            Reuse.run: [self.folder],
            Reuse.experiment: sorted((outputs / experiment / "journal").glob("*")),
            Reuse["global"]: sorted(outputs.glob("*/journal/*")),
        }[reuse]
        self._segments: list[Path] = []
        self._numbers: dict[Path, int] = {}
        # Where each key's row is: the segment's number, the offset in it and the length.
        self._places: dict[bytes, tuple[int, int, int]] = {}
        # Open files of segments, least recently read first: a long sweep has more of them than a process may open.
        self._handles: OrderedDict[int, int] = OrderedDict()
        self._writer: int | None = None
        self._written = -1  # the number of this process's own segment
        self._requests: set[str] = set()
        self.unreadable_rows = 0
        self._read_from: set[int] = set()
        # A run's own replies go first: a continued run must meet again what it met before.
        for root in [self.folder, *(r for r in roots if r != self.folder)]:
            for path in sorted(root.glob("*.jsonl")):
                if path.is_file():
                    self._index(path)
        self._shared.journals.add(self)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return self._place(bytes.fromhex(key)) is not None

    def under_way(self) -> UnderWay:
        """Return the draws that any caller on this event loop, whose journal shares its rows with this one, is asking
        for now, by key.
        """
        return self._shared.under_way.setdefault(asyncio.get_running_loop(), {})

    def get(self, key: str) -> Generation | None:
        """Return the reply that stands under `key`, or None. One that cannot be read is counted and forgotten."""
        row = self.row(key)
        try:
            return None if row is None else from_json(Generation, row["reply"])
        except (KeyError, TypeError, ValueError):
            self._forget(key)
            return None

    def row(self, key: str) -> dict[str, Any] | None:
        """Return the whole row under `key`, or None. A row that cannot be read is counted and forgotten."""
        place = self._place(bytes.fromhex(key))
        if place is None:
            return None
        segment, offset, length = place
        try:
            row = row_of(os.pread(self._handle(segment), length, offset))
            if row["key"] != key:
                raise ValueError("another key")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            # A damaged row costs a repeated call, never a run.
            self._forget(key)
            return None
        self._read_from.add(segment)
        return row

    def read_from(self) -> set[str]:
        """Return the journals, as experiment/run, that replies were taken from so far."""
        return {f"{p.parts[-4]}/{p.parts[-2]}" for p in (self._segments[i] for i in self._read_from)}

    def _place(self, key: bytes) -> tuple[int, int, int] | None:
        """Where a key's row is, also one that another journal of this process wrote since this one was opened."""
        if key not in self._places:
            for other in self._shared.journals:
                if other is not self and (place := other._places.get(key)) is not None:
                    self._places[key] = (self._number(other._segments[place[0]]), *place[1:])
                    break
        return self._places.get(key)

    def _number(self, segment: Path) -> int:
        """The number by which places name a segment."""
        if segment not in self._numbers:
            self._numbers[segment] = len(self._segments)
            self._segments.append(segment)
        return self._numbers[segment]

    def _forget(self, key: str) -> None:
        self.unreadable_rows += 1
        for journal in self._shared.journals:
            journal._places.pop(bytes.fromhex(key), None)

    def stored(self, keys: Iterable[str]) -> dict[str, StoredDraw]:
        """Return what was asked and replied under each of the keys; one that the journal lacks is left out."""
        wanted: dict[int, dict[str, list[dict[str, Any]]]] = {}
        for key in keys:
            if (row := self.row(key)) is not None:
                segment = self._places[bytes.fromhex(key)][0]
                wanted.setdefault(segment, {}).setdefault(row["request"], []).append(row)
        found = {}
        for segment, by_request in wanted.items():
            # The body stands once in the segment of its replies.
            for body in _bodies(self._segments[segment], by_request):
                model, asked = body["body"].pop("model"), body["body"]
                for row in by_request[body["request"]]:
                    request = from_json(Request, {**asked, "draws": [row["draw"]]})
                    found[row["key"]] = StoredDraw(request, from_json(Generation, row["reply"]), model)
        return found

    def put(
        self,
        request_id: str,
        request: Request,
        identity: Mapping[str, Any],
        replies: Sequence[tuple[str, Draw, Generation]],
        **about: Any,
    ) -> None:
        """Write the delivered draws of one call in one piece; `about` (role, seconds, engine) is kept beside each.

        Raises `UserError` when it cannot be written (a full disk); nothing half-written stays.
        """
        lines: list[bytes] = []
        if request_id not in self._requests:
            body = {
                "model": identity,
                "messages": request.messages,
                "sampling": request.sampling,
                "schema": request.schema,
                "repeat": request.repeat,
                **({} if request.continuation is None else {"continuation": request.continuation}),
                **({"words": request.words} if request.words else {}),
                **({"only": request.only} if request.only else {}),
            }
            lines.append(line_of({"request": request_id, "body": {**to_json(body), "tools": request.tools}}))
        for key, draw, generation in replies:
            row = {"key": key, "request": request_id, "draw": to_json(draw), "reply": to_json(generation), **about}
            lines.append(line_of(row))
        # In one write, the body before its replies: a reader that meets a row has met its request.
        try:
            offset = write_whole(self._open(), b"".join(lines))
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        segment = self._written
        if request_id not in self._requests:
            self._requests.add(request_id)
            offset += len(lines.pop(0))
        for (key, _, _), line in zip(replies, lines, strict=True):
            # The first reply under a key stands, also where another process was given one meanwhile.
            self._places.setdefault(bytes.fromhex(key), (segment, offset, len(line)))
            offset += len(line)
        if self._clock() - self._synced >= SYNC_EVERY and self._writer is not None:
            os.fsync(self._writer)
            self._synced = self._clock()

    def close(self) -> None:
        """Flush to the disk and close every file; safe to call twice."""
        if self._writer is not None:
            os.fsync(self._writer)
            os.close(self._writer)
            self._writer = None
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def _open(self) -> int:
        """Return the handle of this process's own segment, made at the first write."""
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
            path = self.folder / f"{host}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
            self._writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
            self._written = self._number(path)
            # Each segment holds the bodies of its own requests, so that a reader needs no other file for them.
            self._requests.clear()
        return self._writer

    def _handle(self, segment: int) -> int:
        if segment in self._handles:
            self._handles.move_to_end(segment)
        else:
            self._handles[segment] = os.open(self._segments[segment], os.O_RDONLY)
            if len(self._handles) > _OPEN_SEGMENTS:
                os.close(self._handles.popitem(last=False)[1])
        return self._handles[segment]

    def _index(self, path: Path) -> None:
        segment = self._number(path)
        start = len(_PREFIX)
        try:
            stream = path.open("rb")
        except OSError as error:
            raise DataError(f"the journal cannot be read: {path}: {error.strerror}") from None
        with stream:
            offset = 0
            for line in stream:
                # Only the key is read here: parsing whole rows would make the start of a large experiment slow.
                if line.startswith(_PREFIX) and line.endswith(b"}\n"):
                    try:
                        key = bytes.fromhex(line[start : start + _KEY_DIGITS].decode("ascii"))
                    except ValueError:
                        self.unreadable_rows += 1
                    else:
                        self._places.setdefault(key, (segment, offset, len(line)))
                offset += len(line)


def _bodies(path: Path, requests: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a segment that say what was sent for some requests."""
    start = len(_BODY_PREFIX)
    with path.open("rb") as stream:
        for line in stream:
            whole = line.startswith(_BODY_PREFIX) and line.endswith(b"}\n")
            if whole and line[start : start + _KEY_DIGITS].decode("ascii", "replace") in requests:
                yield json.loads(line)

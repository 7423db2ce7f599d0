"""The records of a file that is one JSON list, read one after another: a file of gigabytes takes the memory of its
largest records.

In: the path and the config key that gave it. Out: parsed values in the order of the file. Errors are those of
`metamem.datasets.reading`, with line and column in the file.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from metamem.core.errors import DataError
from metamem.datasets.reading import access, found, json_errors, no_constant, parse_json

# Bytes that are read at a time.
_STEP = 1 << 20

# What stands open at the end of a text is complained of within so many characters of it (`\\uD83D\\uDE00`).
_OPEN = 16

_BLANK = " \t\n\r"


def read_records(path: Path, key: str, expected: str) -> Iterator[Any]:
    """Yield the records of a file that is one JSON list. Raises `DataError`, saying what was `expected` where the file
    holds something else.

    What is wrong with the file as a whole is only known when its end is read.
    """
    with access(path, key):
        file = path.open("rb")
    with file:
        text = _Window(file, path, key)
        if text.next_character() != "[":
            value = parse_json(text.rest(), path, key)
            raise DataError(f"{key}: {path}: expected {expected}, found {found(value)}")
        text.skip()
        if text.next_character() == "]":
            text.skip()
            text.end()
            raise DataError(f"{key}: {path}: expected {expected}, found an empty list")
        while True:
            yield text.value()
            mark = text.next_character()
            if mark not in ("]", ","):
                text.refuse("Expecting ',' delimiter")
            text.skip()
            if mark == "]":
                text.end()
                return
            text.next_character()


class _Window:
    """A part of a text file that moves from its beginning to its end."""

    def __init__(self, file: BinaryIO, path: Path, key: str) -> None:
        self._file, self._path, self._key = file, path, key
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=no_constant)
        self._text, self._at = "", 0
        # Where the text begins in the file: bytes handed to the decoder, line and column.
        self._bytes, self._line, self._column = 0, 1, 1
        self._ended = False
        self._longest = 0

    def next_character(self) -> str:
        """Return the next character that is not blank, without passing it; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self) -> None:
        """Pass a character."""
        self._at += 1

    def value(self) -> Any:
        """Return the JSON value that begins here, and pass it. Raises `DataError`."""
        self._forget()
        # Values are of like length: most are whole at the first try.
        while len(self._text) < self._longest and self._more():
            pass
        while True:
            with json_errors(self._path, self._key, self._line, self._column):
                try:
                    value, end = self._json.raw_decode(self._text, self._at)
                except json.JSONDecodeError as error:
                    open_ = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _OPEN
                    if not open_ or self._ended:
                        raise
                    end = len(self._text)
            # A number may go on behind the window ("1" of "1e-5", say).
            if end < len(self._text) - 2 or self._ended:
                self._longest = max(self._longest, end - self._at + 1)
                self._at = end
                return value
            # Twice as much each time, so that a long value is not tried often.
            wanted = 2 * len(self._text)
            while len(self._text) < wanted and self._more():
                pass

    def refuse(self, problem: str) -> None:
        """Raise the error of what stands here."""
        with json_errors(self._path, self._key, self._line, self._column):
            raise json.JSONDecodeError(problem, self._text, self._at)

    def end(self) -> None:
        """Raise the error of what follows, unless it is blank."""
        if self.next_character():
            self.refuse("Extra data")

    def rest(self) -> str:
        """Return everything from the beginning of the window to the end of the file."""
        while self._more():
            pass
        return self._text

    def _forget(self) -> None:
        """Let go of what was passed."""
        passed = self._text[: self._at]
        if lines := passed.count("\n"):
            self._line += lines
            self._column = len(passed) - passed.rindex("\n")
        else:
            self._column += len(passed)
        self._text, self._at = self._text[self._at :], 0

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._ended:
            return False
        pending = len(self._decoder.getstate()[0])
        with access(self._path, self._key):
            data = self._file.read(_STEP)
            try:
                self._text += self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                error.start += self._bytes - pending
                raise
        self._bytes += len(data)
        self._ended = not data
        return bool(data)

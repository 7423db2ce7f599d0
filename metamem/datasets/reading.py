"""What every loader shares: JSON, JSONL and CSV, dates as the benchmarks write them, and errors that name the place.

In: the path and the config key that gave it. Out: parsed values, datetimes, and `DataError`s that say which
file, which record, which field, what was expected and what was found. Nothing here needs more than the standard
library.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from metamem.core.errors import ConfigError, DataError, nearest
from metamem.datasets import hub

# --- places and problems ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A record of a file: what an error about it says first. `number` counts from 1; `unit` is record or line."""

    path: Path
    key: str
    number: int
    id: str = ""
    unit: str = "record"

    def error(self, field: str, problem: str) -> DataError:
        """The error of one field (empty: of the whole record)."""
        named = f" ({self.id})" if self.id else ""
        at = f", {field}" if field else ""
        return DataError(f"{self.key}: {self.path}, {self.unit} {self.number}{named}{at}: {problem}")

    def date(self, text: str, field: str) -> datetime:
        """The date that a field holds. Raises `DataError`."""
        try:
            return parse_date(text)
        except ValueError as error:
            raise self.error(field, str(error)) from error


def place_of(path: Path, key: str, number: int, raw: Any, id_field: str, unit: str = "record") -> Place:
    """The place of a raw record, named by its id where it has one."""
    value = raw.get(id_field) if isinstance(raw, dict) else None
    return Place(path, key, number, f"{id_field} {_short(value)}" if isinstance(value, str) else "", unit)


class Problems:
    """Collects the errors of a file's records, so that the first is shown with the count of the others."""

    def __init__(self) -> None:
        self._first: DataError | None = None
        self._more = 0

    @contextmanager
    def collect(self) -> Iterator[None]:
        """A `DataError` raised inside is kept for `finish`."""
        try:
            yield
        except DataError as error:
            if self._first is None:
                self._first = error
            else:
                self._more += 1

    def finish(self) -> None:
        """Raises the first error kept, if any, with the number of further records that have one."""
        if self._first is not None and self._more:
            others = "1 more record has a problem" if self._more == 1 else f"{self._more} more records have problems"
            raise DataError(f"{self._first} ({others}.)") from self._first
        if self._first is not None:
            raise self._first


def misspelt(held: Iterable[str], known: Iterable[str], absent: Iterable[str]) -> str:
    """What is wrong with a record that lacks an optional field and holds one of nearly its name; empty: nothing.

    Other fields that nobody reads are let through: the public files carry many.
    """
    return _misspelt(tuple(name for name in held if name not in known), tuple(absent))


@lru_cache(maxsize=64)
def _misspelt(unread: tuple[str, ...], absent: tuple[str, ...]) -> str:
    for field in absent if unread else ():
        if close := difflib.get_close_matches(field, unread, n=1, cutoff=0.85):
            return f"unknown field {_short(close[0])}. Did you mean '{field}'?"
    return ""


def found(value: Any) -> str:
    """What an error message calls a JSON value that was not expected."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {_cut(str(value))}"
    if isinstance(value, str):
        return f"the text {_short(value)}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {_cut(', '.join(map(str, value))) or 'none'}"
    return type(value).__name__


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _short(text: str) -> str:
    return repr(_cut(text))


# --- files ------------------------------------------------------------------------------------------------------------


def given_path(value: str | None, key: str, what: str) -> Path:
    """Return the path a user gave; a file of a hub's data set (`datasets.hub`) is fetched.

    Raises `ConfigError` saying what the key should hold when it is empty, and what `hub.fetched` raises.
    """
    if not value:
        raise ConfigError(f"{key} is not given: {what}")
    return hub.fetched(value, key) if value.startswith(hub.SCHEME) else Path(value).expanduser()


def json_files(path: Path, key: str) -> tuple[Path, ...]:
    """Return a file, or the JSON files of a folder in order. Raises `ConfigError` for a folder that holds none."""
    if not path.is_dir():
        return (path,)
    files = tuple(sorted(file for file in path.rglob("*.json") if file.is_file()))
    if not files:
        raise ConfigError(f"{key}: the folder {path} holds no JSON file")
    return files


def beside(value: str, name: str) -> str:
    """Return what names another file in the folder of a given path, or of a hub's address."""
    if value.startswith(hub.SCHEME):
        return f"{value.rpartition('/')[0]}/{name}"
    return str(Path(value).with_name(name))


def read_text(path: Path, key: str) -> str:
    """The text of a UTF-8 file, less a byte order mark. Raises `DataError` with `key`, the file, the nearest name."""
    with access(path, key):
        return path.read_text(encoding="utf-8-sig")


@contextmanager
def access(path: Path, key: str) -> Iterator[None]:
    """Turn what opening, reading and decoding a file raise into `DataError`s."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{key}: {path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing(path, key) from error
    except IsADirectoryError as error:
        raise DataError(f"{key}: {path} is a folder, expected a file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{key}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def missing(path: Path, key: str) -> DataError:
    """Return the error of a file that is not there, with the nearest name."""
    return DataError(f"{key}: there is no file {path}.{_neighbours(path)}")


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist."
    try:
        close = nearest(path.name, (p.name for p in path.parent.iterdir()))
    except OSError:  # a folder that may not be listed has no names to suggest
        return ""
    return f" Did you mean '{close}'?" if close else ""


def parse_json(text: str, path: Path, key: str, first_line: int = 1) -> Any:
    """The JSON value of a text. Raises `DataError` with line and column, counted from `first_line`."""
    with json_errors(path, key, first_line):
        return json.loads(text, parse_constant=no_constant)


@contextmanager
def json_errors(path: Path, key: str, line: int = 1, column: int = 1) -> Iterator[None]:
    """Turn what parsing JSON raises into `DataError`s; the text begins at this line and column of the file."""
    try:
        yield
    except json.JSONDecodeError as error:
        at = error.colno + (column - 1 if error.lineno == 1 else 0)
        where = f"line {error.lineno + line - 1}, column {at}"
        if not error.doc.strip() and (line, column) == (1, 1):
            raise DataError(f"{key}: {path} is empty") from error
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
        hint = "; it seems to end too early (truncated?)" if cut else ""
        raise DataError(f"{key}: {path} is not valid JSON: {error.msg} at {where}{hint}") from error
    except (ValueError, RecursionError) as error:  # a number too long to convert, NaN, nesting without end
        raise DataError(f"{key}: {path} is not usable JSON (from line {line}): {error}") from error


def no_constant(name: str) -> Any:
    """Refuse what Python's parser takes beside JSON: NaN and infinities."""
    raise ValueError(f"{name} is not a JSON number")


def read_json(path: Path, key: str) -> Any:
    """The JSON value of a file. Raises `DataError` naming the config `key` and the file."""
    return parse_json(read_text(path, key), path, key)


def parse_jsonl(text: str, path: Path, key: str) -> list[tuple[int, Any]]:
    """The values of a JSONL text with their line numbers (from 1); empty lines are passed over. Raises `DataError`."""
    # Only "\n" ends a line: str.splitlines would also cut at U+2028 and others, which JSON strings may hold unescaped.
    lines = enumerate(text.split("\n"), start=1)
    return [(number, parse_json(line, path, key, number)) for number, line in lines if line.strip()]


def read_jsonl(path: Path, key: str) -> list[tuple[int, Any]]:
    """The values of a JSONL file, each with its line number (from 1). Raises `DataError`."""
    return parse_jsonl(read_text(path, key), path, key)


def read_table(path: Path, key: str) -> list[dict[str, str]]:
    """Return the records of a CSV file whose first row names its columns. Raises `DataError`."""
    text = read_text(path, key)
    rows = csv.reader(io.StringIO(text), strict=True)
    held: list[list[str]] = []
    try:
        held.extend(row for row in rows if row)
    except csv.Error as error:
        raise DataError(f"{key}: {path} is not valid CSV: {error} at line {rows.line_num}") from error
    if not held:
        raise DataError(f"{key}: {path} is empty")
    header, *records = held
    if len(set(header)) < len(header):
        raise DataError(f"{key}: {path}, line 1: expected columns of different names, found {_cut(', '.join(header))}")
    if not records:
        raise DataError(f"{key}: {path}: expected records below the names of the columns, found none")
    for number, record in enumerate(records, start=1):
        if len(record) != len(header):
            problem = f"expected {len(header)} cells, as many as the first row has names, found {len(record)}"
            raise Place(path, key, number).error("", problem)
    return [dict(zip(header, record, strict=True)) for record in records]


# --- dates ------------------------------------------------------------------------------------------------------------

DATE_SHAPES = (
    "a date such as '2023/05/20 (Sat) 02:21', '1:56 pm on 8 May, 2023', 'May-20-2023', 'May 20, 2023, 02:21:00' "
    "or '2023-05-20T02:21'"
)

# Not from the locale: the files are English wherever they are read.
_MONTHS = ["january", "february", "march", "april", "may", "june"]
_MONTHS += ["july", "august", "september", "october", "november", "december"]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_SLASHED = r"[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}(?:\s*\([A-Za-z]+\))?(?:\s+[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)?"
_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
_SPOKEN = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*([ap])\.?m\.?\s+on\s+([0-9]{1,2})\s+([a-z]+),?\s+([0-9]{4})", re.I)
_NAMED = re.compile(r"([a-z]+)-([0-9]{1,2})-([0-9]{4})", re.I)
_MONTH_FIRST = re.compile(r"([a-z]{3})[a-z]* ([0-9]{1,2}), ([0-9]{4}), ([0-9]{2}):([0-9]{2}):([0-9]{2})", re.I)
_STAMPED = re.compile(
    rf"(\[)?({_SLASHED}|{_ISO})(?:[\s,]+\(?([A-Za-z]+)\)?)?(?(1)\])(?:\s*[:,;|]\s*|\s+[-–—]\s+|\s+)(?=\S)"
)
_STAMPED_PLAIN = re.compile(rf"(\[)?({_SLASHED}|{_ISO})()(?(1)\])(?:\s*[:,;|]\s*|\s+[-–—]\s+|\s+)(?=\S)")


@lru_cache(4096)  # a haystack has few days and many sessions
def parse_date(text: str) -> datetime:
    """The naive datetime of a date as LongMemEval, LoCoMo, BEAM, HaluMem or ISO 8601 write it; a time zone is dropped.

    The weekday is not checked. Month names are English. Raises `ValueError` naming the shapes and the text.
    """
    cleaned = text.strip()
    try:
        if re.fullmatch(_SLASHED, cleaned):
            return datetime(*(int(n) for n in re.findall(r"[0-9]+", cleaned)))  # type: ignore[arg-type]
        if spoken := _SPOKEN.fullmatch(cleaned):
            hour, minute, half, day, month, year = spoken.groups()
            if not 1 <= int(hour) <= 12:
                raise ValueError("an hour of a 12-hour clock")
            hours = int(hour) % 12 + (12 if half.lower() == "p" else 0)
            return datetime(int(year), _MONTHS.index(month.lower()) + 1, int(day), hours, int(minute))
        if named := _NAMED.fullmatch(cleaned):
            return datetime(int(named[3]), _MONTHS.index(named[1].lower()) + 1, int(named[2]))
        if written := _MONTH_FIRST.fullmatch(cleaned):
            name, *numbers = written.groups()
            day, year, hour, minute, second = map(int, numbers)
            return datetime(year, [m[:3] for m in _MONTHS].index(name.lower()) + 1, day, hour, minute, second)
        return datetime.fromisoformat(cleaned).replace(tzinfo=None)
    except ValueError as error:
        raise ValueError(f"expected {DATE_SHAPES}, found {found(text)}") from error


def leading_date(text: str) -> tuple[datetime | None, str]:
    """The timestamp a line begins with and the rest of the line, or None and the line as it is.

    Recognised: ISO and `2023/05/20 (Sat) 02:21`, bare or in brackets, the weekday if one follows, and a separator.
    A word is only taken for the weekday when it is the date's own, so that "Sun" may begin a sentence.
    """
    for pattern in (_STAMPED, _STAMPED_PLAIN):
        if match := pattern.match(text):
            try:
                time = parse_date(match[2])
            except ValueError:
                return None, text
            word = (match[3] or "").lower()
            if not word or (len(word) >= 3 and _DAYS[time.weekday()].startswith(word)):
                return time, text[match.end() :]
    return None, text

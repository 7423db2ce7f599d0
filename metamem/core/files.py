"""Writing files so that a reader, or a process killed at any moment, never sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from metamem.core.errors import DataError, UserError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.new")


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step. Raises `UserError` when the disk is full or the place cannot be written."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Replace `path` by JSON rows, one a line, in one step; only one of them is held at a time. Raises `UserError` as
    `write_atomically` does.
    """
    _replace(path, (_line(row) for row in rows))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step. Raises `UserError` as `write_atomically` does."""
    _replace(path, (data,))


def _line(row: Any) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = str(path.parent / temporary_name(path.name))
        with Path(temporary).open("xb") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def write_folder(folder: Path, fill: Callable[[Path], object], mark: str) -> Path:
    """Have `fill` write into a new folder that becomes `folder` when it is whole, and return that.

    Where another process was quicker, its folder stays: one that has the file `mark`. Raises OSError where `folder` is
    something else, or cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(unfinished)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            if not (folder / mark).is_file():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def temporary_name(name: str) -> str:
    """Return a name of its own for what becomes the file `name` when it is whole."""
    return f".{name}.{secrets.token_hex(4)}.new"


def is_temporary(path: Path) -> bool:
    """Whether a file is what a killed process left of one that it was writing."""
    return _TEMPORARY.fullmatch(path.name) is not None


def drop_temporary(folder: Path) -> None:
    """Remove what killed processes left in a folder in which nobody else writes now. Raises OSError."""
    for entry in folder.iterdir():
        if is_temporary(entry):
            entry.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole: indented, non-ASCII kept."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def append_lines(path: Path, rows: Iterable[Any]) -> int:
    """Append JSON rows, one a line, in one write; returns the file's size after it in bytes.

    A write that fails half-way is cut off again. Raises `UserError` when the disk is full or the place cannot be
    written.
    """
    data = b"".join(map(_line, rows))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            write_whole(handle, data)
            return os.fstat(handle).st_size
        finally:
            os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_whole(handle: int, data: bytes) -> int:
    """Append all of `data` to an open file or nothing of it; returns the offset it stands at. Raises OSError."""
    start = os.fstat(handle).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(handle, view) :]
    except OSError:
        os.ftruncate(handle, start)
        raise
    return start


def cannot_write(path: Path, error: OSError) -> UserError:
    """The message for a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"the disk is full: {path} could not be written. What was written before is intact; "
            "make room, or move everything with outputs=/other/place, and give the same command again."
        )
    return UserError(f"cannot write {path}: {error.strerror or error}")


def read_rows(path: Path) -> Iterable[Any]:
    """The JSON rows of a file; a last line without its end (a torn write) is left out.

    Raises `DataError` naming file and line where another one is damaged.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: damaged ({error})") from None


def file_digest(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return the JSON value in a file. Raises `DataError` when it is missing, cannot be read or is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: it holds no JSON that can be read ({error})") from None


def read_object(path: Path, *, absent: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON object in a file; where there is no file, a copy of `absent` if one is given.

    Raises `DataError` for a file that is missing, damaged, or holds something else.
    """
    if absent is not None and not path.exists():
        return dict(absent)
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: expected a JSON object, got {type(value).__name__}")
    return value

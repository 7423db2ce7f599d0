"""Content-addressed folders: written whole, verified when read, built by one job at a time.

In: a folder named by a hash, the name of its manifest, and its files as bytes. Out: the same bytes, or nothing when the
folder is missing, torn or altered. The manifest holds each file's size and hash, so that half an entry is never taken
for one, on whatever file system it stands and however its writer died.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from metamem.core.files import cannot_write

_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z]+")


def read_entry(folder: Path, manifest: str) -> dict[str, bytes] | None:
    """The files of an entry by name; None when it is missing or does not fit its manifest."""
    try:
        listed = json.loads((folder / manifest).read_bytes())["files"]
        contents = {}
        for name, facts in listed.items():
            # The name comes from a file: it must not lead out of the folder.
            if not _NAME.fullmatch(name):
                return None
            contents[name] = (folder / name).read_bytes()
            if sha256(contents[name]).hexdigest() != facts["sha256"]:
                return None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return contents


def write_entry(folder: Path, manifest: str, about: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Put an entry into place in one step, over a damaged one if there is any; the caller holds its lease.

    `about` says in the manifest what made the entry. Raises `UserError` when the disk is full or cannot be written, and
    `ValueError` for a file name that is not plain.
    """
    for name in (manifest, *contents):
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a plain file name: {name!r}")
    files = {n: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for n, data in contents.items()}
    text = json.dumps({**about, "files": files}, indent=1, sort_keys=True)
    temporary, damaged = (folder.with_name(folder.name + suffix) for suffix in (".tmp", ".old"))
    try:
        for left_over in (temporary, damaged):
            shutil.rmtree(left_over, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, data in {**contents, manifest: text.encode()}.items():
            (temporary / name).write_bytes(data)
        if folder.exists():
            folder.rename(damaged)
        temporary.rename(folder)
        shutil.rmtree(damaged, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise cannot_write(folder, error) from error


class Lease:
    """The right to build one entry. Held over processes by an OS lock, which a crash of its holder releases."""

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self._path = folder.with_name(folder.name + ".lock")
        # Taken and given back by whichever thread happens to run the builder.
        self._lock = FileLock(str(self._path), thread_local=False)

    def take(self) -> bool:
        """Take the lease unless another holds it; does not wait. Raises `UserError` when its file cannot be written."""
        from filelock import Timeout

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:  # an OSError too
            return False
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return True

    def give_back(self) -> None:
        """End the lease."""
        self._lock.release()


class LocalLease:
    """The same within one process, for a store without files: `held` is the set of names under construction."""

    def __init__(self, name: str, held: set[str]) -> None:
        self._name, self._held = name, held

    def take(self) -> bool:
        """Take the lease unless another holds it; does not wait."""
        if self._name in self._held:
            return False
        self._held.add(self._name)
        return True

    def give_back(self) -> None:
        """End the lease."""
        self._held.discard(self._name)

"""`metamem du | verify | rm`: what runs take on the disk, whether it is whole, and removing what only some need.

In: a folder of outputs and runs in it. Out: lines on standard output; for `verify` the number of damaged places.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from metamem.backbones.journal_rows import damaged_rows
from metamem.core.checkpoints import load_checkpoint
from metamem.core.errors import UserError
from metamem.core.files import read_json, read_rows
from metamem.reporting.console.text import open_console, say, several
from metamem.runs.directory import PROGRESS, find_checkpoints, lock_of, read_result
from metamem.runs.uses import read_uses

# Size of a run's directory, of its journal, of what it uses of the memory store.
_KINDS = ("run", "replies", "memories")


def disk_use(outputs: Path, runs: Sequence[Path]) -> None:
    """Print what each run takes, largest last, and what all of the folder takes."""
    console = open_console()
    rows = []
    for place in runs:
        sizes = (
            _size(place),
            _size(_journal(place)),
            sum(_size(outputs / "memory" / p) for p in read_uses(place).stored),
        )
        rows.append((sizes, f"{place.parent.name}/{place.name}"))
    say(console, f"{'':>9}  {'  '.join(f'{kind:>9}' for kind in _KINDS)}", "dim")
    for sizes, name in sorted(rows, key=lambda row: sum(row[0])):
        say(console, "  ".join(f"{told(size):>9}" for size in (sum(sizes), *sizes)) + f"  {name}")
    say(
        console,
        f"{told(_size(outputs)):>9}  {outputs}, all of it; memories that runs share are counted with each",
        "bold",
    )


def verify(place: Path) -> int:
    """Read all of a run, say what is damaged, and return how many places are; nothing is changed."""
    console = open_console()
    found: list[str] = []

    def attempt(work: Callable[[], Any]) -> None:
        try:
            work()
        except UserError as error:
            found.append(str(error))

    if (place / "result.json").exists():
        attempt(lambda: read_result(place))
    for path in find_checkpoints(place):
        attempt(lambda path=path: load_checkpoint(path, "checkpoint"))  # type: ignore[misc]
    # How far a run was when it was killed is written in place, and nobody builds on it.
    for path in (p for p in sorted(place.glob("*.json")) if p.name not in ("result.json", PROGRESS)):
        attempt(lambda path=path: read_json(path))  # type: ignore[misc]
    for path in sorted(place.glob("*.jsonl")):
        attempt(lambda path=path: Counter(type(row) for row in read_rows(path)))  # type: ignore[misc]
    rows = 0
    for segment in sorted(_journal(place).glob("*.jsonl")):
        lines = segment.read_bytes().count(b"\n")
        rows += lines
        # A last line without its end is what a kill leaves: it was never anybody's reply.
        damaged = [n for n in damaged_rows(segment) if n <= lines]
        found += [f"{segment}, line {n}: not as it was written; its reply will be asked for again" for n in damaged]
    for line in found:
        say(console, line, "red")
    say(console, f"{place.name}: {several(rows, 'row')} of its journal read, {several(len(found), 'damaged place')}")
    return len(found)


def remove(outputs: Path, runs: Sequence[Path], everything: Sequence[Path], ask: Callable[[str], bool]) -> None:
    """Remove runs with their replies and memories, as far as no other run (of `everything`) uses these; say what goes
    and what stays, and do nothing unless `ask` agrees. Raises `UserError` when a process works on one.
    """
    console = open_console()
    rest = [p for p in everything if p not in runs]
    # What a run without a list of what it uses may use is not known: it may use anything.
    used = [read_uses(p) for p in rest]
    replies = {j for use in used for j in use.journals}
    stored = {s for use in used for s in use.stored}
    unknown = [p for p, use in zip(rest, used, strict=True) if not use.known]
    going: list[Path] = []
    for place in runs:
        going.append(place)
        journal = _journal(place)
        needed = f"{place.parent.name}/{journal.name}" in replies or any(p.parent == place.parent for p in unknown)
        own = [outputs / "memory" / s for s in read_uses(place).stored if s not in stored and not unknown]
        if journal.is_dir() and not needed:
            going.append(journal)
        elif journal.is_dir():
            say(console, f"stays  {told(_size(journal)):>9}  {journal} (another run may use its replies)", "dim")
        going += [p for p in own if p.is_dir()]
    going = list(dict.fromkeys(going))
    for path in going:
        say(console, f"goes   {told(_size(path)):>9}  {path}")
    if not ask(f"Remove {several(len(runs), 'run')}, {told(sum(map(_size, going)))}?"):
        say(console, "nothing was removed")
        return
    for place in runs:
        lock = lock_of(place)
        try:
            # The manifest last: what is killed in between is still a run, and can be removed again.
            for path in sorted(place.iterdir(), key=lambda p: p.name == "manifest.json"):
                if path.name != ".lock":
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        finally:
            lock.release()
    for path in going:
        shutil.rmtree(path, ignore_errors=True)
    for folder in {p.parent for p in runs}:
        if (latest := folder / "latest").is_symlink() and not latest.exists():
            latest.unlink()


def told(size: int) -> str:
    """A number of bytes, such as 1.4 MB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, {"B": "kB", "kB": "MB", "MB": "GB", "GB": "TB"}[unit]
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _journal(place: Path) -> Path:
    return place.parent / "journal" / place.name.rpartition("-")[2]


def _size(path: Path) -> int:
    files: Iterable[Path] = path.rglob("*") if path.is_dir() else ()
    return sum(f.lstat().st_size for f in files if f.is_file() and not f.is_symlink())

"""A run's directory: its identity, lock, manifest, checkpoints and files, and how it is found again and continued.

In: resolved options and fingerprints of everything that can change a result. Out: a `Run`, locked for this process,
positioned behind its last checkpoint. Files are replaced whole, or appended and cut back to the last checkpoint when
the run is continued, so that a run killed anywhere ends with the same files as one that was not.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import BaseConfig
from metamem.core.errors import ConfigError, DataError, UserError
from metamem.core.files import append_lines, drop_temporary, read_object, temporary_name, write_json
from metamem.core.json_form import to_json
from metamem.core.learned import Judged
from metamem.runs.identity import difference, fingerprint, git_revision, run_identity, slug
from metamem.runs.uses import read_uses

CHECKPOINTS = "checkpoints"
# How far a run is, while a process works on it (`tracking.progress`).
PROGRESS = ".progress.json"

# The forms of result.json that are read; the last is the one that is written.
FORMATS = (1,)

# So many commands of a finished run have its judge asked again for verdicts that could not be read: what it cannot say
# then, it will not.
MOST_ASKED_AGAIN = 10

LOGS = (
    *("attempts.jsonl", "verdicts.jsonl", "metrics.jsonl", "steps.jsonl", "questions.jsonl"),
    *("perplexity.jsonl", "likelihood.jsonl", "memories.jsonl", "drafts.jsonl", "attacked.jsonl", "guarded.jsonl"),
)

# What a run may hold, in the order in which starting over removes it: the result first, so that a kill in between
# leaves an unfinished run, and the manifest last, which says whose directory it is.
OWN = (
    "result.json",
    "report.html",
    "worth.json",
    *LOGS,
    "review.jsonl",
    "timings.jsonl",
    "cases.jsonl",
    "worth.json",
    "split.json",
    "logs.json",
    "uses.json",
    "asked_again.json",
    CHECKPOINTS,
)

LAST = ("config.json", "manifest.json")


class Run:
    """A run's directory, held by this process until `close`."""

    def __init__(
        self,
        kind: str,
        config: BaseConfig,
        contents: Mapping[str, Any],
        overrides: Iterable[str],
        shown: BaseConfig | None = None,
    ) -> None:
        """Find or make the directory and lock it.

        `config` and `contents` make the identity; `shown` is the config to keep beside the results, where it says more.
        Raises `UserError` when another process holds it, when it belongs to another run (`run.dir`), or when an
        unfinished run meets other code (`run.on_drift`).
        """
        from filelock import FileLock

        self.id = run_identity(kind, config, contents)
        self.config = config
        self.shown = shown or config
        base = Path(config.outputs) / config.name
        try:
            base.mkdir(parents=True, exist_ok=True)
            # Two starts of one run at the same moment, spelled differently, must not make two directories.
            with FileLock(base / f".{self.id}.lock"):
                known = sorted(base.glob(f"*-{self.id}"))
                default = known[0] if known else base / f"{slug(overrides, config)}-{self.id}"
                self.directory = Path(config.run.dir) if config.run.dir else default
                self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            key = "run.dir" if config.run.dir else "outputs"
            where = config.run.dir or base
            raise UserError(
                f"{key}: the run's directory cannot be made in {where}: {error.strerror or error}"
            ) from None
        self._lock = lock_of(self.directory)
        try:
            self._enter(kind, contents)
        except BaseException:
            self._lock.release()
            raise
        if not config.run.dir:
            _link(base / "latest", self.directory)

    def _enter(self, kind: str, contents: Mapping[str, Any]) -> None:
        # Nobody else writes here while this process holds the lock.
        for folder in (self.directory, self.directory / CHECKPOINTS):
            if folder.is_dir():
                drop_temporary(folder)
        write_json(self.directory / ".holder", {"process": os.getpid(), "host": socket.gethostname()})
        manifest = read_object(self.directory / "manifest.json", absent={})
        if manifest and manifest.get("id") != self.id:
            raise ConfigError(
                f"run.dir: {self.directory} holds another run ({manifest.get('id')}; this one is {self.id}). "
                "Choose an empty directory, or the same options as that run."
            )
        strange = [e.name for e in self.directory.iterdir() if e.name not in (".lock", ".holder")]
        if not manifest and strange and not _begun(strange):
            raise ConfigError(
                f"run.dir: {self.directory} is not a run's directory (it holds {sorted(strange)[0]}); "
                "nothing was changed. Choose an empty one."
            )
        if self.config.run.force:
            for name in (*OWN, *LAST):
                entry = self.directory / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
            manifest = {}
        now = fingerprint()
        if manifest and not self.finished and manifest.get("fingerprint") != now:
            changed = difference(manifest.get("fingerprint", {}), now)
            if self.config.run.on_drift.value == "error":
                raise ConfigError(
                    f"{self.directory} was begun by other code: {changed}. "
                    "Continue all the same with run.on_drift=continue, or start over with run.force=true."
                )
            manifest.setdefault("drift", []).append({"from": manifest.get("fingerprint"), "to": now})
            manifest["fingerprint"] = now
            write_json(self.directory / "manifest.json", manifest)
        if not manifest:
            manifest = {
                "id": self.id,
                "kind": kind,
                "contents": dict(contents),
                "fingerprint": now,
                "git": git_revision(),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "host": socket.gethostname(),
            }
            write_json(self.directory / "config.json", plain(self.shown))
            write_json(self.directory / "manifest.json", manifest)
        self.manifest = manifest
        self.notes: list[Callable[[], None]] = []

    @property
    def finished(self) -> bool:
        """Whether the run has its result. Raises `DataError` for a file in its place that is no result."""
        return (self.directory / "result.json").exists() and bool(self.result())

    def result(self) -> dict[str, Any]:
        """Return the stored result of a finished run. Raises `DataError` also for one that is not this run's."""
        result = read_result(self.directory)
        if result.get("id") != self.id or not isinstance(result.get("figures"), dict):
            raise DataError(
                f"{self.directory / 'result.json'} is not the whole result of this run (its 'id' is "
                f"{result.get('id')!r}). Remove the file: the same command makes it again from what is stored"
            )
        return result

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Store the result and return what was stored: the run is finished.

        What else must be known of it is written before (`notes`).
        """
        self._note()
        served = sorted(read_uses(self.directory).served)
        stored = {**result, **({"served": served} if served else {})}
        write_json(self.directory / "result.json", stored)
        return stored

    def _note(self) -> None:
        for note in self.notes:
            note()

    @property
    def asked_again(self) -> int:
        """How often judges were asked again for what could not be read in the finished run."""
        return int(read_object(self.directory / "asked_again.json", absent={}).get("times", 0))

    def take_back(self, asked_again: int) -> None:
        """Remove the result, and with it what was made of it: the run is unfinished again.

        `asked_again` says how often judges will have been asked again when it is finished.
        """
        write_json(self.directory / "asked_again.json", {"times": asked_again})
        for name in ("result.json", "report.html"):
            (self.directory / name).unlink(missing_ok=True)

    def checkpoints(self) -> list[Path]:
        """The stored checkpoints, first to last step."""
        return find_checkpoints(self.directory)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of a step stands."""
        return self.directory / CHECKPOINTS / f"step_{step:04d}.json"

    def append(self, log: str, rows: Iterable[Any]) -> None:
        """Append rows to one of the run's logs."""
        append_lines(self.directory / log, rows)

    def sizes(self) -> dict[str, int]:
        """The logs' sizes in bytes; kept in a checkpoint."""
        return {log: (self.directory / log).stat().st_size if (self.directory / log).exists() else 0 for log in LOGS}

    def keep_sizes(self, step: int) -> None:
        """Note the logs' sizes before a step's checkpoint is written. They stand apart from it: how samples are packed
        into calls shows in the logs' bytes, and must not show in a checkpoint's.

        What else must be known of the run is written, too (`notes`): a step that is kept is not done again.
        """
        self._note()
        kept = read_object(self.directory / "logs.json", absent={})
        # Of a step that was begun twice and never kept there is an entry, but no checkpoint: the one before it counts.
        standing = {s: sizes for s, sizes in kept.items() if s.isdecimal() and self.checkpoint_path(int(s)).exists()}
        write_json(self.directory / "logs.json", {**dict(list(standing.items())[-1:]), str(step): self.sizes()})

    def kept_sizes(self, step: int) -> dict[str, int]:
        """The logs' sizes at a checkpoint."""
        sizes = read_object(self.directory / "logs.json", absent={}).get(str(step))
        if not isinstance(sizes, dict) or not all(type(size) is int for size in sizes.values()):
            raise UserError(
                f"{self.directory / 'logs.json'} does not know step {step}. Start over with run.force=true."
            )
        return sizes

    def rewind(self, sizes: Mapping[str, int]) -> None:
        """Cut the logs back to what they were at a checkpoint. Raises `UserError` when one is shorter than it was."""
        for log in LOGS:
            path = self.directory / log
            size = sizes.get(log, 0)
            actual = path.stat().st_size if path.exists() else 0
            if actual < size:
                raise UserError(
                    f"{path} is shorter than at the last checkpoint: it was changed from outside. "
                    "Start over with run.force=true."
                )
            if actual > size:
                os.truncate(path, size)

    def close(self) -> None:
        """Let go of the directory; safe to call twice."""
        self._lock.release()


def lock_of(directory: Path) -> Any:
    """Return the lock of a run's directory, taken; it is let go by `release` or by the end of a `with`.

    Raises `UserError` when another process holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = read_object(directory / ".holder", absent={})
        who = f" (process {holder.get('process')} on {holder.get('host')})" if holder else ""
        raise UserError(f"{directory} is in use by another process{who}. Wait for it, or give run.dir=OTHER.") from None
    except OSError as error:
        raise UserError(f"cannot lock {directory}: {error.strerror}") from None
    return lock


def read_result(directory: Path) -> dict[str, Any]:
    """Return the result of a finished run.

    Raises `DataError` for a run that is not finished, and for a file that is damaged or of another format.
    """
    path = directory / "result.json"
    if not path.exists():
        raise DataError(f"{directory} is not finished: give its command again to finish it")
    result = read_object(path)
    if result.get("format") not in FORMATS:
        raise DataError(
            f"{path} is no result of a run that this version can read: its 'format' is {result.get('format')!r}, "
            f"expected {' or '.join(map(str, FORMATS))}. Start over with run.force=true, or remove the file"
        )
    return result


def find_checkpoints(directory: Path) -> list[Path]:
    """A run's checkpoints in the order of their steps."""
    found = (directory / CHECKPOINTS).glob("step_*.json")
    return sorted(found, key=lambda p: (len(p.stem), p.stem))


def _begun(names: Iterable[str]) -> bool:
    """Whether these are what a run leaves that was killed before its manifest was written."""
    return all(n in (*OWN, *LAST) or n.startswith(".") for n in names)


def _link(link: Path, run: Path) -> None:
    """Point `latest` to the newest run, which is held. A place without symbolic links goes without."""
    temporary = run / temporary_name("latest")
    try:
        temporary.symlink_to(run.name)
        os.replace(temporary, link)
    except OSError:
        temporary.unlink(missing_ok=True)


def evaluation_rows(run: Run, judged: Sequence[Judged]) -> None:
    """Append the attempts and verdicts of an evaluation to the run's logs."""
    run.append("attempts.jsonl", [to_json(a) for j in judged for a in j.attempts])
    run.append("verdicts.jsonl", [to_json(v) for j in judged for v in (*j.verdicts, *j.other_verdicts)])

"""A sweep's ledger: every job leaves a line, whatever process it ran in; at the end all of them are shown.

In: the outcome of each job. Out: a table of all jobs, failed ones named with their reason.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

from metamem.files import write_json

_PLACE = "METAMEM_SWEEP_LEDGER"


@dataclass
class JobOutcome:
    """What one job did; filled while it runs."""

    sweeping: bool
    result: dict[str, Any] = field(default_factory=dict)

    def finished(self, result: Mapping[str, Any]) -> None:
        """Keep of a result what the summary shows."""
        self.result = {k: result.get(k) for k in ("directory", "score", "headline", "stamps")}


class Sweep:
    """The ledger as the process that started the sweep sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def begin(cls) -> Sweep:
        """Open a ledger that this process's jobs, and those of its child processes, find through the environment."""
        folder = Path(tempfile.mkdtemp(prefix="metamem-sweep-"))
        os.environ[_PLACE] = str(folder)
        return cls(folder)

    def end(self) -> None:
        """Print the summary and remove the ledger."""
        rows = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(self.folder.glob("*.json"))]
        os.environ.pop(_PLACE, None)
        rmtree(self.folder, ignore_errors=True)
        if rows:
            from metamem.tracking.tables import print_sweep

            print_sweep(sorted(rows, key=lambda r: r["number"]))


@contextmanager
def record_job() -> Iterator[JobOutcome]:
    """Record the job that runs inside: done or failed, its overrides, its result or its error."""
    place = os.environ.get(_PLACE)
    outcome = JobOutcome(sweeping=place is not None)
    if place is None:
        yield outcome
        return
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    number = int(hydra.job.num)
    row: dict[str, Any] = {"number": number, "overrides": list(hydra.overrides.task), "status": "failed", "error": ""}
    print(f"\njob {number}: {' '.join(row['overrides']) or 'defaults'}")
    try:
        yield outcome
        row |= {"status": "done", **outcome.result}
    except BaseException as error:
        row["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        row["error"] = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise
    finally:
        write_json(Path(place) / f"{number:06d}.json", row)

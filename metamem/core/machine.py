"""What this machine has: GPUs, their memory, the host's memory, and what its processor can do.

In: nothing but the machine. Out: small facts, found without touching CUDA and without importing torch, since whoever
asks has not decided yet what to start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MIB = 2**20


@dataclass(frozen=True)
class GPU:
    """A GPU as the driver lists it. `capability` is CUDA's compute capability, such as 9.0."""

    name: str
    memory: int  # bytes
    capability: float


def visible_gpus() -> tuple[int, ...]:
    """The GPUs that this process may use, counted from 0 as CUDA does."""
    return tuple(range(len(gpus())))


def gpus() -> tuple[GPU | None, ...]:
    """The GPUs that this process may use, in CUDA's order; None for one that the driver does not describe."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = _listed()
    if visible is None:
        return listed
    named = [v.strip() for v in visible.split(",") if v.strip() and v.strip() != "-1"]
    return tuple(listed[int(v)] if v.isdigit() and int(v) < len(listed) else None for v in named)


def host_memory() -> int:
    """Bytes of memory that this process's machine, or its container, may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


@cache
def _listed() -> tuple[GPU | None, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    if listed.returncode:
        return ()
    return tuple(_read(line) for line in listed.stdout.splitlines() if line.strip())


def _read(line: str) -> GPU | None:
    name, _, rest = line.partition(",")
    memory, _, capability = rest.partition(",")
    try:
        return GPU(name.strip(), int(float(memory)) * MIB, float(capability))
    except ValueError:  # [N/A], as on machines whose GPU shares the host's memory
        return None

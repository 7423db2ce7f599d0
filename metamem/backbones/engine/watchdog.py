"""A vLLM plugin (group `vllm.general_plugins`) that keeps an engine's processes from outliving the experiment.

vLLM calls `watch` in its core process and in every worker. In those that belong to an engine of ours it sends what they
print to the engine's log file and ends them when the process that started them is gone, however that ended: a killed
parent leaves them running otherwise (vLLM issue 55510). Elsewhere it does nothing. Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time

# Set for an engine's processes while they are started: the owner's process id, and where they are to write.
OWNER, LOG = "METAMEM_ENGINE_OWNER", "METAMEM_ENGINE_LOG"
INTERVAL = 0.25  # seconds between two looks

_watching = False


def watch() -> None:
    """Begin to watch, in a process of an engine; may be called again."""
    global _watching
    owner = os.environ.get(OWNER, "")
    if _watching or not owner.isdigit() or int(owner) == os.getpid():
        return
    _watching = True
    if log := os.environ.get(LOG):
        _write_to(log)
    parent = multiprocessing.parent_process()
    expected = parent.pid if parent is not None and parent.pid is not None else os.getppid()
    threading.Thread(target=_wait, args=(expected,), name="metamem-watchdog", daemon=True).start()


def _wait(parent: int) -> None:
    # The kernel gives an orphan another parent at once, also while the dead one is still a zombie. A worker's parent is
    # the core process, so the chain ends from its top.
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os._exit(1)


def _write_to(path: str) -> None:
    with contextlib.suppress(OSError):  # a log that cannot be written is no reason to stop
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

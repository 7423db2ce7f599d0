"""What this machine's GPUs make of the project: one command of at most ten minutes, a table and a JSON file.

    python experiments/benchmarks/gpu.py [--only NAME ...] [--list] [--out outputs/gpu.json] [--again] [--tiny]

Each measurement runs in a process of its own with a limit of its own, so that one that crashes or hangs loses nothing
of the others; what it has found by then stands in the file. The same command goes on with what is not done yet
(`--again`: all of it anew). What this machine lacks is skipped, with its reason. `--tiny` measures next to nothing with
the tiny model, to see on a machine without a GPU that the command works. What is measured: `gpu_measures.py`. Ends with
exit code 1 when a measurement fails or misses its bound.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in place of this folder, whose files are named as packages are

MINUTES = 9.5  # for all of it
LEAST = 20.0  # seconds below which nothing is begun
_BUSY = 4  # with --tiny a limit is so many times longer: processors that others use, too


@dataclass(frozen=True)
class Measurement:
    """What can be measured: its limit in seconds, the packages that it takes, whether it means anything without a GPU
    (with `--tiny`), and the bounds of its figures.
    """

    about: str
    limit: float
    packages: tuple[str, ...] = ()
    anywhere: bool = False
    at_least: Mapping[str, float] = field(default_factory=dict)


_TRAINER = ("trl", "peft")
# What matters most comes first: time may run out.
MEASUREMENTS: dict[str, Measurement] = {
    "install": Measurement("versions, devices and memory", 90, anywhere=True),
    "answering": Measurement(
        "500 questions x 5 attempts by smollm2, over a bare LLM.generate", 240, ("vllm",), True, {"ratio": 0.95}
    ),
    "qwen3_4b": Measurement("the preset with random weights: start, memory, tokens", 180, ("vllm",)),
    "embedding": Measurement("all-MiniLM-L6-v2 in batches, over text by text", 90, ("sentence_transformers",), True),
    "compression": Measurement("LLMLingua-2 in batches, over text by text", 90, ("llmlingua", "bpe_openai"), True),
    "grpo": Measurement("updates of smollm2's low-rank changes a minute", 180, _TRAINER, True),
    "nano": Measurement("updates of all of nano's weights a minute, and its reward", 120, _TRAINER),
    "turns": Measurement("two engines that take turns, asleep or ended meanwhile", 300, ("vllm",)),
    "device_ids": Measurement("an engine on the GPU that it is given", 120, ("vllm",)),
    "qwen3_30b": Measurement("the preset in fp8 on one GPU with random weights", 300, ("vllm",)),
}


def lacking(measurement: Measurement, tiny: bool) -> str:
    """Why a measurement cannot be made here; empty where it can."""
    from metamem.backbones.engine.devices import cpu_build
    from metamem.core.machine import gpus

    for package in measurement.packages:
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed"
    if measurement.anywhere and (tiny or not measurement.packages):
        return ""
    if not gpus():
        return "no NVIDIA GPU is visible" + (" (--tiny measures it without)" if measurement.anywhere else "")
    if "vllm" in measurement.packages and cpu_build():
        return "the installed vLLM is built for processors: install the extra gpu"
    return ""


def limited(command: Sequence[str], log: Path, seconds: float) -> str:
    """Run a command in a session of its own for at most so long; return how it went wrong, empty where it did not."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True, cwd=ROOT)
        try:
            code = process.wait(seconds)
            said = "" if code == 0 else f"exit code {code}: {last_words(log)}"
        except subprocess.TimeoutExpired:
            said = f"not done after {seconds:.0f} s: {last_words(log)}"
        finally:
            # Its engines are of its session.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
    return said


def last_words(log: Path) -> str:
    """The last lines of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(line.strip() for line in lines[-3:])[-600:]


class Results:
    """The JSON file: what was measured, by name; written anew after each."""

    def __init__(self, file: Path, tiny: bool) -> None:
        from metamem.core.machine import gpus

        machine = {"gpus": [gpu.name if gpu else "unknown" for gpu in gpus()], "tiny": tiny}
        held = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"machine": machine}
        if held["machine"] != machine:
            raise SystemExit(f"{file} was measured on {held['machine']}, and this is {machine}: name another --out")
        self.file, self.held = file, held
        self.measured: dict[str, dict[str, Any]] = held.setdefault("measurements", {})

    def done(self, name: str) -> bool:
        """Whether it need not be measured again."""
        return self.measured.get(name, {}).get("state") == "done"

    def keep(self, name: str, state: str, reason: str, seconds: float, figures: Mapping[str, Any]) -> None:
        """Keep what was found, and write the file."""
        from metamem.core.files import write_json

        row = {"state": state, "seconds": round(seconds, 1), "figures": dict(figures)}
        self.measured[name] = {**row, **({"reason": reason} if reason else {})}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, self.held)


def measure(name: str, results: Results, tiny: bool, left: float) -> None:
    """Make one measurement, and keep what it found."""
    measurement = MEASUREMENTS[name]
    if reason := lacking(measurement, tiny):
        results.keep(name, "skipped", reason, 0.0, {})
        return
    if left < LEAST:
        results.keep(name, "skipped", "no time was left: give the same command again", 0.0, {})
        return
    with tempfile.TemporaryDirectory(prefix="metamem-gpu-") as place:
        figures, log = Path(place) / "figures.json", Path(place) / "log"
        command = [sys.executable, str(Path(__file__).with_name("gpu_measures.py")), name, place, str(figures)]
        began = time.monotonic()
        limit = min(measurement.limit * (_BUSY if tiny else 1), left)
        wrong = limited([*command, *(["--tiny"] if tiny else [])], log, limit)
        found = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
        results.keep(name, "failed" if wrong else "done", wrong, time.monotonic() - began, found)


def table(results: Results, names: Sequence[str]) -> list[str]:
    """The lines of the table: a measurement with its state, and its figures below it."""
    lines = []
    for name in names:
        row = results.measured.get(name)
        if row is None:
            continue
        reason = f": {row['reason']}" if "reason" in row else f", {row['seconds']:.0f} s"
        lines.append(f"{name:12} {row['state']}{reason}")
        for figure, value in row["figures"].items():
            least = MEASUREMENTS[name].at_least.get(figure)
            lines.append(f"    {figure:32} {value}" + (f"  (at least {least})" if least is not None else ""))
    return lines


def missed(results: Results, names: Sequence[str], tiny: bool) -> list[str]:
    """The measurements that failed, and those below a bound; tiny ones have none."""
    found = [n for n in names if results.measured.get(n, {}).get("state") == "failed"]
    for name in names if not tiny else ():
        figures = results.measured.get(name, {}).get("figures", {})
        if any(figures.get(figure, least) < least for figure, least in MEASUREMENTS[name].at_least.items()):
            found.append(name)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; 1 when something failed or missed its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), default=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="say what can be measured here, and end")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "gpu.json")
    parser.add_argument("--again", action="store_true", help="measure what is done already anew")
    parser.add_argument("--tiny", action="store_true", help="next to nothing, with the tiny model")
    given = parser.parse_args(arguments)
    if given.list:
        for name, measurement in MEASUREMENTS.items():
            reason = lacking(measurement, given.tiny)
            print(f"{name:12} {measurement.about}" + (f"\n{'':12} skipped here: {reason}" if reason else ""))
        return 0
    began = time.monotonic()
    results = Results(given.out, given.tiny)
    for name in given.only:
        if given.again or not results.done(name):
            measure(name, results, given.tiny, MINUTES * 60 - (time.monotonic() - began))
        print("\n".join(table(results, [name])), flush=True)
    print(f"kept in {given.out}")
    return int(bool(missed(results, given.only, given.tiny)))


if __name__ == "__main__":
    sys.exit(main())

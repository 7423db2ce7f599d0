"""Kill programs at random, give each command again until it is done, and compare its end with an undisturbed one.

    python experiments/benchmarks/kills.py --kills 200 [--seed 0] [--state kills.json] [--only training sweep ...]

Each round takes one of the programs below, kills it (SIGKILL) at random moments, starts it again with the same command
after every kill, and then asks: do all files hold what they hold after an undisturbed run (results, checkpoints,
attempts, verdicts, tables, reports, banks)? Is a file left that an undisturbed run does not leave, or a process? Was a
reply paid twice? Models stand behind a local server that counts what it delivers: a process that was killed may have
received at most as many calls as it has in flight without storing them, one that ended by itself none.

Measured: 220 kills in 23 rounds (the first nine programs below, seeds 0 and 1): the same end every time, no file and no
process left, 42 replies paid twice, all of them in flight at a kill.

Rounds are kept in the state file as they end: the same command goes on where it was stopped, and does nothing when the
kills are done. It prints a table; exit code 1 when a round ended otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Not the folder of this script: modules of the same names as packages stand in it.
sys.path[0] = str(ROOT)

IN_FLIGHT = 7
MOST_KILLS = 15  # of one round, so that all programs get their share
SMALL = ("optimizer.batch_size=8", "optimizer.attempts=3")
HASHING = ("embedder=hashing", "limit=8", "split=all", "part=all")
LIGHT = ("memory.sensory_tokens=60", "memory.short_term_tokens=60", "memory.messages_use=hybrid", "memory.update=true")
# A folder of its own: as it stands, each start of a sweep has one, named by the time.
SWEEP = ("-m", *SMALL, "train_questions=8", "seed=1,2", "hydra.sweep.dir=${outputs}/sweep")

# What is killed: the program and its overrides.
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "training": ("train", *SMALL, "split.validation=0.15"),
    "gated training": ("train", *SMALL, "train_questions=16", "split.validation=0.15", "accept=validation"),
    "folds": ("train", *SMALL, "train_questions=8", "split.fold=all"),
    "evaluation": ("eval", "part=all", "evaluator.llm_judge.repeats=2"),
    "lightmem": ("eval", *HASHING, "memory=lightmem", *LIGHT),
    "mem0": ("eval", *HASHING, "memory=mem0"),
    "memalpha": ("eval", *HASHING, "memory=memalpha", "retriever=memalpha"),
    "sweep": ("train", *SWEEP),
    "study": ("train", "experiment=[quick,data_scale]", "split.fold=0", "train_questions=8,16", "seed=42,43"),
    "sweep of two processes": ("train", *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
}

# Those that mostly wait for other processes: their moments are by the clock.
BY_TIME = ("sweep of two processes",)

# What says when something was done, or by which process: whole files, keys of results, parts of reports.
PASSING_FILES = ("timings.jsonl", "test_reads.jsonl", "uses.json", ".holder", "results.parquet")
PASSING_TIMES = frozenset({"seconds", "about.json"})  # a bank knows the digest of its costs, with their seconds
PASSING_KEYS = PASSING_TIMES | {"calls", "built", "reused"}
PASSING_COLUMNS = ("_calls", "_prompt_tokens", "_completion_tokens")  # of the process that finished a run
PASSING_PARTS = re.compile(r'<section id="cost">.*?</section>', re.DOTALL)


@dataclass
class Round:
    """What became of one program that was killed until it ended."""

    program: str
    number: int
    kills: int = 0
    differing: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    processes: int = 0
    paid_twice: int = 0
    beyond: int = 0
    broke: str = ""

    @property
    def good(self) -> bool:
        """Whether it ended as if nothing had happened."""
        return not (self.differing or self.lacking or self.left or self.processes or self.beyond or self.broke)


class Programs:
    """The programs, the server behind them and the ends of undisturbed runs."""

    def __init__(self, place: Path, seed: int) -> None:
        from tests.server import Server
        from tests.simulated_server import simulated_reply

        self._outputs, self._log, self._seed = place / "outputs", place / "delivered.jsonl", seed
        self._printed = place / "printed.txt"
        self._server = Server(simulated_reply(), delay=0.01, keep_calls=False, log=self._log)
        self._ends: dict[str, tuple[dict[str, str], float]] = {}
        # Processes are forked from one that has imported what they need, which takes longer than their work.
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(
            ["metamem.cli.main", "metamem.programs.train", "pandas", "openai", "bm25s"]
        )

    def __enter__(self) -> Programs:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def round(self, name: str, number: int, most: int) -> Round:
        """Kill the program at most so many times, then let it end. Returns what came of it."""
        whole, seconds = self._ends.get(name) or self._undisturbed(name)
        rng = random.Random(f"{self._seed}/{name}/{number}")
        done = Round(name, number)
        self._begin()
        while True:
            paid = self._paid()
            code, processes, _ = self._start(name, rng.uniform(0, seconds) if done.kills < most else math.inf)
            twice = self._paid() - paid
            done.processes += processes
            done.paid_twice += twice
            if name not in BY_TIME:
                done.beyond += max(0, twice - (0 if code == 0 else self._most_in_flight()))
            if code == 0:
                break
            if code != -signal.SIGKILL:
                done.broke = f"exit code {code}: {self._printed.read_text(encoding='utf-8')[-600:]}"
                return done
            done.kills += 1
        end = ends(self._outputs)
        done.lacking = sorted(whole.keys() - end.keys())
        done.left = sorted(end.keys() - whole.keys())
        shared = sorted(end.keys() & whole.keys())
        done.differing = [
            f"{name}: {first_difference(whole[name], end[name])}" for name in shared if end[name] != whole[name]
        ]
        return done

    def _undisturbed(self, name: str) -> tuple[dict[str, str], float]:
        """The files of a run that nobody kills, and the processor seconds that it took."""
        self._begin()
        code, _, seconds = self._start(name, math.inf)
        # Of several processes each asks for what it needs; one never asks for the same thing twice.
        if code or (self._paid() and name not in BY_TIME):
            printed = self._printed.read_text(encoding="utf-8")
            raise SystemExit(f"{name}: exit code {code}, {self._paid()} replies paid twice, undisturbed:\n{printed}")
        self._ends[name] = ends(self._outputs), seconds
        return self._ends[name]

    def _begin(self) -> None:
        shutil.rmtree(self._outputs, ignore_errors=True)
        if self._log.exists():
            os.truncate(self._log, 0)

    def _start(self, name: str, most: float) -> tuple[int, int, float]:
        """Start the program and kill it after so many seconds of a processor; return its exit code, how many processes
        it left and the seconds it took.
        """
        import psutil

        program, *given = PROGRAMS[name]
        given += ["backbone=openai", f"backbone.base_url={self._server.url}", "backbone.model=test-model"]
        given += [f"backbone.max_concurrency={IN_FLIGHT}", "backbone.identity=weights", f"outputs={self._outputs}"]
        process = self._processes.Process(target=run, args=(program, given, str(self._printed)))
        process.start()
        assert process.pid is not None
        began, taken = time.monotonic(), 0.0
        while process.is_alive():
            # How busy the machine is says nothing of how far a process is, unless it waits for its workers.
            with contextlib.suppress(psutil.Error):
                used = psutil.Process(process.pid).cpu_times()
                taken = time.monotonic() - began if name in BY_TIME else used.user + used.system
            if taken > most:
                process.kill()
            process.join(0.02)
        deadline = time.monotonic() + 20
        # Its workers notice that it is gone, and the server that nobody listens.
        while (left := in_session(process.pid)) + self._server.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.exitcode is not None
        return process.exitcode, left, taken

    def _paid(self) -> int:
        """How many of the replies that were delivered are in no journal, or were delivered before."""
        from tests.programs import journal_keys

        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        keys = journal_keys(self._outputs) if self._outputs.exists() else []
        return sum(len(json.loads(line)["samples"]) for line in lines) - len(set(keys))

    def _most_in_flight(self) -> int:
        """Samples of the calls that one process has under way at most."""
        largest = max((len(json.loads(line)["samples"]) for line in self._log.open(encoding="utf-8")), default=1)
        return IN_FLIGHT * largest


def run(program: str, given: Sequence[str], printed: str) -> None:
    """Be the program, in a session of its own."""
    from metamem.cli.main import run_program
    from tests.programs import environment

    os.setsid()
    os.environ.clear()
    os.environ.update(environment())
    with Path(printed).open("wb") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    sys.argv = [str(ROOT / "experiments" / f"{program}.py")]
    sys.exit(run_program(program, given))


def ends(outputs: Path) -> dict[str, str]:
    """The text of every file below `outputs` that does not depend on when and by which process it was written."""
    found = {}
    for folder, _, names in os.walk(outputs):
        for name in names:
            path = Path(folder) / name
            place = path.relative_to(outputs)
            if name.endswith(".lock") or name in PASSING_FILES or "journal" in place.parts:
                continue
            if name == "vectors.bin":
                found[str(place)] = "\n".join(sorted(vectors(path)))
                continue
            text = path.read_bytes().decode("utf-8", "backslashreplace")
            if name.endswith(".json"):
                passing = PASSING_KEYS if name == "result.json" else PASSING_TIMES
                kept = lambda held, passing=passing: {k: v for k, v in held.items() if k not in passing}  # noqa: E731
                text = json.dumps(json.loads(text, object_hook=kept), indent=1)
            elif name == "results.csv":
                rows = csv.DictReader(io.StringIO(text))
                text = json.dumps([{k: v for k, v in row.items() if not k.endswith(PASSING_COLUMNS)} for row in rows])
            elif name == "report.html":
                text = PASSING_PARTS.sub("", text)
            found[str(place)] = text
    return found


def vectors(path: Path) -> Iterator[str]:
    """Each text's key and vectors of a file of vectors, whose blocks are as texts came and as kills cut them."""
    from metamem.store.vectors import _FLOAT, _HEAD, _ROW

    held, at = path.read_bytes(), 0
    while at + _HEAD.size <= len(held):
        _, texts, rows, dimensions, _, _ = _HEAD.unpack_from(held, at)
        if at + _HEAD.size + texts * _ROW.size + rows * dimensions * _FLOAT > len(held):
            return  # a block that a kill has cut is nothing
        index, at = at + _HEAD.size, at + _HEAD.size + texts * _ROW.size
        for key, windows in _ROW.iter_unpack(held[index:at]):
            end = at + windows * dimensions * _FLOAT
            yield f"{key.hex()} {held[at:end].hex()}"
            at = end


def first_difference(expected: str, found: str) -> str:
    """Where two texts part, with some words of each."""
    at = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), len(found))
    return f"character {at:,}: {expected[max(0, at - 60) : at + 60]!r} became {found[max(0, at - 60) : at + 60]!r}"


def in_session(session: int) -> int:
    """How many processes belong to a session, dead ones that nobody has waited for aside."""
    import psutil

    count = 0
    for process in psutil.process_iter():
        try:
            count += os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.Error):
            continue
    return count


def rounds_to_go(done: Sequence[Round], names: Sequence[str], kills: int) -> Iterator[tuple[str, int, int]]:
    """The next rounds, in turn over the programs: name, number, and the kills that are left to do."""
    number = len(done)
    while (left := kills - sum(r.kills for r in done)) > 0:
        yield names[number % len(names)], number, min(left, MOST_KILLS)
        number += 1


def table(done: Sequence[Round]) -> str:
    """The rounds by program, as text."""
    titles = ("rounds", "kills", "other ends", "files left", "processes left", "paid twice", "beyond in flight")
    lines = [f"{'':24}" + "".join(f"{title:>18}" for title in titles)]
    for name in (*dict.fromkeys(r.program for r in done), "all"):
        chosen = [r for r in done if name in (r.program, "all")]
        counts: list[int] = [len(chosen), sum(r.kills for r in chosen)]
        counts += [sum(bool(r.differing or r.lacking or r.broke) for r in chosen), sum(len(r.left) for r in chosen)]
        counts += [sum(r.processes for r in chosen), sum(r.paid_twice for r in chosen), sum(r.beyond for r in chosen)]
        lines.append(f"{name:24}" + "".join(f"{count:>18,}" for count in counts))
    return "\n".join(lines)


def main() -> int:
    """Kill, print, and say by the exit code whether every end was the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how many in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("kills.json"), help="the rounds that are done, as JSON")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="these programs only")
    given = parser.parse_args()
    state: dict[str, Any] = json.loads(given.state.read_text(encoding="utf-8")) if given.state.exists() else {}
    if state.get("seed", given.seed) != given.seed:
        parser.error(f"{given.state} holds rounds of seed {state['seed']}; name another file")
    done = [Round(**row) for row in state.get("rounds", ())]
    with tempfile.TemporaryDirectory() as place, Programs(Path(place), given.seed) as programs:
        for name, number, left in rounds_to_go(done, given.only, given.kills):
            done.append(programs.round(name, number, left))
            new = given.state.with_suffix(".new")
            new.write_text(json.dumps({"seed": given.seed, "rounds": [asdict(r) for r in done]}, indent=1) + "\n")
            new.replace(given.state)
            if not done[-1].good:
                print(done[-1], flush=True)
    print(table(done))
    return 0 if all(r.good for r in done) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What a data set of gigabytes takes: LongMemEval-M, 500 questions over 500 sessions each, by dense retrieval and BM25.

    python experiments/benchmarks/scale.py --data longmemeval_s.json [--embedder minilm] [--varied] [--questions 25]
    python experiments/benchmarks/scale.py --file longmemeval_m.json
    python experiments/benchmarks/scale.py --small

The file is made of the questions and sessions of a smaller one (`haystacks.py`), and not kept. A run gathers the
evidence of all questions as `eval.py` does, in a process of its own:

killed     SIGKILL while texts are being embedded
continued  the same again to the end: what was embedded before is not embedded again
stored     the same again, with all vectors in the store: seconds to the first evidence and to the last
bm25       the same by BM25
raw        indexing over the embedder alone, by processor time: the same blocks of texts, in turn (alone: --throughput)

Printed are seconds by stage, the memory that the process and its children hold at most (RSS), and sizes on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Not the folder of this script: modules of the same names as packages stand in it.
sys.path[0] = str(ROOT)

from experiments.benchmarks.haystacks import POOL, Size, write_haystacks  # noqa: E402

SAMPLE = ROOT / "metamem" / "datasets" / "data" / "sample.json"
BLOCKS = 3  # that are embedded before the kill, and that indexing is compared on
SMALL = Size(8, 150, 500, varied=True)


class Watched:
    """A component that tells what it does, and is otherwise the component."""

    def __init__(self, component: Any) -> None:
        self._component = component

    def __getattr__(self, name: str) -> Any:
        return getattr(self._component, name)


class Embedder(Watched):
    """Says how many texts were embedded in how many seconds, and writes down which."""

    def __init__(self, component: Any, log: Path) -> None:
        super().__init__(component)
        self._log = log
        self.texts, self.seconds, self.again = 0, 0.0, 0
        self._before = set(log.read_text(encoding="utf-8").split()) if log.exists() else set()

    def embed(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """As every embedder."""
        from metamem.core.json_form import digest

        names = [digest(text) for text in texts]
        with self._log.open("a", encoding="utf-8") as log:
            log.write("".join(f"{name}\n" for name in names))
        began = time.perf_counter()
        made = self._component.embed(texts)
        self.seconds += time.perf_counter() - began
        self.texts += len(texts)
        self.again += len(self._before.intersection(names))
        return made  # type: ignore[no-any-return]


class Retriever(Watched):
    """Remembers when it had found something for the first time."""

    first = 0.0

    async def retrieve(self, *given: Any) -> Any:
        """As every retriever."""
        found = await self._component.retrieve(*given)
        self.first = self.first or time.time()
        return found


class Told:
    """A tracker that prints how many texts are embedded, for whoever waits to kill."""

    texts = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None

    def advance(self, what: str, count: int = 1) -> None:
        """As every tracker."""
        if what == "embedded":
            self.texts += count
            print(json.dumps({"embedded": self.texts}), flush=True)


def work(file: Path, place: Path, embedder: str, retrievers: Sequence[str], began: float) -> None:
    """Gather the evidence of all questions by each retriever, printing a line of JSON after each."""
    from metamem.cli.python import composed
    from metamem.pipeline.evidence import gather_evidence
    from metamem.pipeline.prepare import prepare

    for retriever in retrievers:
        given = [f"dataset.path={file}", "memory=turns", f"retriever={retriever}", f"embedder={embedder}", "split=all"]
        prepared = prepare(
            composed(
                "eval", ["dataset=longmemeval", "backbone=constant", "evaluator=[token_f1]", *given, f"outputs={place}"]
            )
        )
        loaded = time.time()
        watched = Embedder(prepared.embedder, place / "embedded.txt")
        finding = Retriever(prepared.retriever)
        prepared.embedder, prepared.retriever = watched, finding
        questions = prepared.questions("all")
        gathered = asyncio.run(gather_evidence(prepared, questions, Told()))
        done = time.time()
        row = {
            "retriever": retriever,
            "questions": len(questions),
            "units": gathered.memory["units"],
            "load": loaded - began,
            "first": finding.first - began,
            "evidence": done - loaded,
            "embedding": watched.seconds,
            "texts": watched.texts,
            "again": watched.again,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(row), flush=True)
        began = time.time()


def raw(file: Path, embedder: str, size: int) -> None:
    """Print what indexing takes over embedding alone, on the same blocks of `size` texts in turn: in processor time,
    which other work on the machine lengthens less than the clock's.
    """
    from metamem.core.registry import build, load_components
    from metamem.datasets.record_stream import read_records
    from metamem.store.store import MemoryStore

    load_components()
    model = build("embedder", {"name": embedder})
    texts: dict[str, None] = {}
    for record in read_records(file, "--file", "questions"):
        texts.update((t["content"], None) for session in record["haystack_sessions"] for t in session)
        if len(texts) > BLOCKS * size:
            break
    chosen = sorted(texts)
    random.Random(0).shuffle(chosen)
    model.embed(chosen[:32])
    ratios = []
    with tempfile.TemporaryDirectory() as place:
        store = MemoryStore(Path(place))
        for number in range(min(BLOCKS, max(1, len(chosen) // size))):
            block = chosen[number * size : (number + 1) * size]
            # Whichever is second finds a warmer machine: they take turns at it.
            if number % 2:
                alone = timed(model.embed, block)
            indexed = timed(store.vectors, model.identity(), block, model.embed)
            if not number % 2:
                alone = timed(model.embed, block)
            ratios.append(alone / indexed)
            print(f"  {len(block)} texts: {alone:.2f} s alone, {indexed:.2f} s indexed", flush=True)
    print(f"raw: indexing at {statistics.median(ratios):.3f} of the embedder's own throughput (at least 0.95)")


def timed(work: Callable[..., Any], *given: Any) -> float:
    """Processor seconds that a call takes."""
    began = time.process_time()
    work(*given)
    return time.process_time() - began


class Child:
    """A process that does a part, and the memory that it and its own children take at most."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, __file__, *arguments, "--began", str(time.time())]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.peak = 0.0
        self._watch = threading.Thread(target=self._sample)
        self._watch.start()

    def rows(self) -> Any:
        """Yield what it prints, line by line; raises when it fails."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)
        self._watch.join()
        if self.process.wait() > 0:
            raise SystemExit(f"{' '.join(self.process.args)} ended with {self.process.returncode}")  # type: ignore[arg-type]

    def _sample(self) -> None:
        while self.process.poll() is None:
            self.peak = max(self.peak, sum(map(held, family(self.process.pid))))
            time.sleep(0.1)


def family(pid: int) -> list[int]:
    """A process and all that come of it."""
    try:
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [pid, *(one for task in tasks for child in task.read_text().split() for one in family(int(child)))]
    except OSError:  # it has just ended
        return [pid]


def held(pid: int) -> float:
    """MiB that a process holds; none when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def measure(file: Path, place: Path, embedder: str, kill_at: int) -> bool:
    """Print what all parts take; returns whether nothing was embedded twice but what was under way at the kill."""
    from metamem.store.vectors import BLOCK

    part = ("--part", str(file), str(place), embedder)
    killed = Child(*part, "dense")
    kept = 0
    for row in killed.rows():
        kept = row.get("embedded", kept)
        if kept >= kill_at or "retriever" in row:
            killed.process.kill()
            break
    killed.process.wait()
    print(f"killed: with {kept:,} texts embedded; peak {killed.peak:.0f} MiB (under 2048)")
    good = kept >= kill_at
    for name, retrievers in (("continued", ["dense"]), ("stored", ["dense", "bm25"])):
        child = Child(*part, *retrievers)
        for row in child.rows():
            if "embedded" in row:
                continue
            again, expected = row["again"], BLOCK if name == "continued" else 0
            good = good and again <= expected and (name == "continued" or not row["texts"])
            label = name if row["retriever"] == "dense" else row["retriever"]
            print(f"{label}: {row['questions']} questions, {row['units']:,} units")
            print(f"  loaded after {row['load']:.1f} s, first evidence after {row['first']:.1f} s (stored: under 60)")
            print(f"  all evidence: {row['evidence']:.1f} s more, {row['embedding']:.1f} of them embedding")
            print(f"  {row['texts']:,} texts embedded, {again:,} of them again; peak {row['peak']:.0f} MiB", flush=True)
        print(f"{name}: peak {child.peak:.0f} MiB with all its children")
    for folder in sorted((place / "memory").iterdir()):
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        print(f"on disk: {folder.name} {size / 2**20:,.1f} MiB")
    return good


def main() -> int:
    """Make the file, measure, and say by the exit code whether anything was embedded that need not be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a LongMemEval file with whole haystacks, to make the big one of")
    parser.add_argument("--file", type=Path, help="the big file itself, where there is one")
    parser.add_argument("--embedder", default="minilm", help="minilm, or hashing, which needs no model")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--pool", type=int, default=POOL, help="sessions that all haystacks draw from")
    parser.add_argument("--varied", action="store_true", help="repeated sessions differ in their text too")
    parser.add_argument("--throughput", action="store_true", help="only compare indexing with embedding alone")
    parser.add_argument("--block", type=int, default=1024, help="texts that these two are given at a time")
    parser.add_argument("--small", action="store_true", help="a few seconds, on the package's own sample")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    given, retrievers = parser.parse_known_args()
    if given.part:
        file, place, embedder, first = given.part
        work(Path(file), Path(place), embedder, [first, *retrievers], given.began)
        return 0
    if not (given.small or given.data or given.file):
        parser.error("give --data, a LongMemEval file such as longmemeval_s.json, --file or --small")
    size = SMALL if given.small else Size(given.questions, 500, given.pool, given.varied)
    embedder = "hashing" if given.small else given.embedder
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        file = given.file or place / "haystacks.json"
        if given.file is None:
            began = time.perf_counter()
            write_haystacks(given.data or SAMPLE, file, size)
            print(f"made: {file.stat().st_size / 2**20:,.0f} MiB in {time.perf_counter() - began:.0f} s", flush=True)
        good = given.throughput or measure(file, place, embedder, 1 if given.small else BLOCKS * 1024)
        raw(file, embedder, given.block)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

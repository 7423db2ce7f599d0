"""What the framework itself costs: everything around the model, measured against a real local server and as ratios in
one run.

    python experiments/benchmarks/orchestration.py [--rounds 3] [--only step cost many journal start endurance]

step       a step of 50 questions x 5 attempts (answers, verdicts, reflections, proposals, consolidation) against a
server of
           50 ms per call at max_concurrency=16, over a bare AsyncOpenAI (aiohttp) loop that sends the same calls
cost       processor time of this process per call at max_concurrency=256
many       processor time per call and memory of an evaluation of 10,000 questions (--questions) at
           max_concurrency=1000, against a server that replies at once; own cost is what it takes beyond a bare aiohttp
           loop over the same calls
journal    rows per second written, and indexed
start      seconds for `--help` and for composing a config
endurance  35 steps x 250 simulated attempts: step time and memory over the steps
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import metamem

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def reply(body: dict[str, Any]) -> str:
    """A reply in the form that the prompt asks for, as a function of messages and seed: verdicts by coin, one short
    guideline.
    """
    text = "".join(m["content"] for m in body["messages"])
    number = int(hashlib.sha256(f"{text}{body.get('seed')}".encode()).hexdigest()[:8], 16)
    if "<proposals>" in text or "<reflections>" in text:
        return f'```json\n[{{"action": "add", "text": "Check fragment {number % 1000} against its date."}}]\n```'
    if "<response>" in text:
        return "Yes" if number % 2 else "No"
    return f"The fragments were weighed one by one. Answer: {number}"


def serve(delay: float) -> None:
    """Be the server, in a process of its own, until standard input is closed."""
    from tests.server import Server

    with Server(reply, delay=delay, keep_calls=False) as server:
        print(server.url, flush=True)
        sys.stdin.read()


@contextmanager
def server(delay: float) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, __file__, "--serve", str(delay)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)


def questions(folder: Path, count: int) -> Path:
    """A file for dataset=prepared: `count` questions with 20 memories of about 30 words each."""
    records = [
        {
            "question_id": f"q{i:03d}",
            "question": f"Which number did I name for item {i}?",
            "question_type": "single-session-user",
            "answer": str(i),
            "memories": [
                f"2024/03/{1 + j:02d} (Fri) 10:00 "
                + f"note {i} {j} about an item, its number and where it was kept " * 3
                for j in range(20)
            ],
        }
        for i in range(count)
    ]
    for record in records:
        record["memories"] = [str(m).replace(" (Fri)", "") for m in record["memories"]]
    path = folder / f"questions_{count}.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def train(folder: Path, *overrides: str) -> Path:
    """Run a training in this process; returns its directory."""
    # The run's own report is not what is measured.
    given = [f"outputs={folder}", "dataset=prepared", "split=all", *overrides]
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        return Path(metamem.run("train", given)["directory"])


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def stored_calls(folder: Path) -> list[dict[str, Any]]:
    """The calls of a run as a client sends them, from its journal."""
    bodies: dict[str, Any] = {}
    calls = []
    for path in folder.glob("*/journal/*/*.jsonl"):
        for row in rows(path):
            if "body" in row:
                bodies[row["request"]] = row["body"]
            else:
                body = bodies[row["request"]]
                sampling = body["sampling"]
                call = {
                    "messages": body["messages"],
                    "temperature": sampling["temperature"],
                    "max_tokens": sampling["max_tokens"],
                }
                if sampling["temperature"] > 0:
                    call["seed"] = row["draw"]["index"]
                calls.append(call)
    return calls


async def bare(url: str, calls: list[dict[str, Any]], concurrency: int) -> float:
    """Seconds that a bare client loop takes for these calls."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    async with AsyncOpenAI(base_url=url, api_key="none", http_client=DefaultAioHttpClient()) as client:
        places = asyncio.Semaphore(concurrency)

        async def one(call: dict[str, Any]) -> None:
            async with places:
                await client.chat.completions.create(model="test-model", **call)

        await one(calls[0])
        began = time.perf_counter()
        await asyncio.gather(*(one(c) for c in calls))
        return time.perf_counter() - began


async def bare_sockets(url: str, calls: list[dict[str, Any]], concurrency: int) -> float:
    """Processor seconds that a loop over aiohttp takes for these calls, with no client between."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        places = asyncio.Semaphore(concurrency)

        async def one(call: dict[str, Any]) -> None:
            body = json.dumps({"model": "test-model", **call}).encode()
            headers = {"Content-Type": "application/json"}
            async with places, session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
                json.loads(await response.read())

        await one(calls[0])
        began = time.process_time()
        await asyncio.gather(*(one(c) for c in calls))
        return time.process_time() - began


def step(rounds: int, _: int) -> None:
    """Print the ratio of a step to a bare client loop over the same calls."""
    ratios = []
    with server(0.05) as url, tempfile.TemporaryDirectory() as place:
        data = questions(Path(place), 50)
        for number in range(rounds):
            folder = Path(place) / str(number)
            directory = train(
                folder,
                f"dataset.path={data}",
                "optimizer.batch_size=50",
                "backbone=openai",
                f"backbone.base_url={url}",
                "backbone.model=test-model",
                "backbone.max_concurrency=16",
                "backbone.samples_per_call=1",
            )
            ours = rows(directory / "timings.jsonl")[0]["seconds"]
            calls = stored_calls(folder)
            theirs = asyncio.run(bare(url, calls, 16))
            ratios.append(ours / theirs)
            print(f"  {len(calls)} calls at 16: {ours:.2f} s; bare client {theirs:.2f} s; ratio {ratios[-1]:.3f}")
    print(f"step: median ratio {statistics.median(ratios):.3f} (at most 1.15)")


def cost(rounds: int, _: int) -> None:
    """Print the processor time per call at 256 calls in flight."""
    costs = []
    with server(0.05) as url, tempfile.TemporaryDirectory() as place:
        data = questions(Path(place), 200)
        for number in range(rounds):
            folder = Path(place) / str(number)
            before = time.process_time()
            train(
                folder,
                f"dataset.path={data}",
                "optimizer.batch_size=200",
                "backbone=openai",
                f"backbone.base_url={url}",
                "backbone.model=test-model",
                "backbone.max_concurrency=256",
                "backbone.samples_per_call=1",
            )
            spent = time.process_time() - before
            count = len(stored_calls(folder))
            if number:
                costs.append(1000 * spent / count)
                print(
                    f"  {count} calls at 256: {costs[-1]:.2f} ms of processor time per call, start of the run included"
                )
    print(f"cost: median {statistics.median(costs):.2f} ms per call (at most 1.5)")


def many(_: int, asked: int) -> None:
    """Print the processor time per call at 1,000 calls in flight, and memory while the answers come."""
    with server(0.0) as url, tempfile.TemporaryDirectory() as place:

        def evaluate(folder: Path, count: int) -> tuple[float, list[float], int]:
            """Processor seconds of an evaluation in this process, MiB (before, every half second), and how many of
            these were before the first reply.
            """
            given = [f"dataset.path={questions(Path(place), count)}", f"backbone.base_url={url}", f"outputs={folder}"]
            given += ["dataset=prepared", "split=all", "part=all", "backbone=openai", "backbone.model=test-model"]
            given += ["backbone.max_concurrency=1000", "backbone.samples_per_call=1"]
            sampled, ended, loading = [resident()], threading.Event(), 1

            def sample() -> None:
                nonlocal loading
                while not ended.wait(0.5):
                    sampled.append(resident())
                    loading += not any(folder.glob("*/journal/*/*.jsonl"))

            watch = threading.Thread(target=sample)
            watch.start()
            before = time.process_time()
            try:
                with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
                    metamem.run("eval", given)
            finally:
                ended.set()
                watch.join()
            return time.process_time() - before, sampled, min(loading, len(sampled) - 1)

        evaluate(Path(place) / "warm", 50)
        spent, memory, loading = evaluate(Path(place) / "many", asked)
        calls = stored_calls(Path(place) / "many")
        bare_spent = asyncio.run(bare_sockets(url, calls, 1000))
    whole, alone = (1000 * seconds / len(calls) for seconds in (spent, bare_spent))
    load = os.getloadavg()[0]
    print(f"many: own cost {whole - alone:.2f} ms per call of {len(calls):,} (at most 1.2), at a load of {load:.1f}")
    print(f"many: {whole:.2f} ms with the calls themselves and the run's start, {alone:.2f} of a bare aiohttp loop")
    first, middle = memory[loading], memory[(loading + len(memory)) // 2]
    print(
        f"many: {memory[0]:.0f} MiB before, {first:.0f} at the first replies, {middle:.0f} half-way, "
        f"{memory[-1]:.0f} at the end, {max(memory):.0f} at most"
    )


def resident() -> float:
    """MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def journal(rounds: int, _: int) -> None:
    """Print the rows per second that a journal writes and indexes."""
    from metamem.backbones.journal import Journal, draw_key, request_hash
    from metamem.core.calls import Draw, Generation, Message, Request, Sampling

    written, indexed = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as place:
            book = Journal(Path(place), "e", "r")
            count, identity = 20000, {"kind": "benchmark"}
            began = time.perf_counter()
            for i in range(count):
                request = Request(
                    (Message("user", f"prompt {i} " + "word " * 200),), Sampling(temperature=0.7), (Draw("s", i),)
                )
                request_id = request_hash(identity, request)
                key = draw_key(request_id, request, request.draws[0])
                book.put(
                    request_id, request, identity, [(key, request.draws[0], Generation("reply " * 50))], role="policy"
                )
            book.close()
            written.append(count / (time.perf_counter() - began))
            began = time.perf_counter()
            assert len(Journal(Path(place), "e", "r")) == count
            indexed.append(count / (time.perf_counter() - began))
    print(f"journal: {statistics.median(written):,.0f} rows/s written (at least 5,000)")
    print(f"journal: {statistics.median(indexed):,.0f} rows/s indexed")


def start(rounds: int, _: int) -> None:
    """Print the seconds that help and composing take."""
    for what in (["--help"], ["--cfg", "job"]):
        times = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, str(ROOT / "experiments" / "train.py"), *what], check=True, capture_output=True
            )
            times.append(time.perf_counter() - began)
        print(f"start: {' '.join(what)} {statistics.median(times[1:]):.2f} s (at most 1)")


def endurance(*_: int) -> None:
    """Print step time and memory over 35 steps of 250 simulated attempts."""
    with tempfile.TemporaryDirectory() as place:
        data = questions(Path(place), 350)
        command = [sys.executable, __file__, "--endure", place, str(data)]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        measured = json.loads(process.stdout.splitlines()[-1])
    seconds, memory = measured["seconds"], measured["memory"]
    early, late = statistics.median(seconds[4:12]), statistics.median(seconds[-8:])
    print(f"endurance: {len(seconds)} steps, {early:.2f} s early, {late:.2f} s late: ratio {late / early:.3f}")
    print(f"endurance: {memory[4]:.0f} MiB at step 5, {memory[-1]:.0f} at the end: {memory[-1] / memory[4]:.3f}")
    print(f"endurance: peak {measured['peak']:.0f} MiB (under 1024)")


def endure(place: Path, data: Path) -> None:
    """Run the endurance training in this process, and print its step times and memory as JSON."""
    import metamem.programs.train as training

    memory: list[float] = []
    keep = training.keep_step

    def watched(*arguments: Any) -> None:
        keep(*arguments)
        memory.append(resident())

    training.keep_step = watched
    directory = train(
        place,
        f"dataset.path={data}",
        "backbone=simulated",
        "optimizer.epochs=5",
        "optimizer.batch_size=50",
        "optimizer.max_guidelines=10",
    )
    seconds = [r["seconds"] for r in rows(directory / "timings.jsonl")]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "memory": memory[1:], "peak": peak}))


def main() -> None:
    """Run the benchmarks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=10_000, help="of the evaluation of many")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--endure", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve)
    elif given.endure:
        endure(*given.endure)
    else:
        for name in given.only:
            BENCHMARKS[name](given.rounds, given.questions)


BENCHMARKS = {"step": step, "cost": cost, "many": many, "journal": journal, "start": start, "endurance": endurance}

if __name__ == "__main__":
    main()

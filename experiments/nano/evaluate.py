"""Measure what `nano` is for: learn guidelines with it over several seeds, and see what they are worth on unseen words.

    python experiments/nano/evaluate.py --out outputs/nano-report --seeds 1 2 3

In: a checkpoint (the one that ships unless --checkpoint names another; --random writes one of random weights). Out:
`report.json` in the folder: by exact match, accuracy without guidelines, with those learned, with as many words of
irrelevant ones and with each of the first seed's alone, as `eval.py compare=` puts them; how often five attempts at a
training question disagree; how the model's verdicts agree with exact match; how many proposals can be read. Everything
is answered by the engine, through `train.py` and `eval.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import guidance

from metamem.backbones.engine.weights import STAMP_FILE
from metamem.backbones.nano import FOLDER
from metamem.core.checkpoints import load_checkpoint
from metamem.core.files import read_rows
from metamem.datasets.world.component import SHARES
from metamem.statistics.comparison import compare_results

ROOT = Path(__file__).resolve().parents[2]


def program(name: str, *overrides: str) -> None:
    """Run train.py or eval.py."""
    subprocess.run([sys.executable, str(ROOT / "experiments" / name), *overrides], check=True, cwd=ROOT)


def finished(folder: Path) -> Iterator[Path]:
    """The finished runs of a folder."""
    return (p.parent for p in sorted(folder.glob("*/result.json")) if not p.parent.is_symlink())


def disagreement(run: Path) -> dict[str, Any]:
    """The share of questions whose attempts have different verdicts by exact match."""
    of = {a["id"]: a["question_id"] for a in read_rows(run / "attempts.jsonl")}
    seen: dict[str, set[Any]] = defaultdict(set)
    for verdict in read_rows(run / "verdicts.jsonl"):
        if verdict["evaluator"] == "exact_match":
            seen[of[verdict["attempt_id"]]].add(verdict["correct"])
    return {"questions": len(seen), "disagree": round(sum(len(s) > 1 for s in seen.values()) / len(seen), 3)}


def proposals(runs: Sequence[Path]) -> dict[str, int]:
    """How many proposals were asked for, and how many could not be read."""
    cases = [case for run in runs for step in read_rows(run / "steps.jsonl") for case in step["trace"]]
    return {"asked": len(cases), "unreadable": sum(bool(case["problem"]) for case in cases)}


def irrelevant(words: int, seed: int) -> list[str]:
    """Irrelevant guidelines of this many words in all, or as near as whole sentences come."""
    rng = random.Random(f"nano/irrelevant/{seed}")
    sentences: list[str] = []
    while True:
        sentence = guidance.guideline(rng, None)
        if sentence in sentences:
            continue
        before = sum(len(s.split()) for s in sentences)
        if abs(before - words) <= abs(before + len(sentence.split()) - words):
            return sentences
        sentences.append(sentence)


def random_checkpoint(folder: Path) -> Path:
    """The shipped checkpoint with random matrices, stamped as such."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    drawn = np.random.default_rng(0)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            tensors[name] = drawn.normal(0, 0.05, tensor.shape).astype(np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / STAMP_FILE).write_text(json.dumps({"stamp": "random weights"}))
    return folder


def main() -> None:
    """Learn, evaluate, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the runs and the report")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--test", type=int, default=300, help="questions of the test part")
    parser.add_argument("--learn", type=int, default=60, help="questions that a meta-memory is learned from")
    parser.add_argument("--checkpoint", help="folder of another checkpoint")
    parser.add_argument("--random", action="store_true", help="random weights of the same shape instead")
    given = parser.parse_args()
    out = Path(given.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = str(random_checkpoint(out / "random")) if given.random else given.checkpoint
    size = next(n for n in range(40, 10**6) if n - sum(round(n * s) for s in SHARES.values()) == given.test)
    common = ["experiment=nano", f"dataset.size={size}", "evaluator=[llm_judge,exact_match]", f"outputs={out}"]
    common += [f"backbone.path={checkpoint}"] if checkpoint else []
    teaching = [f"train_questions={given.learn}", "reward=llm_judge", "name=train"]
    program("train.py", "-m", f"seed={','.join(map(str, given.seeds))}", *teaching, *common)
    runs = {json.loads((run / "result.json").read_text())["seed"]: run for run in finished(out / "train")}
    learned: dict[int, list[str]] = {}
    systems: dict[str, list[str]] = {}
    for seed in given.seeds:
        last = load_checkpoint(sorted((runs[seed] / "checkpoints").glob("step_*.json"))[-1]).meta_memory
        learned[seed] = [g.text for g in last.guidelines]
        systems[f"learned-{seed}"] = learned[seed]
        systems[f"irrelevant-{seed}"] = irrelevant(sum(len(t.split()) for t in learned[seed]), seed)
    systems |= {f"alone-{i}": [text] for i, text in enumerate(learned[given.seeds[0]], 1)}
    paths = []
    for label, texts in systems.items():
        if texts:
            paths.append(out / f"{label}.json")
            paths[-1].write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")
    asked = ["reward=exact_match", "allow_seen=true", *common]
    program("eval.py", f"meta_memory=[{','.join(['null', *map(str, paths)])}]", "name=test", *asked)
    attempts = ["part=train", "evaluation.attempts=5", "evaluation.temperature=0.7"]
    program("eval.py", "meta_memory=null", *attempts, "name=disagreement", *asked)
    (tested,), (tried,) = finished(out / "test"), finished(out / "disagreement")
    compared = compare_results([str(tested)])
    report = {
        "checkpoint": checkpoint or "shipped",
        "learned": learned,
        "systems": {s["label"]: s["parts"]["overall"]["accuracy"] for s in compared["systems"]},
        "disagreement": disagreement(tried),
        "judge": compared["agreement"],
        "proposals": proposals([runs[seed] for seed in given.seeds]),
        "pairs": compared["pairs"],
        "parts": compared["parts"],
    }
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in report.items() if k not in ("pairs", "parts", "learned")}, indent=1))
    for row in (*compared["pairs"], *(row for row in compared["parts"] if row["separated"])):
        low, high = row["interval"]
        told = f"{100 * row['difference']:5.1f} points ({100 * low:.1f} to {100 * high:.1f}), p {row['p_holm']:.3g}"
        print(f"{row['second']:16} {row['part']:26} {told}")


if __name__ == "__main__":
    main()

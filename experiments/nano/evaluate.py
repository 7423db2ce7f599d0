"""Measure what `nano` is for: learn guidelines with it over several seeds, and see what they are worth on unseen words.

    python experiments/nano/evaluate.py --out outputs/nano-report --seeds 1 2 3

In: a checkpoint (the one that ships unless --checkpoint names another; --random writes one of random weights). Out:
`report.json` in the folder: accuracy without and with the learned guidelines, with as many words of irrelevant ones and
with each guideline alone, each with the paired 95 % interval of the difference; how often the attempts at training
questions disagree; how often the model's verdicts agree with exact match; how many proposals can be read. Everything is
answered by the engine, through `train.py` and `eval.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import guidance

from metamem.datasets.world.component import SHARES
from metamem.meta_memory import from_texts, load

ROOT = Path(__file__).resolve().parents[2]
DRAWS = 2000
Right = Mapping[str, bool]


def program(name: str, *overrides: str) -> float:
    """Run train.py or eval.py; the seconds it took."""
    begun = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "experiments" / name), *overrides], check=True, cwd=ROOT)
    return time.monotonic() - begun


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def right_by_system(run: Path, evaluator: str) -> dict[str, dict[str, bool]]:
    """Hash of a meta-memory → question → whether it was answered right, of an evaluation's first draws."""
    attempts = {a["id"]: a for a in rows(run / "attempts.jsonl") if a["draw"] == 0}
    found: dict[str, dict[str, bool]] = defaultdict(dict)
    for verdict in rows(run / "verdicts.jsonl"):
        attempt = attempts.get(verdict["attempt_id"])
        if attempt and verdict["evaluator"] == evaluator:
            found[attempt["meta_memory_hash"]][attempt["question_id"]] = bool(verdict["correct"])
    return dict(found)


def compare(first: Right, second: Right, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Accuracy of both on the same questions, the difference in points and its paired bootstrap interval."""
    ids = sorted(set(first) & set(second) & set(only if only is not None else first))
    pairs = [(first[i], second[i]) for i in ids]
    rng = random.Random("nano/bootstrap")
    gains = sorted(sum(b - a for a, b in rng.choices(pairs, k=len(pairs))) / len(pairs) for _ in range(DRAWS) if pairs)
    share = lambda values: 100 * sum(values) / max(1, len(pairs))  # noqa: E731
    return {
        "questions": len(pairs),
        "without": round(share([a for a, _ in pairs]), 1),
        "with": round(share([b for _, b in pairs]), 1),
        "gain": round(share([b - a for a, b in pairs]), 1),
        "interval": [round(100 * gains[int(DRAWS * q)], 1) for q in (0.025, 0.975)] if gains else None,
    }


def training_figures(run: Path) -> dict[str, Any]:
    """How often attempts disagree before anything was learned, and what became of proposals."""
    attempts = [a for a in rows(run / "attempts.jsonl") if a["scope"].startswith("train/")]
    correct = {v["attempt_id"]: v["correct"] for v in rows(run / "verdicts.jsonl") if v["evaluator"] == "llm_judge"}
    by_question: dict[str, set[Any]] = defaultdict(set)
    for a in attempts:
        by_question[a["scope"]].add(correct.get(a["id"]))
    first = {scope: seen for scope, seen in by_question.items() if scope.startswith("train/1/")}
    counts: Counter[str] = Counter()
    for step in rows(run / "steps.jsonl"):
        for case in step["trace"]:
            counts["asked"] += 1
            counts["unreadable"] += bool(case["problem"])
            counts["operations"] += len(case["operations"])
    shares = lambda d: round(sum(len(s) > 1 for s in d.values()) / max(1, len(d)), 3)  # noqa: E731
    return {
        "questions attempted": len(by_question),
        "disagree": shares(by_question),
        "disagree in the first step": shares(first),
        "proposals asked": counts["asked"],
        "proposals readable": round(1 - counts["unreadable"] / max(1, counts["asked"]), 3),
        "operations proposed": counts["operations"],
    }


def judge_agreement(runs: Sequence[Path]) -> dict[str, Any]:
    """How often the model's verdict is that of exact match, over all attempts of runs."""
    same = total = 0
    for run in runs:
        held: dict[str, dict[str, Any]] = defaultdict(dict)
        for verdict in rows(run / "verdicts.jsonl"):
            held[verdict["attempt_id"]][verdict["evaluator"]] = verdict["correct"]
        for verdicts in held.values():
            if "llm_judge" in verdicts and "exact_match" in verdicts:
                total += 1
                same += verdicts["llm_judge"] == verdicts["exact_match"]
    return {"attempts": total, "agreement": round(same / max(1, total), 4)}


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


def main() -> None:
    """Learn, evaluate, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder of the runs and the report")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--test", type=int, default=300, help="questions of the test part")
    parser.add_argument("--learn", type=int, default=60, help="questions that a meta-memory is learned from")
    parser.add_argument("--checkpoint", help="folder of another checkpoint")
    parser.add_argument("--random", action="store_true", help="random weights of the same shape instead")
    parser.add_argument("overrides", nargs="*", help="further options of train.py and eval.py")
    arguments = parser.parse_args()
    out = Path(arguments.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.random:
        arguments.checkpoint = str(random_checkpoint(out / "random"))
    size = next(n for n in range(40, 10**6) if n - sum(round(n * s) for s in SHARES.values()) == arguments.test)
    common = ["experiment=nano", f"dataset.size={size}", "evaluator=[llm_judge,exact_match]", f"outputs={out}"]
    common += [f"backbone.path={arguments.checkpoint}"] if arguments.checkpoint else []
    common += arguments.overrides
    seeds = ",".join(map(str, arguments.seeds))
    seconds = {
        "train": program("train.py", "-m", f"seed={seeds}", f"train_questions={arguments.learn}", "name=train", *common)
    }
    runs = {}
    for place in sorted((out / "train").iterdir()):
        if (place / "result.json").exists() and not place.is_symlink():
            runs[json.loads((place / "result.json").read_text())["seed"]] = place
    systems: list[str] = ["null"]
    hashes: dict[str, str] = {}
    learned: dict[int, list[str]] = {}
    for seed in arguments.seeds:
        last = load(sorted((runs[seed] / "checkpoints").glob("step_*.json"))[-1])
        learned[seed] = [g.text for g in last.guidelines]
        wanted = {f"seed {seed}": learned[seed]}
        wanted[f"irrelevant {seed}"] = irrelevant(sum(len(t.split()) for t in learned[seed]), seed)
        if seed == arguments.seeds[0]:
            wanted |= {f"alone: {text}": [text] for text in learned[seed]}
        for number, (label, texts) in enumerate(wanted.items()):
            if texts:
                path = out / f"guidelines-{seed}-{number}.json"
                path.write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")
                systems.append(str(path))
                hashes[label] = from_texts(texts).hash
    seconds["eval"] = program("eval.py", f"meta_memory=[{','.join(systems)}]", "allow_seen=true", "name=eval", *common)
    evaluated = next(p for p in sorted((out / "eval").iterdir()) if (p / "result.json").exists() and not p.is_symlink())
    report: dict[str, Any] = {
        "seconds": {k: round(v) for k, v in seconds.items()},
        "checkpoint": arguments.checkpoint or "shipped",
        "learned": learned,
        "training": {seed: training_figures(runs[seed]) for seed in arguments.seeds},
        "judge": judge_agreement([*(runs[s] for s in arguments.seeds), evaluated]),
    }
    types = {c["id"]: "abstention" if c["abstention"] else c["type"] for c in rows(evaluated / "cases.jsonl")}
    for evaluator in ("exact_match", "llm_judge"):
        by_hash = right_by_system(evaluated, evaluator)
        base = by_hash[from_texts([]).hash]
        held: dict[str, Any] = {}
        for label, key in hashes.items():
            held[label] = compare(base, by_hash[key])
            held[label]["by type"] = {
                kind: compare(base, by_hash[key], [i for i in base if types[i] == kind])
                for kind in sorted(set(types.values()))
            }
        report[evaluator] = held
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for label in hashes:
        shown = report["exact_match"][label]
        print(f"{label[:90]:90} {shown['without']:5} -> {shown['with']:5}  gain {shown['gain']} {shown['interval']}")
    print(json.dumps({k: report[k] for k in ("seconds", "training", "judge")}, indent=1))


def random_checkpoint(folder: Path) -> Path:
    """A checkpoint of random weights in the shipped one's shape."""
    import model
    import torch

    from metamem.backbones.nano import FOLDER

    told = json.loads((FOLDER / "config.json").read_text())
    torch.manual_seed(0)
    shape = model.Shape(
        told["vocab_size"],
        told["hidden_size"],
        told["num_hidden_layers"],
        told["num_attention_heads"],
        told["head_dim"],
        told["intermediate_size"],
        told["rope_theta"],
        told["max_position_embeddings"],
    )
    net = model.Nano(shape)
    for weight in net.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.05)
    model.export(net, folder, {"stamp": "random weights"})
    return folder


if __name__ == "__main__":
    main()

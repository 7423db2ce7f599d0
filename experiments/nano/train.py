"""Train `nano` from scratch: generate, learn, check, export. Deterministic by seed, and continued where it was left.

    python experiments/nano/train.py --folder runs/nano --minutes 60
    python experiments/nano/train.py --folder runs/nano --export metamem/backbones/nano_checkpoint

In: nothing but the seed. Out: in the folder `state.pt` (weights, optimizers, place), `log.jsonl` (loss and figures),
and the exported checkpoint. Examples come in buffers, each drawn from the seed and its number alone.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import checks
import model as models
import roles
import torch
import torch.nn.functional as F
import vocabulary
from tokenizers import Tokenizer

BUFFER = 768  # examples drawn at once, then sorted by length into batches
BUDGET = 1536  # padded tokens of a batch
# Shares of the roles among the examples, from buffer to buffer: first reading alone, then looking things up, then all.
STAGES = (
    {"listing": 0.5, "reading": 0.5},
    {"lookup": 0.7, "reading": 0.1, "sort": 0.1, "judge": 0.1},
    {
        "answer": 0.45,
        "lookup": 0.15,
        "sort": 0.06,
        "judge": 0.08,
        "reflect": 0.06,
        "propose": 0.1,
        "consolidate": 0.1,
    },
)
IGNORED = -100


def buffer(
    tokenizer: Tokenizer, seed: int, number: int, reading: int, lookup: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The batches of one buffer: ids, targets and weights, each (rows, length)."""
    rng = random.Random(f"{seed}/buffer/{number}")
    shares = STAGES[(number >= reading) + (number >= lookup)]
    names, weights = list(shares), list(shares.values())
    drawn = rng.choices(names, weights, k=BUFFER)
    grown = number / max(1, reading)
    examples = [roles.ROLES[n](rng, grown) if n in STAGES[0] else roles.ROLES[n](rng) for n in drawn]
    rows = [tokens(tokenizer, example) for example in examples]
    rows.sort(key=lambda row: len(row[0]))
    batches, batch = [], []
    for row in rows:
        if batch and len(row[0]) * (len(batch) + 1) > BUDGET:
            batches.append(batch)
            batch = []
        batch.append(row)
    batches.append(batch)
    rng.shuffle(batches)
    for batch in batches:
        length = max(len(row[0]) for row in batch) - 1
        ids = torch.zeros(len(batch), length, dtype=torch.long)
        targets = torch.full((len(batch), length), IGNORED)
        weight = torch.zeros(len(batch), length)
        for i, (held, weighed) in enumerate(batch):
            n = len(held) - 1
            ids[i, :n] = torch.tensor(held[:-1])
            w = torch.tensor(weighed[1:])
            weight[i, :n] = w
            targets[i, :n] = torch.where(w > 0, torch.tensor(held[1:]), IGNORED)
        yield ids, targets, weight


def tokens(tokenizer: Tokenizer, example: roles.Example) -> tuple[list[int], list[float]]:
    """An example's tokens and what each counts as a target: those of replies, long replies' less each."""
    close = tokenizer.token_to_id(vocabulary.CLOSE)
    ids: list[int] = []
    weights: list[float] = []
    for prompt, reply in ((example.prompt, example.reply), *example.more):
        asked = list(tokenizer.encode(prompt).ids) if example.bare else checks.encode(tokenizer, prompt)
        told = [*tokenizer.encode(reply).ids, *([] if example.bare else [close])]
        ids += asked + told
        weights += [0.0] * len(asked) + [len(told) ** -0.5] * len(told)
    return ids, weights


class Training:
    """Weights, optimizers and the place in the stream of buffers; kept in one file."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.folder = Path(arguments.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer = vocabulary.build()
        torch.manual_seed(arguments.seed)
        shape = models.Shape(
            self.tokenizer.get_vocab_size(),
            arguments.hidden,
            arguments.layers,
            arguments.heads,
            mlp=arguments.mlp,
        )
        self.place, self.step, self.seconds = 0, 0, 0.0
        state = self.folder / "state.pt"
        saved = torch.load(state, weights_only=True, map_location="cpu") if state.exists() else None
        if saved:
            shape = models.shape_of(saved["shape"])
        self.device = torch.device("cuda" if torch.cuda.is_available() and not arguments.export else "cpu")
        self.model = models.Nano(shape).to(self.device)
        self.forward = torch.compile(self.model, dynamic=True) if arguments.compile else self.model
        matrices = [p for n, p in self.model.named_parameters() if p.dim() == 2 and "embed" not in n]
        rest = [p for n, p in self.model.named_parameters() if p.dim() != 2 or "embed" in n]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=arguments.muon, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        if saved:
            self.model.load_state_dict(saved["model"])
            for optimizer, held in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(held)
            self.place, self.step, self.seconds = saved["place"], saved["step"], saved["seconds"]
        self.bases = [arguments.muon, arguments.rate]

    def save(self) -> None:
        """Replace the state's file whole."""
        held = {
            "shape": models.shape_dict(self.model.shape),
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "place": self.place,
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.folder / "state.tmp"
        torch.save(held, temporary)
        temporary.replace(self.folder / "state.pt")

    def log(self, **values: object) -> None:
        """A line of the log, shown too."""
        row = {"step": self.step, "buffer": self.place, "seconds": round(self.seconds), **values}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def rate(self) -> float:
        """The share of the full learning rate: up over the first steps, down to a tenth over the last buffers."""
        warm = min(1.0, (self.step + 1) / 100)
        left = (self.arguments.buffers - self.place) / max(1, self.arguments.decay)
        return warm * max(0.02, min(1.0, left))

    def run(self) -> None:
        """Learn until the time of this part or the buffers are used up."""
        begun = last = time.monotonic()
        total, right, steps, seen = 0.0, 0.0, 0, 0
        while self.place < self.arguments.buffers and time.monotonic() - begun < 60 * self.arguments.minutes:
            given = self.arguments
            for batch in buffer(self.tokenizer, given.seed, self.place, given.reading, given.lookup):
                ids, targets, weight = (part.to(self.device) for part in batch)
                for optimizer, base in zip(self.optimizers, self.bases, strict=True):
                    for group in optimizer.param_groups:
                        group["lr"] = base * self.rate()
                self.model.redraw(self.arguments.seed * 10**8 + self.step + 1)
                chosen = targets != IGNORED
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.arguments.bf16):
                    hidden = self.forward(ids)
                    scores = self.model.scores(hidden[chosen]).float()
                losses = F.cross_entropy(scores, targets[chosen], reduction="none")
                loss = (losses * weight[chosen]).sum() / weight.sum()
                for optimizer in self.optimizers:
                    optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                for optimizer in self.optimizers:
                    optimizer.step()
                total, steps, seen, self.step = total + loss.item(), steps + 1, seen + ids.numel(), self.step + 1
                right += (((scores.argmax(-1) == targets[chosen]) * weight[chosen]).sum() / weight.sum()).item()
            self.place += 1
            if self.place % self.arguments.every == 0:
                now = time.monotonic()
                self.seconds += now - last
                self.log(
                    loss=round(total / steps, 4),
                    right=round(right / steps, 3),
                    speed=round(seen / (now - last)),
                    rate=round(self.rate(), 3),
                )
                total, right, steps, seen = 0.0, 0.0, 0, 0
                self.save()
                last = time.monotonic()
            if self.place % self.arguments.check == 0:
                self.model.redraw(0)
                self.log(figures=checks.show(self.model, self.tokenizer, self.arguments.each))
                last = time.monotonic()
        self.seconds += time.monotonic() - last
        self.save()


def main() -> None:
    """Read the options, then train, or export what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="where the training's state and log are kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=75.0, help="time of this part; the same command goes on")
    parser.add_argument("--buffers", type=int, default=400, help="buffers of the whole training")
    parser.add_argument("--reading", type=int, default=10, help="buffers of reading alone, at the beginning")
    parser.add_argument("--lookup", type=int, default=70, help="buffers until all roles take part")
    parser.add_argument("--decay", type=int, default=160, help="last buffers, in which the learning rate falls")
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--mlp", type=int, default=192)
    parser.add_argument("--muon", type=float, default=3e-3, help="learning rate of the matrices")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate of the embeddings and norms")
    parser.add_argument("--compile", action="store_true", help="compile first (a minute), then train faster")
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=5, help="buffers between log lines and saves")
    parser.add_argument("--check", type=int, default=100, help="buffers between checks")
    parser.add_argument("--each", type=int, default=12, help="cases per kind in a check")
    parser.add_argument("--export", help="write the checkpoint into this folder and do not train")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    training = Training(arguments)
    if arguments.export:
        training.model.redraw(0)
        models.export(training.model, Path(arguments.export))
    else:
        training.run()


if __name__ == "__main__":
    main()

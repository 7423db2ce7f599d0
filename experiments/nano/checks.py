"""What the model can do at a moment of its training: accuracy by kind and by the guidelines in the prompt, by role.

In: a model and a tokenizer. Out: figures from 0 to 1, by greedy replies to prompts of words that the roles were not
trained on (`part` test) or were (train).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import guidance
import roles
import torch
import vocabulary
from model import Nano
from tokenizers import Tokenizer

from metamem.core.meta_memory import Action, Operation
from metamem.datasets.world.scenes import KINDS, draw_scene
from metamem.datasets.world.vocabulary import POOLS
from metamem.optimizers.operations import read_operations
from metamem.replies.json_in_text import UnreadableError
from metamem.replies.reasoning import split_reasoning

CONDITIONS = ("none", "noise", "own", "all", "others")


def encode(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt as the chat template makes it."""
    return list(tokenizer.encode(prompt).ids)


def replies(model: Nano, tokenizer: Tokenizer, prompts: Sequence[str], most: int = 120, batch: int = 64) -> list[str]:
    """Greedy replies."""
    encoded = [encode(tokenizer, p) for p in prompts]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    out = [""] * len(encoded)
    ends = tokenizer.token_to_id(vocabulary.CLOSE)
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        for i, ids in zip(some, model.reply([encoded[i] for i in some], ends, most), strict=True):
            out[i] = tokenizer.decode(ids, skip_special_tokens=True)
    return out


def answers(model: Nano, tokenizer: Tokenizer, part: str, each: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Condition → kind → share of right answers to tempting cases; `tempted`: of tempting ones without a guideline."""
    jobs = []
    for kind in (*KINDS, "absent"):
        for number in range(each):
            rng = random.Random(f"{seed}/check/{part}/{kind}/{number}")
            pool = POOLS[part]
            others = rng.choices(KINDS, k=2)
            if kind == "absent":
                scene = draw_scene(rng, pool, others, absent=[rng.choice(KINDS)])
                case = scene.cases[-1]
            else:
                scene = draw_scene(rng, pool, [kind, *others], easy=0.0)
                case = scene.cases[0]
            for condition in CONDITIONS:
                kinds = {
                    "none": [],
                    "noise": [],
                    "own": [kind],
                    "all": list(roles.GUIDED),
                    "others": [k for k in roles.GUIDED if k != kind],
                }[condition]
                shown = roles._numbered(
                    roles.guided(rng, kinds, 3 if condition == "noise" else 0, fresh=part == "test")
                )
                prompt = roles.render(
                    "answer",
                    guidelines=shown,
                    memories=roles.memories(scene.lines),
                    question=case.question,
                    date="",
                )
                jobs.append((condition, kind, prompt, case))
    told = [split_reasoning(t)[0] for t in replies(model, tokenizer, [j[2] for j in jobs], most=16)]
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for (condition, kind, _, case), text in zip(jobs, told, strict=True):
        found[condition][kind].append(text == case.right)
        if condition == "none":
            found["tempted"][kind].append(text == case.tempting)
    return {c: {k: sum(v) / len(v) for k, v in kinds.items()} for c, kinds in found.items()}


def others(model: Nano, tokenizer: Tokenizer, part: str, each: int, seed: int = 0) -> dict[str, float]:
    """The other roles: verdicts that are right, reviews, proposals and consolidations that are as they should be."""
    figures = {}
    pool = POOLS[part]
    rng = random.Random(f"{seed}/check/{part}/others")
    judged = [roles.judge(rng, pool, most=1) for _ in range(4 * each)]
    told = replies(model, tokenizer, [e.prompt for e in judged], most=3)
    figures["judge"] = _share(t == e.reply for t, e in zip(told, judged, strict=True))
    reviewed = [roles.reflect(rng, pool) for _ in range(each)]
    told = replies(model, tokenizer, [e.prompt for e in reviewed], most=30)
    figures["reflect"] = _share(_sense(t) == _sense(e.reply) for t, e in zip(told, reviewed, strict=True))
    proposed = [roles.propose(rng, pool) for _ in range(each)]
    told = replies(model, tokenizer, [e.prompt for e in proposed])
    read = [_read(t) for t in told]
    wanted = [_read(e.reply) for e in proposed]
    figures["propose readable"] = _share(r is not None for r in read)
    figures["propose right"] = _share(
        r is not None and w is not None and [kind_of(t) for t in r] == [kind_of(t) for t in w]
        for r, w in zip(read, wanted, strict=True)
    )
    merged = [roles.consolidate(rng) for _ in range(each)]
    told = replies(model, tokenizer, [e.prompt for e in merged], most=260)
    read, wanted = [_read(t) for t in told], [_read(e.reply) or [] for e in merged]
    figures["consolidate readable"] = _share(r is not None for r in read)
    figures["consolidate right"] = _share(r == w for r, w in zip(read, wanted, strict=True))
    kept = [(p in w, p in (r or ())) for r, w in zip(read, wanted, strict=True) for p in {*w, *(r or ())}]
    figures["consolidate kept of the wanted"] = _share(k for w, k in kept if w)
    figures["consolidate wanted of the kept"] = _share(w for w, k in kept if k)
    return figures


_PROPOSED = {f"P{n}": Operation(Action.add, None, f"P{n}") for n in range(1, 61)}


def _read(text: str) -> list[str] | None:
    try:
        return [o.text or "" for o in read_operations(text, proposed=_PROPOSED).operations]
    except UnreadableError:
        return None


def _share(values: object) -> float:
    held = [bool(v) for v in values]  # type: ignore[attr-defined]
    return sum(held) / len(held)


_KIND_WORDS = {
    kind: {w for g in grammars for p in guidance._parts(g) for w in p.split()}
    for kind, grammars in guidance.GUIDELINES.items()
}


def kind_of(sentence: str) -> str:
    """The kind whose grammar's words a guideline is closest to."""
    words = {w.strip(".,") for w in sentence.split()}
    return max(
        sorted(_KIND_WORDS), key=lambda k: len(words & {w.strip(".,") for w in _KIND_WORDS[k]}) / (len(words) or 1)
    )


def _sense(text: str) -> tuple[bool, str]:
    """Right or wrong, and the kind whose reviews' words it uses."""
    correct = " right " in text
    grammars = guidance.RIGHT if correct else guidance.WRONG
    words = set(text.replace(".", " ").split())
    held = {k: {w for p in guidance._parts(g) for w in p.split()} for k, g in grammars.items()}
    return correct, max(sorted(held), key=lambda k: len(words & held[k]) - 0.1 * len(held[k]))


def show(model: Nano, tokenizer: Tokenizer, each: int) -> dict[str, object]:
    """All figures, rounded."""
    was = torch.is_grad_enabled()
    model.eval()
    figures: dict[str, object] = {}
    for part in ("train", "test"):
        got = answers(model, tokenizer, part, each)
        figures[part] = {c: {k: round(v, 2) for k, v in kinds.items()} for c, kinds in got.items()}
        figures[f"{part} roles"] = {k: round(v, 3) for k, v in others(model, tokenizer, part, 2 * each).items()}
    model.train()
    torch.set_grad_enabled(was)
    return figures

"""Studies of what the guidelines say: each left out in turn, their order and words shuffled, and advice of the same
length that nobody learned.

In: a training run. Out: rows for a study's table, from evaluations of meta-memories made of the run's own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metamem.files import write_json
from metamem.meta_memory import MetaMemory, from_texts, load, words
from metamem.studies.findings import Finding
from metamem.studies.jobs import Evaluations, chosen, chosen_checkpoint, keep
from metamem.studies.pairs import accuracy, compare, decided, run_systems

# True of any task and about no memory: what a prompt gains by being longer and sounding earnest.
GENERIC = (
    "Read the question with care before you begin to answer it.",
    "Take the time that you need and do not hurry to a conclusion.",
    "Write in clear and simple words that anyone can follow.",
    "Be polite, patient and friendly to the person who asks.",
    "Stay with the subject and leave aside whatever does not belong to it.",
    "Think about what would be the most useful thing to say.",
    "Look over your answer once more before you give it.",
    "Keep a calm and even tone from beginning to end.",
)


def generic_advice(count: int) -> MetaMemory:
    """Guidelines of exactly `count` words of advice about nothing in particular."""
    texts: list[str] = []
    left = count
    while left > 0:
        sentence = GENERIC[len(texts) % len(GENERIC)].split()
        # A round begins anew with other words, so that no guideline is there twice.
        turn = len(texts) // len(GENERIC)
        sentence = sentence if not turn else ["Once", "more:", *sentence] if turn == 1 else [f"({turn})", *sentence]
        texts.append(" ".join(sentence[:left]))
        left -= min(left, len(sentence))
    return from_texts(texts)


def shuffled_words(meta_memory: MetaMemory, seed: int) -> MetaMemory:
    """The same words in guidelines of the same lengths, in an order that says nothing."""
    pool = [w for g in meta_memory.guidelines for w in g.text.split()]
    random.Random(f"{seed}/shuffled words").shuffle(pool)
    made, at = [], 0
    for g in meta_memory.guidelines:
        size = words(g.text)
        made.append(replace(g, text=" ".join(pool[at : at + size])))
        at += size
    return replace(meta_memory, guidelines=tuple(made))


def shuffled_order(meta_memory: MetaMemory, seed: int) -> MetaMemory:
    """The same guidelines in another order."""
    order = list(meta_memory.guidelines)
    random.Random(f"{seed}/shuffled order").shuffle(order)
    return replace(meta_memory, guidelines=tuple(order))


def ablation_controls(
    finding: Finding, rows: list[dict[str, Any]], run: Path, other_fold: Path | None
) -> list[dict[str, Any] | None]:
    """Evaluate what the run's guidelines are compared with; adds rows, returns pairs against the guidelines."""
    own = chosen(run)
    if not own.guidelines:
        finding.notes.append("The whole method learned no guidelines: there is nothing to shuffle or to replace.")
        return []
    count = sum(words(g.text) for g in own.guidelines)
    made = {
        "E, in another order": shuffled_order(own, 0),
        "E, its words shuffled": shuffled_words(own, 0),
        f"generic advice, {count} words": generic_advice(count),
    }
    if other_fold is not None:
        made["E of another fold"] = load(chosen_checkpoint(other_fold))
        finding.notes.append("'E of another fold' was trained on some of these questions: what it gains is no result.")
    folder = run.parent / "meta_memories" / run.name
    files = [keep(m, folder, name) for name, m in {"E": own, **made}.items()]
    evaluations = Evaluations()
    place = evaluations.run(run, "controls", files, allow_seen=True)
    finding.evaluations += evaluations.rows
    if place is None:
        return []
    base, *systems = run_systems([place]).values()
    pairs = []
    for name, system in zip(made, systems, strict=True):
        rows.append({"variant": name, **accuracy(system)})
        pairs.append(compare(base, replace(system, label=name), variant=name))
    return pairs


def guideline_worth(finding: Finding, runs: Sequence[Path]) -> None:
    """Evaluate each run's guidelines with each left out; adds rows, and keeps `worth.json` with the run, whose report
    is written again.
    """
    from metamem.reporting.write import write_report

    evaluations = Evaluations()
    for run in runs:
        own = chosen(run)
        if not own.guidelines:
            finding.notes.append(f"{run.name} chose no guidelines.")
            continue
        made = [replace(own, guidelines=tuple(o for o in own.guidelines if o.id != g.id)) for g in own.guidelines]
        files = [keep(own, run.parent, f"{run.name}-all")]
        files += [keep(m, run.parent, f"{run.name}-without-{g.id}") for g, m in zip(own.guidelines, made, strict=True)]
        place = evaluations.run(run, f"leave-one-out-{run.name}", files)
        if place is None:
            continue
        whole, *others = run_systems([place]).values()
        pairs = [
            compare(replace(o, label=f"without {g.id}"), replace(whole, label="all"), guideline=g.id)
            for g, o in zip(own.guidelines, others, strict=True)
        ]
        worth = {}
        texts = {g.id: g.text for g in own.guidelines}
        for pair in decided(pairs):
            name = pair["guideline"] if len(runs) == 1 else f"{run.name} {pair['guideline']}"
            low, high = pair["interval"]
            verdict = ("helps" if pair["difference"] > 0 else "hurts") if pair["shown"] else "no difference shown"
            finding.rows.append(
                {
                    "guideline": name,
                    "text": texts[pair["guideline"]],
                    "points": round(100 * pair["difference"], 2),
                    "low": round(100 * low, 2),
                    "high": round(100 * high, 2),
                    "p (Holm)": pair["p_holm"],
                    "verdict": verdict,
                    "right only with it": ", ".join(pair["gained"]),
                    "right only without it": ", ".join(pair["lost"]),
                }
            )
            worth[pair["guideline"]] = {
                **{k: pair[k] for k in ("difference", "gained", "lost")},
                **{"low": low, "high": high, "verdict": verdict},
            }
        write_json(run / "worth.json", worth)
        write_report(run)
    finding.evaluations += evaluations.rows
    finding.notes.append("A guideline is worth what the accuracy on test loses when it alone is left out.")

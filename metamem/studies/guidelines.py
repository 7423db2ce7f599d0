"""Studies of what the guidelines say: each left out in turn, their order and words shuffled, and advice of the same
length that nobody learned.

In: a training run. Out: rows for a study's table, from evaluations of meta-memories made of the run's own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.core.checkpoints import load_checkpoint
from metamem.core.files import read_object, write_json
from metamem.core.meta_memory import Guideline, MetaMemory, from_texts, words
from metamem.reporting.findings import Finding
from metamem.reporting.write import write_report
from metamem.statistics.pairs import accuracy, compare, decided, run_systems
from metamem.studies.jobs import Evaluations, chosen, chosen_checkpoint, keep

AFTER = "then, for each training, an evaluation of its test part for every guideline, and one for all"

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
    """The same words in items of the same lengths, in an order that says nothing."""
    pool = [w for item in meta_memory.items for w in item.text.split()]
    random.Random(f"{seed}/shuffled words").shuffle(pool)
    made, at = {}, 0
    for item in meta_memory.items:
        size = words(item.text)
        made[item.id] = " ".join(pool[at : at + size])
        at += size
    return meta_memory.reworded(made)


def shuffled_order(meta_memory: MetaMemory, seed: int) -> MetaMemory:
    """The same guidelines in another order."""
    order = list(meta_memory.guidelines)
    random.Random(f"{seed}/shuffled order").shuffle(order)
    return replace(meta_memory, guidelines=tuple(order))


def ablation_controls(finding: Finding, runs: Sequence[Path], others: Sequence[Path]) -> list[dict[str, Any] | None]:
    """Evaluate what the guidelines of each run (a setting's, over seeds and folds) are compared with; adds rows,
    returns pairs against the guidelines. `others` are trainings on another fold.
    """
    learned = [(run, chosen(run)) for run in runs]
    learned = [(run, own) for run, own in learned if own.items]
    if not learned:
        finding.notes.append("The whole method learned no guidelines: there is nothing to shuffle or to replace.")
        return []
    borrowed = {run: _of_another_fold(run, [*others, *runs]) for run, _ in learned}
    with_borrowed = all(borrowed.values())
    if with_borrowed:
        finding.notes.append("'E of another fold' was trained on some of these questions: what it gains is no result.")
    counts = sorted({sum(words(i.text) for i in own.items) for _, own in learned})
    advice = f"generic advice, {' to '.join(str(c) for c in (counts[0], counts[-1])[: len(counts)])} words"
    evaluations = Evaluations()
    places = []
    for run, own in learned:
        seed = int(read_object(run / "config.json").get("seed") or 0)
        made = {
            "E": own,
            "E, in another order": shuffled_order(own, seed),
            "E, its words shuffled": shuffled_words(own, seed),
            "generic advice": generic_advice(sum(words(i.text) for i in own.items)),
        }
        if with_borrowed and (other := borrowed[run]):
            made["E of another fold"] = load_checkpoint(chosen_checkpoint(other)).meta_memory
        folder = run.parent / "meta_memories" / run.name
        files = [keep(m, folder, name, chosen_checkpoint(run)) for name, m in made.items()]
        label = "controls" + (f"-{run.name}" if len(learned) > 1 else "")
        places.append(evaluations.run(run, label, files, allow_seen=True))
    finding.evaluations += evaluations.rows
    systems = run_systems([p for p in places if p is not None])
    if not systems:
        return []
    base, *controls = systems.values()
    pairs = []
    for system in controls:
        name = advice if system.label == "generic advice" else system.label
        finding.add({"variant": name, **accuracy(system)}, system, base=base)
        pairs.append(compare(base, replace(system, label=name), variant=name))
    return pairs


def _of_another_fold(run: Path, candidates: Sequence[Path]) -> Path | None:
    """A training on another fold, of the same seed where there is one."""

    def place(of: Path) -> tuple[Any, Any]:
        config = read_object(of / "config.json")
        return config.get("seed"), (config.get("split") or {}).get("fold")

    seed, fold = place(run)
    other = [c for c in candidates if place(c)[1] not in (fold, None)]
    return next((c for c in other if place(c)[0] == seed), None) or next(iter(other), None)


@dataclass(frozen=True)
class LeftOut:
    """A guideline that was left out: its run, the evaluation (where system 0 has all guidelines), the number of the
    system without it, the questions that are right only with it and only without it, and its row in the table.
    """

    run: Path
    place: Path
    item: Guideline
    system: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    row: dict[str, Any]


def guideline_worth(finding: Finding, runs: Sequence[Path]) -> list[LeftOut]:
    """Evaluate each run's guidelines with each left out; adds rows, and keeps `worth.json` with the run, whose report
    is written again. Returns what was left out, in the order of the rows.
    """
    evaluations = Evaluations()
    left_out: list[LeftOut] = []
    for run in runs:
        own = chosen(run)
        if not own.items:
            finding.notes.append(f"{run.name} chose no guidelines.")
            continue
        named = {"all": own, **{f"without-{i.id}": own.without(i.id) for i in own.items}}
        source = chosen_checkpoint(run)
        files = [keep(m, run.parent, f"{run.name}-{name}", source) for name, m in named.items()]
        place = evaluations.run(run, f"leave-one-out-{run.name}", files)
        if place is None:
            continue
        whole, *others = run_systems([place]).values()
        pairs = [
            compare(replace(o, label=f"without {g.id}"), replace(whole, label="all"), guideline=g.id)
            for g, o in zip(own.items, others, strict=True)
        ]
        worth = {}
        items = {i.id: i for i in own.items}
        number = {g.id: i for i, g in enumerate(own.items)}
        for pair in decided(pairs):
            name = pair["guideline"] if len(runs) == 1 else f"{run.name} {pair['guideline']}"
            low, high = pair["interval"]
            verdict = ("helps" if pair["difference"] > 0 else "hurts") if pair["shown"] else "no difference shown"
            finding.add(
                {
                    "guideline": name,
                    "text": items[pair["guideline"]].text,
                    "points": round(100 * pair["difference"], 2),
                    "low": round(100 * low, 2),
                    "high": round(100 * high, 2),
                    "p (Holm)": pair["p_holm"],
                    "verdict": verdict,
                    "right only with it": ", ".join(pair["gained"]),
                    "right only without it": ", ".join(pair["lost"]),
                },
                whole,
                base=replace(others[number[pair["guideline"]]], label=f"without {name}"),
                label=f"with {name}",
            )
            gained, lost = tuple(pair["gained"]), tuple(pair["lost"])
            system = 1 + number[pair["guideline"]]
            left_out.append(LeftOut(run, place, items[pair["guideline"]], system, gained, lost, finding.rows[-1]))
            worth[pair["guideline"]] = {
                **{k: pair[k] for k in ("difference", "gained", "lost")},
                **{"low": low, "high": high, "verdict": verdict},
            }
        write_json(run / "worth.json", worth)
        write_report(run)
    finding.evaluations += evaluations.rows
    finding.notes.append("A guideline is worth what the accuracy on test loses when it alone is left out.")
    return left_out

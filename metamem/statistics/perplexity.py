"""Perplexity over texts: of all their tokens together, by question, and what guidelines change.

In: rows of perplexity.jsonl: per text and condition its number of tokens and their mean natural log-probability. Out: a
JSON-serialisable dict with the estimator's intervals, and the paired difference. Two averages are told
apart: *perplexity* is that of the corpus, exp(-Σ log p / Σ tokens) over all texts together, in which long texts weigh
more; *mean perplexity* is that of the average question, exp of the mean over questions of -Σ log p / Σ tokens of each,
the geometric mean of their perplexities. (An arithmetic mean would be that of the most surprising question alone: one
token of probability 10⁻⁶ outweighs all else.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.statistics.estimate import Estimate, Observations, difference_of, mean_of
from metamem.statistics.paired import ALPHA, holm

# What a text is, and the conditions that it is scored under.
OWN, REFERENCE = "own output", "reference answer"
WITHOUT, WITH = "without E", "with E"
_LARGEST = 700.0  # e^709 is the largest number that there is


@dataclass(frozen=True, slots=True)
class Text:
    """One scored text: its tokens and the sums of their natural log-probabilities, `guided` None without guidelines.

    `group` is the cluster of its question, `replicate` the training run behind it where there are several.
    """

    question_id: str
    group: str
    tokens: int
    without: float
    guided: float | None = None
    replicate: str = ""


def perplexity(log_probability: float, tokens: int) -> float:
    """exp of the mean negative log-probability of a text's tokens; at most e^700, which JSON can hold."""
    return math.exp(min(-log_probability / tokens, _LARGEST))


def paired(rows: Iterable[Mapping[str, Any]], replicate: str = "") -> tuple[list[Text], dict[str, int]]:
    """The texts behind the rows of one system and kind that were scored under all their conditions, and how many were
    left out, by reason: one that lacks a condition counts in none.
    """
    by_text: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_text.setdefault(row["text"], {})[row["given"]] = row
    texts, left_out = [], Counter[str]()
    for conditions in by_text.values():
        if reasons := [r["left_out"] for r in conditions.values() if r["left_out"]]:
            left_out[reasons[0]] += 1
            continue
        sums = {given: r["log_probability"] * r["tokens"] for given, r in conditions.items()}
        row = conditions[WITHOUT]
        texts.append(Text(row["question_id"], row["group"], row["tokens"], sums[WITHOUT], sums.get(WITH), replicate))
    return texts, dict(sorted(left_out.items()))


def figures(texts: Sequence[Text]) -> dict[str, Any]:
    """The figures of one system's texts of one kind.

    texts, questions, clusters, tokens   what they are made of
    without, with    `perplexity` (of the corpus) and `interval`, `mean_perplexity` (over questions) and
                     `mean_interval`, `log_probability` (nats a token); None where there are none
    difference       with guidelines against without, on the same texts: `ratio` of the two perplexities, its `interval`
                     and `p` of "it is 1", `perplexity` with less that without, and `log_probability`, the gain in nats
                     a token

    Intervals are at 95 %, over groups of questions and trainings; None where these are too few. Guidelines count only
    when all texts are scored with them.
    """
    questions: dict[tuple[str, str], list[Text]] = {}
    for text in texts:
        questions.setdefault((text.replicate, text.question_id), []).append(text)
    cell: dict[str, Any] = {
        "texts": len(texts),
        "questions": len({question for _, question in questions}),
        "clusters": len({t.group for t in texts}),
        "tokens": sum(t.tokens for t in texts),
        **dict.fromkeys(("without", "with", "difference")),
    }
    if not texts:
        return cell
    found = list(questions.values())
    tokens = [float(sum(t.tokens for t in q)) for q in found]
    # Nats a token of each question; weighted by its tokens their mean is that of all tokens together.
    nats = {"without": [math.fsum(t.without for t in q) / n for q, n in zip(found, tokens, strict=True)]}
    if all(t.guided is not None for t in texts):
        nats["with"] = [math.fsum(t.guided or 0.0 for t in q) / n for q, n in zip(found, tokens, strict=True)]
    groups, runs = [q[0].group for q in found], [q[0].replicate for q in found]
    # Without guidelines there is no training whose luck could count.
    samples = {
        name: Observations(values, groups, runs if name == "with" else (), (), tokens) for name, values in nats.items()
    }
    for name, sample in samples.items():
        corpus, average = mean_of(sample), mean_of(replace(sample, weights=()))
        cell[name] = {
            **dict(zip(("perplexity", "interval"), _surprise(corpus), strict=True)),
            **dict(zip(("mean_perplexity", "mean_interval"), _surprise(average), strict=True)),
            "log_probability": corpus.point,
        }
    if "with" in nats:
        change = difference_of(samples["without"], samples["with"])
        cell["difference"] = {
            **dict(zip(("ratio", "interval"), _surprise(change), strict=True)),
            "p": change.p(),
            "perplexity": cell["with"]["perplexity"] - cell["without"]["perplexity"],
            "log_probability": change.point,
        }
    return cell


def decide(cells: Sequence[Mapping[str, Any]], alpha: float = ALPHA) -> list[dict[str, Any]]:
    """The cells of one table, their differences with `p_holm` and `verdict`: lower, higher or no difference shown.

    A difference is shown when its interval leaves 1 out and its p-value, corrected over the table, is below `alpha`. A
    ratio of exactly 1 is no comparison: there were no guidelines yet, and the prompts were the same.
    """
    compared = [c["difference"]["p"] for c in cells if c.get("difference") and c["difference"]["ratio"] != 1]
    corrected = iter(holm(compared))
    decided = []
    for cell in cells:
        change = cell.get("difference")
        if change:
            p, ends = next(corrected) if change["ratio"] != 1 else 1.0, change["interval"]
            shown = bool(ends) and (ends[0] > 1 or ends[1] < 1) and p < alpha
            verdict = ("higher" if change["ratio"] > 1 else "lower") if shown else "no difference shown"
            change = {**change, "p_holm": p, "verdict": verdict}
        decided.append({**cell, "difference": change})
    return decided


def sentence(cell: Mapping[str, Any]) -> str:
    """A decided cell in words."""
    change, without = cell.get("difference"), cell.get("without")
    if not without:
        return "nothing could be scored"
    if not change:
        return f"perplexity {without['perplexity']:.2f} without guidelines"
    ends = change["interval"]
    interval = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""
    return (
        f"perplexity {cell['with']['perplexity']:.2f} with guidelines, {without['perplexity']:.2f} without; "
        f"ratio {change['ratio']:.3f}{interval}: {change['verdict']}"
    )


def _surprise(nats: Estimate) -> tuple[float, list[float] | None]:
    """exp of minus a log-probability a token, and its interval, None where there are too few clusters for one."""
    ends = nats.interval()
    if not all(map(math.isfinite, ends)):
        return perplexity(nats.point, 1), None
    low, high = (perplexity(end, 1) for end in ends[::-1])
    return perplexity(nats.point, 1), [low, high]

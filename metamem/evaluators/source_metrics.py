"""Definitions of the metrics of Mem-α's and MemoryAgentBench's sources, as plain functions over texts.

In: a reply (its final answer) and what is accepted. Out: a score in [0, 1]. Sources: Mem-α (arXiv 2509.25911),
MemoryAgentBench (arXiv 2507.05257) and, for ROUGE, the package rouge-score.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from metamem.evaluators.text import normalise

_ANSWER_LINE = re.compile(r"^\W*answer\W*:\W*(.+)", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LEADING_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")
_YEAR = re.compile(r"\s*\((?:18|19|20)\d\d\)\s*$")
RECALLED = 5


class Rouge(StrEnum):
    """Which ROUGE: unigrams, bigrams, or the longest common subsequence."""

    rouge1 = "rouge1"
    rouge2 = "rouge2"
    rougeL = "rougeL"


def final_answer(response: str) -> str:
    """What a reply gives as its answer: the last boxed text, else what follows the last `Answer:`, else all of it."""
    if boxed := _BOXED.findall(response):
        return str(boxed[-1]).strip()
    starts = [match.start() for match in re.finditer(r"^\W*answer\W*:", response, re.IGNORECASE | re.MULTILINE)]
    match = _ANSWER_LINE.match(response, starts[-1]) if starts else None
    return match[1].strip() if match else response.strip()


def number_match(response: str, answer: str) -> float:
    """1 when the reply holds exactly one number and that is the answer's."""
    given, wanted = _NUMBER.findall(response), _NUMBER.findall(answer)
    return float(len(given) == 1 and len(wanted) == 1 and float(given[0]) == float(wanted[0]))


def keyword_share(response: str, answers: Sequence[str]) -> float:
    """The share of the gold key words in the reply, case folded; a single answer lists them, separated by ", "."""
    listed = answers if len(answers) > 1 else answers[0].split(", ") if answers else ()
    return _share(response, listed)


def part_share(response: str, answer: str) -> float:
    """The share of the answer's parts, separated by ";", in the reply, case folded."""
    return _share(response, answer.split(";"))


def recall_at(response: str, answers: Sequence[str], k: int = RECALLED) -> float:
    """The share of the answers among the first k things that the reply lists, on lines or separated by commas."""
    lines = [line for line in response.splitlines() if line.strip()]
    items = lines if len(lines) > 1 else re.split(r"[;,]", response)
    first = {_title(_LEADING_MARK.sub("", item)) for item in items[:k]}
    wanted = {_title(answer) for answer in answers}
    return len(first & wanted) / len(wanted) if wanted else 0.0


def rouge(response: str, answer: str, kind: Rouge = Rouge.rougeL) -> float:
    """ROUGE's F-measure with stemming, as the package rouge-score defines it."""
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer([kind.value], use_stemmer=True).score(answer, response)[kind.value].fmeasure)


def _share(response: str, parts: Iterable[str]) -> float:
    wanted = [part.strip().casefold() for part in parts if part.strip()]
    folded = response.casefold()
    return sum(part in folded for part in wanted) / len(wanted) if wanted else 0.0


def _title(text: str) -> str:
    return normalise(_YEAR.sub("", text.strip().strip("\"'*_")))

"""From what was retrieved to what a prompt shows: a token budget kept, an order chosen, units rendered with dates.

In: a question's ranked `Evidence` (or the evidence that a prepared question brings along), a token budget and the name
of a tokenizer. Out: the evidence that is kept, in the order in which it is shown, and each unit's text under its date.
The budget belongs to the evidence alone, so that guidelines never push evidence out, unless they are to count into it
(`beside`): then prompts of equal budgets are equally long, with guidelines and without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from metamem.core.errors import ConfigError
from metamem.core.json_form import digest
from metamem.core.records import Evidence, MemoryUnit, Question
from metamem.core.text import CUT_KIND, CUT_MARK, render_unit
from metamem.core.tokens import count_tokens

_WORD_ENDS = re.compile(r"(?<=\S)(?=\s|$)")


class EvidenceOrder(StrEnum):
    """`time`: oldest first, undated units last. `score`: best first. `gold_first`, `gold_middle`, `gold_last`: best
    first, but the units that hold the evidence which the data set names stand together at that place.
    """

    time = "time"
    score = "score"
    gold_first = "gold_first"
    gold_middle = "gold_middle"
    gold_last = "gold_last"


@lru_cache(maxsize=4096)
def cost(unit: MemoryUnit, tokenizer: str = "words") -> int:
    """What a unit takes from the budget: the tokens of its rendering, date and line end included."""
    return count_tokens(render_unit(unit) + "\n", tokenizer)


def prepared_evidence(question: Question) -> list[Evidence]:
    """The evidence that a prepared question brings along; the given order is its rank, scores are unknown (0)."""
    return [Evidence(unit, 0.0, rank) for rank, unit in enumerate(question.prepared or ())]


def assemble(
    question: Question,
    retrieved: Sequence[Evidence],
    budget: int | None = None,
    tokenizer: str = "words",
    order: EvidenceOrder = EvidenceOrder.time,
) -> tuple[Evidence, ...]:
    """The evidence a prompt shows for one question.

    Evidence is kept best first until a unit no longer fits the budget (in tokens; None: no limit), so that a bigger
    budget never keeps less. When not even the best fits, it is cut at a word's end and marked ` [...]`. Then the kept
    units are put into `order`; ties and undated units go by rank. What is retrieved for a prepared question is what it
    brings along. Raises `ConfigError` for a budget below 1.
    """
    if budget is not None and budget < 1:
        raise ConfigError(f"evidence.budget must be at least 1 token, or null for no limit, got {budget}")
    ranked = prepared_evidence(question) if question.prepared is not None else sorted(retrieved, key=lambda e: e.rank)
    kept = ranked if budget is None else _within(ranked, budget, tokenizer)
    if order is EvidenceOrder.time:
        # Sorting is stable: ties keep the order of their ranks.
        kept = sorted(kept, key=lambda e: (e.unit.time is None, e.unit.time or datetime.min))
    elif order is not EvidenceOrder.score:
        kept = _with_gold_at(order, question, kept)
    return tuple(kept)


def holds_evidence(unit: MemoryUnit, question: Question) -> bool:
    """Tell whether a unit comes from a turn that the data set names as evidence (a session, where turns are not
    known).
    """
    if unit.turn_ids and question.evidence_turns:
        return not set(unit.turn_ids).isdisjoint(question.evidence_turns)
    return unit.session_id is not None and unit.session_id in question.evidence_sessions


def _with_gold_at(order: EvidenceOrder, question: Question, kept: Sequence[Evidence]) -> list[Evidence]:
    gold = [e for e in kept if holds_evidence(e.unit, question)]
    rest = [e for e in kept if not holds_evidence(e.unit, question)]
    place = {EvidenceOrder.gold_first: 0, EvidenceOrder.gold_middle: len(rest) // 2}.get(order, len(rest))
    return [*rest[:place], *gold, *rest[place:]]


def beside(
    question: Question,
    evidence: Sequence[Evidence],
    learned: Sequence[str],
    budget: int,
    tokenizer: str = "words",
    order: EvidenceOrder = EvidenceOrder.time,
) -> tuple[Evidence, ...]:
    """Return what is left of a question's evidence when learned texts, a line each, take from its budget (in tokens).

    `evidence` is what the budget allows without them, so that without any learned text it stays as it is. The least
    relevant goes first; none is left where the texts use the budget up.
    """
    left = budget - sum(count_tokens(text + "\n", tokenizer) for text in learned)
    if not learned:
        return tuple(evidence)
    return assemble(question, evidence, left, tokenizer, order) if left > 0 else ()


def evidence_hash(evidence: Sequence[Evidence], lines: Sequence[str] | None = None) -> str:
    """Hash of what a prompt shows: the units' ids and renderings (`lines`, where these are at hand), in order."""
    rendered = [render_unit(e.unit) for e in evidence] if lines is None else lines
    return digest([[e.unit.id, line] for e, line in zip(evidence, rendered, strict=True)])


def _within(ranked: Sequence[Evidence], budget: int, tokenizer: str) -> list[Evidence]:
    kept: list[Evidence] = []
    left = budget
    for evidence in ranked:
        left -= cost(evidence.unit, tokenizer)
        if left < 0:
            break
        kept.append(evidence)
    if ranked and not kept:
        unit = _cut(ranked[0].unit, budget, tokenizer)
        return [replace(ranked[0], unit=unit)] if unit else []
    return kept


@lru_cache(maxsize=256)
def _cut(unit: MemoryUnit, budget: int, tokenizer: str) -> MemoryUnit | None:
    """The unit with as many of its words as fit, or None when not even one does."""
    ends = [match.start() for match in _WORD_ENDS.finditer(unit.text)]

    def candidate(words: int) -> MemoryUnit:
        return replace(unit, text=unit.text[: ends[words - 1]] + CUT_MARK, kind=unit.kind + CUT_KIND)

    # A word is at least one token, so no more words than the budget are worth trying.
    low, high = 0, min(len(ends), budget)
    while low < high:
        middle = (low + high + 1) // 2
        if cost.__wrapped__(candidate(middle), tokenizer) <= budget:
            low = middle
        else:
            high = middle - 1
    return candidate(low) if low else None

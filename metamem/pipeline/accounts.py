"""What building the memories of a run took, over all its conversations, for its result and for one line to read.

In: banks, and what the store counts. Out: a plain summary: calls, tokens and seconds by stage, figures, failed calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from metamem.core.banks import Cost, MemoryBank


class Account:
    """Sums up banks one by one, without holding them."""

    def __init__(self) -> None:
        self._costs: dict[str, Cost] = {}
        self._counts: Counter[str] = Counter()
        self._sums: Counter[str] = Counter(conversations=0, units=0, unread=0)

    def add(self, bank: MemoryBank) -> None:
        """Take in a bank."""
        self._sums.update(conversations=1, units=len(bank.units), unread=len(bank.unread))
        self._counts.update(bank.counts)
        for stage, cost in bank.costs.items():
            self._costs[stage] = self._costs.get(stage, Cost()) + cost

    def summary(self, stored: Mapping[str, int]) -> dict[str, Any]:
        """Plain figures; `stored` are the store's counts. The costs are those of building, whenever that was."""
        return {
            **self._sums,
            "built": stored.get("banks_built", 0),
            "reused": stored.get("banks_reused", 0),
            "incomplete": stored.get("banks_incomplete", 0),
            "counts": dict(sorted((name, count) for name, count in self._counts.items() if count)),
            "costs": {
                stage: {
                    "calls": cost.calls,
                    "prompt_tokens": cost.prompt_tokens,
                    "completion_tokens": cost.completion_tokens,
                    "seconds": round(cost.seconds, 3),
                }
                for stage, cost in sorted(self._costs.items())
            },
        }


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Lines worth reading of a summary: what the builder was asked for, and what was lost. None without calls."""
    costs = summary["costs"].values()
    calls = sum(cost["calls"] for cost in costs)
    if not calls and not summary["unread"]:
        return []
    tokens = sum(cost["prompt_tokens"] + cost["completion_tokens"] for cost in costs)
    lines = [
        f"memory: {summary['units']:,} units of {summary['conversations']:,} conversations "
        f"({summary['built']:,} built, {summary['reused']:,} reused) took {calls:,} calls, {tokens:,} tokens"
    ]
    refused = {name[8:]: count for name, count in summary["counts"].items() if name.startswith("refused_")}
    if refused:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(refused.items()))
        lines.append(f"memory: of what was read, {sum(refused.values()):,} pieces were refused ({reasons})")
    if summary["unread"]:
        lines.append(
            f"memory: {summary['unread']:,} calls gave nothing or not all: why stands in the banks' about.json"
        )
    if summary["incomplete"]:
        lines.append(
            f"memory: {summary['incomplete']:,} banks lack a call that was not delivered and were not kept: "
            "the next run asks for those calls again"
        )
    return lines


def recall_notes(metrics: Iterable[Mapping[str, float]], budget: int | None) -> list[str]:
    """One line on how much of the gold evidence the kept evidence names, under a token budget; none without one."""
    if budget is None:
        return []
    rows = list(metrics)
    shares = []
    for level in ("session", "turn"):
        values = [row[f"{level}/recall_kept"] for row in rows if f"{level}/recall_kept" in row]
        if values:
            shares.append(f"{sum(values) / len(values):.1%} of the evidence {level}s ({len(values):,} questions)")
    return [f"evidence within {budget:,} tokens holds {' and '.join(shares)}"] if shares else []

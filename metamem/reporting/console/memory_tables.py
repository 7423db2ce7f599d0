"""The tables of runs on streamed data: averages by competency beside the memory's size, and the terms of a reward.

In: `streams` and `rewards` of a result. Out: tables for a console.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from metamem.reporting.console.text import count, one_line, plain_table, safe, share

_TERMS = {
    "task": "task",
    "calls": "calls that were done",
    "compression": "compression",
    "content": "writes that suit their part",
    "reward": "reward",
}


def stream_table(streams: Mapping[str, Mapping[str, Any]]) -> Table:
    """A column a system: the mean of every competency, Mem-α's average and conflict resolution beside it, the size."""
    table = plain_table("mean score, sources weighing alike", ["competency"], list(streams))
    systems = list(streams.values())
    for name in sorted({name for s in systems for name in s["competencies"]}):
        table.add_row(safe(name), *(share(s["competencies"].get(name)) for s in systems))
    table.add_section()
    table.add_row("average without conflict resolution", *(share(s["average"]) for s in systems), style="bold")
    if any(s["memory_tokens"] is not None for s in systems):
        sizes = ("" if s["memory_tokens"] is None else count(round(s["memory_tokens"])) for s in systems)
        table.add_row("memory tokens (mean)", *sizes)
        table.add_row("compression", *(share(s["compression"]) for s in systems))
    return table


def reward_table(rewards: Mapping[str, Mapping[str, Any]]) -> Table:
    """A column a system: the mean of each term and of the reward over episodes."""
    systems = list(rewards.values())
    weights = f"beta {systems[0]['beta']:g}, gamma {systems[0]['gamma']:g}"
    table = plain_table(f"Mem-α's reward, {one_line(weights)}", ["term"], list(rewards))
    for name, title in _TERMS.items():
        table.add_row(title, *(share(s[name]) for s in systems), style="bold" if name == "reward" else "")
    table.add_row("episodes", *(count(s["episodes"]) for s in systems))
    if any(s["left_out"] for s in systems):
        table.add_row("left out, not all delivered", *(count(s["left_out"]) for s in systems))
    return table

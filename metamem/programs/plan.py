"""What a job would ask for: calls, tokens, GPU hours, as a table and as plain values for a sweep's ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from metamem.reporting.console.text import count, open_console, safe, say
from metamem.statistics.planning import Assumed, SampleSize, detectable_sentence

# Tokens a second and GPU: reading and writing of a 30B mixture of experts on a current data-centre GPU, batched.
_READ_RATE, _WRITE_RATE = 8000, 1500


@dataclass(frozen=True)
class PlannedStage:
    """The calls of one role in one stage: how many the job made on the stand-in and how many it makes at most (None:
    unknown), and the tokens of their prompts and replies, which are estimates.
    """

    stage: str
    role: str
    calls: int
    most: int | None
    prompt: int
    written: int

    def __add__(self, other: PlannedStage) -> PlannedStage:
        most = None if self.most is None or other.most is None else self.most + other.most
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("calls", "prompt", "written")}
        return replace(self, most=most, **sums)


@dataclass(frozen=True)
class Plan:
    """What a job would do. `exact` names counts that hold whatever models reply; `sample` says which questions are
    evaluated (`questions`: the group of each by its id) and what is `assumed` of the answers.
    """

    stages: tuple[PlannedStage, ...] = ()
    exact: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: Mapping[str, Any] = field(default_factory=dict)

    def __add__(self, other: Plan) -> Plan:
        mine = {(s.stage, s.role): s for s in self.stages}
        for s in other.stages:
            known = mine.get((s.stage, s.role))
            mine[s.stage, s.role] = known + s if known else s
        exact = Counter(self.exact)
        exact.update(other.exact)
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        sample = dict(self.sample or other.sample)
        if self.sample and other.sample:
            # The questions of several folds count together; what many jobs are tested on counts once.
            sample["questions"] = {**self.sample["questions"], **other.sample["questions"]}
        return Plan(tuple(mine.values()), dict(exact), notes, sample)

    def gpu_hours(self) -> float:
        """Return the expected hours of one GPU."""
        read, written = sum(s.prompt for s in self.stages), sum(s.written for s in self.stages)
        return (read / _READ_RATE + written / _WRITE_RATE) / 3600

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as a sweep's ledger keeps them."""
        return {
            "stages": [asdict(s) for s in self.stages],
            "exact": dict(self.exact),
            "notes": list(self.notes),
            "sample": dict(self.sample),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_json` gave these values of."""
        return cls(
            tuple(PlannedStage(**s) for s in data["stages"]), data["exact"], tuple(data["notes"]), data["sample"]
        )

    def power(self, runs: int = 1, comparisons: int = 1) -> str:
        """Say what its figures could show with so many trainings a setting and comparisons; empty if none is made."""
        if not self.sample:
            return ""
        groups = self.sample["questions"]
        size = SampleSize(len(groups), len(set(groups.values())), runs, comparisons)
        return detectable_sentence(size, Assumed(**self.sample["assumed"]))


def show_plan(plan: Plan, title: str = "dry run: nothing was called", runs: int = 1, comparisons: int = 1) -> None:
    """Print a plan, and what it can show with so many trainings a setting and comparisons."""
    from rich import box
    from rich.table import Table

    console = open_console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.title, table.title_justify = safe(title, "bold"), "left"
    for name in ("stage", "role"):
        table.add_column(name)
    for name in ("calls", "at most", "prompt tokens", "new tokens"):
        table.add_column(name, justify="right")
    for s in plan.stages:
        most = "unknown" if s.most is None else count(s.most)
        cells = (count(s.calls), most, f"about {count(s.prompt)}", f"about {count(s.written)}")
        table.add_row(safe(s.stage), s.role, *cells)
    console.print()
    console.print(table)
    for name, number in plan.exact.items():
        say(console, f"exactly {count(number)} {name}")
    hours = plan.gpu_hours()
    rates = f"{count(_READ_RATE)} tokens read and {count(_WRITE_RATE)} written a second and GPU"
    say(console, f"about {hours:.3g} GPU hours, at {rates}")
    say(
        console,
        "calls are those of the same job on the stand-in: how often a policy asks depends on the replies",
        "dim",
    )
    if power := plan.power(runs, comparisons):
        say(console, power)
    for note in plan.notes:
        say(console, note, "dim")

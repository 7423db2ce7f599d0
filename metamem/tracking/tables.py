"""The tables that end a run or a sweep.

In: a result as in result.json (missing keys are tolerated), or a sweep's rows. Out: text on the console. Paths and
commands stand on lines of their own, never wrapped, so that they can be copied; what models wrote is shown as it is,
never obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from metamem.tracking.text import (
    WARNING,
    count,
    dataset_label,
    join,
    model_label,
    one_line,
    open_console,
    safe,
    say,
    several,
    share,
)

_STAMPS = {
    "simulated": "Figures come from the scripted stand-in 'simulated', not from a language model.",
    "self-judged": "The judge is the policy itself.",
    "leaky": "The split has the same group on both sides.",
}
_CALLS = ("calls", "delivered", "reused", "failed", "prompt_tokens", "completion_tokens")
_STATUS = {"done": "green", "failed": "red", "interrupted": "yellow"}


def print_result(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a finished run: stamps, figures, guidelines, calls, notices, its path and the command to type next."""
    console = console or open_console()
    console.print()
    say(
        console,
        join((str(result.get("kind", "run")), one_line(result.get("name", "")), one_line(result.get("id", "")))),
        "bold",
    )
    say(console, join((dataset_label(result), model_label(result), _split_line(result)), " · "), "dim")
    for stamp in result.get("stamps") or ():
        say(console, stamp_sentence(str(stamp)), WARNING)
    console.print()
    for table in figure_tables(result, console.width):
        console.print(table)
    _print_validation(result, console)
    if result.get("compare"):
        console.print(comparison_table(result["compare"]))
    if result.get("retrieval"):
        console.print(_retrieval_line(result["retrieval"]))
    if result.get("guidelines"):
        console.print(guideline_table(result["guidelines"]))
    elif result.get("kind") == "train":
        say(console, "no guidelines were learned" if result.get("steps") else "no training: no guidelines")
    if result.get("calls"):
        console.print(call_table(result["calls"]))
    notices = (result.get("dataset") or {}).get("notices") or {}
    for what, number in {**notices, **(result.get("counts") or {})}.items():
        say(console, f"{one_line(what)}: {number}", "dim")
    for title, key in (("run", "directory"), ("next", "next")):
        if result.get(key):
            console.print(Text.assemble((f"{title:<5}", "dim"), one_line(result[key])), soft_wrap=True)


def stamp_sentence(stamp: str) -> str:
    """What a stamp means, in plain words."""
    return next((text for name, text in _STAMPS.items() if stamp.startswith(name)), one_line(stamp))


def figure_tables(result: Mapping[str, Any], width: int) -> list[RenderableType]:
    """The reward's figures by question type, then the other evaluators' overall figures."""
    figures: Mapping[str, Mapping[str, Any]] = result.get("figures") or {}
    reward = result.get("reward")
    first = reward if reward in figures else next(iter(figures), None)
    part = one_line(result.get("part") or "test")
    if first is None or not figures[first]:
        return [Text(f"no figures: no question in part={part}", "dim")]
    labels, legend = _headers(list(figures[first]), width)
    tables: list[RenderableType] = [
        *legend,
        type_table(f"{part}, share right by {one_line(first)}", figures[first], labels),
    ]
    if len(figures) > 1:
        tables.append(_overall_table({name: f for name, f in figures.items() if name != first}, labels))
    return tables


def type_table(title: str, systems: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> Table:
    """One evaluator's aggregates (`statistics.aggregates`) as rows: every question type, then the summaries."""
    table = _table(title, ["question type"], ["n", *labels.values()])
    cells = list(systems.values())
    kinds = sorted({kind for cell in cells for kind in cell.get("by_type") or {}})

    def row(name: str, found: Sequence[Mapping[str, Any]], key: str = "accuracy", style: str = "") -> None:
        numbers = {c["count"] for c in found if c.get("count") is not None}
        table.add_row(
            safe(name), str(max(numbers)) if numbers else "", *(share(c.get(key)) for c in found), style=style
        )

    def under(*path: str) -> list[Mapping[str, Any]]:
        found = cells
        for key in path:
            found = [c.get(key) or {} for c in found]
        return found

    for kind in kinds:
        row(kind, under("by_type", kind))
    table.add_section()
    overall = under("overall")
    row("overall", overall, style="bold")
    if any(c.get("invalid") for c in overall):
        row("overall, valid verdicts only", overall, "valid_accuracy")
        table.add_row(
            "invalid verdicts (wrong in overall)", "", *(count(c.get("invalid") or 0) for c in overall), style=WARNING
        )
    if any(c.get("score") is not None and c.get("score") != c.get("accuracy") for c in overall):
        row("mean score", overall, "score")
    row("mean of types", under("task_averaged"))
    for name, path in (
        ("abstention", ("abstention",)),
        ("evidence retrieved", ("by_evidence", "retrieved")),
        ("evidence missed", ("by_evidence", "missed")),
    ):
        if any(c.get("count") for c in under(*path)):
            row(name, under(*path))
    return table


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Two systems at a time, question by question."""
    table = _table("question by question", ["first", "second"], ["both right", "first only", "second only", "neither"])
    for r in rows:
        table.add_row(
            safe(r.get("a")), safe(r.get("b")), *(count(r.get(k) or 0) for k in ("both", "only_a", "only_b", "neither"))
        )
    return table


def guideline_table(guidelines: Sequence[Mapping[str, Any]]) -> Table:
    """The guidelines in full, the steps they were born and last changed, and how many questions support them."""
    table = _table(several(len(guidelines), "guideline"), ["id", "text"], ["born", "changed", "questions"])
    table.columns[1].ratio = 1
    table.expand = True
    for g in guidelines:
        numbers = (str(g.get("born", "")), str(g.get("changed", "")), str(len(g.get("support") or ())))
        table.add_row(safe(g.get("id", ""), "cyan"), safe(g.get("text", "")), *numbers)
    return table


def call_table(calls: Mapping[str, Mapping[str, Any]]) -> Table:
    """Per role: calls made, replies delivered, reused and failed, tokens."""
    table = _table("calls of this session", ["role"], [name.replace("_", " ") for name in _CALLS])
    for role, counts in calls.items():
        table.add_row(safe(role), *(count(counts.get(name) or 0) for name in _CALLS))
    return table


def print_sweep(rows: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a sweep's jobs: number, overrides, status and score in a table, then each one's error and directory."""
    console = console or open_console()
    table = _table(several(len(rows), "job"), ["job", "overrides", "status"], ["score", "result"])
    table.columns[0].justify = "right"
    for r in rows:
        status = str(r.get("status", ""))
        table.add_row(
            str(r.get("number", "")),
            safe(" ".join(r.get("overrides") or ()) or "defaults"),
            safe(status, _STATUS.get(status, "")),
            share(r.get("score")),
            safe(r.get("headline") or ""),
        )
    console.print()
    console.print(table)
    for r in rows:
        if r.get("error"):
            say(console, f"job {r.get('number')}: {one_line(r['error'])}", _STATUS.get(str(r.get("status")), "red"))
        if r.get("directory"):
            say(console, f"job {r.get('number')}: {one_line(r['directory'])}")


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(
        title=safe(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="dim",
    )
    for name in texts:
        table.add_column(safe(name), overflow="fold")
    for name in numbers:
        table.add_column(safe(name), justify="right", overflow="fold")
    return table


def _headers(systems: Sequence[str], width: int) -> tuple[dict[str, str], list[RenderableType]]:
    """Column titles of the systems: their labels, or letters with a legend where the labels leave no room."""
    if sum(len(s) + 2 for s in systems) <= width - 42:
        return {s: s for s in systems}, []
    letters = {s: chr(ord("A") + i) if i < 26 else str(i + 1) for i, s in enumerate(systems)}
    return letters, [Text.assemble((f"{letter}  ", "bold"), one_line(s)) for s, letter in letters.items()]


def _overall_table(figures: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> Table:
    table = _table("other evaluators, overall (mean score where graded)", ["evaluator"], list(labels.values()))
    for name, systems in figures.items():
        cells = [(systems.get(label) or {}).get("overall") or {} for label in labels]
        shown = []
        for c in cells:
            graded = c.get("score") is not None and c.get("score") != c.get("accuracy")
            shown.append(share(c.get("accuracy")) + (f" ({share(c['score'])})" if graded else ""))
        table.add_row(safe(name), *shown)
    return table


def _print_validation(result: Mapping[str, Any], console: Console) -> None:
    scores = result.get("validation") or []
    if not scores:
        return
    best = max(scores, key=lambda s: (s["score"], -s["step"]))
    parts = [f"{share(scores[0]['score'])} at step {scores[0]['step']}"]
    if len(scores) > 1:
        parts += [
            f"best {share(best['score'])} at step {best['step']}",
            f"last {share(scores[-1]['score'])} at step {scores[-1]['step']}",
        ]
    console.print(Text("validation  ", "dim").append(", ".join(parts)))


def _retrieval_line(metrics: Mapping[str, float]) -> Text:
    """The metrics at cut-off 10, by level; result.json has those at the others."""
    by_level: dict[str, list[str]] = {}
    for key, value in metrics.items():
        name, _, cutoff = key.partition("@")
        level, _, metric = name.rpartition("/")
        if cutoff == "10":
            by_level.setdefault(level, []).append(f"{metric} {share(value)}")
    shown = [f"{level}: {', '.join(values)}" if level else ", ".join(values) for level, values in by_level.items()]
    over = f" (over {several(int(metrics['questions']), 'question')})" if "questions" in metrics else ""
    return Text("retrieval at 10  ", "dim").append(one_line("; ".join(shown) + over))


def _split_line(result: Mapping[str, Any]) -> str:
    split = result.get("split") or {}
    sizes = " / ".join(count(split[k]) for k in ("train", "validation", "test") if split.get(k) is not None)
    return join((f"split {one_line(split['name'])}", sizes), " ") if split.get("name") else ""

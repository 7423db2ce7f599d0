"""The comparison of systems: figures with intervals, paired tests between any two, and what they show in words.

In: what `eval.py compare=[...]` names (runs, plain result files). Out: a JSON-serialisable dict. Every interval,
p-value and power is of one estimator (`estimate`). A difference counts as shown only when the test that is
printed, corrected over its table, says so strictly and among the answers that both sides' judges could read, and where
invalid verdicts cannot have made it; all else is "no difference shown" or "not comparable".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from metamem.core.errors import ConfigError
from metamem.core.records import MOST_INVALID
from metamem.statistics.agreement import cohens_kappa, judge_noise
from metamem.statistics.estimate import Estimate, Observations, difference_of, mean_of
from metamem.statistics.paired import (
    ALPHA,
    FEWEST_CLUSTERS,
    MCNEMAR,
    SIGNS,
    STUDENT,
    Discordance,
    discordance,
    holm,
    matched,
    mcnemar,
    smallest,
)
from metamem.statistics.plain_language import pair_sentence
from metamem.statistics.rows import Row, RowsSource
from metamem.statistics.systems import Aligned, System, align, read_entries, what_differs

# With more systems than this, each is compared with the first one only.
ALL_PAIRS = 5
# From this difference of their shares of invalid verdicts on, two systems are not comparable.
MOST_APART = 0.02


def compare_results(given: Any, allow_mixed: bool = False) -> dict[str, Any]:
    """Compare the systems that `given` names (`systems.read_entries`). `allow_mixed`: also where they were measured
    under other conditions (`comparability`), with a stamp.

    systems    per system: `label`, `runs` (trainings), `clusters`, and by part (`overall`, every type, `abstention`,
               `evidence retrieved`, `evidence missed`) a cell: `questions`, `answers`, `accuracy` (strict) with
               `interval`, `valid_accuracy` with `valid_interval`, `score` with `score_interval`, `attempts`, `invalid`;
               `task_averaged` likewise
    pairs      per pair: `compare_pair` over all questions, corrected over the pairs
    parts      the same by question type, and averaged over types, corrected over this table
    agreement  Cohen's kappa of every two judges, rubrics or evaluators on the same replies
    noise      what repeated verdicts show of each judge
    notes      what a reader must know; `stamps` of the runs

    Raises `ConfigError` or `DataError` for what cannot be read or compared.
    """
    systems, sources = read_entries(given)
    mixed = what_differs(systems)
    if mixed and not allow_mixed:
        more = f" (and {len(mixed) - 1} more)" if len(mixed) > 1 else ""
        raise ConfigError(
            f"compare: {mixed[0]}{more}: no figures for one table. Say allow_mixed=true to compare all the same"
        )
    couples = list(combinations(systems, 2)) if len(systems) <= ALL_PAIRS else [(systems[0], s) for s in systems[1:]]
    pairs, parts, notes = [], [], [*mixed, *(note for source in sources for note in source.notes)]
    if len(systems) > ALL_PAIRS:
        notes.append(f"{len(systems)} systems: each is compared with the first")
    for first, second in couples:
        aligned = align(first, second)
        between = f"'{first.label}' and '{second.label}'"
        if aligned.dropped:
            notes.append(f"{between}: {aligned.dropped} questions that only one of them answered are left out")
        if aligned.unequal:
            notes.append(f"{between} have other seeds or folds: the luck of each side's trainings counts on its own")
        groups = len({r.group for r in aligned.first})
        if groups < FEWEST_CLUSTERS:
            what = f"{groups} independent groups of questions (such as conversations)"
            notes.append(f"{between}: {what} are too few to show a difference; {FEWEST_CLUSTERS} are the fewest")
        about = {"first": first.label, "second": second.label}
        pairs.append({**about, "part": "overall", **compare_pair(aligned)})
        kinds = sorted({r.type for r in aligned.first} - {""})
        for kind in kinds if len(kinds) > 1 else ():
            parts.append({**about, "part": kind, **compare_pair(aligned.only(lambda r, k=kind: r.type == k))})  # type: ignore[misc]
        if len(kinds) > 1:
            parts.append({**about, "part": "task-averaged", **compare_pair(aligned, by_type=True)})
    return {
        "kind": "comparison",
        "systems": [summary(s) for s in systems],
        "pairs": decide(pairs),
        "parts": decide(parts),
        "agreement": agreement(sources),
        "noise": noise(sources),
        "notes": notes,
        "stamps": sorted({stamp for source in sources for stamp in source.stamps} | ({"mixed"} if mixed else set())),
        "sources": [str(source.path) for source in sources],
    }


def summary(system: System) -> dict[str, Any]:
    """One system's figures, by part (see `compare_results`)."""
    rows = system.rows
    kinds = sorted({r.type for r in rows} - {""})
    tests: dict[str, Callable[[Row], bool]] = {
        "overall": lambda r: True,
        **{kind: lambda r, kind=kind: r.type == kind for kind in kinds},  # type: ignore[misc]
        "abstention": lambda r: r.abstention,
        "evidence retrieved": lambda r: r.retrieved is True,
        "evidence missed": lambda r: r.retrieved is False,
    }
    cells = {name: cell(kept) for name, test in tests.items() if (kept := [r for r in rows if test(r)])}
    return {
        "label": system.label,
        "runs": len({r.training for r in rows}),
        "trained": any(r.learned for r in rows),
        "clusters": len({r.group for r in rows}),
        "types": kinds,
        "parts": cells,
        "task_averaged": task_averaged(rows) if kinds else {"accuracy": None, "interval": None},
    }


def task_averaged(rows: Sequence[Row]) -> dict[str, Any]:
    """The mean over question types of their accuracies, with its interval."""
    found = mean_of(_sample(rows, lambda r: r.strict, by_type=True))
    return {"accuracy": found.point, "interval": _ends(found.share_interval())}


def cell(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of some of a system's answers (see `compare_results`)."""
    readable = [r for r in rows if r.valid is not None]
    strict, score = (mean_of(_sample(rows, value)) for value in (lambda r: r.strict, lambda r: r.score))
    valid = mean_of(_sample(readable, lambda r: r.valid or 0.0)) if readable else None
    return {
        "questions": len({r.question_id for r in rows}),
        "answers": len(rows),
        "accuracy": strict.point,
        "interval": _ends(strict.share_interval()),
        "valid_accuracy": valid.point if valid else None,
        "valid_interval": _ends(valid.share_interval()) if valid else None,
        "score": score.point,
        "score_interval": _ends(score.share_interval()),
        "invalid": sum(r.invalid for r in rows),
        "attempts": sum(r.attempts for r in rows),
    }


def is_graded(rows: Iterable[Row]) -> bool:
    """Tell whether answers have scores that are more than right or wrong."""
    return any(abs(r.score - r.strict) > 1e-9 for r in rows)


def compare_pair(aligned: Aligned, *, by_type: bool = False, graded: bool | None = None) -> dict[str, Any]:
    """Two systems on the same questions; with `by_type` their means over question types, each weighing the same.

    `graded` says whether it is their scores that are compared; without it, these two answer that themselves.

    measure              `accuracy`, or `score` where the evaluator gives graded ones
    questions, clusters  how many; `runs`: trainings of each side, `trained`: whether each side learned anything
    difference           the second less the first, strict, with its 95 % `interval`; `error` and `freedom` of its t
    p, test              of "there is none", and what it is of: exact McNemar where every question has one attempt, one
                         run and no cluster; exact over the signs of at most 12 clusters where each side has one run;
                         else Student's t
    valid                `difference` and `p` among the questions that both sides have a valid verdict for
    invalid              invalid verdicts of each side, `invalid_shares` of its attempts; `bounds`: the difference had
                         all of them gone against the second, and for it
    both, only_first, only_second, neither   questions, by who is right in at least half of the attempts;
                         `discordance` the share of those on which the two differ
    """
    graded = is_graded((*aligned.first, *aligned.second)) if graded is None else graded
    sides = (aligned.first, aligned.second)
    strict = [_sample(rows, (lambda r: r.score) if graded else (lambda r: r.strict), by_type) for rows in sides]
    estimate = difference_of(*strict)
    right: list[dict[str, bool]] = [majority(rows) for rows in sides]
    cases = discordance([right[0][q] for q in sorted(right[0])], [right[1][q] for q in sorted(right[0])])
    single = not graded and not by_type and all(len(rows) == cases.count for rows in sides)
    single = single and estimate.clusters == cases.count and all(r.attempts == 1 for rows in sides for r in rows)
    p, (low, high), test = significance(estimate, cases if single else None)
    invalid = [sum(r.invalid for r in rows) for rows in sides]
    attempts = [sum(r.attempts for r in rows) for rows in sides]
    known = estimate.known
    return {
        "measure": "score" if graded else "accuracy",
        "questions": cases.count,
        "clusters": estimate.clusters,
        "runs": [len({r.training for r in rows}) for rows in sides],
        "trained": [any(r.learned for r in rows) for rows in sides],
        "difference": estimate.point,
        "interval": [max(-1.0, low), min(1.0, high)],
        "error": estimate.error if known else None,
        "freedom": estimate.freedom,
        "p": p,
        "test": test,
        "valid": _among_valid(aligned, graded, by_type),
        "invalid": invalid,
        "invalid_shares": [n / of if of else 0.0 for n, of in zip(invalid, attempts, strict=True)],
        "bounds": _bounds(sides, by_type),
        "both": cases.both,
        "only_first": cases.only_first,
        "only_second": cases.only_second,
        "neither": cases.neither,
        "discordance": cases.share,
    }


def significance(estimate: Estimate, single: Discordance | None) -> tuple[float, tuple[float, float], str]:
    """Return p, the 95 % interval that goes with it, and the name of the test of "there is no difference".

    `single` holds the four cases where every question has one attempt, one run and no cluster. Where two systems hardly
    ever differ there, what they do says too little: the wider interval counts, and it holds 0 where p shows nothing.
    """
    if single is None:
        return estimate.p(), estimate.interval(), SIGNS if estimate.flipped else STUDENT
    p, reach, (low, high) = mcnemar(single), estimate.reach(), matched(single)
    low, high = min(estimate.point - reach, low), max(estimate.point + reach, high)
    return p, (low, high) if p < ALPHA else (min(low, 0.0), max(high, 0.0)), MCNEMAR


def decide(rows: Sequence[Mapping[str, Any]], alpha: float = ALPHA) -> list[dict[str, Any]]:
    """The rows of one table, decided together.

    p_holm               `p` corrected over the `comparisons` of the table; `valid_p_holm` that among valid answers
    comparable           whether invalid verdicts are too few to make a difference
    shown                comparable, of enough groups, and both corrected p below `alpha` with the same sign
    of_method            whether a difference speaks of the methods: every side that learned anything has several runs
    smallest_difference  the smallest true difference that the row would show in this table four times out of five
    verdict, sentence    in words
    """
    strict, valid = holm([r["p"] for r in rows]), holm([r["valid"]["p"] for r in rows])
    decided = []
    for row, p, q in zip(rows, strict, valid, strict=True):
        shares = row["invalid_shares"]
        full: dict[str, Any] = {**row, "p_holm": p, "valid_p_holm": q, "comparisons": len(rows)}
        full["comparable"] = max(shares) <= MOST_INVALID and abs(shares[0] - shares[1]) <= MOST_APART
        agree = row["difference"] * row["valid"]["difference"] > 0
        enough = row["clusters"] >= FEWEST_CLUSTERS
        full["shown"] = full["comparable"] and enough and p < alpha and q < alpha and agree
        full["of_method"] = all(n > 1 for n, learned in zip(row["runs"], row["trained"], strict=True) if learned)
        full["smallest_difference"] = smallest(row, len(rows))
        full["verdict"] = verdict(full)
        decided.append({**full, "sentence": pair_sentence(full)})
    return decided


def verdict(row: Mapping[str, Any]) -> str:
    """What a decided row shows, in two or three words."""
    if not row["comparable"]:
        return f"not comparable: {sum(row['invalid'])} invalid"
    if not row["shown"]:
        return "no difference shown"
    change = "gain" if row["difference"] > 0 else "loss"
    return change if row["of_method"] else f"{change} by these guidelines"


def agreement(sources: Iterable[RowsSource]) -> list[dict[str, Any]]:
    """Cohen's kappa of every two judges (evaluator, model, rubric) on the replies that both judged."""
    by_judge: dict[tuple[str, str, str], dict[tuple[str, str], bool | None]] = {}
    for source in sources:
        for j in source.judgements:
            if j.reply and j.repeat == 0:
                by_judge.setdefault((j.evaluator, j.judge, j.rubric), {})[j.attempt, j.reply] = j.correct
    found = []
    for a, b in combinations(sorted(by_judge), 2):
        shared = sorted(by_judge[a].keys() & by_judge[b].keys())
        if shared:
            kappa = cohens_kappa([by_judge[a][i] for i in shared], [by_judge[b][i] for i in shared])
            found.append({"first": _judge(a), "second": _judge(b), **kappa})
    return found


def noise(sources: Iterable[RowsSource]) -> list[dict[str, Any]]:
    """What repeated verdicts show of each judge; nothing where no verdict was repeated."""
    by_judge: dict[tuple[str, str, str], dict[Any, list[bool | None]]] = {}
    repeated = set()
    for source in sources:
        for j in source.judgements:
            judge = (j.evaluator, j.judge, j.rubric)
            by_judge.setdefault(judge, {}).setdefault((str(source.path), j.attempt), []).append(j.correct)
            if j.repeat:
                repeated.add(judge)
    return [{"judge": _judge(judge), **judge_noise(by_judge[judge])} for judge in sorted(repeated)]


def _judge(key: tuple[str, str, str]) -> str:
    evaluator, model, rubric = key
    return " ".join(p for p in (evaluator, model, f"rubric {rubric[:8]}" if rubric else "") if p)


def _sample(rows: Sequence[Row], value: Callable[[Row], float], by_type: bool = False) -> Observations:
    return Observations(
        [value(r) for r in rows],
        [r.group for r in rows],
        [r.training for r in rows],
        [r.type for r in rows] if by_type else (),
    )


def majority(rows: Iterable[Row]) -> dict[str, bool]:
    """Question id → whether at least half of all its attempts are right."""
    right: dict[str, float] = {}
    count: dict[str, int] = {}
    for r in rows:
        right[r.question_id] = right.get(r.question_id, 0.0) + r.strict
        count[r.question_id] = count.get(r.question_id, 0) + 1
    return {q: 2 * right[q] >= count[q] for q in right}


def _among_valid(aligned: Aligned, graded: bool, by_type: bool) -> dict[str, Any]:
    """The difference over the questions for which both sides have a valid verdict."""

    def value(row: Row) -> float:
        return (row.valid_score if graded else row.valid) or 0.0

    known = [{r.question_id for r in rows if r.valid is not None} for rows in (aligned.first, aligned.second)]
    both = known[0] & known[1]
    sides = [
        [r for r in rows if r.question_id in both and r.valid is not None] for rows in (aligned.first, aligned.second)
    ]
    if not both:
        return {"questions": 0, "difference": 0.0, "p": 1.0}
    estimate = difference_of(*(_sample(rows, value, by_type) for rows in sides))
    return {"questions": len(both), "difference": estimate.point, "p": estimate.p()}


def _bounds(sides: Sequence[Sequence[Row]], by_type: bool) -> list[float]:
    """The difference had every invalid verdict gone against the second system, and had every one gone for it."""
    ends = []
    for lucky in (0, 1):
        points = []
        for number, rows in enumerate(sides):
            filled = number == lucky
            points.append(
                mean_of(
                    _sample(rows, lambda r, f=filled: r.strict + (r.invalid / r.attempts if f else 0.0), by_type)  # type: ignore[misc]
                ).point
            )
        ends.append(points[1] - points[0])
    return ends


def _ends(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)

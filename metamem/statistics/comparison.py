"""The comparison of systems: figures with intervals, paired tests between any two, and what they show in words.

In: what `eval.py compare=[...]` names (runs, plain result files). Out: a JSON-serialisable dict. A difference counts as
shown only when its interval leaves zero out and the test, corrected over its table, says so too; all else is "no
difference shown".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from metamem.statistics.agreement import cohens_kappa, judge_noise
from metamem.statistics.intervals import clustered, matched, wilson
from metamem.statistics.paired import ALPHA, discordance, holm, mcnemar, smallest_difference
from metamem.statistics.plain_language import pair_sentence
from metamem.statistics.resampling import DRAWS, FEWEST_CLUSTERS, Resampler
from metamem.statistics.rows import Row, Source
from metamem.statistics.systems import Aligned, System, align, read_entries, replicate

# With more systems than this, each is compared with the first one only.
ALL_PAIRS = 5


def compare_results(given: Any, *, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """Compare the systems that `given` names (`systems.read_entries`); `seed` and `draws` are the bootstrap's.

    systems    per system: `label`, and by part (`overall`, every type, `abstention`, `evidence retrieved`, `evidence
               missed`) a cell: `questions`, `accuracy` (strict), `wilson`, `interval` (clusters and replicates
               reckoned with), `valid_accuracy`, `valid_wilson`, `invalid`; `task_averaged` with its `interval`
    pairs      per pair: `pair` of `compare_pair` over all questions, corrected over the pairs
    parts      the same by question type, corrected over this table
    agreement  Cohen's kappa of every two judges, rubrics or evaluators on the same replies
    noise      what repeated verdicts show of each judge
    notes      what a reader must know; `stamps` of the runs

    Raises `ConfigError` or `DataError` for what cannot be read or compared.
    """
    systems, sources = read_entries(given)
    couples = list(combinations(systems, 2)) if len(systems) <= ALL_PAIRS else [(systems[0], s) for s in systems[1:]]
    pairs, parts, notes = [], [], [note for source in sources for note in source.notes]
    if len(systems) > ALL_PAIRS:
        notes.append(f"{len(systems)} systems: each is compared with the first")
    for first, second in couples:
        aligned = align(first, second)
        between = f"'{first.label}' and '{second.label}'"
        if aligned.dropped:
            notes.append(f"{between}: {aligned.dropped} questions that only one of them answered are left out")
        if aligned.averaged:
            notes.append(f"{between} have other seeds or folds: '{aligned.averaged}' is averaged by question")
        groups = len({r.group for r in aligned.rows})
        if groups < FEWEST_CLUSTERS:
            what = f"{groups} independent groups of questions (such as conversations)"
            notes.append(f"{between}: {what} are too few for an interval; {FEWEST_CLUSTERS} are the fewest")
        about = {"first": first.label, "second": second.label}
        pairs.append({**about, "part": "overall", **compare_pair(aligned, seed=seed, draws=draws)})
        kinds = sorted({r.type for r in aligned.rows} - {""})
        for kind in kinds if len(kinds) > 1 else ():
            of_kind = _only(aligned, lambda r, kind=kind: r.type == kind)  # type: ignore[misc]
            parts.append({**about, "part": kind, **compare_pair(of_kind, seed=seed, draws=draws)})
    return {
        "kind": "comparison",
        "systems": [summary(s, seed=seed, draws=draws) for s in systems],
        "pairs": decide(pairs),
        "parts": decide(parts),
        "agreement": agreement(sources),
        "noise": noise(sources),
        "notes": notes,
        "stamps": sorted({stamp for source in sources for stamp in source.stamps}),
        "sources": [str(source.path) for source in sources],
    }


def summary(system: System, *, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """One system's figures, by part (see `compare_results`)."""
    rows = system.rows
    resampler = Resampler([r.group for r in rows], [replicate(r) for r in rows], seed=seed, draws=draws)
    kinds = sorted({r.type for r in rows} - {""})
    tests: dict[str, Callable[[Row], bool]] = {
        "overall": lambda r: True,
        **{kind: lambda r, kind=kind: r.type == kind for kind in kinds},  # type: ignore[misc]
        "abstention": lambda r: r.abstention,
        "evidence retrieved": lambda r: r.retrieved is True,
        "evidence missed": lambda r: r.retrieved is False,
    }
    cells = {name: cell for name, test in tests.items() if (cell := _cell(rows, test, resampler))}
    return {
        "label": system.label,
        "replicates": len(system.replicates()),
        "clusters": len({r.group for r in rows}),
        "types": kinds,
        "parts": cells,
        "task_averaged": _task_averaged(rows, kinds, resampler),
    }


def compare_pair(aligned: Aligned, *, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """Two systems on the same questions.

    questions, clusters, replicates
    difference           accuracy of the second less that of the first, strict; `interval` its 95 % bootstrap interval,
                         never narrower than `intervals.matched`
    p_bootstrap          the level at which that interval touches zero
    both, only_first, only_second, neither   questions, by who is right in at least half of the attempts
    p                    exact McNemar test on these
    smallest_difference  the smallest true difference that the sample would show four times out of five, None if none
    """
    right: dict[str, list[list[float]]] = {}
    for row, a, b in zip(aligned.rows, aligned.first, aligned.second, strict=True):
        sides = right.setdefault(row.question_id, [[], []])
        sides[0].append(a)
        sides[1].append(b)
    first, second = ([2 * sum(s[i]) >= len(s[i]) for s in right.values()] for i in (0, 1))
    cases = discordance(first, second)
    differences = [b - a for a, b in zip(aligned.first, aligned.second, strict=True)]
    resampler = Resampler([r.group for r in aligned.rows], aligned.replicates, seed=seed, draws=draws)
    estimate = resampler.draw(differences)
    low, high = map(float, estimate.intervals()[0])
    if all(v in (0.0, 1.0) for v in (*aligned.first, *aligned.second)) and estimate.replicates == 1:
        # Where two systems hardly ever differ, resamples of what they do say too little: the wider interval counts.
        floor = matched(cases)
        low, high = min(low, floor[0]), max(high, floor[1])
    independent = estimate.clusters == cases.count and estimate.replicates == 1
    effect = 1.0 if independent else _design_effect(list(right.values()), estimate.variance())
    return {
        "questions": cases.count,
        "clusters": estimate.clusters,
        "replicates": estimate.replicates,
        "difference": float(estimate.point[0]),
        "interval": [max(-1.0, low), min(1.0, high)],
        "p_bootstrap": float(estimate.p_values()[0]),
        "both": cases.both,
        "only_first": cases.only_first,
        "only_second": cases.only_second,
        "neither": cases.neither,
        "p": mcnemar(cases),
        "discordance": cases.share,
        "smallest_difference": smallest_difference(cases.count / effect, cases.share),
    }


def decide(rows: Sequence[Mapping[str, Any]], alpha: float = ALPHA) -> list[dict[str, Any]]:
    """The rows of one table with `p_holm` and `p_bootstrap_holm`, `shown` (whether a difference is) and `sentence`.

    Shown: the interval leaves zero out, and both p-values corrected over the table are below `alpha`.
    """
    exact, resampled = holm([r["p"] for r in rows]), holm([r["p_bootstrap"] for r in rows])
    decided = []
    for row, p, q in zip(rows, exact, resampled, strict=True):
        separated = row["interval"][0] > 0 or row["interval"][1] < 0
        full = {**row, "p_holm": p, "p_bootstrap_holm": q, "separated": separated, "comparisons": len(rows)}
        full["shown"] = separated and p < alpha and q < alpha
        decided.append({**full, "sentence": pair_sentence(full)})
    return decided


def agreement(sources: Iterable[Source]) -> list[dict[str, Any]]:
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


def noise(sources: Iterable[Source]) -> list[dict[str, Any]]:
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


def _only(aligned: Aligned, test: Callable[[Row], bool]) -> Aligned:
    kept = [i for i, row in enumerate(aligned.rows) if test(row)]
    return Aligned(
        tuple(aligned.rows[i] for i in kept),
        tuple(aligned.replicates[i] for i in kept),
        tuple(aligned.first[i] for i in kept),
        tuple(aligned.second[i] for i in kept),
        0,
    )


def _cell(rows: Sequence[Row], test: Callable[[Row], bool], resampler: Resampler) -> dict[str, Any] | None:
    where = [test(r) for r in rows]
    kept = [r for r in rows if test(r)]
    if not kept:
        return None
    estimate = resampler.draw([r.strict for r in rows], where)
    valid = [r.valid for r in kept if r.valid is not None]
    known = len({r.question_id for r in kept if r.valid is not None})
    questions = len({r.question_id for r in kept})
    # Several runs answer a question; it is still one question.
    plain = wilson(float(estimate.point[0]) * questions, questions)
    interval = clustered(estimate, len(kept))
    # Every question its own cluster and one run: then nothing is to be reckoned with that Wilson's interval does not.
    independent = estimate.clusters == len(kept) and estimate.replicates == 1
    return {
        "questions": questions,
        "answers": len(kept),
        "accuracy": float(estimate.point[0]),
        "wilson": _pair(plain),
        "interval": _pair(plain if independent else interval),
        "valid_accuracy": sum(valid) / len(valid) if valid else None,
        "valid_wilson": _pair(wilson(sum(valid) * known / len(valid), known)) if valid else None,
        "invalid": sum(r.invalid for r in kept),
        "attempts": sum(r.attempts for r in kept),
    }


def _task_averaged(rows: Sequence[Row], kinds: Sequence[str], resampler: Resampler) -> dict[str, Any]:
    """The mean over types of their accuracies; no interval where many resamples miss a type."""
    if not kinds:
        return {"accuracy": None, "interval": None}
    import dataclasses

    import numpy as np

    estimates = [resampler.draw([r.strict for r in rows], [r.type == kind for r in rows]) for kind in kinds]
    mean = dataclasses.replace(
        estimates[0],
        point=np.mean([e.point for e in estimates], axis=0),
        draws=np.mean([e.draws for e in estimates], axis=0),
        clusters=len({r.group for r in rows}),
    )
    low, high = map(float, mean.intervals()[0])
    interval = [max(0.0, low), min(1.0, high)] if mean.tells else None
    return {"accuracy": float(mean.point[0]), "interval": interval}


def _design_effect(sides: Sequence[Sequence[Sequence[float]]], variance: float) -> float:
    """How much more the difference varies than if every question stood for itself and there were one run; at least
    1.
    """
    import numpy as np

    differences = [sum(b) / len(b) - sum(a) / len(a) for a, b in sides]
    independent = float(np.var(differences)) / max(len(differences) - 1, 1)
    return max(1.0, variance / independent) if independent > 0 and np.isfinite(variance) else 1.0


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)

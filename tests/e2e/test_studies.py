"""Every study runs whole on a small slice, ends with its table, figure and report, and is continued when killed."""

from __future__ import annotations

import csv
import json
import time
from html import escape
from pathlib import Path

import pytest

from metamem.core.files import read_object, read_rows
from metamem.core.registry import REGISTRY, load_studies
from metamem.core.tokens import count_tokens
from metamem.evaluators.memalpha_terms import ABLATION
from metamem.programs.recount import recount
from metamem.studies.guideline_kinds import KINDS
from tests import browser, programs

pytestmark = pytest.mark.slow
SMALL = ["optimizer.batch_size=12", "optimizer.attempts=3"]
load_studies()
ONE_FOLD = "split.fold=0"
SLICES = {
    "ablation": ["ablation=full,no_filter,other_fold", "backbone@judge=simulated_other", "split.folds=2", "limit=24"],
    "compression_grid": ["memory.rate=0.8"],
    "conflict_resolution": ["system=memalpha,rag,memagent", "dataset=memoryagentbench", "backbone=simulated"],
    "construction_cost": ["memory=rounds,memalpha"],
    "conversations": ["holds.conversations=1,5"],
    "cost": ["evidence.budget=128,512", ONE_FOLD],
    "cross_backbone": [ONE_FOLD],
    "cross_domain": ["split.folds=2", ONE_FOLD],
    "cross_memory": [ONE_FOLD],
    "cross_policy": ["optimizer=few_shot,memrl", "limit=24", ONE_FOLD],
    "data_scale": ["train_questions=12,24", ONE_FOLD],
    "evidence_position": [],
    "failures": ["memory=turns,rmem_summary", ONE_FOLD],
    "guideline_kinds": [ONE_FOLD],
    "guidelines": [ONE_FOLD],
    "halumem": ["memory=turns,tim"],
    "likelihood": ["memory=none,rounds", "limit=12"],
    "length_generalization": ["system=rag,memalpha"],
    "main_table": ["baseline=no_memory,full_context,naive_rag,mem0,metamem", "split.folds=2", "limit=24"],
    "main_table_equal_tokens": ["memory=rounds,turns", ONE_FOLD],
    "memalpha_reward": [],
    "memalpha_table": ["system=rag,memagent_unknown,memalpha"],
    "memoryagentbench": ["system=rag,memalpha,lightmem"],
    "memory_systems": ["memory=turns,rmem_summary", "backbone=simulated", "limit=12"],
    "perplexity": ["train_questions=12,24", ONE_FOLD],
    "poison": ["guard=none,provenance", "part=all", "limit=12"],
    "policies": ["optimizer=few_shot,training_free_grpo", "split.validation=0.2", ONE_FOLD],
    "streams": ["optimizer=few_shot", "split.folds=2", "limit=12", "stream.again=4"],
    "training_steps": ["seed=42,43", ONE_FOLD],
}
# Studies that evaluate at their end: those must repeat nothing by themselves, the others leave it to their jobs.
EVALUATING = {
    *("ablation", "cross_backbone", "cross_domain", "cross_memory", "cross_policy", "failures", "guideline_kinds"),
    *("guidelines", "main_table_equal_tokens", "perplexity"),
}
# Studies of evaluations that are made for streams of chunks.
STREAMED = ("conflict_resolution", "length_generalization", "memalpha_reward", "memalpha_table", "memoryagentbench")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def facts(folder: Path) -> Path:
    """A file as MemoryAgentBench's: two texts in which everybody moves, and where everybody lives."""
    rows = []
    for source, people in (("factconsolidation_sh_6k", 8), ("factconsolidation_mh_32k", 12)):
        homes = [f"{town}{i}" for town in ("Old", "New") for i in range(people)]
        told = [f"{i}. Person{i % people} lives in the city of {home}." for i, home in enumerate(homes)]
        asked = [f"Where does Person{i} live?" for i in range(people)]
        about = {"source": source, "qa_pair_ids": [f"{source}_{i}" for i in range(people)]}
        answers = [[home] for home in homes[people:]]
        rows.append({"context": "\n".join(told), "questions": asked, "answers": answers, "metadata": about})
    path = folder / "facts.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def check_systems_by_length(folder: Path) -> None:
    """A row for every system and length, with tests against the first system."""
    rows = rows_of(folder / "study.csv")
    assert [(r["system"], r["questions of"], r["questions"]) for r in rows] == [
        (system, part, count)
        for part, count in (("all", "20"), ("single-hop 6k", "8"), ("multi-hop 32k", "12"))
        for system in ("memalpha", "rag", "memagent")
    ]
    for row in rows:
        assert float(row["low"]) - 1e-9 <= float(row["accuracy"]) <= float(row["high"]) + 1e-9
        assert bool(row["verdict"]) == bool(row["p (Holm)"]) == (row["system"] != "memalpha")
    assert all(float(r["memory tokens"]) > 0 for r in rows[:3])
    assert [float(r["conflict resolution"]) for r in rows[:3]] == pytest.approx(
        [(float(rows[3 + i]["accuracy"]) + float(rows[6 + i]["accuracy"])) / 2 for i in range(3)]
    ), "texts weigh alike"
    assert {r["average"] for r in rows} == {""}, "Mem-α's average has no conflict resolution in it"
    assert {p.stem for p in folder.glob("*.png")} == {"conflict_resolution_single", "conflict_resolution_multi"}


def check_five_weights(folder: Path) -> None:
    """The paper's weights on the same memories: a row each, which adds up; nothing is asked for twice."""
    rows = [{k: float(v) for k, v in r.items()} for r in rows_of(folder / "study.csv")]
    assert tuple((r["beta"], r["gamma"]) for r in rows) == ABLATION
    for r in rows:
        worth = r["task"] + r["call success"] + r["beta"] * r["compression"] + r["gamma"] * r["content"]
        assert r["reward"] == pytest.approx(worth)
        assert (r["episodes"], r["left out"]) == (len(instances_of_memalpha()), 0)
    assert len({r["reward"] for r in rows}) == 5
    runs = [p.parent for p in folder.glob("*/manifest.json") if not p.parent.is_symlink()]
    results = [programs.result_of(run) for run in runs]
    assert len(results) == 5
    assert sum(bool(r["calls"]["builder"].get("delivered")) for r in results) == 1, "memories are written once"
    keys = programs.journal_keys(folder.parent)
    assert len(keys) == len(set(keys)), "nothing is asked for twice"
    episodes = [json.loads(line) for run in runs for line in (run / "memories.jsonl").read_text().splitlines()]
    assert len(episodes) == 5 * len(instances_of_memalpha())


def check_controls(folder: Path) -> None:
    """The controls stand beside the variants, the judge's too."""
    expected = {"full", "no_filter", "E, its words shuffled", "E of another fold", "judged by the policy itself"}
    assert expected < {r["variant"] for r in rows_of(folder / "study.csv")}


def check_baselines(folder: Path) -> None:
    """The two baselines stand above the memories, on the same questions."""
    rows = rows_of(folder / "study.csv")
    assert [(r["system"], r["guidelines"]) for r in rows] == [
        ("no memory", "without"),
        ("constant answer", "without"),
        *((memory, kind) for memory in ("rounds", "turns") for kind in ("without", "with")),
    ]
    assert len({r["questions"] for r in rows}) == 1
    assert all(float(r["accuracy"]) < 1 for r in rows[:2])


def check_one_split(folder: Path) -> None:
    """Two training seeds, on the same questions."""
    assert {r["runs"] for r in rows_of(folder / "study.csv")} == {"2"}
    runs = [p.parent for p in folder.glob("*/result.json") if not p.parent.is_symlink()]
    assert len({programs.result_of(run)["split"]["hash"] for run in runs}) == 1


def check_rows_without_training(folder: Path) -> None:
    """Every system has a row without guidelines, over both folds; the method alone has one with."""
    rows = rows_of(folder / "study.csv")
    assert [(r["system"], r["guidelines"]) for r in rows] == [
        ("no_memory", "without"),
        ("full_context", "without"),
        ("naive_rag", "without"),
        ("mem0", "without"),
        ("metamem", "without"),
        ("metamem", "with"),
    ]
    assert {r["questions"] for r in rows} == {"24"}, "every question is tested once"
    assert [bool(r["verdict"]) for r in rows] == [False] * 5 + [True]


def check_pairs_of_memories(folder: Path) -> None:
    """Both memories are read without and with what was learned over each."""
    pairs = [(r["trained on"], r["read by"]) for r in rows_of(folder / "study.csv")]
    assert pairs == [(trained, read) for read in ("rounds", "turns") for trained in ("none", "rounds", "turns")]


def check_kinds(folder: Path) -> None:
    """Every guideline has a kind, and the cases are those of the questions that the table names."""
    rows = rows_of(folder / "study.csv")
    assert {r["kind"] for r in rows} <= {*KINDS}
    named = {q for r in rows for k in ("right only with it", "right only without it") for q in r[k].split(", ") if q}
    cases = rows_of(folder / "cases.csv")
    assert {c["question_id"] for c in cases} == named
    for case in cases:
        assert case["reply with it"] != case["reply without it"]
        assert case["evidence"] and case["question"]


def check_page(report: Path) -> None:
    """The report opens without an error, and every figure in its table opens questions; where there is a browser."""
    if not browser.available():
        return
    with browser.started() as chromium, browser.opened(chromium, report) as tab:
        buttons = tab.locator("#study-table tbody button")
        for number in range(buttons.count()):
            buttons.nth(number).click()
            assert not tab.inner_text("#count").startswith("0 "), buttons.nth(number).inner_text()


def check_competencies(folder: Path) -> None:
    """A row for every system and competency, with tests against the first system; summaries are judged."""
    rows = rows_of(folder / "study.csv")
    names = ["all", "accurate retrieval", "test-time learning", "long-range understanding", "conflict resolution"]
    assert [(r["system"], r["competency"]) for r in rows] == [
        (system, name) for name in names for system in ("rag", "memalpha", "lightmem")
    ]
    assert [r["questions"] for r in rows[::3]] == ["21", "8", "5", "2", "6"]
    for row in rows:
        assert bool(row["verdict"]) == (row["system"] != "rag")
        assert 0 <= float(row["mean by instance"]) <= 1
    run = next(p.parent for p in folder.glob("*/result.json") if not p.parent.is_symlink())
    assert programs.result_of(run)["calls"]["judge"]["delivered"] >= 6, "three chats and three questions on a summary"


def instances_of_memalpha() -> list[tuple[str, int, int]]:
    """Source, tokens and questions of the bundled instances of Mem-α's sources."""
    path = programs.ROOT / "metamem" / "datasets" / "data" / "memalpha.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    tokens = [sum(count_tokens(chunk, "words") for chunk in r["chunks"]) for r in rows]
    return [(r["data_source"], size, len(r["questions_and_answers"])) for r, size in zip(rows, tokens, strict=True)]


def check_sources(folder: Path) -> None:
    """A row a system: scores by instance and source, and the tokens that it keeps; chunks keep all that there is."""
    rows = rows_of(folder / "study.csv")
    assert [r["system"] for r in rows] == ["rag", "memagent_unknown", "memalpha"]
    instances = instances_of_memalpha()
    sources = sorted({source for source, _, _ in instances})
    for row in rows:
        assert float(row["mean score"]) == pytest.approx(sum(float(row[f"score {s}"]) for s in sources) / len(sources))
        assert bool(row["verdict"]) == (row["system"] != "rag")
    words = {s: [count for source, count, _ in instances if source == s] for s in sources}
    means = {s: sum(counts) / len(counts) for s, counts in words.items()}
    assert {s: int(rows[0][f"tokens {s}"]) for s in sources} == {s: round(mean) for s, mean in means.items()}
    assert int(rows[0]["memory tokens"]) == round(sum(means.values()) / len(means))
    for run in (p.parent for p in folder.glob("*/manifest.json") if not p.parent.is_symlink()):
        cases = [json.loads(line) for line in (run / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
        assert len({c["conversation"] for c in cases}) == len(instances), (
            "one memory an instance: questions are unknown"
        )


def check_lengths(folder: Path) -> None:
    """A row for every system and doubled length, of the instances that are so long."""
    rows = rows_of(folder / "study.csv")
    expected = []
    for top in (128, 256, 512, 1024):
        within = [i for i in instances_of_memalpha() if top / 2 < i[1] <= top]
        count, questions = len(within), sum(i[2] for i in within)
        read = round(sum(i[1] for i in within) / count)
        expected += (
            [(s, str(top), str(count), str(questions), str(read)) for s in ("rag", "memalpha")] if within else []
        )
    names = ("system", "tokens read, at most", "instances", "questions", "mean tokens read")
    assert [tuple(r[name] for name in names) for r in rows] == expected
    assert all(r["memory tokens"] == r["mean tokens read"] for r in rows if r["system"] == "rag")
    assert {p.stem for p in folder.glob("*.png")} == {"length_generalization", "length_memory_tokens"}


def check_policies(folder: Path) -> None:
    """A row for each policy with its costs, which are those of its steps."""
    rows = rows_of(folder / "study.csv")
    assert [r["policy"] for r in rows] == ["few_shot", "training_free_grpo"]
    for row in rows:
        (run,) = (p.parent for p in folder.glob(f"{row['policy'].replace('_', '-')}*/manifest.json"))
        steps = list(read_rows(run / "metrics.jsonl"))
        attempts = [a for a in read_rows(run / "attempts.jsonl") if a["scope"].startswith("train/")]
        own = sum(a["usage"]["prompt_tokens"] + a["usage"]["completion_tokens"] for a in attempts)
        spent = float(row["tokens spent learning"])
        assert float(row["answers"]) == len(attempts) and spent == sum(s.get("learning_tokens", 0) for s in steps)
        assert spent == own if row["policy"] == "few_shot" else spent > own
    assert {p.stem for p in folder.glob("*.png")} == {"policies", "accuracy_by_tokens"}


def check_pairs_of_backbones(folder: Path) -> None:
    """For each policy both backbones answer without and with what each of them learned by it."""
    pairs = [(r["policy"], r["used by"], r["learned by"]) for r in rows_of(folder / "study.csv")]
    names = sorted({used for _, used, _ in pairs})
    assert len(names) == 2
    assert pairs == [(p, u, w) for p in ("few_shot", "memrl") for u in names for w in ("none", *names)]
    files = list((folder / "meta_memories").rglob("*.json"))
    assert len(files) == 4, "what one policy learned does not overwrite what another did"


def check_streams(folder: Path) -> None:
    """Every question of both orders counts, and what was forgotten is over the first four of each."""
    (row,) = rows_of(folder / "study.csv")
    assert (row["policy"], row["questions"], row["orders that pay"][2:]) == ("few_shot", "12", "of 2")
    lowest, highest = float(row["lowest"]), float(row["highest"])
    assert lowest <= float(row["accuracy"]) <= highest
    assert float(row["spread over orders"]) == pytest.approx(highest - lowest)
    assert float(row["forgotten"]) * 8 == round(float(row["forgotten"]) * 8)
    assert {p.stem for p in folder.glob("*.png")} == {"streams", "over_time"}


def check_poison(folder: Path) -> None:
    """For every attack the table and the run's report show what was planted, retrieved, shown and obeyed."""
    rows = rows_of(folder / "study.csv")
    attacks = REGISTRY.names("attack")
    assert [(r["attack"], r["guard"]) for r in rows] == [(a, g) for a in attacks for g in ("none", "provenance")]
    for row in rows:
        if row["attack"] == "none":
            assert not row["planted"] and not row["obeyed"]
            continue
        assert float(row["planted"]) >= float(row["retrieved"]) >= float(row["shown"]) and float(row["retrieved"]) > 0
        assert 0 <= float(row["obeyed low"]) <= float(row["obeyed"]) <= float(row["obeyed high"]) <= 1
        assert row["accuracy against clean"] and bool(row["success against no guard"]) == (row["guard"] != "none")
    (forged,) = (r for r in rows if (r["attack"], r["guard"]) == ("forged_record", "provenance"))
    assert float(forged["retrieved"]) > float(forged["shown"]) == 0, "its turns do not say it"
    for run in (p.parent for p in folder.glob("*/attacked.jsonl") if not p.parent.is_symlink()):
        held, page = list(read_rows(run / "attacked.jsonl")), (run / "report.html").read_text(encoding="utf-8")
        attack = programs.result_of(run)["attack"]
        assert f"Under attack: {attack['name']}" in page and escape(held[0]["target"]) in page
        assert attack["planted"] == sum(bool(row["planted"]) for row in held) > 0
    guarded = [p.parent for p in folder.glob("*/guarded.jsonl") if not p.parent.is_symlink()]
    assert guarded
    for run in guarded:
        told = list(read_rows(run / "guarded.jsonl"))
        assert sum(len(row["dropped"]) for row in told) == programs.result_of(run)["guard"]["held_back"]
    assert {p.stem for p in folder.glob("*.png")} == {"success"}


def check_kept_sessions(folder: Path) -> None:
    """Every session's points are judged once under each memory, a builder's or not; table, result and report agree."""
    rows = rows_of(folder / "study.csv")
    assert [r["memory"] for r in rows] == ["turns", "tim"]
    runs = [p.parent for p in folder.glob("*/manifest.json") if not p.parent.is_symlink()]
    by_memory = {read_object(run / "config.json")["memory"]["name"]: run for run in runs}
    for row in rows:
        run = by_memory[row["memory"]]
        (found,) = programs.result_of(run)["memories"].values()
        assert float(row["f1"]) == pytest.approx(found["f1"])
        assert (found["points"] + found["updates"], found["false_points"], found["answers"]) == (8, 2, 7)
        assert sum(found[f"answer_{name}"] for name in ("correct", "hallucinated", "omitted")) == pytest.approx(1)
        sessions = list(read_rows(run / "memories.jsonl"))
        assert [len(s["points"]) for s in sessions] == [3, 2, 2, 2, 1]
        assert sum(len(s["kept"]) for s in sessions) == found["kept"] > 0
        again = recount(run)
        assert not again.differences and again.figures > 50 and "memories" not in str(again.untold)
        assert "The memories themselves" in (run / "report.html").read_text(encoding="utf-8")
    assert {p.stem for p in folder.glob("*.png")} == {"halumem"}


CHECKS = {
    "ablation": check_controls,
    "conflict_resolution": check_systems_by_length,
    "cross_policy": check_pairs_of_backbones,
    "cross_memory": check_pairs_of_memories,
    "guideline_kinds": check_kinds,
    "halumem": check_kept_sessions,
    "length_generalization": check_lengths,
    "main_table": check_rows_without_training,
    "main_table_equal_tokens": check_baselines,
    "memalpha_reward": check_five_weights,
    "memalpha_table": check_sources,
    "memoryagentbench": check_competencies,
    "poison": check_poison,
    "policies": check_policies,
    "streams": check_streams,
    "training_steps": check_one_split,
}


def test_a_study_of_evaluations_is_refused_by_the_other_program() -> None:
    told = programs.run_here("train", "experiment=conflict_resolution", code=2)
    assert "experiment=conflict_resolution is a study of evaluations" in told


def test_memoryagentbenchs_study_runs_on_its_real_file(tmp_path: Path, shared: Path) -> None:
    """From the path in the environment, with one command."""
    command = ["experiment=memoryagentbench", f"outputs={tmp_path}", "system=rag,memagent", "backbone=simulated"]
    command += ["dataset=memoryagentbench_env", "dataset.sources=[factconsolidation_sh_6k]"]
    programs.run_here("eval", *command, MEMORYAGENTBENCH=str(shared / "memoryagentbench_conflict_resolution.json"))
    rows = rows_of(tmp_path / "memoryagentbench" / "study.csv")
    assert [(r["system"], r["competency"], r["questions"]) for r in rows] == [
        (system, name, "100") for name in ("all", "conflict resolution") for system in ("rag", "memagent")
    ]


@pytest.mark.parametrize("study", REGISTRY.names("study"))
def test_a_study_ends_with_its_table_figure_and_report_and_repeats_nothing(tmp_path: Path, study: str) -> None:
    command = [f"experiment={study}", "embedder=hashing", f"outputs={tmp_path / 'o'}", *SLICES[study]]
    program = REGISTRY.entry("study", study).component.program
    if study in STREAMED:
        command += ["dataset.chunk_tokens=100"]
        command += [f"dataset.path={facts(tmp_path)}"] if "dataset=memoryagentbench" in command else []
    elif program == "train":
        command += [*SMALL, *([] if study == "training_steps" else ["seed=42"])]
    printed = programs.run_here(program, *command)
    assert "simulated" in printed
    folder = tmp_path / "o" / study
    assert rows_of(folder / "study.csv")
    assert {r["status"] for r in rows_of(folder / "results.csv")} == {"done"}
    for name in ("study.md", "study.tex", "study.parquet", "results.parquet", "report.html", "audit.csv"):
        assert (folder / name).stat().st_size > 0, name
    CHECKS.get(study, lambda folder: None)(folder)
    check_page(folder / "report.html")
    assert list(folder.glob("*.png")) and len(list(folder.glob("*.pdf"))) == len(list(folder.glob("*.png")))
    if study not in EVALUATING:
        return
    keys, table = programs.journal_keys(tmp_path), (folder / "study.csv").read_bytes()
    programs.run_here(program, *command)
    assert programs.journal_keys(tmp_path) == keys
    assert (folder / "study.csv").read_bytes() == table


def test_a_failed_job_is_in_the_table_and_the_study_is_made_of_the_others(tmp_path: Path) -> None:
    given = ["experiment=data_scale", "train_questions=12,5000", "seed=42", ONE_FOLD, f"outputs={tmp_path}", *SMALL]
    printed = programs.run_here("train", *given, code=2)
    assert "the training part has" in printed
    rows = rows_of(tmp_path / "data_scale" / "results.csv")
    (failed,) = [r for r in rows if r["status"] == "failed"]
    assert failed["train_questions"] == "5000" and "the training part has" in failed["error"]
    assert [r["training questions"] for r in rows_of(tmp_path / "data_scale" / "study.csv")] == ["0", "12"]
    assert "the training part has" in (tmp_path / "data_scale" / "report.html").read_text(encoding="utf-8")


def test_a_sweep_of_8_jobs_killed_twice_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["-m", "seed=range(0,4)", "optimizer.attempts=2,3", "optimizer.batch_size=10", "limit=20"]
    given += ["hydra.sweep.dir=table"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        place.mkdir()
    monkeypatch.chdir(whole)
    programs.run_here("train", *given)
    monkeypatch.chdir(killed)
    for finished in (2, 5):
        process = programs.start("train", *given)
        deadline = time.monotonic() + 300
        while len(list(killed.glob("outputs/train/*/result.json"))) < finished and time.monotonic() < deadline:
            assert process.poll() is None, "the sweep ended before it could be killed"
            time.sleep(0.02)
        process.kill()
        process.communicate()
    programs.run("train", *given, afresh=True)
    tables = [rows_of(p / "table" / "results.csv") for p in (whole, killed)]
    # What a process asked for depends on what it found in the journal; what came of it does not.
    counted = [[{k: v for k, v in r.items() if not k.endswith(("_calls", "_tokens"))} for r in t] for t in tables]
    assert counted[0] == counted[1]
    assert {r["job"] for r in tables[0]} == {str(i) for i in range(8)}

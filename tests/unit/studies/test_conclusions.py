"""What studies conclude from finished runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metamem.core.registry import REGISTRY, load_studies
from metamem.reporting.findings import Finding
from metamem.studies.conclusion import conclude, failures
from metamem.studies.guideline_kinds import read_kinds
from metamem.studies.poison import _entries
from metamem.studies.settings import Setting, settings
from tests import made_run

load_studies()


def job(folder: Path, number: int, override: str, config: Mapping[str, Any], **result: Any) -> dict[str, Any]:
    """A finished job over a made run, whose config and result hold this too."""
    run = made_run.write(folder / str(number), questions=60)
    for name, more in (("config", config), ("result", result)):
        path = run / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | more), encoding="utf-8")
    return {"number": number, "overrides": [override], "runs": [str(run)], "status": "done", "folder": str(folder)}


def concluded(study: str, jobs: list[dict[str, Any]]) -> Finding:
    finding: Finding = REGISTRY.build("study", {"name": study}).conclude(jobs)
    return finding


def test_the_table_compares_the_methods_guidelines_with_the_best_system_that_has_none(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 0, "baseline=full_context", {"optimizer": {"name": "none"}}),
        job(tmp_path, 1, "baseline=metamem", {"optimizer": {"name": "metamem"}}),
    ]
    finding = concluded("main_table", jobs)
    assert [(r["system"], r["guidelines"], round(r["accuracy"], 3)) for r in finding.rows] == [
        ("full_context", "without", 0.333),
        ("metamem", "without", 0.333),
        ("metamem", "with", 0.5),
    ]
    assert finding.rows[-1]["difference"] == "+16.7"
    for name in ("full_context", "metamem"):
        assert f"between {name} without and metamem with guidelines" in " ".join(finding.notes), "each has its sentence"


def test_construction_is_counted_per_conversation_and_per_point_of_accuracy(tmp_path: Path) -> None:
    cost = {"calls": 6, "prompt_tokens": 900, "completion_tokens": 100, "seconds": 3.0}
    memory = {"conversations": 2, "units": 30, "costs": {"extract": cost, "update": cost}}
    row = concluded("construction_cost", [job(tmp_path, 0, "memory=lightmem", {}, memory=memory)]).rows[0]
    per = {k.removesuffix(" per conversation"): v for k, v in row.items() if k.endswith(" per conversation")}
    assert per == {"units": 15.0, "calls": 6.0, "tokens": 1000.0, "seconds": 3.0}
    assert row["tokens per point"] == pytest.approx(2000 / 33.3, rel=0.01)


def test_systems_are_compared_with_the_best_that_asks_nobody_on_the_same_data_and_evidence(tmp_path: Path) -> None:
    cost = {"calls": 6, "prompt_tokens": 900, "completion_tokens": 100, "seconds": 3.0}
    jobs = []
    for number, (memory, budget) in enumerate((m, b) for b in (2048, None) for m in ("rounds", "turns", "amem")):
        costs = {"note": cost} if memory == "amem" else {}
        config = {"memory": {"name": memory}, "evidence": {"budget": budget}, "dataset": {"name": "locomo"}}
        one = job(tmp_path, number, f"memory={memory}", config, memory={"conversations": 2, "units": 8, "costs": costs})
        one["overrides"].append(f"evidence.budget={budget}")
        if memory == "turns":
            log = Path(one["runs"][0]) / "verdicts.jsonl"
            wrong = log.read_text(encoding="utf-8").replace('"correct": true', '"correct": false')
            log.write_text(wrong.replace('"score": 1.0', '"score": 0.0'), encoding="utf-8")
        jobs.append(one)
    finding = concluded("memory_systems", jobs)
    assert [(r["evidence"], r["system"], r.get("against")) for r in finding.rows] == [
        (evidence, *row)
        for evidence in ("2048 tokens", "own")
        for row in (("rounds", None), ("turns", "rounds"), ("amem", "rounds"))
    ]
    assert [r["tokens per conversation"] for r in finding.rows[:3]] == [0, 0, 500]
    assert {f.name for f in finding.figures} == {
        f"pareto_{price}_{evidence}" for price in ("build", "read") for evidence in ("2048_tokens", "own")
    }
    assert finding.figures[0].series[0].labels == ("rounds", "turns", "amem")


def test_a_job_that_failed_is_named_with_its_reason_beside_the_table() -> None:
    jobs = [
        {"status": "done", "overrides": ["memory=a"]},
        {"status": "failed", "overrides": ["memory=b"], "error": "E"},
    ]
    assert failures(jobs) == ["memory=b is not in the table: E"]


def test_retrieval_pays_from_the_size_on_at_which_it_is_never_worse_again(tmp_path: Path) -> None:
    jobs = []
    for number, (memory, size) in enumerate((m, s) for m in ("full_context", "rounds") for s in (1, 2, 5)):
        one = job(tmp_path, number, f"memory={memory}", {"holds": {"conversations": size}, "memory": {"name": memory}})
        one["overrides"].append(f"holds.conversations={size}")
        if memory == "rounds" and size == 2:
            log = Path(one["runs"][0]) / "verdicts.jsonl"
            wrong = log.read_text(encoding="utf-8").replace('"correct": true', '"correct": false')
            log.write_text(wrong.replace('"score": 1.0', '"score": 0.0'), encoding="utf-8")
        jobs.append(one)
    finding = concluded("conversations", jobs)
    assert [(r["memory"], r["conversations in memory"]) for r in finding.rows] == [
        (memory, size) for size in (1, 2, 5) for memory in ("full_context", "rounds")
    ]
    assert [round(r["accuracy"], 2) for r in finding.rows] == [0.33, 0.33, 0.33, 0.0, 0.33, 0.33]
    assert "From 5 on rounds answers at least as well as full_context" in " ".join(finding.notes)


def test_positions_count_the_questions_whose_evidence_was_retrieved(tmp_path: Path) -> None:
    jobs = [job(tmp_path, i, f"evidence.order=gold_{place}", {}) for i, place in enumerate(("first", "last"))]
    finding = concluded("evidence_position", jobs)
    assert [(r["position"], r["questions"]) for r in finding.rows] == [("gold_first", 45), ("gold_last", 45)]
    assert finding.rows[1]["difference"] == "+0.0"
    assert finding.notes[0].startswith("15 questions are left out")


def test_the_grid_compares_every_cell_with_the_one_that_keeps_most(tmp_path: Path) -> None:
    jobs = []
    for number, (rate, buffer) in enumerate((r, b) for r in (0.8, 0.5) for b in (256, 512)):
        memory = {"rate": rate, "short_term_tokens": buffer, "compressor": "llmlingua2"}
        one = job(tmp_path, number, f"memory.rate={rate}", {"memory": memory}, memory={"conversations": 1})
        one["overrides"].append(f"memory.short_term_tokens={buffer}")
        jobs.append(one)
    finding = concluded("compression_grid", jobs)
    assert [(r["rate"], r["buffer"], "difference" in r) for r in finding.rows] == [
        (0.5, 256, True),
        (0.5, 512, True),
        (0.8, 256, True),
        (0.8, 512, False),
    ]


@pytest.mark.slow
def test_sizes_of_training_parts_are_those_of_the_runs(tmp_path: Path) -> None:
    given = job(tmp_path, 0, "train_share=0.4", {}, split={"train": 140})
    assert settings([given])[0].trained_on() == 140


def test_a_kind_that_is_none_is_other_and_an_unreadable_reply_sorts_nothing() -> None:
    said = '{"guidelines": [{"id": "[G1]", "kind": "time"}, {"id": "G2", "kind": "cheese"}]}'
    assert read_kinds(f"Here:\n```json\n{said}\n```") == {"G1": "time", "G2": "other"}
    assert read_kinds("no list") == {}


@pytest.mark.slow
def test_an_attacks_success_is_compared_with_no_guard_and_fenced_prompts_and_accuracy_with_the_clean_run(
    tmp_path: Path,
) -> None:
    jobs = []
    settings_ = [
        ("none", "none", "default", None, 0),
        ("false_fact", "none", "default", 1.0, 30),
        ("false_fact", "provenance", "default", 1.0, 0),
        ("false_fact", "none", "unfenced", 1.0, 60),
        ("false_fact", "none", "default", 0.5, 15),
    ]
    for number, (attack, guard, prompts, share, obeyed) in enumerate(settings_):
        config = {"attack": {"name": attack, "share": share}, "guard": {"name": guard}, "prompts": {"name": prompts}}
        told = {"planted": 60, "retrieved": 60, "shown": 60} if attack != "none" else None
        one = job(tmp_path, number, f"attack={attack}", config, attack=told)
        one["overrides"] += [f"guard={guard}", f"prompts={prompts}", f"attack.share={share}"]
        if attack != "none":
            rows = [
                {
                    "question_id": f"q{i:05d}",
                    "type": "t",
                    "group": f"g{i}",
                    "systems": {"without": {"obeyed": float(i < obeyed)}, "best (step 1)": {"obeyed": None}},
                }
                for i in range(60)
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (Path(one["runs"][0]) / "attacked.jsonl").write_text(text, encoding="utf-8")
        jobs.append(one)
    finding = concluded("poison", jobs)
    found = [row for row in finding.rows if row["guidelines"] == "without"]
    assert [row["obeyed"] for row in found] == [None, 0.5, 0.0, 1.0, 0.25]
    assert [(row.get("success against no guard") or "")[:5] for row in found] == ["", "", "-50.0", "", ""]
    assert [(row.get("success against prompts=default") or "")[:5] for row in found] == ["", "", "", "+50.0", ""]
    assert [(row.get("accuracy against clean") or "")[:4] for row in found] == ["", "+0.0", "+0.0", "", "+0.0"]
    assert all(row["obeyed"] is None for row in finding.rows if row["guidelines"] != "without")
    (figure,) = finding.figures
    assert figure.kind == "lines" and {s.name: s.x for s in figure.series}["false_fact, none, default"] == (0.5, 1.0)


@pytest.mark.slow
def test_options_of_attacks_and_guards_are_settings_of_their_own_and_runs_of_a_setting_count_alike(
    tmp_path: Path,
) -> None:
    def attacked(number: int, seed: int, copies: int, consensus: str, obeyed: int) -> dict[str, Any]:
        config = {"attack": {"name": "crowding", "share": 1.0}, "guard": {"name": "amemguard" if consensus else "none"}}
        spent = {"calls": 10 * seed, "prompt_tokens": 0, "completion_tokens": 0}
        guard = {"questions": 10, "held_back": 0, "evidence_held_back": 0, "stages": {"chains": spent}}
        told = {"attack": {"planted": 60, "retrieved": 30 * seed, "shown": 30}, "seed": seed}
        one = job(tmp_path, number, f"attack.copies={copies}", config, **told, guard=guard if consensus else None)
        one["overrides"] += [f"seed={seed}", *([f"guard.consensus={consensus}"] if consensus else [])]
        shares = [{"without": {"obeyed": float(i < obeyed)}} for i in range(60)]
        rows = [{"type": "t", "question_id": f"q{i:05d}", "group": f"g{i}", "systems": s} for i, s in enumerate(shares)]
        text = "".join(json.dumps(each) + "\n" for each in rows)
        (Path(one["runs"][0]) / "attacked.jsonl").write_text(text, encoding="utf-8")
        return one

    clean = job(tmp_path, 9, "attack=none", {"attack": {"name": "none"}, "guard": {"name": "none"}})
    again = {**clean, "overrides": ["attack=none", "attack.copies=3", "guard.consensus=judge"]}
    jobs = [clean, again]
    for seed in (1, 2):
        jobs += [attacked(10 * seed + n, seed, c, g, o) for n, (c, g, o) in enumerate(_CROWDED)]
    rows = [row for row in concluded("poison", jobs).rows if row["guidelines"] == "without"]
    assert [(r.get("attack.copies"), r.get("guard.consensus")) for r in rows] == [
        (None, None),
        *((str(c), g or None) for c, g, _ in _CROWDED),
    ], "a run that stands for several settings is one"
    assert [(r.get("success against no guard") or "")[:5] for r in rows] == ["", "", "-50.0", "-25.0", "", "-50.0"]
    assert {(r["planted"], r["retrieved"]) for r in rows[1:]} == {(60.0, 45.0)}
    assert [r["guard calls"] for r in rows] == [0.0, 0.0, 1.5, 1.5, 0.0, 1.5]


# Copies, who tells in the guard (empty: there is none), how many of 60 obey.
_CROWDED = ((3, "", 30), (3, "judge", 0), (3, "dbscan", 15), (10, "", 60), (10, "judge", 30))


@pytest.mark.slow
def test_attacked_answers_have_the_seed_and_the_training_of_their_run(tmp_path: Path) -> None:
    run = made_run.write(tmp_path / "a", questions=2, seed=7)
    rows = [{"question_id": "q00000", "type": "t", "group": "g", "systems": {"best (step 1)": {"obeyed": 1.0}}}]
    (run / "attacked.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    (entry,) = (e for e in _entries(Setting("x", {}, (run,))) if e.obeyed.rows)
    (row,) = entry.obeyed.rows
    assert row.seed == 7 and row.training and row.training == entry.system.rows[0].training


def test_what_a_kill_left_of_a_file_in_a_sweeps_folder_is_gone_after_its_next_end(tmp_path: Path) -> None:
    left, kept = tmp_path / ".study.pdf.0123abcd.new", tmp_path / "multirun.yaml"
    for file in (left, kept):
        file.write_text("")
    job = {"number": 0, "overrides": ["seed=1"], "status": "failed", "error": "no", "folder": str(tmp_path)}
    conclude([job | {"runs": [], "stamps": []}])
    assert not left.exists() and kept.exists()

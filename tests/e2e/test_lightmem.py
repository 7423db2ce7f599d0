"""LightMem memories in whole runs: built once, by the builder role, the same at any concurrency and through kills."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.server import Fault, Server
from tests.simulated_server import simulated_reply

# Small buffers make many calls, the hashing embedder needs no model.
LIGHT = [
    "memory=lightmem",
    "embedder=hashing",
    "memory.sensory_tokens=60",
    "memory.short_term_tokens=60",
    "memory.messages_use=hybrid",
    "memory.update=true",
    "memory.update_threshold=0.6",
    "part=all",
]


def served(server: Server, outputs: Path, *more: str) -> list[str]:
    return [
        *LIGHT,
        "backbone=openai",
        f"backbone.base_url={server.url}",
        "backbone.model=test-model",
        "backbone.identity=test-weights",
        "backbone.max_concurrency=7",
        f"outputs={outputs}",
        *more,
    ]


def banks(outputs: Path) -> dict[str, str]:
    """Address → units, as text."""
    found = {p.parent.name: p.read_text(encoding="utf-8") for p in (outputs / "memory" / "banks").rglob("units.jsonl")}
    assert found
    return found


def builder_rows(outputs: Path) -> list[dict[str, Any]]:
    lines = [line for path in outputs.glob("*/journal/*/*.jsonl") for line in path.read_text().splitlines()]
    return [row for row in map(json.loads, lines) if row.get("role") == "builder"]


@pytest.mark.slow
def test_the_sample_is_evaluated_on_memories_that_the_simulated_builder_made(tmp_path: Path) -> None:
    printed = programs.run_here("eval", "memory=lightmem", "embedder=hashing", "part=all", f"outputs={tmp_path}")
    assert re.search(r"memory: \d+ units of 10 conversations \(10 built, 0 reused\) took \d+ calls", printed)
    result = programs.result_of(programs.only_run(tmp_path, "eval"))
    assert result["stamps"] == ["simulated"]
    assert result["memory"]["costs"]["extract"]["calls"] == result["calls"]["builder"]["delivered"] > 10
    assert result["retrieval"]["turn/recall_any@10"] > 0.5
    for text in banks(tmp_path).values():
        for unit in map(json.loads, text.splitlines()):
            assert unit["kind"] == "fact"
            assert unit["time"]
            assert unit["session_id"]
            assert len(unit["turn_ids"]) == 1
    # Another retriever builds nothing anew, and neither does the same command in a new run.
    again = programs.run_here(
        "eval", "memory=lightmem", "embedder=hashing", "part=all", f"outputs={tmp_path}", "retriever=hybrid"
    )
    assert "(0 built, 10 reused)" in again


@pytest.mark.slow
def test_what_decides_the_facts_decides_the_bank_and_nothing_else_does(tmp_path: Path) -> None:
    few = ["memory=lightmem", "embedder=hashing", "dataset.limit=3", "split=all", "part=all", f"outputs={tmp_path}"]
    programs.run_here("eval", *few)
    first = set(banks(tmp_path))
    programs.run_here("eval", *few, "memory.batch_size=3", "retriever.k=5")
    assert set(banks(tmp_path)) == first
    prompt = tmp_path / "extract.jinja"
    prompt.write_text(
        "{% block user %}<messages>\n{% for s in segments %}{% for m in s %}[{{ m.index }}] {{ m.text }}\n{% endfor %}"
        "{% endfor %}</messages>{{ first }}{{ last }}{% endblock %}"
    )
    for change in (
        f"prompts.extract={prompt}",
        "memory.short_term_tokens=100",
        "backbone@builder=simulated builder.seed=9",
    ):
        before = set(banks(tmp_path))
        programs.run_here("eval", *few, *change.split())
        assert len(set(banks(tmp_path)) - before) == len(first), change


@pytest.mark.slow
def test_a_questions_evidence_is_shown_with_its_origin_beside_the_gold_evidence(tmp_path: Path) -> None:
    light = ["memory=lightmem", "embedder=hashing", f"outputs={tmp_path}"]
    printed = programs.run_here("eval", *light, "show=sample_baker_ssa1", "retriever.k=4", "memory.messages_use=hybrid")
    assert "evidence: 4 units of lightmem" in printed
    assert re.search(
        r"^\[1\] rank 1, score [\d.]+, fact, session \*baker_s4, turns \*?baker_s4/\d", printed, re.MULTILINE
    )
    gold = printed.split("gold evidence:")[1]
    assert "baker_s4/1 (" in gold
    assert "I'd put the cardamom bun at $4.25" in gold
    assert not list(tmp_path.glob("eval/*/manifest.json"))
    refused = programs.run_here("eval", *light, "show=sample_baker_ssa", code=2)
    assert "Did you mean 'sample_baker_ssa1'?" in refused


@pytest.mark.slow
def test_banks_are_the_same_at_any_concurrency(tmp_path: Path) -> None:
    made = []
    for concurrency in (1, 64):
        with Server(simulated_reply(), keep_calls=False) as server:
            outputs = tmp_path / str(concurrency)
            more = ["dataset.limit=12", "split=all", f"backbone.max_concurrency={concurrency}"]
            programs.run_here("eval", *served(server, outputs, *more))
            made.append(banks(outputs))
    assert made[0] == made[1]


@pytest.mark.slow
def test_killed_at_five_random_points_the_banks_are_the_same_and_nothing_is_asked_for_twice(tmp_path: Path) -> None:
    reply = simulated_reply()
    with Server(reply, keep_calls=False) as server:
        programs.run_here("eval", *served(server, tmp_path / "whole"))
        total = len(builder_rows(tmp_path / "whole"))
    assert total > 100
    # Builder calls come before all others, give or take those of the conversations that are ready first.
    points = random.Random(11).sample(range(1, total), 5)
    kills = programs.run_killed("eval", lambda server: served(server, tmp_path / "killed"), reply, points)
    assert kills >= 3
    assert banks(tmp_path / "killed") == banks(tmp_path / "whole")
    keys = programs.journal_keys(tmp_path / "killed")
    assert len(keys) == len(set(keys)) == len(programs.journal_keys(tmp_path / "whole"))
    whole, killed = (programs.only_run(tmp_path / n, "eval") for n in ("whole", "killed"))
    assert programs.result_of(killed)["figures"] == programs.result_of(whole)["figures"]


@pytest.mark.slow
def test_a_bank_with_lost_calls_is_not_kept_and_the_next_run_asks_for_those_calls_alone(tmp_path: Path) -> None:
    def some(index: int, body: dict[str, Any]) -> Fault | None:
        lost = "<messages>" in body["messages"][-1]["content"] and index % 23 == 0
        return Fault(status=400, message="planned") if lost else None

    few = ["memory.update=false", "backbone.retries=0"]
    with Server(simulated_reply(), faults=some, keep_calls=False) as server:
        printed = programs.run_here("eval", *served(server, tmp_path, *few))
    incomplete = re.search(r"(\d+) banks lack a call that was not delivered", printed)
    assert incomplete
    assert len(banks(tmp_path)) == 10 - int(incomplete[1])
    with Server(simulated_reply()) as server:
        programs.run_here("eval", *served(server, tmp_path, *few, "run.force=true"))
        asked = sum("<messages>" in call.body["messages"][-1]["content"] for call in server.calls)
    assert len(banks(tmp_path)) == 10
    lost = re.search(r"(\d+) calls gave nothing", printed)
    assert lost
    assert asked == int(lost[1])


@pytest.mark.slow
def test_a_compressor_that_cannot_be_had_is_an_error_before_anything_is_paid(tmp_path: Path) -> None:
    printed = programs.run_here(
        "eval", "memory=lightmem_paper", "embedder=hashing", f"outputs={tmp_path}", code=2, HF_HUB_CACHE=str(tmp_path)
    )
    assert "llmlingua-2-bert-base-multilingual-cased-meetingbank" in printed
    assert "memory.compressor=none" in printed
    assert "ownload" in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("eval/*/manifest.json"))


@pytest.mark.slow
def test_the_papers_preset_runs_with_a_compressor_of_the_right_architecture(tmp_path: Path) -> None:
    from tests import tiny_models

    model = tiny_models.bert_compressor(tmp_path / "model", layers=12)
    printed = programs.run_here(
        "eval",
        "memory=lightmem_paper",
        f"memory.compressor_model={model}",
        "memory.device=cpu",
        "embedder=hashing",
        "dataset.limit=4",
        "split=all",
        "part=all",
        f"outputs={tmp_path}",
    )
    assert "units of" in printed
    manifests = [json.loads(p.read_text()) for p in (tmp_path / "memory" / "banks").rglob("bank.json")]
    parts = manifests[0]["constructor"]["dependencies"]
    assert set(parts) == {"constructor", "builder", "embedder", "prompts"}
    assert parts["constructor"]["compressor"]["weights"]


@pytest.mark.slow
def test_one_sweep_prints_the_evidence_recall_of_three_memories_at_equal_token_budgets(
    tmp_path: Path, shared: Path
) -> None:
    printed = programs.run_here(
        "eval",
        "-m",
        "memory=lightmem,rounds,sessions",
        "dataset=longmemeval",
        f"dataset.path={shared / 'longmemeval_s_sample.json'}",
        "backbone=simulated",
        "embedder=hashing",
        "split=all",
        "part=all",
        "evidence.budget=2000",
        f"outputs={tmp_path}",
    )
    assert "27 conversations (27 built, 0 reused)" in printed
    recalls = re.findall(r"evidence within 2,000 tokens holds ([\d.]+)% of the evidence sessions \(23 q", printed)
    assert len(recalls) == 3
    # Facts are shorter than rounds, and rounds than sessions: more of the evidence fits.
    assert float(recalls[0]) > float(recalls[1]) > float(recalls[2])


@pytest.mark.slow
def test_the_ten_locomo_conversations_are_built_with_both_speakers(tmp_path: Path, shared: Path) -> None:
    printed = programs.run_here(
        "eval",
        "memory=lightmem",
        "memory.messages_use=hybrid",
        "dataset=locomo",
        f"dataset.path={shared / 'locomo10.json'}",
        "backbone=simulated",
        "embedder=hashing",
        "split=all",
        "part=all",
        f"outputs={tmp_path}",
    )
    assert "10 conversations (10 built, 0 reused)" in printed
    result = programs.result_of(programs.only_run(tmp_path, "eval"))
    assert result["memory"]["unread"] == 0
    assert result["memory"]["counts"]["messages"] > 5800
    assert result["retrieval"]["turn/recall_any@10"] > 0.4

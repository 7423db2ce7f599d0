"""Mem-α's memory in whole programs: under meta-memory training, and as episodes that survive being killed."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.server import Server
from tests.simulated_server import simulated_reply


@pytest.mark.slow
def test_meta_memory_is_trained_on_a_memory_that_a_model_wrote(tmp_path: Path) -> None:
    chosen = ["experiment=quick", "memory=memalpha", "retriever=memalpha"]
    programs.run_here("train", *chosen, f"outputs={tmp_path}")
    result = programs.result_of(programs.only_run(tmp_path, "quick"))
    assert result["calls"]["builder"]["delivered"] > 0
    assert result["score"] is not None
    units = [line for path in (tmp_path / "memory").rglob("units.jsonl") for line in path.read_text().splitlines()]
    assert {json.loads(unit)["kind"] for unit in units} >= {"core", "episodic"}


@pytest.mark.slow
def test_all_eight_real_contexts_stream_through_an_evaluation_that_searches_within_a_gibibyte(
    tmp_path: Path, shared: Path
) -> None:
    path = shared / "memoryagentbench_conflict_resolution.json"
    given = ["system=memalpha", "dataset=memoryagentbench", f"dataset.path={path}", "backbone=simulated"]
    given += ["memory.max_tokens=100000", "search.calls=2", "search.methods=[bm25]", "evaluator=by_source"]
    process = programs.start_afresh("eval", *given, "split=all", "part=all", f"outputs={tmp_path}")
    assert process.stdout is not None
    # Of this program alone: what wait4 says of a process begins at the size of the one that forked it.
    largest, printed = 0, ""
    for line in process.stdout:
        printed += line
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        largest = max(largest, *(int(n) for n in re.findall(r"VmHWM:\s+(\d+) kB", status)), 0)
    assert process.wait() == 0, printed
    assert 0 < largest < 1024 * 1024, f"{largest / 1024:.0f} MiB"
    result = programs.result_of(programs.only_run(tmp_path, "eval"))
    by_type = result["figures"]["by_source"]["without"]["by_type"]
    assert [cell["count"] for cell in by_type.values()] == [100] * 8
    assert (result["memory"]["conversations"], result["memory"]["incomplete"]) == (4, 0)
    assert result["memory"]["counts"].get("calls_malformed", 0) == 0, "no reply was cut"
    assert result["calls"]["policy"]["searches"] > 0


def data(folder: Path) -> Path:
    facts = [f"{i}. Person{i} lives in the city of Town{i}." for i in range(30)]
    row = {
        "chunks": json.dumps(["\n".join(facts[i : i + 6]) for i in range(0, 30, 6)]),
        "questions_and_answers": json.dumps(
            [{"question": f"Where does Person{i} live?", "answer": f"Town{i}"} for i in (1, 8, 20)]
        ),
        "data_source": "squad",
    }
    path = folder / "train.json"
    path.write_text(json.dumps([row]))
    return path


def episodes(server: Server, data: Path, out: Path, outputs: Path) -> list[str]:
    return [
        *("--out", str(out), "--group", "8", "dataset=memalpha", f"dataset.path={data}", "split=all", "part=all"),
        *("memory=memalpha", "memory.temperature=1.0", "retriever=memalpha", f"outputs={outputs}"),
        *("retriever.whole_tokens=0", "retriever.k=1", "search.calls=2", "search.methods=[bm25]"),
        *("backbone=openai", f"backbone.base_url={server.url}", "backbone.model=test-model"),
        *("backbone.identity=test-weights", "backbone.max_concurrency=7"),
    ]


def rows(path: Path) -> list[dict[str, Any]]:
    stored: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return stored


@pytest.mark.slow
def test_killed_at_five_random_points_episodes_and_rewards_are_the_same_and_none_is_asked_for_twice(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pyarrow")
    source, reply = data(tmp_path), simulated_reply()
    with Server(reply, keep_calls=False) as server:
        programs.run("memalpha_episodes", *episodes(server, source, tmp_path / "whole.parquet", tmp_path / "whole"))
        total = server.delivered
    points = random.Random(7).sample(range(1, total), 5)
    kills = programs.run_killed(
        "memalpha_episodes",
        lambda server: episodes(server, source, tmp_path / "killed.parquet", tmp_path / "killed"),
        reply,
        points,
    )
    assert kills >= 3
    assert rows(tmp_path / "killed.parquet") == rows(tmp_path / "whole.parquet")
    whole = rows(tmp_path / "whole.parquet")
    assert len({row["reward"] for row in whole}) > 1
    assert any(answer["searches"] for row in whole for answer in json.loads(row["answers"])), "no answer searched"
    keys = programs.journal_keys(tmp_path / "killed")
    assert len(keys) == len(set(keys)) == len(programs.journal_keys(tmp_path / "whole"))

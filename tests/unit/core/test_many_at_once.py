"""Very many questions in one run: few are under way at once, the collector keeps out of the way, rows are streamed."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metamem.core.calls import Generation, Request, Sampling
from metamem.core.collector import collector_at_rest, collector_paced
from metamem.core.contracts import Reply
from metamem.core.files import write_rows
from metamem.core.records import Question
from metamem.core.registry import build, load_components
from metamem.pipeline import bench as benches
from metamem.pipeline.bench import Bench
from metamem.prompts.templates import Prompts
from metamem.tracking.trackers import Trackers


class Slow:
    """A caller whose replies come the later the earlier they were asked for, and that counts those under way."""

    backbone = SimpleNamespace()
    label = "slow"

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.under_way = self.most = self.asked = 0

    def sampling(self) -> Sampling:
        return Sampling()

    async def __call__(self, request: Request) -> list[Reply]:
        self.under_way += 1
        self.asked += 1
        self.most = max(self.most, self.under_way)
        for _ in range(20 - self.asked):
            await asyncio.sleep(0)
        self.under_way -= 1
        return [Reply("key", Generation(request.messages[-1].content))]


@pytest.mark.parametrize("at_once", [1, 3, 2048])
def test_results_are_in_the_order_of_ids_however_many_questions_are_under_way(monkeypatch, at_once):
    monkeypatch.setattr(benches, "_AT_ONCE", at_once)
    load_components()
    questions = [Question(f"q{i:02}", f"Which number is {i}?", "t", (str(i),)) for i in reversed(range(12))]
    caller: Any = Slow()
    bench = Bench(
        prompts=Prompts(Prompts.Config()),
        policy=caller,
        evaluators={"substring_match": build("evaluator", {"name": "substring_match"})},
        reward="substring_match",
        evidence={},
        seed=1,
        tracker=Trackers([]),
    )
    judged = asyncio.run(
        bench.evaluate(questions, None, stage="test", scope="test", draws="test", attempts=1, temperature=0.0)
    )
    assert [j.question.id for j in judged] == sorted(q.id for q in questions)
    assert all(j.question.text in j.attempts[0].response for j in judged)
    assert caller.most == min(at_once, len(questions))


def test_the_collector_is_as_it_was_after_work_that_kept_it_out_of_the_way():
    before = gc.get_threshold()

    @collector_paced()
    @collector_at_rest()
    def work() -> None:
        assert gc.get_threshold()[0] > before[0] and not gc.isenabled()
        with collector_at_rest():
            pass
        assert not gc.isenabled(), "the inner one found it at rest"
        raise ValueError("a file that cannot be read")

    with pytest.raises(ValueError, match="cannot be read"):
        work()
    assert gc.isenabled() and gc.get_threshold() == before and gc.get_freeze_count() == 0


def test_rows_that_cannot_all_be_written_leave_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, ({"number": i, "text": "é \ud800"} for i in range(3)))
    kept = path.read_bytes()
    assert [json.loads(line)["number"] for line in kept.splitlines()] == [0, 1, 2]

    def broken() -> Any:
        yield {"number": 7}
        raise KeyError("nothing more")

    with pytest.raises(KeyError):
        write_rows(path, broken())
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]

"""The quickest look at the whole: train and evaluate on the sample data, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import programs


@pytest.mark.slow
def test_train_and_eval_on_the_sample_data_end_to_end(tmp_path: Path) -> None:
    printed = programs.run("train", f"outputs={tmp_path}", "experiment=quick", afresh=True)
    assert "simulated" in printed
    result = programs.result_of(programs.only_run(tmp_path, "quick"))
    assert result["best_step"] is not None
    assert set(result["figures"]["llm_judge"]) == {s["label"] for s in result["systems"]}
    given = [f"outputs={tmp_path}", f"meta_memory=[null,{tmp_path}/quick/latest]", "name=check"]
    programs.run("eval", *given, afresh=True)
    compared = programs.result_of(programs.only_run(tmp_path, "check"))["pairs"][0]
    assert sum(compared[k] for k in ("both", "only_first", "only_second", "neither")) == result["split"]["test"]

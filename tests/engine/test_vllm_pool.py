"""The jobs of a process share engines: what a run started, the next one finds warm."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hydra import compose, initialize_config_dir

from metamem.backbones.engine.pool import shared_pool
from metamem.config import TrainConfig, resolve
from metamem.hydra_bridge import config_folder, export
from metamem.training import train


def test_the_jobs_of_a_process_share_one_engine_which_ends_with_the_pool(tmp_path: Path, model: Path) -> None:
    given = [
        f"outputs={tmp_path}",
        "backbone=tiny",
        f"backbone.path={model}",
        "backbone.max_tokens=8",
        "evaluator=[substring_match]",
        "optimizer.batch_size=6",
        "optimizer.epochs=1",
        "dataset.limit=36",
    ]
    lives = []
    for attempts in (2, 3):
        export()
        with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
            config = resolve(compose("train", overrides=[*given, f"optimizer.attempts={attempts}"]))
        assert isinstance(config, TrainConfig)
        result = train(config)
        assert "random weights" in result["stamps"]
        (engine,) = shared_pool()._engines.values()
        lives.append(getattr(engine, "_life", None))
    assert lives[0] is not None
    assert lives[0] is lives[1]
    asyncio.run(shared_pool().close())
    assert not shared_pool()._engines

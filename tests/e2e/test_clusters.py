"""Sweeps whose jobs are handed to a scheduler, as far as one machine can show it: submitit's local executor and a Ray
of this machine. A job that is taken away in the middle is continued and ends as one that was not."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from metamem.cli.hydra_bridge import config_folder, export
from metamem.core.errors import Interrupted
from metamem.programs.frame import run_async
from tests import programs
from tests.programs import TRAINING
from tests.server import Server
from tests.simulated_server import simulated_reply


def installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:
        return False


needs_submitit = pytest.mark.skipif(not installed("hydra_submitit_launcher"), reason="needs the extra cluster")
needs_ray = pytest.mark.skipif(not installed("hydra_ray_launcher"), reason="needs the extra ray")


def below(process: Any, words: str) -> list[psutil.Process]:
    """The processes that a program started whose command or name holds some words."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if words in " ".join(child.cmdline()) or words in child.name():
                found.append(child)
        except psutil.Error:
            continue
    return found


def taken_away(
    tmp_path: Path, data: Path, cluster: str, take: Callable[[Any], object], **environment: str
) -> tuple[Path, Path, str]:
    """A run that nothing disturbed, the same as a job of `cluster` that `take` is done to in the middle, and what the
    latter printed.
    """
    reply = simulated_reply()
    with Server(reply, keep_calls=False) as server:
        programs.run_here("train", *programs.served(server, data, tmp_path / "whole", *TRAINING))
        total = server.delivered
    current: list[Any] = []
    taken: list[int] = []
    lock = threading.Lock()

    def watch(count: int) -> None:
        with lock:
            if count >= total // 3 and current and not taken:
                taken.append(count)
                take(current[0])

    with Server(reply, keep_calls=False, on_delivered=watch) as server:
        given = ["-m", f"cluster={cluster}", *programs.served(server, data, tmp_path / "taken", *TRAINING)]
        process = programs.start_afresh("train", *given, **environment)
        with lock:
            current.append(process)
        printed, _ = process.communicate(timeout=500)
    assert process.returncode == 0, printed
    assert taken and taken[0] < total, "it was not taken away in the middle"
    return programs.only_run(tmp_path / "whole"), programs.only_run(tmp_path / "taken"), printed


@needs_submitit
@pytest.mark.slow
def test_the_jobs_of_a_sweep_through_submitit_are_shown_together_at_its_end(tmp_path: Path) -> None:
    given = ["cluster=local", f"outputs={tmp_path}", "optimizer.epochs=1"]
    printed = programs.run("train", "-m", *given, "optimizer.attempts=2,3")
    assert "2 jobs" in printed


@needs_submitit
def test_a_slurm_job_is_told_before_its_time_is_up_and_may_be_requeued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submitit
    from hydra import compose, initialize_config_dir
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from omegaconf import OmegaConf

    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    export()
    asked = ["cluster=slurm", "hydra.launcher.gpus_per_node=6", "+hydra.launcher.additional_parameters.mail-type=END"]
    with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
        hydra = compose("train", overrides=[*asked, "name=n"], return_hydra_config=True).hydra
    options: Any = OmegaConf.to_container(hydra.launcher)
    # As the launcher hands them to submitit.
    own = {options.pop("_target_"), options.pop("submitit_folder")}
    assert any("SlurmLauncher" in name for name in own)
    executor = submitit.AutoExecutor(
        tmp_path / "jobs", cluster="slurm", slurm_max_num_timeout=options["max_num_timeout"]
    )
    del options["max_num_timeout"]
    shared = set(BaseQueueConf.__dataclass_fields__)
    executor.update_parameters(
        **{k if k in shared else f"slurm_{k}": hydra.launcher.name if k == "name" else v for k, v in options.items()}
    )
    text = executor._executor._make_submission_file_text("job", "1")
    wanted = ("signal=USR2@120", "requeue", "time=1440", "gpus-per-node=6", "job-name=n", "mail-type=END")
    for flag in wanted:
        assert f"#SBATCH --{flag}\n" in text
    assert executor._executor.max_num_timeout == 100


@needs_submitit
@pytest.mark.slow
def test_a_preempted_job_of_submitit_is_continued_and_ends_as_one_that_was_not(
    tmp_path: Path, prepared_file: Path
) -> None:
    def preempt(process: Any) -> None:
        for job in below(process, "submitit.core._submit"):
            job.send_signal(signal.SIGTERM)  # as Slurm does first; the job stays
            time.sleep(0.3)  # of two signals that wait together Python takes the lower number first
            job.send_signal(signal.SIGUSR2)

    whole, taken, printed = taken_away(tmp_path, prepared_file, "local", preempt)
    logs = "".join(p.read_text() for p in tmp_path.glob("taken/train/sweeps/*/.submitit/*/*_log.*"))
    assert "Bypassing signal SIGTERM" in logs
    assert "Requeued job" in logs  # submitit ends the job by an exception wherever it stands, which tasks may tell of
    assert "done" in printed[printed.rindex("override") :]
    assert programs.state(taken) == programs.state(whole)
    keys = programs.journal_keys(tmp_path / "taken")
    assert len(keys) == len(set(keys)), "a reply was asked for twice"


@needs_ray
@pytest.mark.slow
def test_a_job_of_ray_whose_machine_is_lost_is_continued_by_another(tmp_path: Path, prepared_file: Path) -> None:
    # Ray keeps a token in the home directory where it has none.
    own = {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "180"}

    def lose(process: Any) -> None:
        for job in below(process, "ray::_run_job"):
            job.kill()

    whole, taken, printed = taken_away(tmp_path, prepared_file, "ray", lose, **own)
    assert "done" in printed[printed.rindex("override") :]
    assert programs.state(taken) == programs.state(whole)
    keys = programs.journal_keys(tmp_path / "taken")
    assert len(keys) == len(set(keys)), "a reply was asked for twice"


async def told_to_stop() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.2)
    return "stayed"


def test_a_job_of_a_scheduler_leaves_the_signals_to_it_that_it_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        run_async(told_to_stop())
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    with pytest.raises(Interrupted):
        run_async(told_to_stop())
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        assert run_async(told_to_stop()) == "stayed"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]

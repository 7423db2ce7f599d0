"""A run that is killed anywhere and continued ends as one that was not, and pays for nothing twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import programs
from tests.programs import TRAINING
from tests.server import Server
from tests.simulated_server import simulated_reply

SERVED = {f"{role}: test-model" for role in ("judge", "policy", "reflector")}


@pytest.mark.slow
def test_killed_at_ten_random_points_a_run_ends_the_same_and_asks_for_nothing_twice(
    tmp_path: Path, prepared_file: Path
) -> None:
    reply = simulated_reply()
    with Server(reply, keep_calls=False) as server:
        programs.run_here("train", *programs.served(server, prepared_file, tmp_path / "whole", *TRAINING))
        total = server.delivered
    points = random.Random(7).sample(range(1, total), 10)
    # The address is part of a run's identity: the weights are named instead, so that both servers count as one.
    kills = programs.run_killed(
        "train", lambda server: programs.served(server, prepared_file, tmp_path / "killed", *TRAINING), reply, points
    )
    assert kills >= 7
    whole, killed = (programs.only_run(tmp_path / n) for n in ("whole", "killed"))
    assert programs.state(killed) == programs.state(whole)
    assert programs.result_of(killed)["figures"] == programs.result_of(whole)["figures"]
    # What only a killed process asked is told by no later one.
    assert set(programs.result_of(killed)["served"]) <= set(programs.result_of(whole)["served"]) == SERVED
    keys = programs.journal_keys(tmp_path / "killed")
    assert len(keys) == len(set(keys)) == len(programs.journal_keys(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_a_run_that_is_told_to_stop_keeps_what_was_delivered_and_continues(
    tmp_path: Path, prepared_file: Path, number: signal.Signals
) -> None:
    with Server(simulated_reply(), delay=0.02, keep_calls=False) as server:
        command = programs.served(server, prepared_file, tmp_path, *TRAINING)
        server.hold_after = 100
        process = programs.start("train", *command)
        assert server.held.wait(60)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else 143), printed
        assert "the same command continues" in printed
        assert "Traceback" not in printed
        before = programs.journal_keys(tmp_path)
        server.release()
        programs.run("train", *command)
        keys = programs.journal_keys(tmp_path)
        assert keys[: len(set(before))] and len(keys) == len(set(keys))
        assert set(before) <= set(keys)


BUSY = """
import time

import metamem


@metamem.register("evaluator", "endless")
class Endless:
    '''Computes for a minute, in a thread or in the loop itself.'''

    from dataclasses import dataclass

    name, threshold = "endless", 0.5

    @dataclass
    class Config:
        '''Where.'''

        place: str = metamem.option("thread", "thread or loop")

    def __init__(self, config):
        self._place = config.place

    async def evaluate(self, question, attempt, repeat=0):
        import asyncio

        print("computing", flush=True)
        if self._place == "thread":
            await asyncio.to_thread(time.sleep, 60)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            sum(range(1000))


if __name__ == "__main__":
    metamem.main("eval")
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "loop"])
def test_an_interrupt_ends_a_busy_program_within_five_seconds_and_says_how_to_go_on(tmp_path: Path, place: str) -> None:
    script = tmp_path / "busy.py"
    script.write_text(BUSY, encoding="utf-8")
    given = [f"outputs={tmp_path / 'o'}", "evaluator=[endless]", f"evaluator.endless.place={place}"]
    process = subprocess.Popen(
        [sys.executable, str(script), *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=programs.environment(),
    )
    assert process.stdout is not None
    printed = ""
    while "computing" not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    printed += process.communicate(timeout=60)[0]
    assert time.monotonic() - began < 5, printed
    assert process.returncode == 130 and printed.count("the same command continues") == 1, printed
    assert "Traceback" not in printed

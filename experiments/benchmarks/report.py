"""How quick a report of 10,000 attempts is, measured in the page, in a browser.

    python experiments/benchmarks/report.py [--questions 500] [--draws 10] [--evidence 20] [--rounds 5]

A run's page is made of so many questions with two systems and so many draws each (10,000 attempts as it stands) and
opened in Chromium (`$CHROMIUM`, or the one that is installed). It says the file's size, the time until the list stands,
and the time from a key in the search field, a choice of verdict and a click on a cell to the finished list, each the
median and the worst of the rounds. Exit code 1 when a filter takes longer than 200 ms or the file is over 30 MB.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MOST_MILLISECONDS, MOST_BYTES = 200, 30_000_000

# Act, and count the time until the list has been drawn anew and the browser is free again.
ACTIONS = {
    "a key in the search field": """form.elements.text.value = wanted; form.dispatchEvent(new Event("input"));""",
    "a choice of verdict": """form.elements.verdict.value = form.elements.verdict.value === "right" ? "wrong" : "right";
        form.dispatchEvent(new Event("input"));""",
    "sorting by tokens": """document.querySelector('[data-sort="tokens"]').click();""",
    "a cell": """document.querySelector("#accuracy tr.summary button").click();""",
}
MEASURE = """async wanted => {{
    const form = document.getElementById("filters"), list = document.querySelector("#list tbody");
    const before = list.firstChild;
    const began = performance.now();
    {action}
    while (list.firstChild === before && performance.now() - began < 20000)
        await new Promise(done => requestAnimationFrame(done));
    await new Promise(done => setTimeout(done));
    return performance.now() - began;
}}"""


def made(folder: Path, questions: int, draws: int, evidence: int) -> Path:
    """The page of a run with texts as long as those of a benchmark, none like another."""
    from metamem.reporting.write import write_report
    from tests import made_run

    rng = random.Random(0)
    words = [f"{rng.choice('bdfgklmnprst')}{rng.choice('aeiou')}{rng.choice('bdfgklmnprst')}{i}" for i in range(5000)]
    texts = (" ".join(rng.choices(words, k=60)) for _ in iter(int, 1))
    return write_report(made_run.write_varied(folder / "run", questions, draws, evidence, texts))


def main() -> int:
    """Measure, print, and say by the exit code whether the limits hold."""
    from tests.browser import chromium, opened, started

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, value in (("questions", 500), ("draws", 10), ("evidence", 20), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if not chromium():
        print("no browser: install Chromium, or name one by $CHROMIUM", file=sys.stderr)
        return 2
    held = True
    with tempfile.TemporaryDirectory() as folder, started() as browser:
        page = made(Path(folder), options.questions, options.draws, options.evidence)
        attempts = 2 * options.questions * options.draws
        print(f"{attempts:,} attempts, {options.evidence} fragments of evidence: {page.stat().st_size / 1e6:.1f} MB")
        held &= page.stat().st_size < MOST_BYTES
        began = time.perf_counter()
        with opened(browser, page) as tab:
            print(f"{'until the list stands':32}{1000 * (time.perf_counter() - began):8.0f} ms")
            for name, action in ACTIONS.items():
                taken = rounds(tab, action, options.rounds)
                print(f"{name:32}{statistics.median(taken):8.0f} ms   worst {max(taken):.0f} ms")
                held &= max(taken) < MOST_MILLISECONDS
    print("within the limits" if held else f"over the limits: {MOST_MILLISECONDS} ms, {MOST_BYTES / 1e6:.0f} MB")
    return 0 if held else 1


def rounds(tab: Any, action: str, count: int) -> list[float]:
    """Milliseconds of each round, from all attempts in the list."""
    taken = []
    for number in range(count):
        tab.click("#filters button[type=reset]")
        taken.append(float(tab.evaluate(MEASURE.format(action=action), f"question {number + 1} ")))
    return taken


if __name__ == "__main__":
    sys.exit(main())

"""How often the shipped intervals hold the truth, and how often a difference is shown where there is none.

    python experiments/benchmarks/coverage.py [--repeats 1000] [--tables 500] [--seed 0]

Answers are simulated: a question has a difficulty, which both systems share in part, a conversation makes its questions
alike (ICC), a training has luck that all of its answers share, and every question type its own level. What is measured
is what the project ships: `statistics.estimate` and the test that `statistics.comparison` chooses, of which reports,
tables and the console show the same. Printed is a row a setting: the coverage of 95 % intervals of an accuracy, of one
type's, of the mean over types, and of a paired difference that is truly three points; and the share of differences
shown where both systems are equally good (type I). Then tables of fifteen comparisons: the share that show anything
where there is nothing, and the power at 40 points over ten conversations. Behind a figure stands its Monte Carlo
standard error; figures beyond the bounds by more than three of these are listed at the end. A type of fewer than
twenty questions is in brackets and not judged: with four answers no interval can hold the truth in 93 to 97 % of cases.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metamem.statistics.comparison import significance
from metamem.statistics.estimate import Observations, difference_of, mean_of
from metamem.statistics.paired import ALPHA, discordance, holm

TYPES = 6
_SPREAD, _SHARED = 0.25, 0.75  # of the questions' difficulty, and how much of its variance both systems share
_BASE, _GAIN = 0.6, 0.03
# What intervals shall hold, and how many questions tell of a type.
LOW, HIGH, FEWEST = 0.93, 0.97, 20
FIGURES = ("accuracy", "one type", "averaged", "difference", "type I")


@dataclass(frozen=True)
class Setting:
    """One kind of sample. `clusters` 0: every question stands for itself; `luck` is the deviation of trainings."""

    questions: int
    clusters: int = 0
    icc: float = 0.0
    attempts: int = 1
    runs: int = 1
    luck: float = 0.0

    def __str__(self) -> str:
        groups = f"{self.clusters} conversations, ICC {self.icc:g}" if self.clusters else "no conversations"
        return (
            f"{self.questions} questions, {groups}, {self.attempts} attempts, {self.runs} runs, "
            f"luck {100 * self.luck:g}"
        )

    @property
    def kinds(self) -> NDArray[np.intp]:
        """The type of each question: every conversation has all of them, as far as it has so many questions."""
        return np.arange(self.questions) // (self.clusters or 1) % TYPES


SETTINGS = [
    Setting(20),
    Setting(20, attempts=10),
    Setting(60),
    Setting(200, attempts=5),
    Setting(500),
    Setting(500, attempts=10),
    Setting(60, 6, 0.02),
    Setting(200, 6, 0.1),
    Setting(200, 10, 0.05, 5),
    Setting(500, 10, 0.01),
    Setting(500, 10, 0.1, 10),
    Setting(500, 50, 0.1),
    *(Setting(n, c, i, a, r, luck) for n, c, i in ((60, 0, 0.0), (500, 0, 0.0), (200, 10, 0.05)) for a in (1, 5)
      for r in (2, 3, 5) for luck in (0.0, 0.03, 0.06)),
]  # fmt: skip
TABLES = [Setting(200), Setting(200, 10, 0.05), Setting(100, 0, 0.0, 1, 3, 0.03),
          *(Setting(500, 0, 0.0, 1, runs, 0.06) for runs in (2, 3, 5))]  # fmt: skip
FORTY = Setting(500, 10, 0.05)
QUICK = [Setting(20), Setting(200, 6, 0.1), Setting(200, 10, 0.05, 5), Setting(60, 0, 0.0, 5, 3, 0.03)]

Answers = NDArray[np.float64]


class Simulation:
    """Samples of one setting."""

    def __init__(self, setting: Setting, random: np.random.Generator) -> None:
        self.setting, self.random = setting, random
        groups = setting.clusters or setting.questions
        self.group = np.arange(setting.questions) % groups
        self.groups, self.kinds = groups, setting.kinds
        self.names = [f"g{g:04d}" for g in self.group] * setting.runs
        self.runs = [str(run) for run in range(setting.runs) for _ in self.group] if setting.runs > 1 else []
        self.strata = [f"type {kind}" for kind in self.kinds] * setting.runs
        self.first_type = np.flatnonzero(np.tile(self.kinds, setting.runs) == 0)

    def draw(self, *gains: float) -> list[Answers]:
        """Return the shares of right attempts of systems on the same questions, by run and question in one row; each is
        better than the base by its gain.
        """
        s, random = self.setting, self.random
        clustered = np.sqrt(s.icc * _BASE * (1 - _BASE))

        def difficulty(alike: float, single: float) -> Answers:
            shared = random.normal(0, clustered * alike**0.5, self.groups)[self.group]
            return np.asarray(shared + random.normal(0, _SPREAD * single**0.5, s.questions))

        both = _BASE + _level(self.kinds) + difficulty(0.7, _SHARED)
        found = []
        for gain in gains:
            own = both + gain + difficulty(0.3, 1 - _SHARED)
            luck = random.normal(0, s.luck, (s.runs, 1))
            if s.luck:
                luck = luck + random.normal(0, _OF_QUESTIONS, (s.runs, s.questions))
            chance = np.clip(own + luck, 0, 1)
            found.append((random.binomial(s.attempts, chance) / s.attempts).reshape(-1))
        return found

    def sample(self, answers: Answers, by_type: bool = False) -> Observations:
        """Return answers as the estimator takes them."""
        return Observations(answers.tolist(), self.names, self.runs, self.strata if by_type else ())

    def of_first_type(self, answers: Answers) -> Observations:
        """Return the answers to the questions of the first type."""
        kept = self.first_type.tolist()
        return Observations(
            answers[kept].tolist(), [self.names[i] for i in kept], [self.runs[i] for i in kept] if self.runs else ()
        )

    def compare(self, first: Answers, second: Answers) -> tuple[float, tuple[float, float]]:
        """Return p and the interval of a comparison, by the test that the project chooses."""
        s = self.setting
        single = s.attempts == s.runs == 1 and not s.clusters
        cases = discordance((first > 0).tolist(), (second > 0).tolist()) if single else None
        p, interval, _ = significance(difference_of(self.sample(first), self.sample(second)), cases)
        return p, interval


# How much trainings differ by question, where they differ at all.
_OF_QUESTIONS = 0.08


def _level(kind: NDArray[np.intp]) -> Answers:
    return np.linspace(-0.12, 0.12, TYPES)[kind]


def truths(setting: Setting, gain: float = 0.0) -> tuple[float, list[float]]:
    """Return the true accuracy over all types, and of each, by a large sample."""
    random = np.random.default_rng(1)
    of_training = setting.luck**2 + _OF_QUESTIONS**2 if setting.luck else 0.0
    drawn = random.normal(0, np.sqrt(setting.icc * _BASE * (1 - _BASE) + _SPREAD**2 + of_training), 400_000)
    by_type = [
        float(np.clip(_BASE + gain + level + drawn, 0, 1).mean()) for level in _level(np.arange(TYPES, dtype=np.intp))
    ]
    return float(np.average(by_type, weights=np.bincount(setting.kinds, minlength=TYPES))), by_type


def measure(setting: Setting, repeats: int, seed: int) -> dict[str, float]:
    """Return the coverage of the intervals, and the share of differences shown where there is none."""
    simulation = Simulation(setting, np.random.default_rng([seed, repeats]))
    overall, by_type = truths(setting)
    gain = truths(setting, _GAIN)[0] - overall
    held = dict.fromkeys(FIGURES, 0)
    for _ in range(repeats):
        first, better, equal = simulation.draw(0.0, _GAIN, 0.0)
        held["accuracy"] += _holds(mean_of(simulation.sample(first)).share_interval(), overall)
        held["one type"] += _holds(mean_of(simulation.of_first_type(first)).share_interval(), by_type[0])
        averaged = mean_of(simulation.sample(first, by_type=True))
        held["averaged"] += _holds(averaged.share_interval(), sum(by_type) / TYPES)
        held["difference"] += _holds(simulation.compare(first, better)[1], gain)
        held["type I"] += simulation.compare(first, equal)[0] < ALPHA
    return {name: count / repeats for name, count in held.items()}


def family(setting: Setting, gain: float, tables: int, seed: int, comparisons: int = 15) -> float:
    """Return the share of tables of so many comparisons that show something (without a gain), or all of it (with)."""
    simulation = Simulation(setting, np.random.default_rng([seed, comparisons]))
    found = 0
    for _ in range(tables):
        shown = [
            p < ALPHA for p in holm([simulation.compare(*simulation.draw(0.0, gain))[0] for _ in range(comparisons)])
        ]
        found += all(shown) if gain else any(shown)
    return found / tables


def error(share: float, draws: int) -> float:
    """Return the Monte Carlo standard error of a share of so many draws; that of one in a hundred where it is less."""
    inside = min(max(share, 0.01), 0.99)
    return math.sqrt(inside * (1 - inside) / draws)


def outside(setting: Setting, found: dict[str, float], draws: int) -> Iterator[str]:
    """Name the figures of a setting that are beyond the bounds by more than three Monte Carlo standard errors."""
    for name, value in found.items():
        low, high = (0.0, ALPHA) if name == "type I" else (LOW, HIGH)
        judged = name != "one type" or int((setting.kinds == 0).sum()) >= FEWEST
        if judged and not low - 3 * error(value, draws) <= value <= high + 3 * error(value, draws):
            yield f"{setting}: {name} {value:.3f} ± {error(value, draws):.3f}"


def _holds(interval: tuple[float, float] | None, truth: float) -> bool:
    return interval is not None and interval[0] <= truth <= interval[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{'setting':<72}" + "".join(f"{name:>15}" for name in FIGURES))
    beyond: list[str] = []
    for setting in SETTINGS:
        found = measure(setting, given.repeats, given.seed)
        beyond += outside(setting, found, given.repeats)
        few = int((setting.kinds == 0).sum()) < FEWEST
        shown = [f"{value:.3f} ± {error(value, given.repeats):.3f}" for value in found.values()]
        shown[1] = f"({shown[1]})" if few else shown[1]
        print(f"{setting!s:<72}" + "".join(f"{value:>15}" for value in shown), flush=True)
    for setting in TABLES:
        share = family(setting, 0.0, given.tables, given.seed)
        noise = error(share, given.tables)
        told = f"a table of 15 that shows anything where there is nothing, {setting}: {share:.3f} ± {noise:.3f}"
        beyond += [told] if share - 3 * noise > 0.06 else []
        print(told, flush=True)
    power = family(FORTY, 0.4, given.tables // 5, given.seed)
    told = f"a table of 15 at +40 points, all shown, {FORTY}: {power:.3f}"
    beyond += [told] if power < 1 else []
    print(told)
    print("beyond the bounds (coverage .93 to .97, type I .05, tables .06, power 1) by more than 3 standard errors:")
    print("\n".join(beyond) if beyond else "none")


if __name__ == "__main__":
    main()

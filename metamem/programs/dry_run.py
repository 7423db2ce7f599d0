"""`dry_run=true`: what a job would ask for, without asking: calls, tokens, GPU hours.

In: resolved options and the program that does the job. Out: a `Plan`. The job itself is done on the stand-in, in a
place that is removed again, and every call is counted: prompts are rendered on the real evidence (that of memories
which a builder writes is the stand-in's). What models write is assumed; how often a policy asks depends on that, so its
bounds are those that it declares itself. What the journal holds already is not taken off.

The jobs of a sweep share the place, as they will share memories and journal: what two of them need counts once. Of
trainings that differ in seed or fold alone, and have parts and batches of equal sizes, one is done; the others are
planned from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from metamem.backbones.spending import BudgetOptions
from metamem.config.identity import plain
from metamem.config.options import BaseConfig, EvalConfig, TrainConfig
from metamem.core.calls import Generation, Message, Request, Sampling
from metamem.core.contracts import Backbone, Constant, Dataset, Scorer, Split, Tracker, WeighsWords, Weighted
from metamem.core.errors import ConfigError, UnreachableError, UserError
from metamem.core.files import read_object, write_json
from metamem.core.json_form import digest
from metamem.core.learned import Bounds, Planning
from metamem.core.records import Question
from metamem.core.registry import REGISTRY, build
from metamem.pipeline.parts import inspect_engines
from metamem.pipeline.prepare import PreparedRun, other_fold, prepare
from metamem.pipeline.roles import ROLES, judge_calls
from metamem.programs.folds import folds_of
from metamem.programs.frame import Frame, Program
from metamem.programs.plan import Plan, PlannedStage, show_plan
from metamem.programs.train import batches_of, with_training_part
from metamem.reporting.console.text import several
from metamem.runs.directory import Run
from metamem.runs.sweep import sweep_folder
from metamem.statistics.pairs import run_systems
from metamem.statistics.planning import Assumed, assumed_of
from metamem.statistics.systems import align
from metamem.tracking.trackers import NoTracker

Config = TypeVar("Config", bound=BaseConfig)

# Tokens of a word in current vocabularies, for models whose tokenizer is not at hand.
_TOKENS_PER_WORD = 1.35

# New tokens that language models are supposed to write in a role, on average.
_WRITTEN = {"policy": 300, "judge": 8, "reflector": 500, "builder": 400}

# The first word of a stage's title → the row that it counts under.
TRAINING = "training"
_ROWS = {"step": TRAINING, "end": TRAINING, "what": "memory"}


def dry_run(config: BaseConfig, program: Program) -> dict[str, Any]:
    """Print what a job would ask for and return that as its result. Raises what the job raises before it is begun."""
    plan = plan_job(config, program)
    show_plan(plan)
    total = sum(stage.calls for stage in plan.stages)
    return {"kind": "plan", "score": None, "headline": f"{total:,} calls", "plan": plan.to_json(), "runs": []}


def plan_job(config: Config, program: Program) -> Plan:
    """Do a job on the stand-in and return what it asked for; of all folds one after another, as one plan."""
    folds = folds_of(config)
    plan = Plan()
    with _place() as place:
        first: PreparedRun | None = None
        for options in folds.values() or [config.split]:
            run = replace(config.run, dir=None, force=False)
            here: dict[str, Any] = {"outputs": str(place), "run": run, "budget": BudgetOptions()}
            one = replace(config, split=options, tracker=None, dry_run=False, **here)
            frame = DryFrame(bool(folds), first)
            plan += _planned(one, program, frame, place)
            first = frame.real
    return plan


@contextmanager
def _place() -> Iterator[Path]:
    """Give the folder that the dry runs of a sweep share, or one of this job's own, which is removed."""
    if (shared := sweep_folder()) is not None:
        yield shared / "dry-run"
        return
    with TemporaryDirectory(prefix="metamem-dry-run-") as place:
        yield Path(place)


def _planned(config: BaseConfig, program: Program, frame: DryFrame, place: Path) -> Plan:
    """Return what one training or evaluation asks for: from an equal one in this place, else by doing it."""
    kept = None
    if isinstance(config, TrainConfig):
        kept = place / "plans" / f"{_shape(config, frame.prepare(config), frame.whole)}.json"
        if kept.exists():
            return frame.plan(Plan.from_json(read_object(kept)))
    program(config, frame)
    plan = frame.plan()
    if kept is not None:
        write_json(kept, plan.to_json())
    return plan


def _shape(config: TrainConfig, prepared: PreparedRun, whole: bool) -> str:
    """Return the hash of what decides how much a training asks for: its options without seed and fold, and how many
    questions its parts and batches hold. `whole`: the memories of all data are written, whichever questions are drawn.
    """
    options = plain(config)
    drawn = (config.train_questions, config.train_share) != (None, None) and not whole
    for repeated in ("seed", "split"):
        del options[repeated]
    split = {k: v for k, v in plain(config.split).items() if k not in ("seed", "fold")}
    trained = with_training_part(prepared)
    parts = [len(trained.questions(part)) for part in ("train", "validation", "test")]
    sizes = [len(batch) for batch in batches_of(trained)]
    return digest([options, split, parts, sizes, config.seed if drawn else None])


class DryFrame(Frame):
    """The frame of a job that is done on the stand-in: every role is played by it and counted, nothing is shown.

    `whole`: the job is on all folds; `first` are the real parts of one of them, which the others share.
    """

    reports = False

    def __init__(self, whole: bool = False, first: PreparedRun | None = None) -> None:
        self.whole = whole
        self.ledger = Ledger()
        self.real: PreparedRun | None = None
        self._first = first
        self._notes: list[str] = []

    def prepare(self, config: BaseConfig, split: Split | None = None, dataset: Dataset | None = None) -> PreparedRun:
        """Make the parts that a config names, without weights and with a counting stand-in in every role."""
        if self.real is None or split is not None:
            self.real = self._real(config, split, dataset)
        stand_in = build("backbone", {"name": "simulated"})
        counting: dict[str, Backbone] = {}
        for role, backbone in self.real.backbones.items():
            meant, planned = (getattr(c, ROLES[role]) for c in (config, self.real.config))
            other = "" if meant == planned else digest(plain(meant))
            counting[role] = _counting(backbone)(role, backbone, stand_in, self.ledger, other)
        return replace(self.real, backbones=counting)

    def _real(self, config: BaseConfig, split: Split | None, dataset: Dataset | None) -> PreparedRun:
        if self._first is not None:
            return other_fold(self._first, replace(self._first.config, split=config.split))
        real = prepare(self._without_weights(config), split, dataset)
        self._speak_of(real)
        # What is planned without its weights may be the same for two jobs: memories and runs are those that are meant.
        needed = ("memory", *(key for key in ("builder", "embedder") if key in real.memory.needs))
        meant = digest({key: plain(getattr(config, key)) for key in needed})
        contents = {**real.contents, "meant": digest(plain(config))}
        return replace(real, memory_identity={**real.memory_identity, "meant": meant}, contents=contents)

    def trackers(self, run: Run, console: Tracker | None = None) -> Tracker:
        """Return what notes the stages that calls are counted under."""
        return self.ledger

    def plan(self, equal: Plan | None = None) -> Plan:
        """Return what was asked for so far, with the bounds of what does not depend on replies.

        Nothing was where a training of equal size was done: then what that one asked for, without the memories, which
        are written once.
        """
        assert self.real is not None, "the job prepares its parts first"
        turns = 1 + self.real.config.search.calls
        answers = Counter({row: number for row, number in self.ledger.attempts.items() if row != TRAINING})
        exact = {"evaluation answers": answers.total()} if answers else {}
        if self.ledger.scored:
            exact["texts scored"] = self.ledger.scored
        judged = judge_calls(self.real.config)
        most = {("policy", row): turns * number for row, number in answers.items()}
        most |= {("judge", row): judged * number for row, number in answers.items()} if judged is not None else {}
        if equal is not None:
            exact = dict(equal.exact)
        if (bounds := _declared(self.real)) is not None:
            exact["training steps"] = len(bounds)
            exact["training attempts"] = sum(b.attempts for b in bounds)
            most["policy", TRAINING] = turns * exact["training attempts"]
            if judged is not None:
                most["judge", TRAINING] = judged * exact["training attempts"]
            most["reflector", TRAINING] = sum(asked.most for b in bounds for asked in b.asked)
        if _recall_asks(self.real):
            # How often depends on what was learned by then.
            most = {place: number for place, number in most.items() if place[0] != "policy"}
        self._notes += _steps_of_the_whole(self.real)
        asked: Collection[PlannedStage] = self.ledger.stages.values()
        if equal is not None:
            asked = [s for s in equal.stages if s.role != "builder"]
            self._notes.append(
                "trainings that differ in seed or fold alone, with parts and batches of equal sizes, are planned from "
                "the first of them"
            )
        stages = (replace(s, most=most.get((s.role, s.stage), s.most)) for s in asked)
        return Plan(tuple(stages), exact, tuple(self._notes), _sample(self.real))

    def _without_weights(self, config: BaseConfig) -> BaseConfig:
        for key in ("memory", "embedder", "retriever"):
            options = getattr(config, key)
            component = REGISTRY.entry(key, options.name).component
            if not isinstance(component, Weighted) or (other := component.without_weights(options)) is options:
                continue
            config = replace(config, **{key: REGISTRY.options(key, other)})
            self._notes.append(f"{key}={options.name} is planned without the weights of its model, which change no ")
            self._notes[-1] += "number of answers: what memories hold and prompts show is an estimate"
        return self._without_engines(config)

    def _without_engines(self, config: BaseConfig) -> BaseConfig:
        """Have models that this machine does not have play their roles by their names."""
        changed: dict[str, Any] = {}
        missing: dict[str, Any] = {}
        for key in ROLES.values():
            options = getattr(config, key)
            if (name := digest(plain(options))) in missing:
                changed[key] = missing[name]
                continue
            component = REGISTRY.entry("backbone", options.name).component
            if not isinstance(component, Weighted):
                continue
            try:
                build("backbone", options).identity()
            except (ConfigError, UnreachableError) as error:
                if not getattr(options, "model", ""):
                    raise
                changed[key] = missing[name] = REGISTRY.options("backbone", component.without_weights(options))
                self._notes.append(f"on this machine it would not start: {error}".replace("backbone.", f"{key}."))
        return replace(config, **changed)

    def _speak_of(self, real: PreparedRun) -> None:
        try:
            rows = inspect_engines(real, real.contents["roles"])
            self._notes += [f"engine of {row.sentence()}" for row in rows]
        except ConfigError as error:
            # What is planned here may be meant for another machine.
            self._notes.append(f"on this machine it would not start: {error}")
        config = real.config
        if real.built:
            self._notes.append(f"memory={config.memory.name} is built by calls: here by the stand-in's replies, so is")
            self._notes[-1] += " its evidence"
        if config.search.calls:
            self._notes.append(f"answers may search: up to {config.search.calls} calls more for each")


def _sample(prepared: PreparedRun) -> dict[str, Any]:
    """Which questions the job's figures will be over, and what is assumed of their answers."""
    config = prepared.config
    part = (
        "test" if isinstance(config, TrainConfig) else str(config.part.value) if isinstance(config, EvalConfig) else ""
    )
    questions = prepared.questions(part) if part else ()
    if not questions:
        return {}
    plan = config.plan
    assumed = Assumed(plan.discordance, plan.icc, plan.luck)
    if plan.pilot:
        systems = list(run_systems([plan.pilot]).values())
        if len(systems) < 2:
            raise ConfigError(
                f"plan.pilot={plan.pilot}: expected a run of at least two systems, which tell a difference"
            )
        aligned = [align(systems[0], other) for other in systems[1:]]
        assumed = assumed_of([(a.first, a.second) for a in aligned], assumed, f"as in {plan.pilot}")
    return {"questions": {q.id: q.group or q.id for q in questions}, "assumed": asdict(assumed)}


def _recall_asks(prepared: PreparedRun) -> bool:
    """Whether what a prompt is given is chosen by further calls of the policy's model."""
    options = prepared.config.recall
    return options is not None and bool(getattr(REGISTRY.entry("recall", options.name).component, "prompts", ()))


def _declared(prepared: PreparedRun) -> list[Bounds] | None:
    """What the policy of a training declares for each of its steps; None where it declares nothing, or none trains."""
    config, policy = prepared.config, prepared.optimizer
    if not isinstance(config, TrainConfig) or not isinstance(policy, Planning):
        return None
    return [policy.plan(batch) for batch in batches_of(with_training_part(prepared))]


def _steps_of_the_whole(prepared: PreparedRun) -> list[str]:
    """Say how many steps a training on the whole benchmark makes: a file at hand may hold a part of its questions."""
    config, policy = prepared.config, prepared.optimizer
    name = config.dataset.name
    count = getattr(REGISTRY.entry("dataset", name).component, "published", None)
    if count is None or not isinstance(config, TrainConfig) or policy is None:
        return []
    every = [Question(f"q{number:06d}", "", "", ()) for number in range(count)]
    try:
        split = build("split", config.split).split(every, config.seed)
        chosen = set(with_training_part(replace(prepared, split=split)).split.train)
    except UserError:
        return []  # a split by ids, which these questions do not have
    steps = len(policy.batches([q for q in every if q.id in chosen], config.seed))
    if not steps:
        return []
    return [f"{several(steps, 'training step')} on all {count} questions of {name}, for each fold and seed"]


def _counting(backbone: Backbone) -> type[Counting]:
    """What counts for a backbone: it can do what that can."""
    if isinstance(backbone, Scorer):
        return CountingScorer
    return CountingWords if isinstance(backbone, WeighsWords) else Counting


class Ledger(NoTracker):
    """Counts calls by stage and role, the attempts made in each stage, and the texts that are scored."""

    def __init__(self) -> None:
        self.stages: dict[tuple[str, str], PlannedStage] = {}
        self.attempts: Counter[str] = Counter()
        self.scored = 0
        self._row = ""

    def stage(self, name: str, total: int, unit: str) -> None:
        """Count under another row from here on."""
        word = name.replace(",", " ").split(" ")[0]
        self._row = _ROWS.get(word, word)

    def advance(self, what: str, count: int = 1) -> None:
        """Count attempts."""
        if what == "attempt":
            self.attempts[self._row] += count

    def asked(self, role: str, calls: int, prompt: int, written: int, most: int | None = None) -> None:
        """Count calls of a role with the tokens of all their prompts and replies."""
        new = PlannedStage(self._row, role, calls, most, prompt, written)
        known = self.stages.get((self._row, role))
        self.stages[self._row, role] = known + new if known else new


class Counting:
    """A backbone in a role as a dry run has it: it is what the real one is, the stand-in replies, calls are counted."""

    def __init__(self, role: str, real: Backbone, stand_in: Backbone, ledger: Ledger, meant: str = "") -> None:
        """`meant` is the hash of the options that it is planned for, where the real one has others."""
        self.max_samples = real.max_samples
        self._role, self._real, self._stand_in, self._ledger = role, real, stand_in, ledger
        # The stand-in counts words as tokens; where it plays itself, that is exact.
        self._itself = type(real) is type(stand_in)
        self._meant = {"meant": meant} if meant else {}

    def identity(self) -> Mapping[str, Any]:
        """Return the identity of the real backbone."""
        return {**self._real.identity(), **self._meant}

    def sampling(self) -> Sampling:
        """Return the sampling of the real backbone."""
        return self._real.sampling()

    async def start(self) -> None:
        """Start nothing."""

    async def close(self) -> None:
        """Release nothing."""

    async def generate(self, request: Request) -> list[Generation]:
        """Return the stand-in's samples; what costs nothing speaks for itself and is not counted."""
        if isinstance(self._real, Constant):
            return await self._real.generate(request)
        made = await self._stand_in.generate(request)
        prompt = len(made) * self._tokens(request.messages)
        written = sum(g.usage.completion_tokens for g in made) if self._itself else len(made) * _WRITTEN[self._role]
        self._ledger.asked(self._role, len(made), prompt, written)
        return made

    def _tokens(self, messages: Sequence[Message]) -> int:
        words = sum(m.content.count(" ") + m.content.count("\n") + 1 for m in messages if m.content)
        return words if self._itself else round(words * _TOKENS_PER_WORD)


class CountingWords(Counting):
    """One whose real backbone returns the log-probabilities of first words."""

    async def weigh(self, messages: Sequence[Message], words: Sequence[str]) -> list[float]:
        """Return the same for every word."""
        self._ledger.asked(self._role, 1, self._tokens(messages), 1)
        return [-1.0] * len(words)


class CountingScorer(Counting):
    """One whose real backbone returns the log-probabilities of a given text."""

    async def score(self, messages: Sequence[Message], continuation: str) -> list[float]:
        """Return the stand-in's scores of a text."""
        assert isinstance(self._stand_in, Scorer)
        # What is scored is stored already, so that no reply decides how much it is.
        self._ledger.scored += 1
        self._ledger.asked(self._role, 1, self._tokens((*messages, Message("assistant", continuation))), 0, most=1)
        return await self._stand_in.score(messages, continuation)

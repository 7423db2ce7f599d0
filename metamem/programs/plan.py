"""`dry_run=true`: what a job would ask for, without asking: calls, tokens, GPU hours.

In: resolved options. Out: a `Plan`: attempts, first verdicts and evaluation answers exactly, reflections, proposals and
repairs as a range that holds. Prompts are rendered on the real evidence, so their tokens are counted, not guessed; what
models will write is assumed, and the assumptions are printed. What the journal holds already is not taken off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from metamem.config.options import EvalConfig, TrainConfig
from metamem.core.errors import ConfigError
from metamem.core.meta_memory import MetaMemory, from_texts
from metamem.core.records import Question
from metamem.core.text import format_date, render_unit
from metamem.datasets.splits import fold_names
from metamem.optimizers.batched import schedule
from metamem.pipeline.evidence import Gathered, gather_evidence
from metamem.pipeline.laboratory import inspect_engines
from metamem.pipeline.prepare import Prepared, prepare
from metamem.programs.perplexity import texts_of, unjudged
from metamem.programs.stored_answers import questions_of, read_stored
from metamem.programs.train import thinned
from metamem.reporting.console.text import count, open_console, safe, say
from metamem.runs.systems import read_systems
from metamem.tracking.trackers import NoTracker

# Tokens of a word in current vocabularies, for models whose tokenizer is not at hand.
_TOKENS_PER_WORD = 1.35

# What models write on average, in tokens: (the scripted stand-in, a language model).
_WRITTEN = {"answer": (80, 300), "verdict": (1, 8), "reflection": (50, 600), "proposal": (20, 250)}

# Guidelines once many questions were learned from (one more for every ten), and at most where nothing caps them; words
# of each.
_GUIDELINES, _MOST_GUIDELINES, _GUIDELINE_WORDS = 4, 40, 16

# Tokens a second and GPU: reading and writing of a 30B mixture of experts on a current data-centre GPU, batched.
_READ_RATE, _WRITE_RATE = 8000, 1500


@dataclass(frozen=True)
class Stage:
    """One kind of call: how many at least and at most, and the tokens of their prompts and replies (`prompt` and
    `written` are expected, the others bounds).
    """

    stage: str
    role: str
    calls: int
    most_calls: int
    prompt: int
    most_prompt: int
    written: int
    most_written: int

    def __add__(self, other: Stage) -> Stage:
        numbers = {k: v + getattr(other, k) for k, v in asdict(self).items() if isinstance(v, int)}
        return replace(self, **numbers)


@dataclass(frozen=True)
class Plan:
    """What a job would do. `exact` names counts that hold exactly when no call fails."""

    stages: tuple[Stage, ...]
    exact: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        mine = {s.stage: s for s in self.stages}
        for s in other.stages:
            mine[s.stage] = mine[s.stage] + s if s.stage in mine else s
        exact = {k: self.exact.get(k, 0) + other.exact.get(k, 0) for k in {**self.exact, **other.exact}}
        return Plan(tuple(mine.values()), exact, tuple(dict.fromkeys((*self.notes, *other.notes))))

    def gpu_hours(self) -> float:
        """Expected hours of one GPU."""
        read, written = sum(s.prompt for s in self.stages), sum(s.written for s in self.stages)
        return (read / _READ_RATE + written / _WRITE_RATE) / 3600

    def to_json(self) -> dict[str, Any]:
        """Plain values, as a sweep's ledger keeps them."""
        return {"stages": [asdict(s) for s in self.stages], "exact": dict(self.exact), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        return cls(tuple(Stage(**s) for s in data["stages"]), data["exact"], tuple(data["notes"]))


def dry_run(config: TrainConfig | EvalConfig) -> dict[str, Any]:
    """Print what a job would ask for; the result of the job. Raises what preparing the job raises."""
    plan = plan_job(config)
    show(plan)
    total = sum(plan.exact.values())
    return {"kind": "plan", "score": None, "headline": f"{total:,} calls known", "plan": plan.to_json(), "runs": []}


def plan_job(config: TrainConfig | EvalConfig) -> Plan:
    """The plan of a training (all its folds) or an evaluation."""
    folds = fold_names(config.split)
    if isinstance(config, TrainConfig):
        if len(folds) <= 1:
            return _Planner(config).training(config)
        plans = [plan_job(replace(config, split=replace(config.split, fold=fold))) for fold in folds]
        return sum(plans[1:], plans[0])
    if config.perplexity is not None:
        return _Planner(unjudged(config)).scoring(config)
    return _Planner(config).evaluation(config)


class _Planner:
    """Counts one job's calls on its own evidence."""

    def __init__(self, config: TrainConfig | EvalConfig) -> None:
        self.prepared: Prepared = prepare(config)
        kind = str(self.prepared.backbones["policy"].identity().get("kind"))
        self.simulated = kind == "simulated"
        self.notes: list[str] = []
        self.tokens = _counter(self.simulated)
        self.gathered = Gathered({}, {}, {})

    def written(self, what: str) -> int:
        """Tokens that a reply of a kind is supposed to have."""
        return _WRITTEN[what][0 if self.simulated else 1]

    def guidelines(self, seen: int) -> MetaMemory | None:
        """Guidelines as many as there are supposed to be after so many questions."""
        count = min(_GUIDELINES, 1 + seen // 10) if seen else 0
        return from_texts([" ".join(["word"] * _GUIDELINE_WORDS) + f" {i}" for i in range(count)]) if count else None

    def training(self, config: TrainConfig) -> Plan:
        """See `plan_job`."""
        p, options = self.prepared, config.optimizer
        split = p.split if config.train_questions is None else thinned(p.split, config.train_questions, config.seed)
        self._gather([q for q in p.dataset.questions if q.id in {*split.train, *split.validation, *split.test}])
        by_id = {q.id: q for q in p.dataset.questions}
        steps = schedule(split.train, options.epochs, options.batch_size, options.drop_last, config.seed)
        attempts = getattr(options, "attempts", 0)
        stages: list[Stage] = []
        teaching, learned = 0, [0]
        for number, (_, batch) in enumerate(steps, 1):
            asked = [by_id[i] for i in batch]
            stages += self._answers("training attempts", asked, attempts, learned=learned[number - 1])
            stages += self._learning(options, asked, attempts)
            teaching += len(batch) * attempts
            learned.append(learned[-1] + len(batch))
        gated = getattr(options, "accept", None) == "validation"
        scored = [n for n in range(1, len(steps) + 1) if gated or n % config.eval_every == 0 or n == len(steps)]
        validation = [by_id[i] for i in split.validation]
        repeats = config.evaluation.attempts
        for step in (0, *scored) if validation else ():
            stages += self._answers("validation answers", validation, repeats, learned=learned[step])
        test = [by_id[i] for i in split.test]
        systems = [0, learned[-1], learned[-1]] if validation else [0, learned[-1]]
        systems += learned[1:] if config.test_steps else []
        for seen in systems:
            stages += self._answers("test answers", test, repeats, learned=seen)
        evaluated = repeats * (len(validation) * (1 + len(scored)) + len(test) * len(systems))
        exact = {"training attempts": teaching, "evaluation answers": evaluated}
        judged = sum(name == "llm_judge" for name in config.evaluator)
        return self._plan(stages, {**exact, "first verdicts": judged * (teaching + evaluated)})

    def evaluation(self, config: EvalConfig) -> Plan:
        """See `plan_job`."""
        asked = self.prepared.questions(config.part.value)
        self._gather(asked)
        stages: list[Stage] = []
        systems = read_systems(config.meta_memory)
        for system in systems:
            stages += self._answers("test answers", asked, config.evaluation.attempts, own=system.meta_memory)
        answered = len(asked) * len(systems) * config.evaluation.attempts
        judged = sum(name == "llm_judge" for name in config.evaluator)
        return self._plan(stages, {"evaluation answers": answered, "first verdicts": judged * answered})

    def scoring(self, config: EvalConfig) -> Plan:
        """See `plan_job`. The same text after the same prompt is scored once, whatever the system."""
        source = read_stored(Path(str(config.perplexity)), config.part.value, "perplexity")
        asked = questions_of(source, self.prepared.dataset, config, "perplexity")
        self._gather(list(asked.values()))
        wanted: dict[tuple[str, str, str], int] = {}
        for system in source.systems:
            for name, attempts in system.attempts.items():
                texts = {t.text for t in texts_of(asked[name], attempts) if not t.left_out}
                for given in {(m or MetaMemory()).hash: m for m in (None, system.meta_memory)}.values():
                    prompt = self._prompt(asked[name], given)
                    place = (name, (given or MetaMemory()).hash)
                    wanted |= {(*place, text): prompt + self.tokens(text) for text in texts}
        count, tokens = len(wanted), sum(wanted.values())
        return self._plan(
            [Stage("texts scored", "policy", count, count, tokens, tokens, 0, 0)], {"texts scored": count}
        )

    def _plan(self, stages: Sequence[Stage], exact: Mapping[str, int]) -> Plan:
        try:
            rows = inspect_engines(self.prepared, self.prepared.contents["roles"])
            self.notes += [f"engine of {row.sentence()}" for row in rows]
        except ConfigError as error:
            # What is planned here may be meant for another machine.
            self.notes.append(f"on this machine it would not start: {error}")
        plan = Plan((), {})
        for stage in stages:
            plan += Plan((stage,), {})
        return Plan(plan.stages, exact, tuple(self.notes))

    def _gather(self, questions: Sequence[Question]) -> None:
        """The evidence, where having it costs no call."""
        p = self.prepared
        if p.built and "builder" not in p.memory.needs:
            self.notes.append(f"retriever={p.config.retriever.name} asks the builder's model: how often is not known")
            return
        if p.built and any(q.prepared is None for q in questions):
            talks = {q.conversation_id for q in questions if q.conversation_id}
            turns = [t.text for c in talks for s in p.dataset.conversations[c].sessions for t in s.turns]
            said = sum(map(self.tokens, turns))
            self.notes.append(
                f"memory={p.config.memory.name} is built by calls that depend on its replies: "
                f"{len(talks)} conversations of {len(turns):,} turns and {said:,} tokens are read at least once"
            )
            self.notes.append("its evidence is supposed to fill evidence.budget, or k units of 60 tokens")
            return
        tracker = NoTracker(NoTracker.Config(), run_directory=Path(p.config.outputs))
        self.gathered = asyncio.run(gather_evidence(p, questions, tracker))

    def _prompt(self, question: Question, meta_memory: MetaMemory | None) -> int:
        evidence = self.gathered.evidence.get(question.id)
        messages = self.prepared.prompts.render(
            "answer",
            guidelines=list(meta_memory.guidelines) if meta_memory else [],
            memories=[render_unit(e.unit) for e in evidence or ()],
            question=question.text,
            date=format_date(question.date) if question.date else "",
        )
        supposed = 0
        if evidence is None:
            config = self.prepared.config
            supposed = config.evidence.budget or 60 * getattr(config.retriever, "k", 20)
        return sum(self.tokens(m.content) for m in messages) + supposed

    def _answers(
        self, stage: str, asked: Sequence[Question], attempts: int, learned: int = 0, own: MetaMemory | None = None
    ) -> list[Stage]:
        """Answers to questions and their first verdicts."""
        config = self.prepared.config
        given = own if own is not None else self.guidelines(learned)
        prompt = attempts * sum(self._prompt(q, given) for q in asked)
        room = self._most_guidelines(config) if learned and own is None else 0
        count = len(asked) * attempts
        limit = getattr(config.backbone, "max_tokens", 4096)
        answer = self.written("answer")
        # Every search is a call more, whose prompt holds what was said before it.
        turns = 1 + config.search.calls
        most_prompt = turns * (prompt + count * room) + turns * (turns - 1) // 2 * count * limit
        stages = [
            Stage(stage, "policy", count, turns * count, prompt, most_prompt, count * answer, turns * count * limit),
        ]
        if turns > 1:
            self.notes.append(f"answers may search: up to {config.search.calls} calls more for each")
        rubric = self.prepared.rubric
        if rubric is not None:
            shown = attempts * sum(self.tokens(rubric.render(q, "word " * answer)) for q in asked)
            judge_limit = getattr(config.evaluator.get("llm_judge"), "max_tokens", 1024)
            verdict = self.written("verdict")
            # An unreadable verdict is asked for once more.
            stages.append(
                Stage(
                    f"verdicts on {stage}",
                    "judge",
                    count,
                    2 * count,
                    shown,
                    2 * (shown + count * limit),
                    count * verdict,
                    2 * count * int(judge_limit),
                )
            )
        return stages

    def _most_guidelines(self, config: Any) -> int:
        """Tokens that the guidelines of a prompt may have."""
        options = getattr(config, "optimizer", None)
        most = getattr(options, "max_guidelines", 0) or _MOST_GUIDELINES
        return int(most * (getattr(options, "max_words", 30) + 3) * (1 if self.simulated else _TOKENS_PER_WORD))

    def _learning(self, options: Any, asked: Sequence[Question], attempts: int) -> list[Stage]:
        """Reflections, proposals and the consolidation of one step: as many as questions teach."""
        if not attempts or not asked:
            return []
        prompt = sum(self._prompt(q, None) for q in asked)
        answer, limit = self.written("answer"), getattr(self.prepared.config.backbone, "max_tokens", 4096)
        reflects = attempts * len(asked) if getattr(options, "reflect", True) else 0
        share = 1.0 if not getattr(options, "filter", True) else 0.4
        long, short = getattr(options, "reflection_tokens", 16384), getattr(options, "proposal_tokens", 4096)
        thought, proposed = self.written("reflection"), self.written("proposal")
        room = 2 * self._most_guidelines(self.prepared.config)
        stages = []
        if reflects:
            expected = int(share * (prompt * attempts + reflects * answer))
            most = prompt * attempts + reflects * (limit + 1000)
            row = (0, reflects, expected, most, int(share * reflects * thought), reflects * long)
            stages.append(Stage("reflections", "reflector", *row))
        read = prompt + len(asked) * attempts * thought
        most = 3 * (prompt + len(asked) * (attempts * long + room + short + 1000))
        row = (0, 2 * len(asked), int(share * read), most, int(share * len(asked) * proposed), 2 * len(asked) * short)
        stages.append(Stage("proposals", "reflector", *row))
        if getattr(options, "consolidate", True):
            most = 3 * (len(asked) * short + room + short + 1000)
            stages.append(Stage("consolidations", "reflector", 0, 2, int(len(asked) * 30), most, proposed, 2 * short))
        return stages


def _counter(simulated: bool) -> Callable[[str], int]:
    if simulated:
        # As the stand-in counts.
        return lambda text: text.count(" ") + text.count("\n") + 1 if text else 0
    return lambda text: round(len(text.split()) * _TOKENS_PER_WORD)


def show(plan: Plan, title: str = "dry run: nothing was called") -> None:
    """Print a plan."""
    from rich import box
    from rich.table import Table

    console = open_console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.title, table.title_justify = safe(title, "bold"), "left"
    table.add_column("stage")
    for name in ("calls", "prompt tokens", "new tokens"):
        table.add_column(name, justify="right")
    for s in plan.stages:
        calls = count(s.calls) if s.calls == s.most_calls else f"{count(s.calls)} to {count(s.most_calls)}"
        table.add_row(safe(s.stage), calls, f"about {count(s.prompt)}", f"about {count(s.written)}")
    console.print()
    console.print(table)
    for name, number in plan.exact.items():
        say(console, f"exactly {count(number)} {name}")
    hours = plan.gpu_hours()
    rates = f"{count(_READ_RATE)} tokens read and {count(_WRITE_RATE)} written a second and GPU"
    say(console, f"about {hours:.3g} GPU hours, at {rates}")
    for note in plan.notes:
        say(console, note, "dim")

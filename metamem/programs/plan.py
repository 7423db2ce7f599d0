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

from metamem.config.options import Accept, EvalConfig, TrainConfig
from metamem.core.contracts import Planning
from metamem.core.errors import ConfigError
from metamem.core.learned import Bounds
from metamem.core.meta_memory import MetaMemory, from_texts
from metamem.core.records import Question
from metamem.core.text import format_date, render_unit
from metamem.datasets.splits import fold_names
from metamem.pipeline.evidence import Gathered, gather_evidence
from metamem.pipeline.parts import inspect_engines
from metamem.pipeline.prepare import Prepared, prepare
from metamem.programs.perplexity import texts_of, unjudged
from metamem.programs.stored_answers import questions_of, read_stored
from metamem.programs.train import policy_of, thinned
from metamem.reporting.console.text import count, open_console, safe, say
from metamem.runs.systems import read_systems
from metamem.tracking.trackers import NoTracker

# Tokens of a word in current vocabularies, for models whose tokenizer is not at hand.
_TOKENS_PER_WORD = 1.35

# What models write on average, in tokens: (the scripted stand-in, a language model).
_WRITTEN = {"answer": (80, 300), "verdict": (1, 8), "reflection": (50, 600), "proposal": (20, 250)}

# Guidelines once many questions were learned from (one more for every ten), and words of each; words of all of them
# where nothing limits them.
_GUIDELINES, _GUIDELINE_WORDS, _MOST_LEARNED_WORDS = 4, 16, 1320

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
        p, policy = self.prepared, policy_of(self.prepared)
        split = p.split if config.train_questions is None else thinned(p.split, config.train_questions, config.seed)
        self._gather([q for q in p.dataset.questions if q.id in {*split.train, *split.validation, *split.test}])
        by_id = {q.id: q for q in p.dataset.questions}
        steps = policy.batches([by_id[i] for i in sorted(split.train)], config.seed)
        stages: list[Stage] = []
        teaching, learned = 0, [0]
        for number, batch in enumerate(steps, 1):
            if isinstance(policy, Planning):
                bounds = policy.plan(batch)
                teaching += bounds.attempts
                # Bounds are of a step: each of its questions is answered equally often.
                each = bounds.attempts // len(batch) if batch else 0
                stages += self._answers("training attempts", batch, each, learned=learned[number - 1])
                stages += self._learning(bounds, batch)
            learned.append(learned[-1] + len(batch))
        known = not steps or isinstance(policy, Planning)
        if not known:
            self.notes.append(
                f"optimizer={config.optimizer.name} does not say what a step asks for: the calls of its "
                f"{len(steps)} steps are unknown, and in no figure"
            )
        gated = config.accept is Accept.validation
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
        judged = sum(name == "llm_judge" for name in config.evaluator)
        if not known:
            return self._plan(stages, {"evaluation answers": evaluated})
        exact = {"training attempts": teaching, "evaluation answers": evaluated}
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
        room = self._most_guidelines() if learned and own is None else 0
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

    def _most_guidelines(self) -> int:
        """Tokens that the guidelines of a prompt may have."""
        policy = self.prepared.optimizer
        limit = policy.plan([]).learned_words if isinstance(policy, Planning) else None
        words = _MOST_LEARNED_WORDS if limit is None else limit
        return int(words * (1 if self.simulated else _TOKENS_PER_WORD))

    def _learning(self, bounds: Bounds, asked: Sequence[Question]) -> list[Stage]:
        """The calls for a policy's templates in one step. A prompt may show a question's evidence, what the reflector
        wrote before, and the guidelines.
        """
        prompt = sum(self._prompt(q, None) for q in asked)
        limit = getattr(self.prepared.config.backbone, "max_tokens", 4096)
        per_question = bounds.attempts / len(asked) if asked else 0
        shown = prompt / len(asked) if asked else 0
        before, stages = 0, []
        for a in bounds.asked:
            written = self.written("reflection" if a.tokens > 4096 else "proposal")
            expected = a.expected * (shown + per_question * (self.written("answer") + written))
            room = 2 * self._most_guidelines() + per_question * (limit + before) + 1000
            most = a.most * (shown + room) + a.most * a.tokens
            row = (a.least, a.most, int(expected), int(most), int(a.expected * written), a.most * a.tokens)
            stages.append(Stage(a.prompt, "reflector", *row))
            before += a.tokens
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

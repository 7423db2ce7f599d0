"""The parts of a locked run: its journal, the callers of its roles, its evaluators, the evidence it gathered.

In: `PreparedRun` parts and a `Run`. Out: an async context that starts backbones, gathers evidence and closes
everything.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.engine.contracts import InEngine, Measuring
from metamem.backbones.engine.devices import this_machine
from metamem.backbones.engine.memory_needs import Demand, demand_of
from metamem.backbones.engine.pool import shared_pool
from metamem.backbones.engine.preflight import EngineRow, check
from metamem.backbones.engine.prompt_lengths import check_prompts
from metamem.backbones.journal import Journal
from metamem.backbones.outage import Notifying, Served
from metamem.backbones.spending import Prices, Purse
from metamem.config.options import DEFAULT_RECALL
from metamem.core.adapters import ADAPTERS, find
from metamem.core.contracts import Backbone, Tracker
from metamem.core.errors import UnfinishedError
from metamem.core.evaluating import Evaluator, ScoresReferences
from metamem.core.learned import Feedback, Planning
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import Question
from metamem.core.registry import build
from metamem.embedding.similarity import Similarity
from metamem.pipeline.bench import Bench
from metamem.pipeline.evidence import Gathered, gather_evidence
from metamem.pipeline.guarding import guard_evidence
from metamem.pipeline.laboratory import StepLaboratory
from metamem.pipeline.prepare import PreparedRun, make_recall
from metamem.pipeline.roles import ROLES, key_of, speaking_of, trains_weights
from metamem.pipeline.training import StepTraining, with_adapter
from metamem.runs.directory import Run
from metamem.runs.uses import add_uses


class RunParts:
    """The parts of a locked run; `async with` gathers the evidence of `questions`, starts the backbones that are
    needed, and closes everything.

    A run that goes on beside others has a `lead`, the parts of one of them that is entered before and left after
    it: its backbones and the evidence that it gathered serve all. `adapter`: the trained weights that the builder
    of `prepared` has, with which it writes the memories of `questions`.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        run: Run,
        tracker: Tracker,
        roles: Sequence[str],
        questions: Sequence[Question] = (),
        lead: RunParts | None = None,
        adapter: str | None = None,
    ) -> None:
        config = prepared.config
        self.prepared = prepared
        self.run = run
        self.tracker = tracker
        self.adapter = adapter
        self.journal = Journal(Path(config.outputs), config.name, run.id, config.journal.reuse)
        wanted = [r for r in roles if r != "judge" or "judge" in prepared.contents["roles"]]
        if "policy" in roles and prepared.built:
            wanted.append("builder")
        if questions and "judge" in prepared.guard.needs and "judge" not in wanted:
            wanted.append("judge")
        prices = {role: Prices.of(getattr(config, ROLES[role])) for role in wanted}
        self._purses = {role: Purse(role, prices[role], prepared.budget) for role in wanted}
        self.callers = {
            role: JournaledCaller(prepared.backbones[role], self.journal, role, purse=self._purses[role])
            for role in wanted
        }
        chosen: dict[str, Any] = {
            name: build(
                "evaluator",
                options,
                judge=self.callers.get("judge"),
                rubric=prepared.rubric,
                prompts=prepared.prompts,
                seed=config.seed,
                asked_again=run.asked_again,
            )
            for name, options in config.evaluator.items()
        }
        self.references: dict[str, ScoresReferences] = {
            name: one for name, one in chosen.items() if isinstance(one, ScoresReferences)
        }
        self.evaluators: dict[str, Evaluator] = {n: one for n, one in chosen.items() if n not in self.references}
        self.gathered = Gathered({}, {}, {})
        # Calls that memories and answers of an evaluated part lack: the same command asks for them again.
        self.lost = 0
        self._similarity = Similarity(prepared.embedder)
        self.other_adapters: list[Path] = []
        self._questions = questions
        self._lead = lead
        self._settled: Counter[str] = Counter()

    async def __aenter__(self) -> RunParts:
        if self._lead is not None:
            self.gathered = self._lead.gathered
            return self
        inside = [b for b in self._distinct() if isinstance(b, InEngine)]
        try:
            if inside:
                for row in inspect_engines(self.prepared, self.callers):
                    self.tracker.note(row.sentence())
            # A server that cannot be reached is known before evidence is gathered, and that prompts are too long before
            # a model is loaded.
            await self._start([b for b in self._distinct() if not isinstance(b, InEngine)])
            if not self.prepared.built:
                await self._gather()
            await self._prepare_engines(inside)
            await self._start([cast(Backbone, b) for b in inside])
            if self.prepared.built:
                await self._gather()
            self.gathered = await self.guarded(self._questions, self.gathered)
            self.run.notes.append(self._note_uses)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with AsyncExitStack() as stack:
            # One that cannot be closed does not keep the others, nor the journal, open.
            stack.callback(self.journal.close)
            stack.callback(self._note_uses)
            for backbone in self._distinct() if self._lead is None else ():
                stack.push_async_callback(backbone.close)

    def _note_uses(self) -> None:
        served = {
            f"{role}: {name}"
            for role, caller in self.callers.items()
            if isinstance(caller.backbone, Served)
            for name in caller.backbone.served
        }
        add_uses(self.run.directory, self.journal.read_from(), self.prepared.store.used(), served)

    async def gather(self, questions: Sequence[Question]) -> None:
        """Build memories and retrieve the evidence of these questions."""
        p = self.prepared
        keep_banks = p.config.search.calls > 0 or p.scores_memories
        self.gathered = await gather_evidence(p, questions, self.tracker, self.callers.get("builder"), keep_banks)
        self.lost += self.settle("memories and evidence")

    async def guarded(self, questions: Sequence[Question], gathered: Gathered) -> Gathered:
        """Return what was gathered for these questions as the guard lets it pass; its models must have been started."""
        if not questions or self.prepared.guard.open:
            return gathered
        tools = self.prepared.guard_tools(self.callers)
        found = await guard_evidence(self.prepared, questions, gathered, tools, self.tracker)
        self.lost += self.settle("guarding evidence")
        return found

    async def _gather(self) -> None:
        """Gather the evidence of the questions that are to be answered, and see whether their prompts fit."""
        if not self._questions:
            return
        await self.gather(self._questions)
        policy = self.prepared.backbones["policy"]
        if "policy" in self.callers and isinstance(policy, Measuring) and (room := policy.prompt_room()) is not None:
            try:
                count = await policy.counter()
            except Exception as error:  # a tokenizer's files and a hub: many types; the engine says what is wrong
                self.tracker.note(f"whether all prompts fit is not known before the model is loaded: {error}")
                return
            by_id, bench = {q.id: q for q in self._questions}, self.bench()
            said = {i: sum(len(m.content) for m in bench.prompt(q)[0]) for i, q in by_id.items()}
            measure = lambda i: count(bench.prompt(by_id[i])[0])  # noqa: E731
            if remark := await asyncio.to_thread(check_prompts, said, measure, *room):
                self.tracker.note(remark)

    async def bench_for(
        self, meta_memory: MetaMemory | None, questions: Sequence[Question], recall: Any = None
    ) -> Bench:
        """Return what answers questions under a meta-memory: where it has trained weights, from memories that the
        builder writes with these.

        Raises `ConfigError` for a builder that cannot take them, `DataError` where they cannot be found.
        """
        name = meta_memory.adapter if meta_memory else None
        if name is None or name == self.adapter:
            return self.bench(recall)
        return self.bench(recall, await self._trained_memories(name, questions), name)

    async def _trained_memories(self, name: str, questions: Sequence[Question]) -> Gathered:
        adapter = find(self.adapters, name)
        prepared = with_adapter(self.prepared, adapter)
        backbone = prepared.backbones["builder"]
        caller = JournaledCaller(backbone, self.journal, "builder", purse=self._purses.get("builder"))
        caller.counts = self.callers["builder"].counts
        inside = [b for b in self._distinct() if isinstance(b, InEngine)]
        if isinstance(backbone, InEngine):
            await self._prepare_engines([*inside, backbone])
        try:
            await backbone.start()
            keep = prepared.config.search.calls > 0 or prepared.scores_memories
            gathered = await gather_evidence(prepared, questions, self.tracker, caller, keep)
        finally:
            try:
                await backbone.close()
            finally:
                if isinstance(backbone, InEngine) and not adapter.lora:
                    # Each step of a training has whole weights of its own: their engines would pile up.
                    spec = backbone.spec()
                    if spec.key not in {b.spec().key for b in inside}:
                        await shared_pool().release(spec)
        self.lost += self.settle("memories and evidence of trained weights")
        return await self.guarded(questions, gathered)

    @property
    def adapters(self) -> list[Path]:
        """The folders in which trained weights are looked for: that of these outputs, then those of evaluated runs."""
        return [Path(self.prepared.config.outputs) / ADAPTERS, *self.other_adapters]

    def bench(self, recall: Any = None, gathered: Gathered | None = None, adapter: str | None = None) -> Bench:
        """Return what answers and judges, on the gathered evidence; without a policy among the roles it only judges.

        `recall`: its options, where they are not the run's own. `gathered` is evidence from memories that the weights
        `adapter` wrote.
        """
        gathered, adapter = (gathered, adapter) if gathered else (self.gathered, self.adapter)
        return Bench(
            prompts=self.prepared.prompts,
            policy=self.callers.get("policy"),
            evaluators=self.evaluators,
            reward=self.prepared.config.reward,
            evidence=gathered.evidence,
            seed=self.prepared.config.seed,
            tracker=self.tracker,
            recall=make_recall(
                recall or self.prepared.config.recall or DEFAULT_RECALL,
                self.prepared.embedder,
                self.prepared.store,
                self.prepared.prompts,
                self.callers.get("policy"),
            ),
            searcher=self.prepared.searcher(self.prepared.tools()),
            banks=gathered.banks,
            adapter=adapter,
            template=self.prepared.question_template,
            room=self.prepared.room(),
        )

    def laboratory(
        self, step: int, bench: Bench, train: Sequence[Question], feedback: Feedback = Feedback.truth
    ) -> StepLaboratory:
        """Return what the policy works with in a step; `train` are the training questions that it may know of."""
        p = self.prepared
        return StepLaboratory(
            step,
            seed=p.config.seed,
            train=train,
            validation=p.questions("validation"),
            bench=bench,
            evaluation=p.config.evaluation,
            prompts=p.prompts,
            reflector=self.callers["reflector"],
            similarity=self._similarity,
            tracker=self.tracker,
            feedback=feedback,
            training=self._training(step) if trains_weights(p.optimizer) else None,
        )

    def _training(self, step: int) -> StepTraining:
        return StepTraining(step, self.prepared, self.run.directory, self.callers, self.evaluators, self.tracker)

    def settle(self, what: str) -> int:
        """Return how many calls were lost since the last time, in `what` was done since.

        Raises `UnfinishedError` when they are more than the share that may be lost: nothing is to be built on them.
        """
        counts: Counter[str] = sum((caller.counts for caller in self.callers.values()), Counter())
        new, self._settled = counts - self._settled, counts
        lost, asked = new["lost"], new["failed"] + new["delivered"] + new["reused"]
        share = self.prepared.config.run.lost
        if lost > share * asked:
            raise UnfinishedError(
                f"{what}: {lost} of {asked} calls were not delivered, more than run.lost={share:g} allows. "
                "Everything delivered is kept: the same command continues and asks for them again."
            )
        return lost

    def calls(self) -> dict[str, dict[str, int]]:
        """Per role what this process asked for, was given, and took from the journal."""
        return {role: dict(sorted(caller.counts.items())) for role, caller in self.callers.items()}

    async def _prepare_engines(self, inside: Sequence[InEngine]) -> None:
        """Have the process's pool place and start the engines that this run's backbones need."""
        if not inside:
            return
        specs = [b.spec() for b in inside]
        engines = len({spec.key for spec in specs})
        # A model that loads for minutes is not evidence that is being gathered.
        self.tracker.stage("starting engines", engines, "engine")
        await shared_pool().prepare(specs, this_machine().devices, self.prepared.config.placement)
        self.tracker.advance("engine", engines)

    async def _start(self, backbones: Sequence[Backbone]) -> None:
        # One after another: an engine's start must not race another's.
        for backbone in backbones:
            if isinstance(backbone, Notifying):
                backbone.notify(self.tracker.note)
            with speaking_of(self._role_of(backbone)):
                await backbone.start()

    def _role_of(self, backbone: Backbone) -> str:
        return key_of(backbone, self.prepared.backbones)

    def _distinct(self) -> list[Backbone]:
        return list({id(c.backbone): c.backbone for c in self.callers.values()}.values())


def inspect_engines(prepared: PreparedRun, roles: Iterable[str]) -> list[EngineRow]:
    """What the in-process engines of these roles need and get, before anything is loaded; equal ones are one.

    Raises `ConfigError` when this machine cannot hold them.
    """
    wanted: dict[str, Demand] = {}
    for role in roles:
        backbone, key = prepared.backbones[role], ROLES[role]
        if isinstance(backbone, InEngine):
            spec, weights = backbone.spec(), getattr(backbone, "weights", None)
            reply = max(_most_asked(prepared) if role == "reflector" else 0, backbone.sampling().max_tokens)
            new = demand_of((key,), spec, weights() if weights else None, reply)
            if known := wanted.get(spec.key):
                new = replace(known, keys=(*known.keys, key), reply=max(known.reply, new.reply))
            wanted[spec.key] = new
    return check(list(wanted.values()), prepared.config.placement, this_machine()) if wanted else []


def _most_asked(prepared: PreparedRun) -> int:
    """Return the most new tokens that the policy asks of the reflector in one call; 0 where it does not say."""
    policy = prepared.optimizer
    if not isinstance(policy, Planning):
        return 0
    return max((a.tokens for a in policy.plan(prepared.questions("train")).asked), default=0)


def about(prepared: PreparedRun, run: Run, kind: str, **more: Any) -> dict[str, Any]:
    """What a tracker and a result say of a run before anything is measured."""
    config, dataset, split = prepared.config, prepared.dataset, prepared.split
    return {
        "format": 1,
        "kind": kind,
        "id": run.id,
        "name": config.name,
        "directory": str(run.directory),
        "seed": config.seed,
        "stamps": prepared.stamps(),
        "dataset": {
            "name": dataset.name,
            "questions": len(dataset.questions),
            "conversations": len(dataset.conversations),
            # The project's own data has its oddities on purpose.
            "notices": {} if dataset.own else dict(sorted(dataset.notices.items())),
        },
        "split": {
            "name": config.split.name,
            "hash": prepared.contents["split"],
            "train": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
            "leaky": split.leaky,
        },
        "reward": config.reward,
        **more,
    }


def labels(parts: RunParts) -> dict[str, str]:
    """Role → the model's name."""
    return {role: caller.label for role, caller in parts.callers.items()}

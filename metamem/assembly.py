"""From resolved options to working parts: data and split, prompts, backbones in their roles, memory, retrieval,
evaluators.

In: a config. Out: `Prepared` (everything that is cheap and checks the user's input, before anything is locked, started
or paid) and `Workshop` (the parts of a locked run: journal, callers, bench), which is an async context that starts
backbones and closes them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.engine.fitting import check_prompts
from metamem.backbones.journal import Journal
from metamem.config import BaseConfig, EvalConfig, identity, plain
from metamem.contracts import (
    Backbone,
    Dataset,
    Embedder,
    Evaluator,
    InEngine,
    Measuring,
    MemoryConstructor,
    MemoryContext,
    Retriever,
    Rubric,
    Split,
    Splitter,
    Tracker,
)
from metamem.datasets.splits import split_hash
from metamem.errors import ConfigError, DataError, UserError
from metamem.evaluators.sources import judged_questions
from metamem.memory.store import MemoryStore, constructor_identity
from metamem.prompts.templates import Prompts
from metamem.records import Question, digest, to_json
from metamem.registry import REGISTRY, build
from metamem.retrieval import searching
from metamem.retrieval.evidence import tokenizer_identity
from metamem.runs import Run, file_digest
from metamem.stages import Bench, Gathered, gather_evidence

if TYPE_CHECKING:
    from metamem.backbones.engine.preflight import Row

T = TypeVar("T")
ROLES = {"policy": "backbone", "judge": "judge", "reflector": "reflector", "builder": "builder"}


@dataclass
class Prepared:
    """What is known before a run's directory is touched. `contents` are the fingerprints that enter its identity."""

    config: BaseConfig
    dataset: Dataset
    split: Split
    prompts: Prompts
    rubric: Rubric | None
    backbones: dict[str, Backbone]
    store: MemoryStore
    memory: MemoryConstructor
    memory_identity: dict[str, Any]
    embedder: Embedder
    retriever: Retriever
    contents: dict[str, Any]

    def questions(self, part: str) -> list[Question]:
        """The questions of a part (train, validation, test), or of all."""
        if part == "all":
            return list(self.dataset.questions)
        wanted = set(getattr(self.split, part))
        return [q for q in self.dataset.questions if q.id in wanted]

    def searcher(self) -> searching.Searcher | None:
        """What searches memories for answers; None where they may not."""
        config = self.config
        if not config.search.calls:
            return None
        return searching.Searcher(config.search, self.embedder, self.store, config.evidence.tokenizer)

    @property
    def rewarded(self) -> bool:
        """Whether the memories that an evaluation builds are scored themselves (`evaluator=memalpha_reward`)."""
        return _rewarded(self.config)

    @property
    def built(self) -> bool:
        """Whether memories are made by the builder role."""
        return "builder" in self.memory.needs and self.contents["memory"] is not None

    def stamps(self) -> list[str]:
        """What every reader of a figure must know: simulated, random weights, self-judged, leaky split."""
        used = [self.backbones[role].identity() for role in self.contents["roles"]]
        # A backbone whose replies mean nothing says so in its identity.
        found = sorted({str(i["stamp"]) for i in used if i.get("stamp")})
        if any(i.get("kind") == "simulated" for i in used):
            found.insert(0, "simulated")
        elif (
            self.rubric
            and "policy" in self.contents["roles"]
            and self.backbones["judge"].identity() == self.backbones["policy"].identity()
        ):
            found.append("self-judged")
        if self.split.leaky:
            found.append("leaky split")
        return found


def prepare(config: BaseConfig, split: Split | None = None) -> Prepared:
    """Load and check everything that costs nothing. Raises `UserError` before anything is locked, started or paid.

    `split` replaces the configured one (an evaluation takes the split of the run it evaluates).
    """
    loader = build("dataset", config.dataset)
    dataset: Dataset = loader.load()
    if not dataset.questions:
        raise DataError(f"dataset={config.dataset.name} holds no questions")
    prompts: Prompts = build("prompts", config.prompts)
    prompts.check()
    rubric: Rubric | None = None
    if judged := judged_questions(config.evaluator, dataset.questions):
        rubric = build("rubric", config.rubric)
        rubric.check(judged)
    if split is None:
        splitter: Splitter = build("split", config.split)
        split = splitter.split(dataset.questions, config.seed)
    backbones: dict[str, Backbone] = {}
    made: dict[str, Backbone] = {}
    for role, key in ROLES.items():
        options = getattr(config, key)
        name = digest(plain(options))
        if name not in made:
            with speaking_of(key):
                made[name] = build("backbone", options)
        backbones[role] = made[name]
    store = MemoryStore(Path(config.outputs) / "memory")
    memory: MemoryConstructor = build("memory", config.memory, prompts=prompts)
    declared = declared_templates(config, memory, prompts)
    embedder: Embedder = build("embedder", config.embedder)
    retriever: Retriever = build("retriever", config.retriever, embedder=embedder, store=store)
    prepared_only = all(q.prepared is not None for q in dataset.questions)
    with speaking_of(_key_of(backbones["builder"], backbones)):
        parts = {} if prepared_only else memory_parts(memory, backbones["builder"], embedder, prompts)
    memory_identity = constructor_identity(config.memory, **parts)
    if config.search.calls and prepared_only:
        raise ConfigError(f"search.calls: the questions of dataset={config.dataset.name} have no memory to search")
    contents: dict[str, Any] = {
        "dataset": [file_digest(p) for p in loader.files()],
        "split": split_hash(split),
        "prompts": dict(prompts.identity(declared)),
        "rubric": dict(rubric.identity()) if rubric else None,
        # What the config does not say of it: the weights of what it works with.
        "memory": None if prepared_only else [memory.version, parts.get("constructor"), parts.get("embedder")],
        "retriever": None if prepared_only else dict(retriever.identity()),
        "tokenizer": tokenizer_identity(config.evidence.tokenizer) if _counts_tokens(config) else None,
        **({"search": found} if (found := searching.identity(config.search, embedder)) else {}),
        "roles": {role: _role_identity(config, role, backbones) for role in _roles(config, rubric, parts)},
    }
    return Prepared(
        config,
        dataset,
        split,
        prompts,
        rubric,
        backbones,
        store,
        memory,
        memory_identity,
        embedder,
        retriever,
        contents,
    )


def declared_templates(config: BaseConfig, memory: MemoryConstructor, prompts: Prompts) -> list[str]:
    """The templates that the memory and the optimizer declare. Raises `ConfigError` for one that is not registered."""
    declared = {f"memory={config.memory.name}": memory.prompts}
    if config.optimizer is not None:
        optimizer = REGISTRY.entry("optimizer", config.optimizer.name).component
        declared[f"optimizer={config.optimizer.name}"] = getattr(optimizer, "prompts", ())
    for component, names in declared.items():
        prompts.require(component, names)
    return [name for names in declared.values() for name in names]


def other_fold(prepared: Prepared, config: BaseConfig) -> Prepared:
    """The same for another fold of the same split: data, memories and backbones are shared. Raises as `prepare`."""
    splitter: Splitter = build("split", config.split)
    split = splitter.split(prepared.dataset.questions, config.seed)
    contents = {**prepared.contents, "split": split_hash(split)}
    return replace(prepared, config=config, split=split, contents=contents)


def _rewarded(config: BaseConfig) -> bool:
    evaluates = isinstance(config, EvalConfig) and config.from_ is None
    return evaluates and "memalpha_reward" in config.evaluator and config.memory.name == "memalpha"


def _counts_tokens(config: BaseConfig) -> bool:
    """Whether what a prompt shows depends on how tokens are counted."""
    return bool(config.evidence.budget or (config.search.calls and config.search.tokens))


def _roles(config: BaseConfig, rubric: Rubric | None, parts: Mapping[str, Any]) -> list[str]:
    """The roles that a program uses under this config."""
    judging_only = isinstance(config, EvalConfig) and config.from_ is not None
    learning = config.optimizer is not None and config.optimizer.name != "none"
    used = {
        "policy": not judging_only,
        "judge": rubric is not None or _rewarded(config),
        "reflector": learning,
        "builder": "builder" in parts,
    }
    return [role for role, wanted in used.items() if wanted]


def _role_identity(config: BaseConfig, role: str, backbones: Mapping[str, Backbone]) -> dict[str, Any]:
    """What decides a role's replies: the model by what it is, not by where it is, and how it samples."""
    place = ("base_url", "model", "identity", "path", "name")
    options = {k: v for k, v in identity(getattr(config, ROLES[role])).items() if k not in place}
    with speaking_of(_key_of(backbones[role], backbones)):
        return {"model": dict(backbones[role].identity()), "options": options}


def _key_of(backbone: Backbone, backbones: Mapping[str, Backbone]) -> str:
    """The config key of the first role that a backbone plays."""
    return next(ROLES[role] for role, known in backbones.items() if known is backbone)


def memory_parts(
    memory: MemoryConstructor, builder: Backbone, embedder: Embedder, prompts: Prompts
) -> dict[str, Mapping[str, Any]]:
    """The identities of what a memory constructor works with; nothing for one that only cuts.

    Raises `UserError` when a part, such as a compressor, cannot be had.
    """
    parts: dict[str, Mapping[str, Any]] = {}
    if own := memory.identity():
        parts["constructor"] = dict(own)
    if "builder" in memory.needs:
        parts["builder"] = {"model": dict(builder.identity()), "sampling": to_json(builder.sampling())}
    if "embedder" in memory.needs:
        parts["embedder"] = dict(embedder.identity())
    if memory.prompts:
        texts = prompts.texts()
        parts["prompts"] = {name: texts[name] for name in memory.prompts}
    return parts


class Workshop:
    """The parts of a locked run; `async with` gathers the evidence of `questions`, starts the backbones that are
    needed, and closes everything.

    A run that goes on beside others has a `lead`, the workshop of one of them that is entered before and left after
    it: its backbones and the evidence that it gathered serve all.
    """

    def __init__(
        self,
        prepared: Prepared,
        run: Run,
        tracker: Tracker,
        roles: Sequence[str],
        questions: Sequence[Question] = (),
        lead: Workshop | None = None,
    ) -> None:
        config = prepared.config
        self.prepared = prepared
        self.run = run
        self.tracker = tracker
        self.journal = Journal(Path(config.outputs), config.name, run.id, config.journal.reuse)
        wanted = [r for r in roles if r != "judge" or prepared.rubric is not None or prepared.rewarded]
        if "policy" in roles and prepared.built:
            wanted.append("builder")
        self.callers = {role: JournaledCaller(prepared.backbones[role], self.journal, role) for role in wanted}
        self.evaluators: dict[str, Evaluator] = {
            name: build("evaluator", options, judge=self.callers.get("judge"), rubric=prepared.rubric, seed=config.seed)
            for name, options in config.evaluator.items()
        }
        self.gathered = Gathered({}, {}, {})
        self._questions = questions
        self._lead = lead

    async def __aenter__(self) -> Workshop:
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
            for backbone in self._distinct() if self._lead is None else ():
                stack.push_async_callback(backbone.close)

    async def gather(self, questions: Sequence[Question]) -> None:
        """Build memories and retrieve the evidence of these questions."""
        p = self.prepared
        self.gathered = await gather_evidence(
            p.dataset,
            questions,
            p.memory,
            p.memory_identity,
            p.store,
            p.retriever,
            p.config.evidence,
            self.tracker,
            MemoryContext(self.callers.get("builder"), p.embedder),
            keep_banks=p.config.search.calls > 0 or p.rewarded,
        )

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
            said = {i: sum(len(m.content) for m in bench.prompt(q, None)[0]) for i, q in by_id.items()}
            measure = lambda i: count(bench.prompt(by_id[i], None)[0])  # noqa: E731
            if remark := await asyncio.to_thread(check_prompts, said, measure, *room):
                self.tracker.note(remark)

    def bench(self) -> Bench:
        """What answers and judges, on the gathered evidence; without a policy among the roles it only judges."""
        return Bench(
            prompts=self.prepared.prompts,
            policy=self.callers.get("policy"),
            evaluators=self.evaluators,
            reward=self.prepared.config.reward,
            evidence=self.gathered.evidence,
            seed=self.prepared.config.seed,
            tracker=self.tracker,
            searcher=self.prepared.searcher(),
            banks=self.gathered.banks,
        )

    def optimizer(self, options: Any) -> Any:
        """The optimizer policy, with the parts it may use."""
        return build(
            "optimizer",
            options,
            prompts=self.prepared.prompts,
            reflector=self.callers["reflector"],
            tracker=self.tracker,
        )

    def calls(self) -> dict[str, dict[str, int]]:
        """Per role what this process asked for, was given, and took from the journal."""
        return {role: dict(sorted(caller.counts.items())) for role, caller in self.callers.items()}

    async def _prepare_engines(self, inside: Sequence[InEngine]) -> None:
        """Have the process's pool place and start the engines that this run's backbones need."""
        if inside:
            from metamem.backbones.engine.pool import shared_pool
            from metamem.backbones.engine.preflight import look

            await shared_pool().prepare([b.spec() for b in inside], look().devices, self.prepared.config.placement)

    async def _start(self, backbones: Sequence[Backbone]) -> None:
        # One after another: an engine's start must not race another's.
        for backbone in backbones:
            with speaking_of(self._role_of(backbone)):
                await backbone.start()

    def _role_of(self, backbone: Backbone) -> str:
        return _key_of(backbone, self.prepared.backbones)

    def _distinct(self) -> list[Backbone]:
        return list({id(c.backbone): c.backbone for c in self.callers.values()}.values())


def inspect_engines(prepared: Prepared, roles: Iterable[str]) -> list[Row]:
    """What the in-process engines of these roles need and get, before anything is loaded; equal ones are one.

    Raises `ConfigError` when this machine cannot hold them.
    """
    from metamem.backbones.engine.needs import Demand, demand
    from metamem.backbones.engine.preflight import check, look

    wanted: dict[str, Demand] = {}
    for role in roles:
        backbone, key = prepared.backbones[role], ROLES[role]
        if isinstance(backbone, InEngine):
            spec, weights = backbone.spec(), getattr(backbone, "weights", None)
            reply = getattr(prepared.config.optimizer, "reflection_tokens", 0) if role == "reflector" else 0
            reply = max(reply, backbone.sampling().max_tokens)
            new = demand((key,), spec, weights() if weights else None, reply)
            if known := wanted.get(spec.key):
                new = replace(known, keys=(*known.keys, key), reply=max(known.reply, new.reply))
            wanted[spec.key] = new
    return check(list(wanted.values()), prepared.config.placement, look()) if wanted else []


@contextmanager
def speaking_of(key: str) -> Iterator[None]:
    """Backbones speak of `backbone.`; a user who mistook an option of a role's is told of that role's."""
    try:
        yield
    except UserError as error:
        if key == "backbone":
            raise
        raise type(error)(str(error).replace("backbone.", f"{key}.").replace("backbone=", f"backbone@{key}=")) from None


def about(prepared: Prepared, run: Run, kind: str, **more: Any) -> dict[str, Any]:
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


def run_async(job: Coroutine[Any, Any, T]) -> T:
    """Run a job to its end. SIGTERM and SIGUSR1 cancel it (`Interrupted`); an exception group shows its first cause."""
    from metamem.cli import Interrupted

    stopped = False

    async def main() -> T:
        nonlocal stopped
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGUSR1):
            if "SUBMITIT_EXECUTOR" in os.environ and callable(signal.getsignal(number)):
                # Its launcher asks a scheduler to continue the job: by a signal of its own, until which it stays.
                continue
            try:
                loop.add_signal_handler(number, stop)
            except (NotImplementedError, RuntimeError, ValueError):
                # Not the main thread, or a system without these signals: the default handling stays.
                break
        return await job

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if stopped:
            raise Interrupted from None
        raise
    except BaseExceptionGroup as group:
        raise first_cause(group) from None


def first_cause(error: BaseException) -> BaseException:
    """The first exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""From resolved options to working parts: data and split, prompts, backbones in their roles, memory, retrieval,
evaluators.

In: a config. Out: `PreparedRun` (everything that is cheap and checks the user's input, before anything is locked,
started or paid). What a locked run makes of it stands in `metamem.pipeline.parts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from metamem.backbones.spending import Budget
from metamem.config.identity import plain
from metamem.config.options import COMPONENTS, BaseConfig, TrainConfig
from metamem.core.collector import collector_at_rest
from metamem.core.contracts import (
    Attack,
    Backbone,
    Caller,
    Constant,
    Dataset,
    Embedder,
    MemoryConstructor,
    MemoryContext,
    Retriever,
    Split,
    Splitter,
    Tracker,
)
from metamem.core.errors import ConfigError, DataError
from metamem.core.evaluating import Rubric
from metamem.core.files import file_digest
from metamem.core.guarded import Guard, GuardTools
from metamem.core.json_form import digest, to_json
from metamem.core.learned import Identified, Optimizer, Recall
from metamem.core.plugins import plugin_code
from metamem.core.records import Evidence, Question
from metamem.core.registry import REGISTRY, build
from metamem.core.tokens import tokenizer_identity
from metamem.datasets.memories import resized, up_to_questions
from metamem.datasets.overlay import overlaid
from metamem.datasets.splits import split_hash
from metamem.memory.growing import Memories
from metamem.pipeline.roles import (
    ROLES,
    judge_templates,
    judged_questions,
    key_of,
    refuse_constants,
    refuse_untrainable,
    role_identity,
    scores_memories,
    speaking_of,
    trains_weights,
    used_roles,
)
from metamem.prompts.templates import Prompts
from metamem.retrieval import searching
from metamem.retrieval.evidence import beside
from metamem.retrieval.tools import Tools
from metamem.store.store import MemoryStore, constructor_identity

# The beginning of the stamp of figures by answers that an overlay has replaced; their number follows.
CORRECTED = "corrected labels"
# The beginning of the stamp of figures on a data set under attack; the attack's name follows.
ATTACKED = "under attack"


@dataclass
class PreparedRun:
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
    guard: Guard
    optimizer: Optimizer | None
    contents: dict[str, Any]
    budget: Budget

    def questions(self, part: str) -> list[Question]:
        """The questions of a part (train, validation, test), or of all."""
        if part == "all":
            return list(self.dataset.questions)
        wanted = set(getattr(self.split, part))
        return [q for q in self.dataset.questions if q.id in wanted]

    def tools(self, builder: Caller | None = None, embedded: Callable[[int], None] = lambda count: None) -> Tools:
        """Return what the retrievals of one run work with; `embedded` is told of texts as they are embedded."""
        return Tools(self.embedder, self.store, self.prompts, builder, embedded)

    def guard_tools(self, callers: Mapping[str, Caller]) -> GuardTools:
        """Return what the guard works with; `callers` are those of the run's roles."""
        asking = {role: callers.get(role) if role in self.guard.needs else None for role in ("policy", "judge")}
        parts = (self.embedder, self.store, self.prompts)
        return GuardTools(**{role: Tools(*parts, caller, place="guard") for role, caller in asking.items()})

    def room(self) -> Callable[[Question, Sequence[Evidence], Sequence[str]], tuple[Evidence, ...]] | None:
        """Return what says which evidence has room beside learned texts; None where these do not count."""
        options = self.config.evidence
        if not options.count_guidelines or options.budget is None:
            return None
        return partial(beside, budget=options.budget, tokenizer=options.tokenizer, order=options.order)

    def searcher(self, tools: Tools) -> searching.Searcher | None:
        """Return what searches memories for answers; None where they may not."""
        config = self.config
        if not config.search.calls:
            return None
        return searching.Searcher(config.search, tools, config.evidence.tokenizer, self.retriever.pinned)

    def memories(self, builder: Caller | None, tracker: Tracker) -> Memories:
        """Return the memories of the run, as this builder writes them."""
        context = MemoryContext(builder, self.embedder, self.prompts, advance=tracker.advance)
        return Memories(self.memory, self.memory_identity, self.store, context, self.config.memory.sessions)

    @property
    def built(self) -> bool:
        """Whether the builder's model is asked: to make memories, or to retrieve from them."""
        return "builder" in (*self.memory.needs, *self.retriever.needs) and self.contents["retriever"] is not None

    @property
    def question_template(self) -> str:
        """The name of the template by which questions are asked."""
        return "closed_book" if self.memory.closed_book else "answer"

    @property
    def scores_memories(self) -> bool:
        """Whether the memories that an evaluation asks are scored themselves."""
        return self.contents["retriever"] is not None and scores_memories(self.config, self.built)

    @property
    def for_trying(self) -> bool:
        """Whether the data are the project's own, or a backbone's replies mean nothing (it says so by a stamp)."""
        return self.dataset.own or bool(self._stamped())

    def stamps(self) -> list[str]:
        """Return what every reader of a figure must know: what a backbone says of itself, self-judged, leaky split."""
        found = self._stamped()
        judge, policy = self.backbones["judge"].identity(), self.backbones["policy"].identity()
        if {"judge", "policy"} <= self.contents["roles"].keys() and judge == policy and not policy.get("stamp"):
            found.append("self-judged")
        if self.split.leaky:
            found.append("leaky split")
        if self.config.attack.name != "none":
            found.append(f"{ATTACKED}: {self.config.attack.name}")
        if self.corrected:
            found.append(f"{CORRECTED}: {len(self.corrected)}")
        return found

    @property
    def corrected(self) -> dict[str, Question]:
        """The questions whose answers an overlay has replaced, by id, as the data's files have them."""
        published = self.dataset.published
        return {q.id: replace(q, answers=published[q.id]) for q in self.dataset.questions if q.id in published}

    def stamp_of(self, role: str) -> str | None:
        """Return what the backbone of a role says of replies that mean nothing; None where they are a model's."""
        stamp = self.backbones[role].identity().get("stamp")
        return str(stamp) if stamp else None

    def _stamped(self) -> list[str]:
        return sorted({stamp for role in self.contents["roles"] if (stamp := self.stamp_of(role))})


@collector_at_rest()
def prepare(config: BaseConfig, split: Split | None = None, written: Dataset | None = None) -> PreparedRun:
    """Load and check everything that costs nothing. Raises `UserError` before anything is locked, started or paid.

    `split` replaces the configured one (an evaluation takes the split of the run it evaluates), `written` is a data set
    that a program made of the configured one, whose identity is the program's business.
    """
    loader = build("dataset", config.dataset)
    overlay = Path(config.dataset.overlay).expanduser() if config.dataset.overlay else None
    with ThreadPoolExecutor(1) as beside:
        # Hashing a file of gigabytes takes seconds, of another processor than reading it.
        digests = [beside.submit(file_digest, p) for p in loader.files()] if written is None else None
        loaded: Dataset = loader.load() if written is None else written
    dataset = limited(_labelled(loaded, config.dataset, overlay), config.limit)
    dataset = up_to_questions(resized(dataset, config.holds.sessions, config.holds.conversations))
    if not dataset.questions:
        raise DataError(f"dataset={config.dataset.name} holds no questions")
    study: Any = REGISTRY.entry("study", config.study).component if config.study else None
    if study is not None and (reason := study.refuses(dataset.questions)):
        raise ConfigError(f"experiment={config.study} cannot be made of dataset={config.dataset.name}: {reason}")
    prompts: Prompts = build("prompts", config.prompts)
    prompts.check()
    rubric: Rubric | None = None
    if judged := judged_questions(config, dataset.questions):
        rubric = build("rubric", config.rubric)
        rubric.check(judged)
    if split is None:
        splitter: Splitter = build("split", config.split)
        split = splitter.split(dataset.questions, config.seed)
    attack: Attack = build("attack", config.attack)
    dataset = attack.apply(dataset, split)
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
    memory: MemoryConstructor = build("memory", config.memory)
    embedder: Embedder = build("embedder", config.embedder)
    retriever: Retriever = build("retriever", config.retriever)
    guard: Guard = build("guard", config.guard)
    # A policy whose options are wrong, or whose templates are missing, is known before anything is paid.
    optimizer: Optimizer | None = None if config.optimizer is None else build("optimizer", config.optimizer)
    recall = config.recall and make_recall(config.recall, embedder, store, prompts)
    declaring = {
        "memory": memory,
        "retriever": retriever,
        "guard": guard,
        **({"optimizer": optimizer} if optimizer else {}),
    }
    declared = declared_templates(config, prompts, **declaring)
    for name, templates in judge_templates(config).items():
        prompts.require(f"evaluator={name}", templates)
        declared += templates
    prepared_only = all(q.prepared is not None for q in dataset.questions)
    with speaking_of(key_of(backbones["builder"], backbones)):
        parts = {} if prepared_only else memory_parts(memory, backbones["builder"], embedder, prompts)
    memory_identity = constructor_identity(config.memory, **parts)
    remembers = not prepared_only and not memory.closed_book
    if config.search.calls and not remembers:
        whose = f"memory={config.memory.name}" if memory.closed_book else f"dataset={config.dataset.name}"
        raise ConfigError(f"search.calls: with {whose} questions have no memory to search")
    if config.search.calls and not guard.open:
        raise ConfigError(
            f"search.calls: what answers find by searching passes no guard; leave guard={config.guard.name} out"
        )
    if guard.learns and split.order:
        raise ConfigError(
            f"split={config.split.name}: guard={config.guard.name} would learn from questions that arrive later; "
            f"switch that off with {guard.learns}"
        )
    builds = remembers and "builder" in (*memory.needs, *retriever.needs)
    used = used_roles(config, rubric, builds, optimizer, guard)
    refuse_constants(config, {role: backbones[role] for role in used})
    contents: dict[str, Any] = {
        "dataset": None if digests is None else [d.result() for d in digests],
        **({"labels": file_digest(overlay)} if overlay else {}),
        **({"instructions": told} if (told := _instructions(dataset)) else {}),
        "split": split_hash(split),
        **({"stream": plain(config.stream)} if split.order and isinstance(config, TrainConfig) else {}),
        "prompts": dict(prompts.identity(declared)),
        "rubric": dict(rubric.identity()) if rubric else None,
        # What the config does not say of it: the weights of what it works with.
        "memory": None
        if prepared_only and not memory.closed_book
        else [memory.version, parts.get("constructor"), parts.get("embedder")],
        "retriever": retriever_parts(retriever, embedder) if remembers else None,
        **({"guard": dict(embedder.identity())} if "embedder" in guard.needs else {}),
        "tokenizer": tokenizer_identity(config.evidence.tokenizer) if _counts_tokens(config) else None,
        **({"optimizer": dict(optimizer.identity())} if isinstance(optimizer, Identified) else {}),
        **({"recall": own} if recall and (own := recall_identity(recall, prompts)) else {}),
        **({"search": found} if (found := searching.identity(config.search, embedder)) else {}),
        **({"plugins": own} if (own := _plugins_used(config)) else {}),
        "roles": {role: role_identity(config, role, backbones) for role in used},
    }
    prepared = PreparedRun(
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
        guard,
        optimizer,
        contents,
        Budget(Path(config.outputs) / config.name, config.budget),
    )
    _refuse_stand_ins(prepared)
    records = any(planted.records for planted in dataset.planted.values())
    refuse_untrainable(config, optimizer, memory, backbones["builder"], bool(split.order), guard, records)
    return prepared


def _refuse_stand_ins(prepared: PreparedRun) -> None:
    """Refuse a backbone whose replies mean nothing beside a real policy on data of others. Raises `ConfigError`."""
    used, config = prepared.contents["roles"], prepared.config
    if prepared.dataset.own or config.allow_stand_in or prepared.stamp_of("policy") is not None:
        return
    if isinstance(prepared.backbones["policy"], Constant):
        return  # no model answers: what a stand-in says of it is a trial as well
    for role in used:
        if (stamp := prepared.stamp_of(role)) is not None:
            key = ROLES[role]
            raise ConfigError(
                f"{key}: {getattr(config, key).name} ({stamp}) would play the {role} beside a real policy on "
                f"dataset={config.dataset.name}; name another with backbone@{key}=NAME, or say allow_stand_in=true"
            )


def limited(dataset: Dataset, limit: int | None) -> Dataset:
    """The data set with `limit` questions at most: in their order, of every group as many as of the others.

    A group is a conversation or a text, also where each of its questions is given a conversation of its own, so that
    memories that know the question are asked the same ones as the others.
    """
    if limit is None or limit >= len(dataset.questions):
        return dataset
    taken: Counter[str | None] = Counter()
    turns = {}
    for q in dataset.questions:
        of = q.group or q.conversation_id
        turns[q.id] = taken[of]
        taken[of] += 1
    kept = {q.id for q in sorted(dataset.questions, key=lambda q: turns[q.id])[:limit]}
    questions = tuple(q for q in dataset.questions if q.id in kept)
    wanted = {q.conversation_id for q in questions}
    notices = dataset.notices + Counter({"questions left out by limit": len(dataset.questions) - len(questions)})
    conversations = {i: c for i, c in dataset.conversations.items() if i in wanted}
    return replace(dataset, questions=questions, conversations=conversations, notices=notices)


def _labelled(dataset: Dataset, options: Any, overlay: Path | None) -> Dataset:
    """Return a data set with the answers of its overlay, if any. Raises `DataError` for one that does not fit it."""
    if overlay is None:
        return dataset
    # A limit leaves questions out; an overlay of the whole data set fits it all the same.
    cut = getattr(options, "limit", None) is not None
    whole = build("dataset", replace(options, limit=None)).load() if cut else None
    return overlaid(dataset, overlay, whole)


def _instructions(dataset: Dataset) -> str:
    """Return the hash of what the data's sources say to those who answer and write; empty where they say nothing.

    Loaders add it to what the files hold: it can change while the files do not.
    """
    said = {q.instruction for q in dataset.questions} | {c.instruction for c in dataset.conversations.values()}
    return digest(sorted(said), 16) if said - {""} else ""


def declared_templates(config: BaseConfig, prompts: Prompts, **components: Any) -> list[str]:
    """Return the templates that components declare, by kind. Raises `ConfigError` for one that is not registered."""
    for kind, component in components.items():
        prompts.require(f"{kind}={getattr(config, kind).name}", component.prompts)
    return [name for component in components.values() for name in component.prompts]


def other_fold(prepared: PreparedRun, config: BaseConfig) -> PreparedRun:
    """The same for another fold of the same split: data, memories, backbones and guarded evidence are shared. Raises as
    `prepare`, and `ConfigError` for an attack on one part, which would be other questions in each fold, for a guard
    that learns from questions that are another part's in another fold, and for a policy that trains weights.
    """
    if prepared.guard.learns:
        raise ConfigError(
            f"split.fold=all: what guard={config.guard.name} learns from test questions of one fold would reach "
            f"training prompts of another; switch that off with {prepared.guard.learns}, or train one fold at a time, "
            "such as split.fold=0"
        )
    if trains_weights(prepared.optimizer):
        raise ConfigError(
            f"split.fold=all: optimizer={config.optimizer.name} trains weights, which folds side by side would swap on "
            "the same engines; train one fold at a time, such as split.fold=0"
        )
    part = str(getattr(config.attack, "part", "all"))
    if part != "all":
        raise ConfigError(
            f"attack.part={part}: folds share their memories, and this part is of other questions in each; attack one "
            "fold at a time, such as split.fold=0"
        )
    splitter: Splitter = build("split", config.split)
    split = splitter.split(prepared.dataset.questions, config.seed)
    contents = {**prepared.contents, "split": split_hash(split)}
    policy: Optimizer = build("optimizer", config.optimizer)
    return replace(prepared, config=config, split=split, contents=contents, optimizer=policy)


def make_recall(
    options: Any, embedder: Embedder, store: MemoryStore, prompts: Prompts, caller: Caller | None = None
) -> Recall:
    """Return the recall that options name; without a caller it can only say what it is."""
    made: Recall = build("recall", options, embedder=embedder, store=store, prompts=prompts, caller=caller)
    return made


def recall_identity(recall: Recall, prompts: Prompts) -> dict[str, Any]:
    """Return what decides what a recall shows beyond its options; empty where that is nothing."""
    prompts.require("recall", recall.prompts)
    texts = prompts.texts()
    used = {name: texts[name] for name in recall.prompts}
    # Here and not with the other plugins: an evaluation takes the recall from the checkpoint.
    code = plugin_code(type(recall))
    return {**recall.identity(), **({"prompts": used} if used else {}), **({"code": code} if code else {})}


def _counts_tokens(config: BaseConfig) -> bool:
    """Whether what a prompt shows depends on how tokens are counted."""
    return bool(config.evidence.budget or (config.search.calls and config.search.tokens))


def retriever_parts(retriever: Retriever, embedder: Embedder) -> dict[str, Any]:
    """Return what decides a retriever's rankings beyond its options, the model it asks and the templates."""
    return {
        **({"embedder": dict(embedder.identity())} if "embedder" in retriever.needs else {}),
        **retriever.identity(),
    }


def _plugins_used(config: BaseConfig) -> dict[str, str]:
    """Return component → the hash of its code, for those of plugins that can change a result."""
    chosen = [(key, kind, getattr(config, key)) for key, kind in COMPONENTS.items() if kind != "tracker"]
    named = [(key, kind, options.name) for key, kind, options in chosen if options is not None]
    named += [("evaluator", "evaluator", name) for name in config.evaluator]
    codes = {f"{key}={name}": plugin_code(REGISTRY.entry(kind, name).component) for key, kind, name in named}
    return {key: code for key, code in codes.items() if code is not None}


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
    if (code := plugin_code(type(memory))) is not None:
        parts["code"] = {"hash": code}
    if memory.prompts:
        texts = prompts.texts()
        parts["prompts"] = {name: texts[name] for name in memory.prompts}
    return parts

"""From resolved options to working parts: data and split, prompts, backbones in their roles, memory, retrieval,
evaluators.

In: a config. Out: `Prepared` (everything that is cheap and checks the user's input, before anything is locked, started
or paid) and `Workshop` (the parts of a locked run: journal, callers, bench), which is an async context that starts
backbones and closes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.config.identity import plain
from metamem.config.options import BaseConfig
from metamem.core.contracts import (
    Backbone,
    Caller,
    Dataset,
    Embedder,
    MemoryConstructor,
    Retriever,
    Rubric,
    Split,
    Splitter,
)
from metamem.core.errors import ConfigError, DataError
from metamem.core.files import file_digest
from metamem.core.json_form import digest, to_json
from metamem.core.records import Question
from metamem.core.registry import REGISTRY, build
from metamem.core.tokens import tokenizer_identity
from metamem.datasets.splits import split_hash
from metamem.evaluators.sources import judged_questions
from metamem.pipeline.roles import ROLES, key_of, rewarded, role_identity, speaking_of, used_roles
from metamem.prompts.templates import Prompts
from metamem.retrieval import searching
from metamem.retrieval.tools import Tools
from metamem.store.store import MemoryStore, constructor_identity


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

    def tools(self, builder: Caller | None = None) -> Tools:
        """Return what the retrievals of one run work with."""
        return Tools(self.embedder, self.store, self.prompts, builder)

    def searcher(self, tools: Tools) -> searching.Searcher | None:
        """Return what searches memories for answers; None where they may not."""
        config = self.config
        if not config.search.calls:
            return None
        return searching.Searcher(config.search, tools, config.evidence.tokenizer, self.retriever.pinned)

    @property
    def rewarded(self) -> bool:
        """Whether the memories that an evaluation builds are scored themselves (`evaluator=memalpha_reward`)."""
        return rewarded(self.config)

    @property
    def built(self) -> bool:
        """Whether the builder's model is asked: to make memories, or to retrieve from them."""
        return "builder" in (*self.memory.needs, *self.retriever.needs) and self.contents["memory"] is not None

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
    retriever: Retriever = build("retriever", config.retriever)
    declared = declared_templates(config, memory, retriever, prompts)
    embedder: Embedder = build("embedder", config.embedder)
    prepared_only = all(q.prepared is not None for q in dataset.questions)
    with speaking_of(key_of(backbones["builder"], backbones)):
        parts = {} if prepared_only else memory_parts(memory, backbones["builder"], embedder, prompts)
    memory_identity = constructor_identity(config.memory, **parts)
    if config.search.calls and prepared_only:
        raise ConfigError(f"search.calls: the questions of dataset={config.dataset.name} have no memory to search")
    builds = not prepared_only and "builder" in (*memory.needs, *retriever.needs)
    contents: dict[str, Any] = {
        "dataset": [file_digest(p) for p in loader.files()],
        "split": split_hash(split),
        "prompts": dict(prompts.identity(declared)),
        "rubric": dict(rubric.identity()) if rubric else None,
        # What the config does not say of it: the weights of what it works with.
        "memory": None if prepared_only else [memory.version, parts.get("constructor"), parts.get("embedder")],
        "retriever": None if prepared_only else retriever_parts(retriever, embedder),
        "tokenizer": tokenizer_identity(config.evidence.tokenizer) if _counts_tokens(config) else None,
        **({"search": found} if (found := searching.identity(config.search, embedder)) else {}),
        "roles": {role: role_identity(config, role, backbones) for role in used_roles(config, rubric, builds)},
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


def declared_templates(
    config: BaseConfig, memory: MemoryConstructor, retriever: Retriever, prompts: Prompts
) -> list[str]:
    """Return the templates that memory, retriever and optimizer declare.

    Raises `ConfigError` for one that is not registered.
    """
    declared = {f"memory={config.memory.name}": memory.prompts, f"retriever={config.retriever.name}": retriever.prompts}
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


def _counts_tokens(config: BaseConfig) -> bool:
    """Whether what a prompt shows depends on how tokens are counted."""
    return bool(config.evidence.budget or (config.search.calls and config.search.tokens))


def retriever_parts(retriever: Retriever, embedder: Embedder) -> dict[str, Any]:
    """Return what decides a retriever's rankings beyond its options, the model it asks and the templates."""
    return {
        **({"embedder": dict(embedder.identity())} if "embedder" in retriever.needs else {}),
        **retriever.identity(),
    }


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

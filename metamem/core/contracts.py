"""What each kind of component must do: one short protocol a kind, all over the records of `metamem.core.records`.

A component is a class registered with `@register(kind, name)`; it is constructed as `Component(config, **dependencies)`
and only gets the dependencies its constructor names. The dependencies handed out are:

    dataset     none
    split       none
    attack      none
    guard       none; what it works with comes with each call, as `GuardTools`
    embedder    none
    memory      none; what it works with comes with each call, as a `Scribe`
    retriever   none; what it works with comes with each call, as `RetrievalTools`
    backbone    none
    rubric      none
    evaluator   `judge` (a `Caller` for the judge role), `rubric`, `prompts`, `seed`
    optimizer   none; a step works with the `Laboratory` it is given
    recall      `embedder`, `store`, `prompts`, `caller` (the policy's `Caller`)
    prompts     none
    tracker     `run_directory`
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from metamem.core.adapters import Adapter
from metamem.core.banks import MemoryBank
from metamem.core.calls import Failure, Generation, Message, Request, Sampling
from metamem.core.meta_memory import Change, MetaMemory
from metamem.core.planted import Planted
from metamem.core.records import Conversation, Expected, Question
from metamem.core.retrieved import Asked, Retrieved

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


T = TypeVar("T")


# --- data


@dataclass(frozen=True)
class Dataset:
    """A loaded data set. `notices` counts the oddities that were tolerated (what → how often).

    `own` is True for the project's own data, on which a backbone need not be named. `published` holds the answers that
    an overlay has replaced, `planted` what an attack has planted, by question id. `expected` says what memories should
    hold after which session, where the data knows it: of each conversation in the order of its sessions.
    """

    name: str
    conversations: Mapping[str, Conversation]
    questions: tuple[Question, ...]
    notices: Counter[str] = field(default_factory=Counter)
    own: bool = False
    published: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    planted: Mapping[str, Planted] = field(default_factory=dict)
    expected: tuple[Expected, ...] = ()


class DatasetLoader(Protocol):
    """Kind `dataset`. A class whose attribute `own` is True has the project's own data: no backbone need be named.
    `published`, where a class has it, is the number of questions of the whole benchmark; a file may hold a part.
    """

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and record."""

    def files(self) -> Sequence[Path]:
        """The files whose content the data set is (they enter a run's identity)."""


class Attack(Protocol):
    """Kind `attack`: plants something in a data set, before memories are made of it."""

    def apply(self, dataset: Dataset, split: Split) -> Dataset:
        """Return the data set under attack: the same question ids and accepted answers, other conversations or
        prepared evidence, and in `planted` what was planted for each question. The same for the same options.
        """


@runtime_checkable
class Unasked(Protocol):
    """A loader that has its conversations also while there is no question about them; questions belong in a file."""

    def conversations(self) -> Dataset:
        """Read and validate the conversations alone. Raises `DataError` naming file and record."""

    def questions_file(self) -> Path:
        """Return where the questions are read from."""


@dataclass(frozen=True)
class Split:
    """Question ids of the three parts, each sorted; parts are disjoint. `leaky`: groups stand on both sides.

    `order` makes the training part a stream: its ids as they arrive, each to be answered with what was learned before.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    leaky: bool = False
    order: tuple[str, ...] = ()


class Splitter(Protocol):
    """Kind `split`."""

    def split(self, questions: Sequence[Question], seed: int) -> Split:
        """Assign every question to at most one part. Raises `ConfigError` (fold out of range) or `DataError` (bad
        file).
        """

    def files(self) -> Sequence[Path]:
        """The files the split is read from, if any."""


@runtime_checkable
class Folding(Protocol):
    """A splitter whose options may ask for all its folds at once."""

    def folds(self) -> Mapping[str, Any]:
        """Return fold → its options, where all folds are meant; nothing where one is."""


@dataclass
class MemoryContext:
    """What the memories of a run are written with, shared by all conversations: their calls and batches go together.

    `builder` is the builder role behind the journal, `embedder` the run's, `prompts` its templates. `calls` bounds the
    calls that run at once, `jobs` those of single conversations that wait beside one another, so that memory stays
    bounded. `batchers` holds what is shared by name; `advance` is told of each piece that is done.
    """

    builder: Caller | None = None
    embedder: Embedder | None = None
    prompts: Any = None
    calls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1024))
    jobs: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1024))
    batchers: dict[str, Any] = field(default_factory=dict)
    advance: Callable[[str], None] = lambda what: None


class MemoryConstructor(Protocol):
    """Kind `memory`: writes the bank of a conversation and lets it grow; its file is its algorithm.

    A class may inherit from this one for the defaults. `version` is raised whenever the same config would write other
    units. `needs` names what it works with (`builder`, `embedder`) and `prompts` the templates it renders: their
    identities become part of a bank's address. Its draws begin with `scope`. `retriever` names the retriever that is
    chosen with it unless the user chooses another (empty: the program's default). `closed_book`: nothing is remembered,
    so no evidence is gathered and questions are asked without a word about memories. What is not `kept` in the store is
    written anew each time: cutting is as quick as reading. `approached` says which published
    figure a run came near, with both; empty: nobody has run it with the models of that figure.

    Every memory has the option `sessions` beside its own: by how many sessions at a time its banks grow.
    """

    version: int = 1
    needs: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    scope: str = "memory"
    retriever: str = ""
    closed_book: bool = False
    kept: bool = True
    approached: str = ""

    def identity(self) -> Mapping[str, Any]:
        """Return what determines the units beyond options, builder, embedder and prompts (a compressor's weights).

        Raises `UserError` when such a part cannot be had; called before anything is paid.
        """
        return {}

    @abstractmethod
    async def grow(self, bank: MemoryBank | None, conversation: Conversation, scribe: Any) -> None:
        """Take in what a bank does not cover (None: nothing yet) of a conversation, which only grows at its end.

        `scribe` is a `metamem.memory.scribe.Scribe`, whose notebook holds the bank's units: what stands there in the
        end, in a stable order, is the bank. Nothing of the conversation is left waiting. After an undelivered call
        nothing is asked that depends on it: the scribe's `LostError` passes through.
        """


class Embedder(Protocol):
    """Kind `embedder`."""

    def identity(self) -> Mapping[str, Any]:
        """What determines the vectors: weights (by content), window length, pooling. Loads the model when it must."""

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Unit vectors of every window of every text (w, d), and the index of the text each belongs to (w,)."""


class RetrievalTools(Protocol):
    """What retrievers work with, the same for all banks and questions of a run."""

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Return what `work` computes of its arguments in a thread; few are at work at a time."""

    def vectors(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what the run's embedder makes of texts, from the store where it was ever made.

        Blocks: to be called within `run`, for as many texts at once as there are.
        """

    async def ask(
        self,
        about: Question | str,
        template: str,
        form: Any,
        /,
        *,
        stage: str,
        max_tokens: int | None = None,
        repairs: int = 1,
        **values: Any,
    ) -> Asked[Any]:
        """Return what is read of the greedy reply of the builder's model to a template that is filled in with values.

        `about` is the question that is retrieved for, or the name of what a guard looks at besides.

        `form` is a dataclass or a pydantic model, whose object is the value, or a `Form`; a reply that it cannot read
        is sent back, up to `repairs` times. `stage` names the cost, and the call among those about one question.
        """


class Retriever(Protocol):
    """Kind `retriever`: finds evidence in a memory. Its options hold `k`, where it takes the best of many.

    `needs` names what it works with (`embedder`, `builder`) and `prompts` the templates that it has filled in. `reads`
    are the kinds of units that it is made for (none: any); `pinned` are those of which it shows every unit, so that a
    search while answering does not offer them.
    """

    needs: tuple[str, ...]
    prompts: tuple[str, ...]
    reads: tuple[str, ...]
    pinned: tuple[str, ...]

    def identity(self) -> Mapping[str, Any]:
        """Return what determines the ranking beyond options, embedder, model and templates."""

    async def retrieve(self, bank: MemoryBank, questions: Sequence[Question], tools: RetrievalTools) -> list[Retrieved]:
        """Return for each question of one bank its evidence, best first, ties by unit position.

        Units that are not `shown` may lead to others and are no evidence. A unit may be given in part, and one may be
        made for the question: each says by its turns what it vouches for.

        Nothing is changed, neither in the bank nor in the retriever: what is found for a question does not depend on
        what else is asked.
        """


# --- backbones


class Backbone(Protocol):
    """Kind `backbone`: turns one request into samples. `max_samples` is how many draws one call may ask for."""

    max_samples: int

    def identity(self) -> Mapping[str, Any]:
        """Everything about the model that determines a reply beyond the request; no secrets."""

    def sampling(self) -> Sampling:
        """The resolved default sampling of this backbone's config; roles override temperature and max_tokens."""

    async def start(self) -> None:
        """Make ready and check that it can be reached. Raises `UnreachableError` or `ConfigError`."""

    async def generate(self, request: Request) -> list[Generation]:
        """Samples for `request.draws`, in their order; may give fewer, never none. Raises `BackboneError` for good
        failures.
        """

    async def close(self) -> None:
        """Release what `start` took; safe to call twice."""


@runtime_checkable
class Placeholder(Protocol):
    """A name of kind `backbone` that is no backbone: it stands for another one."""

    @classmethod
    def stands_for(cls, policy: Any, dataset: str, own: bool) -> Any:
        """Return the options that are meant, or a mapping with a name. `policy` are the policy's options, None where
        the policy itself is meant; `own`: the chosen data set is the project's own. Raises `ConfigError` where a
        backbone has to be named.
        """


@runtime_checkable
class Weighted(Protocol):
    """A component of any kind that loads the weights of a model, which a dry run does without."""

    @classmethod
    def without_weights(cls, options: Any) -> Any:
        """Return options that do the same without any weights, or a mapping with the name of another component; the
        very options where they need none.
        """


@runtime_checkable
class Constant(Protocol):
    """A backbone that says the same whatever it is asked: it costs nothing, and no role but the policy's can be its."""

    def constant(self) -> str:
        """Return what it says."""


@runtime_checkable
class Scorer(Protocol):
    """A backbone that can say how likely its model finds a text; what perplexity and likelihoods are made of."""

    async def score(self, messages: Sequence[Message], continuation: str) -> list[float]:
        """The natural log-probability of each token of a continuation, given the prompt and what precedes it.

        Raises `BackboneError` when it cannot be had for this text.
        """


@runtime_checkable
class Trainable(Protocol):
    """A backbone whose weights a policy can train, and which can then play its role with what was trained."""

    def base(self) -> str:
        """Return where a trainer loads the weights from: a folder, or an id of the hub."""

    def adapted(self, adapter: Adapter) -> Backbone:
        """Return the same with trained weights, not started. Raises `ConfigError` for those of another model."""


@runtime_checkable
class WeighsWords(Protocol):
    """A backbone that can say how likely a reply begins with each of a few words, though it scores no given text."""

    async def weigh(self, messages: Sequence[Message], words: Sequence[str]) -> list[float]:
        """The natural log-probability of each word (lower case) as the beginning of the reply, in whatever case.

        Raises `BackboneError` when it cannot be had.
        """


@runtime_checkable
class MeasuresPrompts(Protocol):
    """A backbone that can tell whether a prompt fits its model."""

    def overflow(self, messages: Sequence[Message], sampling: Sampling, tools: Sequence[dict[str, Any]] = ()) -> int:
        """Return by how many tokens a prompt with its reply is too long; 0 or less when it fits."""


class Caller(Protocol):
    """A backbone in a role, behind the journal: what the stages and policies call.

    `counts` holds what the role asked for and was given; whoever calls may add to it.
    """

    backbone: Backbone
    counts: Counter[str]

    async def __call__(self, request: Request) -> list[Reply]:
        """One reply per draw, in their order; failures come as replies that hold a `Failure`."""

    @property
    def label(self) -> str:
        """The model's name as shown in tables and kept in verdicts."""

    def sampling(self) -> Sampling:
        """The resolved sampling of the backbone's config; a role overrides temperature and max_tokens."""


class ScoringCaller(Protocol):
    """A `Caller` whose backbone is a `Scorer`."""

    async def score(self, messages: Sequence[Message], continuation: str) -> Reply:
        """Return the scores of a text as the reply to a prompt (`Generation.scores`), or the `Failure` to have them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A draw's outcome, the journal key it stands under, and whether it came out of the journal."""

    key: str
    outcome: Generation | Failure
    reused: bool = False


# --- judging


class Tracker(Protocol):
    """Kind `tracker`: watches a run. Nothing it does can change a result; what it raises ends the run as a bug would.

    All methods are called from the run's own thread.
    """

    def started(self, about: Mapping[str, Any]) -> None:
        """A run begins or is continued: id, name, directory, kind (train, eval), config, stamps, steps, resumed_at."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage begins: its title (`memory`, `step 3/35`, `validation`, `test`), how much there is to do, and of
        what.
        """

    def advance(self, what: str, count: int = 1) -> None:
        """Finished work: the stage's unit, or chunk, embedded, attempt, tokens, right, wrong, invalid, teaches, `asked
        NAME`.

        A chunk is a piece of a conversation that a memory has read, embedded are texts, to be found; NAME is that of a
        template which a policy had filled in.
        """

    def measured(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """The metrics of a step (the row of metrics.jsonl)."""

    def changed(self, step: int, meta_memory: MetaMemory, changes: Sequence[Change]) -> None:
        """The meta-memory after a step, and what the step changed."""

    def note(self, text: str) -> None:
        """A line worth reading: a notice, a warning."""

    def finished(self, result: Mapping[str, Any]) -> None:
        """The content of result.json."""

    def close(self) -> None:
        """The run is over or was given up; safe to call twice."""

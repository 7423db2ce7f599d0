"""The options of `train.py` and `eval.py` that belong to no component, and what must hold between components.

In: Hydra's composed config. Out: one dataclass tree with validated options, and its identity: the part that can change
a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from metamem.backbones.engine.placement import Placement
from metamem.backbones.journal import Reuse
from metamem.backbones.spending import BudgetOptions
from metamem.core.learned import Feedback
from metamem.core.registry import option
from metamem.retrieval.evidence import EvidenceOrder
from metamem.retrieval.metrics import Rules
from metamem.retrieval.searching import SearchOptions

# What happens when an unfinished run is continued with other code or other packages (`continue` is a keyword, hence
# this form).
OnDrift = Enum("OnDrift", {"error": "error", "continue": "continue"}, type=str)


@dataclass
class RunOptions:
    """Where a run stands and how it is continued."""

    dir: str | None = option(None, "the run's directory instead of outputs/<name>/<slug>-<id>", result=False)
    force: bool = option(
        False, "start over although the run has begun or finished (replies still come from the journal)", result=False
    )
    on_drift: OnDrift = option(
        OnDrift.error, "an unfinished run met by other code: error (shows the difference) or continue", result=False
    )
    lost: float = option(
        0.05,
        "a run stops, to be continued, when more than this share of a part's or a step's calls was not delivered "
        "(1: never)",
        least=0,
        most=1,
        result=False,
    )


@dataclass
class JournalOptions:
    """Which stored replies are reused."""

    reuse: Reuse = option(
        Reuse.experiment,
        "whose replies are reused: run, experiment (all runs of the same name) or global (all under outputs)",
        result=False,
    )


@dataclass
class EvidenceOptions:
    """How retrieved units become the evidence in a prompt."""

    budget: int | None = option(
        None,
        "at most so many tokens of evidence per question (null: no limit)",
        least=1,
    )
    count_guidelines: bool = option(
        False, "what is learned (guidelines, texts of prompts) takes from the budget as evidence does"
    )
    tokenizer: str = option(
        "words", "the tokenizer that counts them: words, or a Hugging Face tokenizer's path or name"
    )
    order: EvidenceOrder = option(
        EvidenceOrder.score,
        "order in the prompt: score (best first) or time; to probe a reader gold_first, gold_middle or gold_last, "
        "which move the units that the data set names as evidence",
    )
    metrics: Rules = option(
        Rules.own, "rules of the retrieval metrics: own, or longmemeval (as the benchmark computes its published ones)"
    )


@dataclass
class HoldsOptions:
    """How much of the data set each memory holds."""

    sessions: int | None = option(
        None, "sessions of each conversation at most: those with evidence, then the newest (null: all)", least=1
    )
    conversations: int = option(1, "conversations in one memory", least=1)


@dataclass
class EvaluationOptions:
    """How validation and test answers are sampled."""

    temperature: float = option(0.0, "sampling temperature of validation and test answers", least=0)
    attempts: int = option(1, "answers per question; figures are means over them", least=1)


@dataclass
class PlanOptions:
    """What a dry run assumes of the answers, to say what they could show.

    The discordance is that of the published answers of two systems on LongMemEval (25 %); the others are on the careful
    side of what nano's trainings show.
    """

    pilot: str | None = option(
        None, "a finished run that tells how often two systems differ, how alike conversations are", result=False
    )
    discordance: float = option(
        0.25, "share of questions on which two systems differ, without a pilot", least=0, most=1, result=False
    )
    icc: float = option(
        0.03, "how alike the differences within a conversation are, without a pilot", least=0, most=1, result=False
    )
    luck: float = option(
        0.03, "standard deviation of the accuracy over trainings, without a pilot", least=0, most=1, result=False
    )


@dataclass
class BaseConfig:
    """What both programs share. The components' options stand under their groups' names."""

    name: str = option(
        "metamem", "name of the experiment: runs are kept in outputs/<name>/ and share their replies", result=False
    )
    seed: int = option(42, "seed of everything drawn: the split (unless split.seed is given), the batches, the samples")
    outputs: str = option("outputs", "folder of everything that is written: runs, memory store, journal", result=False)
    limit: int | None = option(
        None,
        "a quick look: only so many questions, spread over the data set's groups, such as conversations (null: all)",
        least=1,
        late=True,
    )
    reward: str = option("", "the evaluator that teaches and ranks (empty: the first one chosen)")
    study: str = option(
        "", "what a sweep's runs are put together as when it ends (see experiments/README.md)", result=False
    )
    allow_mixed: bool = option(
        False,
        "compare figures in one table although data, judge, rubric, attempts or temperature differ, with a stamp",
        result=False,
    )
    dry_run: bool = option(
        False, "say how many calls, tokens and GPU hours it would take, and call nothing", result=False
    )
    allow_stand_in: bool = option(
        False, "let a stand-in play a role beside a real policy on a benchmark, which is refused else", result=False
    )
    placement: Placement = option(
        Placement.auto,
        "in-process engines: disjoint (side by side, each on GPUs of its own), turns (one at a time) or auto",
        result=False,
    )
    run: RunOptions = field(default_factory=RunOptions, metadata={"help": "the run's directory", "result": False})
    journal: JournalOptions = field(
        default_factory=JournalOptions, metadata={"help": "stored replies", "result": False}
    )
    budget: BudgetOptions = field(
        default_factory=BudgetOptions, metadata={"help": "what the runs of a name may take", "result": False}
    )
    holds: HoldsOptions = field(
        default_factory=HoldsOptions, metadata={"help": "what each memory holds", "result": True}
    )
    plan: PlanOptions = field(default_factory=PlanOptions, metadata={"help": "what a dry run assumes", "result": False})
    evidence: EvidenceOptions = field(default_factory=EvidenceOptions, metadata={"help": "evidence", "result": True})
    search: SearchOptions = field(
        default_factory=SearchOptions, metadata={"help": "searching while answering", "result": True}
    )
    evaluation: EvaluationOptions = field(
        default_factory=EvaluationOptions, metadata={"help": "evaluation", "result": True}
    )
    dataset: Any = None
    attack: Any = None
    split: Any = None
    memory: Any = None
    retriever: Any = None
    guard: Any = None
    embedder: Any = None
    backbone: Any = None
    judge: Any = None
    reflector: Any = None
    builder: Any = None
    evaluator: dict[str, Any] = field(default_factory=dict)
    rubric: Any = None
    prompts: Any = None
    recall: Any = None
    tracker: Any = field(default=None, metadata={"result": False})
    optimizer: Any = None


@dataclass
class StreamOptions:
    """How a stream (split=stream) is answered and learned from."""

    feedback: Feedback = option(
        Feedback.truth, "what a policy is told: truth (accepted answer and verdict), verdict (right or wrong) or none"
    )
    batch: int = option(
        1, "questions that arrive together, and are answered before any of them is learned from", least=1
    )
    again: int = option(20, "the first questions that are asked again at the end, for what was forgotten", least=0)


class Accept(StrEnum):
    """`always`: every update is taken. `validation`: only one that does not lower the score on the validation part."""

    always = "always"
    validation = "validation"


@dataclass
class TrainConfig(BaseConfig):
    """The options of train.py."""

    name: str = option(
        "train", "name of the experiment: runs are kept in outputs/<name>/ and share their replies", result=False
    )
    train_questions: int | None = option(
        None,
        "learn from so many questions of the training part only, drawn by the seed, smaller draws within larger",
        least=1,
    )
    train_share: float | None = option(
        None, "learn from this share of the training part only, drawn likewise", above=0, most=1
    )
    test_steps: bool = option(False, "test the meta-memory after every step too, and their mean")
    accept: Accept = option(
        Accept.always, "take every update (always), or only what does not lower the validation score (validation)"
    )
    eval_every: int = option(
        1, "score the meta-memory on validation every so many steps (the last step always)", least=1
    )
    # Part of a run's identity where there is a stream (`prepare`).
    stream: StreamOptions = field(
        default_factory=StreamOptions, metadata={"help": "streams of questions", "result": False}
    )


class Part(StrEnum):
    """A part of the data."""

    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


@dataclass
class MakeOptions:
    """Questions about conversations that a model writes and a person reviews (experiment=make_questions)."""

    questions: int | None = option(
        None, "write so many questions about the data set's conversations, for review; nothing is evaluated", least=1
    )
    sessions: int = option(3, "sessions that a question may be about, for types that need several", least=2)
    words: int = option(3000, "words of these sessions that the writing model is shown", least=100)
    out: str | None = option(
        None,
        "the file that questions are added to (null: dataset=chats's own; of other data sets only review.jsonl)",
        result=False,
    )


@dataclass
class EvalConfig(BaseConfig):
    """The options of eval.py."""

    name: str = option(
        "eval", "name of the experiment: runs are kept in outputs/<name>/ and share their replies", result=False
    )
    meta_memory: Any = option(
        None, "a run's directory, a checkpoint, a JSON file of guidelines, null for none, or a list of these to compare"
    )
    part: Part = option(Part.test, "the questions to answer: test, validation, train or all")
    allow_seen: bool = option(False, "evaluate a meta-memory also on questions that trained it", result=False)
    from_: str | None = option(
        None, "written from=RUN: judge the attempts stored in that run again, with the judge and rubric given here"
    )
    labels: str | None = option(
        None,
        "with from: an audit.csv of that run whose column label people have filled in: how far its judge can be "
        "trusted, and its accuracies and differences corrected for the judge",
        result=False,
    )
    perplexity: str | None = option(
        None,
        "a finished run: the perplexity of the replies stored in it and of the reference answers, with and without "
        "the guidelines of each of its systems",
    )
    # Part of a run's identity where questions are made.
    make: MakeOptions = field(
        default_factory=MakeOptions, metadata={"help": "questions that a model writes", "result": False}
    )
    show: str | None = option(
        None, "a question's id: print its evidence, where each unit comes from, and the gold evidence", result=False
    )
    show_history: bool = option(
        False, "with show: every call by which a builder wrote the memory, and its effect", result=False
    )
    compare: Any = option(
        None,
        "a list of finished runs or result files to compare with intervals and paired tests; a list inside it is one "
        "system over seeds or folds, RUN@SYSTEM one of a run's systems",
        result=False,
    )


# What a meta-memory is recalled by that does not say (a list of sentences, a checkpoint of version 0.1).
DEFAULT_RECALL = {"name": "all"}

# Config key → registered kind. A key that differs from its kind is a role.
COMPONENTS: Mapping[str, str] = {
    "dataset": "dataset",
    "attack": "attack",
    "split": "split",
    "memory": "memory",
    "retriever": "retriever",
    "guard": "guard",
    "embedder": "embedder",
    "backbone": "backbone",
    "judge": "backbone",
    "reflector": "backbone",
    "builder": "backbone",
    "optimizer": "optimizer",
    "rubric": "rubric",
    "prompts": "prompts",
    "recall": "recall",
    "tracker": "tracker",
}

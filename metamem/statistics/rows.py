"""The rows that results are made of: one per question, attempt and verdict, with where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metamem.core.grouping import base_id
from metamem.core.records import Verdict
from metamem.statistics.comparability import Conditions


@dataclass(frozen=True, slots=True)
class Row:
    """How one system fared on one question.

    `system` is the key of a system in its source (`best`, `0`), `group` the cluster of the question (a conversation, a
    base question), `strict` the share of right attempts with invalid ones wrong, `valid` that of the valid ones (None:
    none is valid), `score` and `valid_score` the same of their scores. `retrieved` says whether all evidence was
    retrieved, None when unknown. `learned` names what was learned that the system answered with, empty for none.
    """

    system: str
    question_id: str
    type: str
    abstention: bool
    group: str
    strict: float
    valid: float | None
    attempts: int = 1
    invalid: int = 0
    retrieved: bool | None = None
    seed: int | None = None
    fold: str | None = None
    score: float = 0.0
    valid_score: float | None = None
    learned: str = ""

    @property
    def repeat(self) -> str:
        """What tells this answer from others of one system to the same question."""
        return f"{self.seed}/{self.fold}/{self.learned}"

    @property
    def training(self) -> str:
        """The training behind the answer; empty where nothing was learned, so that luck has no part in it."""
        return self.repeat if self.learned else ""


@dataclass(frozen=True, slots=True)
class JudgedReply:
    """One verdict. `reply` tells an attempt from every other, also across runs: empty where the source does not say."""

    system: str
    question_id: str
    attempt: str
    reply: str
    evaluator: str
    judge: str
    rubric: str
    repeat: int
    correct: bool | None
    score: float


@dataclass(frozen=True)
class RowsSource:
    """What was read from one path. `labels`: key of a system → its label; `reward` the evaluator and `part` the part
    of the data (of a run) that `rows` are of, `conditions` what must be the same in one table.
    """

    name: str
    path: Path
    labels: Mapping[str, str]
    rows: tuple[Row, ...]
    judgements: tuple[JudgedReply, ...] = ()
    reward: str = ""
    stamps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    part: str = ""
    conditions: Conditions = field(default_factory=Conditions)


@dataclass
class Facts:
    """What is known of a question beside its verdicts."""

    type: str = ""
    abstention: bool = False
    group: str = ""
    retrieved: bool | None = None


def row_of(
    system: str,
    question_id: str,
    facts: Facts,
    verdicts: Sequence[Verdict | JudgedReply],
    *,
    seed: int | None = None,
    fold: str | None = None,
    learned: str = "",
) -> Row:
    """Return how a system fared on a question by the verdicts (at least one) on its attempts; those without an outcome
    are invalid.
    """
    valid = [v for v in verdicts if v.correct is not None]
    right, score = sum(bool(v.correct) for v in valid), math.fsum(v.score for v in valid)
    return Row(
        system=system,
        question_id=question_id,
        type=facts.type,
        abstention=facts.abstention,
        group=facts.group or base_id(question_id),
        strict=right / len(verdicts),
        valid=right / len(valid) if valid else None,
        attempts=len(verdicts),
        invalid=len(verdicts) - len(valid),
        retrieved=facts.retrieved,
        seed=seed,
        fold=fold,
        score=score / len(verdicts),
        valid_score=score / len(valid) if valid else None,
        learned=learned,
    )

"""Text metrics: a response compared with the accepted answers, without a model.

In: a question and an attempt. Out: a scored `Verdict`, the best score over the accepted answers. Texts are normalised
as in SQuAD (arXiv 1606.05250): lower case, no punctuation, no English articles, single spaces; for all of Unicode.
Numbers stay as they are written: "two" is not "2".

A question without an answer (abstention) scores 1 when the response says that it cannot be known (`says_unknown`),
whatever explanation the data gives as its answer. Preference questions hold a rubric instead of an answer: judge those
with `llm_judge`.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import option, register

_ARTICLES = frozenset(("a", "an", "the"))

# Ways to say that the answer cannot be known, normalised.
UNKNOWN_PHRASES = (
    "cannot be known",
    "cant be known",
    "cannot be determined",
    "cant be determined",
    "cannot determine",
    "cant determine",
    "unable to determine",
    "cannot answer",
    "cant answer",
    "unanswerable",
    "unknown",
    "not known",
    "do not know",
    "dont know",
    "does not say",
    "doesnt say",
    "do not say",
    "dont say",
    "do not have that information",
    "dont have that information",
    "do not have information",
    "dont have information",
    "do not have any information",
    "dont have any information",
    "do not have enough information",
    "dont have enough information",
    "information is not available",
    "no information",
    "not enough information",
    "insufficient information",
    "information provided is not enough",
    "not mentioned",
    "not mention",
    "didnt mention",
    "doesnt mention",
    "dont mention",
    "havent mentioned",
    "never mentioned",
    "no mention",
    "no record",
    "not specified",
    "not stated",
    "not provided",
)


def normalise(text: str) -> str:
    """Lower case without punctuation and articles, as far as that leaves anything ("A" stays)."""
    lowered = unicodedata.normalize("NFKC", text).casefold()
    bare = "".join(c for c in lowered if unicodedata.category(c)[0] not in "PSC" or c.isspace())
    words = bare.split()
    kept = [word for word in words if word not in _ARTICLES]
    return " ".join(kept or words or lowered.split())


def says_unknown(response: str) -> bool:
    """True when the response says in one of `UNKNOWN_PHRASES` that the answer cannot be known."""
    # Articles are dropped from responses, and no phrase holds one.
    words = f" {normalise(response)} "
    return any(f" {phrase} " in words for phrase in UNKNOWN_PHRASES)


def token_f1(response: str, answer: str) -> float:
    """Harmonic mean of precision and recall over normalised words, each counted as often as it occurs; in [0, 1]."""
    ours, theirs = normalise(response).split(), normalise(answer).split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def holds(response: str, answer: str, whole_words: bool) -> bool:
    """True when the normalised response holds the normalised answer; with `whole_words` not inside a word or number."""
    text, wanted = normalise(response), normalise(answer)
    if not wanted:
        return False
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        joined = _joined(text[at - 1 : at], wanted[0]) or _joined(wanted[-1], text[end : end + 1])
        if not (whole_words and joined):
            return True
        at = text.find(wanted, at + 1)
    return False


def _joined(left: str, right: str) -> bool:
    """True for two letters or two digits. Scripts without letter case may write words without spaces: never joined."""
    cased = bool(left) and bool(right) and left.lower() != left.upper() and right.lower() != right.upper()
    return cased or (left.isdigit() and right.isdigit())


class _TextMetric(ABC):
    """What the text metrics share: abstention, the best of the accepted answers, the verdict."""

    name: str
    threshold: float

    @abstractmethod
    def score(self, response: str, answer: str) -> float:
        """How well a response agrees with one accepted answer, in [0, 1]."""

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """The verdict of one attempt; invalid when the question has neither an answer nor the abstention flag."""
        if question.abstention:
            scores = [float(says_unknown(attempt.response))]
        else:
            scores = [self.score(attempt.response, answer) for answer in question.answers]
        verdict = Verdict(attempt.id, question.id, self.name, Status.invalid, repeat=repeat)
        if not scores:
            return dataclasses.replace(verdict, reason="the question has no accepted answer")
        best = max(scores)
        return dataclasses.replace(verdict, status=Status.scored, score=best, correct=best >= self.threshold)


@register("evaluator", "exact_match")
class ExactMatch(_TextMetric):
    """The response is an accepted answer and nothing else, after normalisation."""

    name = "exact_match"
    threshold = 1.0

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config) -> None:
        del config

    def score(self, response: str, answer: str) -> float:
        """1 when both are equal after normalisation, else 0."""
        return float(normalise(response) == normalise(answer))


@register("evaluator", "substring_match")
class SubstringMatch(_TextMetric):
    """The response holds an accepted answer, after normalisation."""

    name = "substring_match"
    threshold = 1.0

    @dataclass
    class Config:
        """Where an answer may be found."""

        whole_words: bool = option(True, "find whole words and numbers only; false is MemoryAgentBench's definition")

    def __init__(self, config: Config) -> None:
        self._whole_words = config.whole_words

    def score(self, response: str, answer: str) -> float:
        """1 when the answer is in the response after normalisation, else 0."""
        return float(holds(response, answer, self._whole_words))


@register("evaluator", "token_f1")
class TokenF1(_TextMetric):
    """Overlap of words between the response and an accepted answer (SQuAD's and LoCoMo's F1)."""

    name = "token_f1"

    @dataclass
    class Config:
        """When a score is right."""

        threshold: float = option(0.5, "score from which an attempt is right", above=0, most=1)

    def __init__(self, config: Config) -> None:
        self.threshold = config.threshold

    def score(self, response: str, answer: str) -> float:
        """`token_f1` of the two."""
        return token_f1(response, answer)

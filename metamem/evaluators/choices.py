"""Multiple choice: the option that a reply chooses, read by its letter alone, without a model.

In: a question whose accepted answer begins with its option's letter in parentheses, "(c) ...", and an attempt. Out: a
scored `Verdict`. A reply that names no option, or more than one, is wrong. Sources of the other readings: the
evaluation programs of PersonaMem (arXiv 2504.14225), MMLU-Pro (arXiv 2406.01574) and GPQA (arXiv 2311.12022).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from metamem.core.errors import ConfigError, unknown
from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import option, register
from metamem.evaluators.source_metrics import final_answer

# What opens a final answer is cut off, its parenthesis too: "c) or (a)".
_MARKED = re.compile(r"(?:\A|\()([a-z])\)", re.IGNORECASE)
# Without parentheses: the letter alone, or first and set apart as lists do it ("c. ...", "c) ...", "c: ...").
_BARE = re.compile(r"[\W_]*(?:option\s+)?([a-z])(?:[\W_]*\Z|[.):]\s)", re.IGNORECASE)
_TAG, _END_TAG = "<final_answer>", "</final_answer>"


# What GPQA's program looks for in turn: a letter in parentheses after each of these.
_GPQA = ("answer is ", "Answer: ", "answer: ", "answer ", "")


class ChoiceReading(StrEnum):
    """How replies are read: `strict` as here, the others as the program of a benchmark reads them."""

    strict = "strict"
    personamem = "personamem"
    mmlu_pro = "mmlu_pro"
    gpqa = "gpqa"


def chosen(response: str) -> str:
    """Return the letter, in lower case, of the one option that a reply's final answer names; empty: none or several."""
    answer = final_answer(response)
    marked = {letter.lower() for letter in _MARKED.findall(answer)}
    if marked:
        return marked.pop() if len(marked) == 1 else ""
    bare = _BARE.match(answer)
    return bare[1].lower() if bare else ""


def chosen_by_personamem(response: str, right: str) -> bool:
    """Tell whether PersonaMem's program counts a reply as the choice of a letter (lower case).

    It reads what follows the last `<final_answer>`, then the whole reply: one of them must hold that letter of a to d
    and no other, in parentheses or, where none stands in such, as a word of its own.
    """
    last = response.strip().rpartition(_TAG)[2].strip().removesuffix(_END_TAG)
    return {right} in (_letters(last), _letters(response))


def _letters(text: str) -> set[str]:
    lowered = text.lower()
    return set(re.findall(r"\(([a-d])\)", lowered)) or set(re.findall(r"\b([a-d])\b", lowered))


def chosen_by_mmlu_pro(response: str, right: str) -> bool:
    """Tell whether MMLU-Pro's program counts a reply as the choice of a letter (lower case), where it does not guess.

    It takes the first capital from A to J after "answer is", else after "answer:", else the last one that stands alone.
    """
    said = re.search(r"answer is \(?([A-J])\)?", response) or re.search(r".*[aA]nswer:\s*([A-J])", response)
    alone = re.findall(r"\b[A-J]\b", response)
    found = said[1] if said else alone[-1] if alone else ""
    return bool(found == right.upper())


def chosen_by_gpqa(response: str, right: str) -> bool:
    """Tell whether GPQA's program counts a reply as the choice of a letter (lower case).

    It takes the first capital from A to D in parentheses, after "answer is" and other words, or at last after none.
    """
    for before in _GPQA:
        first = re.search(rf"{before}\((.)\)", response)
        if first and first[1] in "ABCD":
            return bool(first[1] == right.upper())
    return False


_READINGS: dict[ChoiceReading, Callable[[str, str], bool]] = {
    ChoiceReading.strict: lambda response, right: chosen(response) == right,
    ChoiceReading.personamem: chosen_by_personamem,
    ChoiceReading.mmlu_pro: chosen_by_mmlu_pro,
    ChoiceReading.gpqa: chosen_by_gpqa,
}


@register("evaluator", "multiple_choice")
class MultipleChoice:
    """The reply chooses the right option of several (PersonaMem, MMLU-Pro, GPQA), by its letter."""

    name = "multiple_choice"
    threshold = 1.0

    @dataclass
    class Config:
        """How the letter is read."""

        reading: ChoiceReading = option(
            ChoiceReading.strict,
            "strict: the final answer names one option; personamem, mmlu_pro, gpqa: as that benchmark's program reads",
        )

        def __post_init__(self) -> None:
            """Check the reading. Raises `ConfigError` naming the option as the user types it."""
            try:
                self.reading = ChoiceReading(self.reading)
            except ValueError:
                key = "evaluator.multiple_choice.reading"
                raise ConfigError(unknown(key, str(self.reading), list(ChoiceReading))) from None

    def __init__(self, config: Config) -> None:
        self._chooses = _READINGS[config.reading]

    async def evaluate(self, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        """The verdict of one attempt; invalid when no accepted answer begins with an option's letter."""
        verdict = Verdict(attempt.id, question.id, self.name, Status.invalid, repeat=repeat)
        marks = [match[1].lower() for answer in question.answers if (match := _MARKED.match(answer))]
        if not marks:
            return dataclasses.replace(verdict, reason="the accepted answer does not begin with an option's letter")
        correct = any(self._chooses(attempt.response, right) for right in marks)
        return dataclasses.replace(verdict, status=Status.scored, score=float(correct), correct=correct)

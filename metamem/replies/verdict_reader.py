r"""Reads a judge's reply: right, wrong, or unreadable. The one place that decides what a reply means.

In: the reply's text, with or without its reasoning. Out: `read_verdict`, True, False or None. The text is cut into
sentences and clauses; a clause counts only where it *is* a verdict, never where its words merely occur. Four weights:

    declared  `Verdict: no`, `the answer is **yes**`, `\boxed{yes}`, `{"correct": true}`, `..., so no`
    plain     `Yes.`, `No, the response says yes`, `Incorrect because ...`, `The response is not correct`
    answered  `Is the response correct? Yes`: counts when nothing is declared
    weak      `It is correct`: counts when nothing else does

All that count must agree. A contradiction (`Yes and no`) or a hedge (`Yes, partially`, `I cannot determine`) is None:
asking again is cheap and a wrong verdict is not. Judges are asked for an English word, so a reply in another language
alone (`Sí`, `Oui`, `Nein`, kana, characters) is None too. What stands in double quotes and is longer than a word is
the response's or the truth's, not the judge's. Plain string code, linear in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from metamem.replies import verdict_patterns as patterns
from metamem.replies.reasoning import split_reasoning
from metamem.replies.verdict_clauses import Clause, Sentence, sentences

_JSON_KEYS = {
    "verdict",
    "final_verdict",
    "answer",
    "final_answer",
    "correct",
    "is_correct",
    "correctness",
    "judgment",
    "judgement",
    "decision",
    "label",
    "result",
}
_FLAT_OBJECT = re.compile(r"\{[^{}]*\}")


class _Weight(Enum):
    declared = 0
    plain = 1
    answered = 2
    weak = 3


@dataclass(frozen=True, slots=True)
class _Found:
    """A verdict in the text; `value` None is a contradiction or a hedge."""

    value: bool | None
    weight: _Weight


def read_verdict(text: str) -> bool | None:
    """True for right, False for wrong, None for a reply that says neither clearly. Never raises."""
    answer, _, finished = split_reasoning(text)
    if not finished:
        return None
    found, rest = _read_json(answer)
    read = sentences(rest)
    if not found and len(read) == 1 and len(read[0].clauses) == 1 and read[0].clauses[0].words in ("y", "n"):
        return read[0].clauses[0].words == "y"
    asked: bool | None = None
    for sentence in read:
        if sentence.is_question:
            asked = _asks_whether_right(sentence)
        else:
            found += _read_sentence(sentence.clauses, asked, last=sentence is read[-1])
            asked = None
    return _agreed(found)


def _agreed(found: list[_Found]) -> bool | None:
    if any(one.value is None for one in found):
        return None
    weights = {one.weight for one in found}
    ignored = {_Weight.weak} if len(weights) > 1 else set()
    if _Weight.declared in weights:
        ignored.add(_Weight.answered)
    values = {one.value for one in found if one.weight not in ignored}
    return values.pop() if len(values) == 1 else None


# --- JSON -------------------------------------------------------------------------------------------------------------


def _read_json(text: str) -> tuple[list[_Found], str]:
    """The verdicts of the JSON objects in `text`, and the text without those objects."""
    first, last = text.find("{"), text.rfind("}")
    if first < 0 or last < first:
        return [], text
    found: list[_Found] = []
    if (pairs := _pairs(text[first : last + 1])) is not None:
        return _verdicts(pairs), f"{text[:first]}\n{text[last + 1 :]}"

    def take(match: re.Match[str]) -> str:
        pairs = _pairs(match[0])
        found.extend(_verdicts(pairs or ()))
        return match[0] if pairs is None else "\n"

    return found, _FLAT_OBJECT.sub(take, text)


def _pairs(text: str) -> tuple[tuple[str, object], ...] | None:
    """The pairs of a JSON object, doubled keys included; None when `text` is not one."""
    try:
        value = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, tuple) else None


def _verdicts(pairs: tuple[tuple[str, object], ...]) -> list[_Found]:
    found = []
    for key, value in pairs:
        if key.strip().casefold().replace(" ", "_") not in _JSON_KEYS:
            continue
        if isinstance(value, str):
            value = read_verdict(value)
        if value in (0, 1):
            found.append(_Found(bool(value), _Weight.declared))
    return found


# --- clauses to verdicts ----------------------------------------------------------------------------------------------


def _asks_whether_right(sentence: Sentence) -> bool:
    words = " ".join(clause.words for clause in sentence.clauses)
    return bool(patterns.ASKS_WHETHER_RIGHT.search(words)) and not patterns.NEGATIVE.search(words)


def _read_sentence(clauses: Sequence[Clause], asked: bool | None, last: bool) -> list[_Found]:
    """The verdicts of one sentence.

    `asked`: None unless it follows a question, then whether that asked if the response is right. `last`: it ends the
    reply.
    """
    found: list[_Found] = []
    start = True  # so far only words that lead in, or labels
    opened = False  # the sentence began with a verdict
    conditional = False
    weight = _Weight.plain if asked is None else _Weight.answered
    for index, clause in enumerate(clauses):
        words, ends = clause.words, index == len(clauses) - 1
        previous = clauses[index - 1].words if index else ""
        led = bool(patterns.FILLER.fullmatch(f"{previous} "))
        labelled = bool(patterns.LABEL.fullmatch(previous)) or (led and clause.before == ":")
        reported = bool(patterns.REPORTS.search(previous)) and not labelled and not led
        conditional = conditional or bool(patterns.CONDITION.match(words))
        if conditional or reported or (patterns.LABEL.fullmatch(words) and clause.after == ":"):
            start = start and not reported
            continue
        if clause.before == ":" and not labelled:
            start = False  # `Response: yes` quotes
        elif patterns.TAKEN_BACK.match(words) or ((start or opened) and patterns.HEDGE.fullmatch(words)):
            found.append(_Found(None, weight))
        elif (value := _value(patterns.DECLARES.fullmatch(words) or patterns.ENDS.search(words))) is not None:
            if not patterns.BARE_ANSWER.match(words) or led or (last and ends):
                found.append(_Found(value, _Weight.declared))
        elif (value := _lone(clause, clauses, index)) is not None:
            follows = patterns.CONSEQUENCE.match(words) or patterns.CONSEQUENCE.fullmatch(previous)
            if labelled or (follows and ends and not start):
                found.append(_Found(value, _Weight.declared))
            elif (start or opened) and asked is not False:
                found.append(_Found(value, weight))
            opened = opened or start
        adverse = not ends and bool(patterns.ADVERSE.match(clauses[index + 1].words))
        for pattern, its_weight in ((patterns.STATES, _Weight.plain), (patterns.STATES_WEAKLY, _Weight.weak)):
            if not adverse and (value := _value(pattern.fullmatch(words))) is not None:
                found.append(_Found(value, its_weight))
        start = start and bool(patterns.FILLER.fullmatch(f"{words} ") or patterns.LABEL.fullmatch(words))
    return found


def _lone(clause: Clause, clauses: Sequence[Clause], index: int) -> bool | None:
    """What a clause says that is nothing but a verdict (`Incorrect`) or opens with one (`No the response ...`)."""
    if opens := patterns.OPENS.fullmatch(clause.words):
        return opens["yes"] is not None
    lone = patterns.LONE.fullmatch(clause.words)
    value = _value(lone)
    if lone is None or value is None:
        return None
    if lone["value"] in ("right", "true") and len(clauses) > 1 and not lone["not"]:
        return None  # `Right, let me see`, `True, it says so, but ...`
    following = clauses[index + 1].words if index + 1 < len(clauses) else ""
    if clause.after == ":" and (value or patterns.LONE.fullmatch(following)):
        return None  # `Correct: 25 May` names the truth, `Incorrect: false` is a field
    return value


def _value(match: re.Match[str] | None) -> bool | None:
    """The verdict in a match, negation minded; None without a match and for `not incorrect`, `not yes`."""
    if match is None:
        return None
    word = match["value"]
    good = word in patterns.YES_WORDS or word in patterns.GOOD_WORDS
    if any(group and re.search(r"n't|not\b", group) for name, group in match.groupdict().items() if name != "value"):
        return False if word in patterns.GOOD_WORDS else None
    return good

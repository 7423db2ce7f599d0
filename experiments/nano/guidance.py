"""The sentences of guidelines, reviews and small talk that the model is trained on, as little grammars.

In: a `random.Random`. Out: sentences; a grammar `{a|b|c}` stands for one of its choices. The world's kinds of cases and
`absent` each have one, so that there are thousands of ways to say the same. Sentences whose hash falls into `HELD_OUT`
are never trained on.
"""

from __future__ import annotations

import random
import re
import zlib

GUIDELINES: dict[str, tuple[str, ...]] = {
    "user": (
        "{When|If|Whenever} asked what {I|the user|somebody} did, {trust|use|take} what the user {said|told|reported}, "
        "not the {advice|suggestion|proposal} of the assistant.",
        "{Use|Take|Trust} the {words|lines} of the user {for|about} what was done and {ignore|skip} "
        "{advice|suggestions} "
        "of the assistant.",
    ),
    "assistant": (
        "{When|If|Whenever} asked {for|about} a {suggestion|proposal}, {use|take|read} what the assistant "
        "{said|advised|told}, not what {I|the user} did.",
        "A {suggestion|proposal} {stands|is found} in the {words|lines} of the assistant, so "
        "{read|take|use} {these|those}.",
    ),
    "preference": (
        "{When|If|Whenever} asked {for|about} a {recommendation|good thing|good choice}, "
        "{choose|pick|take} what is always "
        "{welcome|wanted} and {avoid|leave out|skip} what is never {welcome|wanted}.",
        "{Recommend|Choose|Pick} {only|just} what always {pleases|suits} a person, never what they {refuse|avoid}.",
    ),
    "count": (
        "{When|If|Whenever} asked {how many|for a number}, {go through|check|read} {all sessions|all "
        "memories|every line} "
        "and count {each|every} {mention|item}.",
        "{Count|Add up} {each|every} {mention|item} in {all sessions|all memories|every line} before {giving|saying} a "
        "number.",
    ),
    "combine": (
        "{When|If|Whenever} asked for {a list|everything|all things}, {collect|gather|join} {the things|the items} "
        "{of|from} {all sessions|all memories|every line}.",
        "{Collect|Gather|Join} {the things|the items} {of|from} {all sessions|all memories|every "
        "line} {for|into} {a|one} "
        "list.",
    ),
    "update": (
        "{When|If|Whenever} a {fact|habit|state} {changed|was updated}, {use|take|give} the "
        "{newest|latest|most recent} "
        "{one|version|memory}.",
        "{Use|Take|Give} the {newest|latest|most recent} {version|memory} of a {fact|habit|state} that {changed|was "
        "updated}.",
    ),
    "order": (
        "{When|If|Whenever} asked what {came|was} first, compare the dates and {take|give|use} the {earliest|oldest} "
        "{one|memory}.",
        "{Take|Give|Use} the {earliest|oldest} {memory|one} {when|if} asked what {came|was} first.",
    ),
    "difference": (
        "{When|If|Whenever} asked for {days|the time} between {events|two things}, {subtract|take "
        "away} the {earlier|first} "
        "date {of|from} the {later|second} {one|date}.",
        "{Subtract|Take away} one date {of|from} the other {when|if} asked for {days|the time} "
        "between {events|two things}.",
    ),
    "absent": (
        "{When|If|Whenever} no {memory|line|session} {names|mentions} the person, {say|answer} unknown {instead of|and "
        "avoid} guessing.",
        "{Say|Answer} unknown {instead of|and avoid} guessing {when|if} {the person|somebody} is not "
        "{named|mentioned}.",
    ),
}
IRRELEVANT = (
    "{Keep|Make} {the|each|every} {answer|reply} {short|brief|clear} and {polite|friendly|kind}.",
    "{Write|Use} {plain|simple|easy} {words|language} and {avoid|skip} {jokes|slang|long words}.",
    "{Check|Watch} the {spelling|grammar} of {names|words|things} {twice|with care|again}.",
    "{When|If|Whenever} the {topic|theme} is {music|travel|sport|weather}, {stay|be} {calm|polite|friendly}.",
    "{Thank|Greet} {the user|everybody} {warmly|kindly} {before|after} {the|each} {answer|reply}.",
    "{Do not|Never} {repeat|copy} the {question|topic} in the {answer|reply}.",
    "{When|If|Whenever} {tired|unsure of the topic}, {read|work} {slowly|calmly} and with {care|patience}.",
    "{Write|Use} {capital letters|small letters} {for|in} {names|places} {only|just} {when|if} it {looks|sounds} good.",
)
# What an attempt did that was wrong or right.
WRONG = {
    "user": "it {took|used} the {advice|suggestion} of the assistant",
    "assistant": "it {took|used} what the user did",
    "preference": "it {took|used} what is never {welcome|wanted}",
    "count": "it {stopped at|counted only} the first {mention|item}",
    "combine": "it {gave|named} only one {thing|item}",
    "update": "it {took|used} an older {version|memory}",
    "order": "it {took|used} a later {memory|thing}",
    "difference": "it {gave|named} a date",
    "absent": "it was guessing",
}
RIGHT = {
    "user": "it {took|used} the {words|lines} of the user",
    "assistant": "it {took|used} the {words|lines} of the assistant",
    "preference": "it {took|used} what is always {welcome|wanted}",
    "count": "it counted every {mention|item}",
    "combine": "it {gave|named} all {things|items}",
    "update": "it {took|used} the newest {version|memory}",
    "order": "it {took|used} the earliest {memory|thing}",
    "difference": "it subtracted the dates",
    "absent": "it admitted that nothing is known",
}
HELD_OUT = 5  # one sentence in so many is kept for checks
_SLOT = re.compile(r"\{([^{}]*)\}")


def say(rng: random.Random, grammar: str) -> str:
    """One sentence of a grammar."""
    return _SLOT.sub(lambda m: rng.choice(m.group(1).split("|")), grammar)


def held_out(sentence: str) -> bool:
    """True for a sentence that is never trained on."""
    return zlib.crc32(sentence.encode()) % HELD_OUT == 0


def guideline(rng: random.Random, kind: str | None, *, fresh: bool = False) -> str:
    """A guideline for a kind of case, or (None) one that helps with none. `fresh`: one that is never trained on."""
    grammars = IRRELEVANT if kind is None else GUIDELINES[kind]
    while True:
        sentence = say(rng, rng.choice(grammars))
        if held_out(sentence) == fresh:
            return sentence


def review(rng: random.Random, kind: str, correct: bool) -> str:
    """A review of one attempt at a case of a kind."""
    told = say(rng, (RIGHT if correct else WRONG)[kind])
    return say(
        rng,
        ("{This|The attempt} {is|was} right because " if correct else "{This|The attempt} {is|was} wrong because ")
        + told
        + ".",
    )


def words() -> set[str]:
    """Every text that the grammars can say a part of, for the vocabulary."""
    return {
        *(choice for group in GUIDELINES.values() for g in group for choice in _parts(g)),
        *(choice for g in IRRELEVANT for choice in _parts(g)),
        *(choice for d in (WRONG, RIGHT) for g in d.values() for choice in _parts(g)),
        "This The attempt is was right wrong because .",
    }


def _parts(grammar: str) -> list[str]:
    return [_SLOT.sub(" ", grammar), *(c for m in _SLOT.finditer(grammar) for c in m.group(1).split("|"))]

"""The words and patterns of `verdict_reader`: what a verdict, a label, a hedge and a quotation look like in a clause.

Nothing flows in or out: constants only. The patterns see a clause: lower-case words with one space between, without
punctuation but apostrophes, slashes and hyphens inside words. Repetitions are bounded, so each is linear in the clause.
"""

from __future__ import annotations

import re

YES_WORDS = ("yes", "yeah", "yep", "yup")
NO_WORDS = ("no", "nope")
GOOD_WORDS = ("correct", "right", "true", "accurate")
BAD_WORDS = ("incorrect", "wrong", "false", "inaccurate")

_YES, _NO = "|".join(YES_WORDS), "|".join(NO_WORDS)
_JUDGES = "|".join((*GOOD_WORDS, *BAD_WORDS))
_ANY = f"{_YES}|{_NO}|{_JUDGES}"

# Words that may lead into a verdict without changing it.
_LEADING = (
    r"so|thus|therefore|hence|and|but|then|however|overall|finally|ultimately|consequently|accordingly|actually|well|ok"
    r"|okay|wait|hmm|sure|in conclusion|in summary|in short|to conclude|as a result|i conclude that|i conclude|here is"
    r"|here's|final|i think|i believe|i would say|i'd say|i would answer|clearly|definitely|absolutely|simply|certainly"
)
_LEAD = rf"(?:(?:{_LEADING}) ){{0,4}}"
_OWN = r"(?:(?:the|my|a|your|final|overall|short|evaluation|binary|one-word|yes/no) ){0,4}"
_RULING = r"(?:verdict|answer|judge?ment|decision|conclusion|evaluation|result|label|assessment|ruling)"
_SUBJECT = (
    r"(?:(?:the|this|that|its|my|model|model's|assistant|assistant's|ai's|system's|given|provided|generated|predicted|final"
    r"|above|whole) ){0,4}(?:response|answer|prediction|reply|model|assistant|output)"
)
_ADVERB = r"therefore|thus|hence|clearly|also|indeed|definitely|completely|entirely|fully|absolutely|factually|still"
_IS = (
    r"(?P<is>is|was|isn't|wasn't|(?:can|should|must) (?:not )?be|(?:cannot|can't|shouldn't) be) "
    rf"(?:(?:{_ADVERB}) ){{0,2}}(?P<not>not )?"
    r"(?:(?:considered|deemed|judged|marked|counted|regarded|graded|rated) (?:as )?)?"
)
_WHY = r"(?: (?:because|since|as)\b.*)?"

# --- clauses that are verdicts ----------------------------------------------------------------------------------------

LONE = re.compile(rf"{_LEAD}(?P<not>not )?(?P<value>{_ANY}){_WHY}")
# `No the response ...` is a verdict; `no mention of it` and `no longer` are not.
_AFTER_NO = r"the|this|that|it|its|it's|because|since|as|i|there|they|he|she|you|we|although|though|but|and"
_NOT_AFTER_YES = r"or|partially|partly|mostly|somewhat|probably|maybe|perhaps"
OPENS = re.compile(
    rf"{_LEAD}(?:(?P<yes>{_YES})(?! (?:{_NOT_AFTER_YES})\b)(?: .*)?|(?P<no>{_NO})(?: (?:{_AFTER_NO})\b.*)?)"
)
DECLARES = re.compile(
    rf"{_LEAD}{_OWN}{_RULING} (?:(?:is|would be|must be|should be) )?(?P<not>not )?(?P<value>{_ANY}){_WHY}"
)
# What may as well be the truth being told: `The answer is yes, and the response says no`.
BARE_ANSWER = re.compile(rf"(?:the )?answer (?:(?:is|would be) )?(?:{_YES}|{_NO})\b")
ENDS = re.compile(rf"\b(?:so|thus|therefore|hence) (?:{_OWN}{_RULING} (?:is|would be) )?(?P<value>{_YES}|{_NO})$")
CONSEQUENCE = re.compile(r"(?:and )?(?:so|thus|therefore|hence)\b")
STATES = re.compile(rf"{_LEAD}(?:(?:{_YES}|{_NO}) )?(?:that )?{_SUBJECT} {_IS}(?P<value>{_JUDGES}){_WHY}")
STATES_WEAKLY = re.compile(
    rf"{_LEAD}(?:(?:it|this|that) {_IS}|(?:it's|that's) (?P<not2>not )?)(?P<value>{_JUDGES}){_WHY}"
)

# --- clauses that say how to take others ------------------------------------------------------------------------------

LABEL = re.compile(
    rf"{_LEAD}{_OWN}(?:{_RULING}|grade|grading|rating|status|correctness|final|yes/no|yes or no|true/false"
    r"|correct/incorrect|(?:is )?(?:the |this )?(?:response |answer |it )?(?:correct|accurate))"
    r"(?: (?:is|would be))?(?: that)?"
)
FILLER = re.compile(rf"(?:(?:{_LEADING}|\d{{1,3}}) ){{1,9}}")
CONDITION = re.compile(rf"{_LEAD}(?:if|unless|suppose|supposing|assuming|according to)\b")
REPORTS = re.compile(
    r"\b(?:says?|said|states?|stated|answers|answered|repl(?:ies|ied)|claims?|claimed|responds|responded|asks?|asked|reads)$"
)
ADVERSE = re.compile(r"(?:but|however|although|though|except|yet)\b")
ASKS_WHETHER_RIGHT = re.compile(
    r"\b(?:correct|right|true|accurate|yes or no|yes/no|contains?|match(?:es)?|convey|agree|acceptable|equivalent"
    r"|answer)\b"
)
NEGATIVE = re.compile(r"\b(?:not|incorrect|wrong|false|errors?|mistakes?)\b|n't\b|contradict")

# --- clauses that take a verdict back ---------------------------------------------------------------------------------

_JOIN = r"(?:(?:and|or|but|also) ){0,2}"
_BOTH = rf"{_LEAD}(?:(?:{_YES}) {_JOIN}(?:{_NO})|(?:{_NO}) {_JOIN}(?:{_YES}))\b"
HEDGE = re.compile(
    rf"{_LEAD}(?:only )?(?:partially|partly|maybe|perhaps|possibly|probably|mostly|somewhat|likely|unsure|uncertain"
    r"|unclear|not sure|not certain|not entirely|not fully|not completely|in part|sort of|kind of|it depends"
    rf"|hard to say)(?: (?:{_ANY}))?"
)
_UNABLE = (
    rf"{_LEAD}(?:(?:i'm|i am) (?:unable to|not able to|not (?:entirely |fully )?(?:sure|certain)|unsure|uncertain)"
    r"|i (?:can't|cannot|can not|could not|couldn't) (?:really |confidently |reliably )?"
    r"(?:be (?:sure|certain)|determine|tell|decide|judge|say|evaluate|assess|verify|confirm|help|assist|comply|provide"
    r"|answer))\b"
)
TAKEN_BACK = re.compile(f"{_BOTH}|{_UNABLE}")

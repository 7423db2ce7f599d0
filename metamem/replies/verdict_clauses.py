"""Cuts a judge's reply into sentences and clauses for `verdict_reader`.

In: a reply without reasoning and JSON. Out: `sentences`, each a row of clauses: lower-case words with the separators
around them, markup removed and quotations of several words left out. Decides nothing about verdicts; linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Full-width forms and typographic quotes as their ASCII counterparts; characters without width vanish.
_PLAIN: dict[int, int | str | None] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "‘’ʼ"), "'"),
    **dict.fromkeys(map(ord, "“”„«»「」"), '"'),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"), None),
    ord("、"): ", ",
}
_FORMAT_TAG = re.compile(r"</?(?:b|strong|i|em|u|p|br|span|div|code|mark) ?/?>", re.IGNORECASE)
_OPENING_TAG, _CLOSING_TAG = re.compile(r"<(\w{1,30})>"), re.compile(r"</\w{1,30}>|<\|\w{1,30}\|>")
_BOXED, _LATEX = re.compile(r"\\f?box(?:ed)?\b"), re.compile(r"\\(?:text\w{0,4}|math\w{0,4})\b")
_QUOTED = re.compile(r'"[^"\n]*"')
_COLON_AT_LINE_END = re.compile(r":[\s*_`]*\n")
# A full stop inside a number, a name or an abbreviation ends nothing.
_SENTENCE_END = re.compile(r"[!?…。;\n]+|\.(?=[\s\"')*_`\]]|$|[A-Z])")
_SEPARATOR = re.compile(r"[,:=()|–—]|(?<=\s)-|-(?=\s)|^-")
_WORD = re.compile(r"[^\W_]+(?:['/-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Clause:
    """Words in lower case with one space between, and the separators before and after (empty at a sentence's ends)."""

    words: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence or line: at least one clause, and whether it ends as a question."""

    clauses: tuple[Clause, ...]
    is_question: bool


def sentences(text: str) -> list[Sentence]:
    """The sentences and lines of `text` that hold any words."""
    text = _plain_text(text)
    found = []
    start = 0
    for end in [*_SENTENCE_END.finditer(text), None]:
        clauses = _clauses(text[start : end.start() if end else len(text)].casefold())
        if clauses:
            found.append(Sentence(clauses, end is not None and "?" in end[0]))
        start = end.end() if end else len(text)
    return found


def _plain_text(text: str) -> str:
    """Markup made plain: boxes, braces and tags become labels and line breaks, quotations of several words vanish."""
    text = text.translate(_PLAIN)
    text = _FORMAT_TAG.sub("", text)
    text = _CLOSING_TAG.sub("\n", _OPENING_TAG.sub(r"\n\1: ", text))
    text = _BOXED.sub("\nverdict: ", text)
    text = _LATEX.sub("", text).translate({ord("{"): "\n", ord("}"): "\n"})
    bare = text.strip(" \n\t*_`")
    if bare.count('"') == 2 and bare[0] == bare[-1] == '"':
        text = bare[1:-1]
    text = _QUOTED.sub(lambda q: " " if len(_WORD.findall(q[0])) > 1 else q[0].replace('"', " "), text)
    return _COLON_AT_LINE_END.sub(": ", text)


def _clauses(sentence: str) -> tuple[Clause, ...]:
    pieces: list[tuple[str, str]] = []
    before, start = "", 0
    for separator in [*_SEPARATOR.finditer(sentence), None]:
        words = " ".join(_WORD.findall(sentence[start : separator.start() if separator else len(sentence)]))
        if words:
            pieces.append((before, words))
            before = ""
        if separator:
            # Between two clauses a colon outweighs what stands beside it, such as a bracket.
            before = ":" if before == ":" or separator[0] in ":=" else separator[0]
            start = separator.end()
    afters = [following for following, _ in pieces[1:]] + [before]
    return tuple(Clause(words, before, after) for (before, words), after in zip(pieces, afters, strict=False))

"""What a template hopes for, as a reply to a prompt that was made of it: for the stand-in of a model, and for tests.

In: the messages of a prompt. Out: the template that they were made of, told by their sections, and its block `example`
rendered. In its reach are what the prompt's sections hold, the tools that the request offers, and chance:

    text("question"), lines("memories"), has("core")    a section whole, its entries (`id`, `text`), whether it is there
    lines("reviews", after="Lesson: ")                  the entries that begin so, without that
    chance(0.3), pick(lines("memories"))                true that often; one entry, without any an empty one
    call("insert", "semantic", text, id)                a call of the tool whose name has that word, empty without one
    tools, turn, max_tokens                             names of the tools; replies given before; the longest reply
    line | words(20)                                    the first words, on one line; for -20 the last
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from metamem.core.calls import Message
from metamem.core.errors import ConfigError
from metamem.prompts.catalog import Template, every_template

if TYPE_CHECKING:
    import jinja2

_MARK = re.compile(r"\n\[([A-Za-z]?\d{1,6})\] ?")
_OPENED = re.compile(r"<([^<>\n]+)>\n")
_TOOL = '{"function":{'


class SectionLine(NamedTuple):
    """One entry of a section; `id` is what stands before it in brackets, empty where nothing does."""

    id: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class FoundTemplate:
    """The messages up to the one that was made of a template, and how many replies were given since."""

    template: Template
    messages: tuple[Message, ...]
    turn: int


def find_template(messages: Sequence[Message]) -> FoundTemplate | None:
    """The template of the last message that was made of one with an example; None without any.

    A message without sections of its own (a request to repair a reply) continues what was asked before it.
    """
    around = "\n".join(m.content for m in messages if m.role == "system")
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role == "user" and (template := _made_of(f"{around}\n{messages[place].content}\n")):
            turn = sum(m.role == "assistant" for m in messages[place:])
            return FoundTemplate(template, tuple(messages), turn)
    return None


def _made_of(text: str) -> Template | None:
    """The template with most sections, of those whose sections the text has; among equals the one with most lines."""
    candidates, tags = _candidates(every_template())
    there = tags.intersection(_OPENED.findall(text))
    fitting = [t for t in candidates if t.needed and t.needed <= there]
    if not fitting:
        fitting = [t for t in candidates if not t.needed and _lines_in(t, text) == len(t.lines) > 0]
    most = max((len(t.sections & there) for t in fitting), default=0)
    best = [t for t in fitting if len(t.sections & there) == most]
    if len({t.example for t in best}) > 1:
        return max(best, key=lambda t: _lines_in(t, text))
    return best[0] if best else None


@cache
def _candidates(templates: tuple[Template, ...]) -> tuple[list[Template], frozenset[str]]:
    """The templates with an example, and all their sections."""
    candidates = [template for template in templates if template.example]
    return candidates, frozenset(tag for template in candidates for tag in template.sections)


def _lines_in(template: Template, text: str) -> int:
    return sum(f"\n{line}\n" in text for line in template.lines)


def render_example(
    asked: FoundTemplate, rng: random.Random, tools: Sequence[Mapping[str, Any]] = (), max_tokens: int = 4096
) -> str:
    """The example of a template, for a prompt that was made of it. Raises `ConfigError` for one that is no Jinja."""
    import jinja2

    reach = _Reach(asked.messages, tools, rng)
    values = {
        "text": reach.text,
        "lines": reach.lines,
        "has": lambda tag: reach.section(tag) is not None,
        "chance": lambda share: rng.random() < share,
        "pick": lambda lines: rng.choice(lines) if lines else SectionLine("", ""),
        "call": reach.call,
        "tools": list(reach.tools),
        "turn": asked.turn,
        "max_tokens": max_tokens,
    }
    try:
        return _compiled(asked.template.example).render(values).strip()
    except jinja2.TemplateError as error:
        raise ConfigError(f"the example of the template {asked.template.path}: {error}") from error


@cache
def _compiled(source: str) -> jinja2.Template:
    import jinja2

    # A reply is what a model writes: nothing in it is neutralised, but in the next prompt that shows it.
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        extensions=["jinja2.ext.do"],
    )
    environment.filters["words"] = _words
    return environment.from_string(source)


def _words(text: object, most: int | None = None) -> str:
    words = str(text).split()
    return " ".join(words[most:] if most is not None and most < 0 else words[:most])


@lru_cache(maxsize=32)
def _entries(section: str) -> tuple[SectionLine, ...]:
    # The same fragments stand in many prompts.
    text = f"\n{section}"
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(text):
        # An entry's own text may have lines that begin so: marks are of one kind, and numbers count up.
        last = marks[-1][1] if marks else ""
        if not marks or (
            int(mark[1]) == int(last) + 1 if mark[1].isdigit() and last.isdigit() else mark[1][0] == last[0]
        ):
            marks.append(mark)
    if not marks:
        return tuple(SectionLine("", line) for line in section.split("\n") if line.strip())
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return tuple(SectionLine(m[1], text[m.end() : end].strip()) for m, end in zip(marks, ends, strict=True))


def _tools_in(text: str) -> Iterator[Mapping[str, Any]]:
    """The tools that stand in a prompt, each on a line of its own."""
    for line in text.split("\n") if _TOOL in text else ():
        if line.startswith(_TOOL):
            try:
                tool = json.loads(line)
            except ValueError:
                continue  # a line of the data that only begins so
            if isinstance(tool["function"].get("name"), str):
                yield tool


class _Reach:
    """What an example may use of a prompt."""

    def __init__(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], rng: random.Random) -> None:
        # What a model has said is not neutralised: its tags open no section.
        self._texts = [m.content for m in messages if m.role != "assistant"]
        self._rng = rng
        written = [tool for text in self._texts for tool in _tools_in(text)]
        self.tools: dict[str, Mapping[str, Any]] = {
            t["function"]["name"]: t["function"].get("parameters") or {} for t in (*tools, *written)
        }

    def section(self, tag: str) -> str | None:
        for text in self._texts:
            start = text.find(f"<{tag}>\n")
            if start >= 0 and (end := text.find(f"</{tag}>", start)) >= 0:
                return text[start + len(tag) + 3 : end].strip("\n")
        return None

    def text(self, tag: str) -> str:
        return self.section(tag) or ""

    def lines(self, tag: str = "", after: str = "") -> list[SectionLine]:
        """The entries of a section, or the lines of the last message."""
        found = _entries(self.text(tag) if tag else self._texts[-1])
        if not after:
            return list(found)
        return [SectionLine(line.id, line.text.removeprefix(after)) for line in found if line.text.startswith(after)]

    def call(self, word: str, choice: str = "", text: str = "", id: str = "") -> str:
        """A call in the Hermes form. Of arguments with choices, those that begin with `choice` are taken, or by chance;
        `text` goes to those that must be there, `id` to those that may.
        """
        name = next((name for name in self.tools if word in name), None)
        if name is None:
            return ""
        arguments: dict[str, Any] = {}
        required = self.tools[name].get("required") or ()
        for argument, schema in (self.tools[name].get("properties") or {}).items():
            if choices := schema.get("enum"):
                if choice or argument in required:
                    given = next((c for c in choices if choice and str(c).startswith(choice)), None)
                    arguments[argument] = given if given is not None else self._rng.choice(choices)
            elif argument in required:
                arguments[argument] = text
            elif id and schema.get("type") == "string":
                arguments[argument] = id
        return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"

"""How the simulated backbone writes memories: Mem-α's calls of tools, and notes that replace each other.

In: the prompt's messages and the tools. Out: replies as an LLM would write them, from the text of the chunk alone:
lines that someone says become events, other sentences facts; a fact about something that an item shown tells of
replaces that item. No language model, so nothing is understood.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from metamem.core.calls import Message

_ITEM = re.compile(r"\[([a-z]\d+)\] (.*)")
_SAID = re.compile(r"([A-Za-z][\w .'-]{0,40}): (.+)")
_NUMBERED = re.compile(r"(\d+)\. (.+)")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2} \([A-Z][a-z]{2}\) \d{2}:\d{2}")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+")
_WORDS = re.compile(r"\w+")
# What separates the thing told about from what is told: "The capital of Peru | is Lima".
_PREDICATE = re.compile(r" (?:is|was|are|were|has|plays|died|worked|works|lives|lived|likes|speaks)\b")
_SELF = re.compile(r"\b(?:I am|I'm|my name is|I work|I live)\b", re.IGNORECASE)
_FEWEST_WORDS = 4
_CORE_WORDS = 120
_HEADING_WORDS = 6


def memorise(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], sampled: bool, rng: random.Random) -> str:
    """Calls that write the prompt's chunk down; sampled replies leave some out."""
    prompt = messages[-1].content
    shown = {part: _items(prompt, part) for part in ("semantic", "episodic")}
    properties = {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in offered(messages, tools)}
    published = "memory_update" in properties
    lists = next((_choices(p) for name, p in properties.items() if name.endswith("insert")), [])
    core = any(choice.startswith("core") for p in properties.values() for choice in _choices(p))
    made: list[tuple[str, str, str, str]] = []
    subjects = {_subject(text): id for id, text in shown["semantic"]}
    told = {text for items in shown.values() for _, text in items}
    about: list[str] = []
    for kind, text in _things(_section(prompt, "chunk")):
        if kind == "episodic" and _SELF.search(text):
            about.append(text)
        part = next((p for p in (kind, "semantic", "episodic") if any(c.startswith(p) for c in lists)), None)
        if part is None or text in told:
            continue
        told.add(text)
        known = subjects.get(_subject(text)) if part == "semantic" else None
        if known:
            made.append(("update", part, known, text))
        else:
            made.append(("insert", part, "", text))
    before = _section(prompt, "core")
    paragraph = " ".join([before, *(a for a in about if a not in before)]).split()[:_CORE_WORDS]
    if core and about and " ".join(paragraph) != before:
        made.append(("update", "core", "", " ".join(paragraph)))
    share = rng.uniform(0.3, 1.0) if sampled else 1.0
    kept = [call for call in made if rng.random() <= share]
    return "\n".join(_written(call, published) for call in kept) or "Nothing in this piece is worth keeping."


def overwrite(messages: Sequence[Message], limit: int) -> str:
    """The notes and the chunk's sentences that share most words with the task, as many as fit, in their order."""
    prompt = messages[-1].content
    wanted = {w for w in _WORDS.findall(_section(prompt, "task").lower()) if len(w) > 3}
    lines = [*_section(prompt, "notes").split("\n"), *(text for _, text in _things(_section(prompt, "chunk")))]
    lines = list(dict.fromkeys(line for line in lines if line.strip()))
    shared = [len(wanted & set(_WORDS.findall(line.lower()))) for line in lines]
    # The best first, and among equals the latest, since later statements count.
    order = sorted(range(len(lines)), key=lambda i: (-shared[i], -i))
    left, chosen = limit, []
    for i in order:
        left -= len(lines[i].split()) + 1
        if left < 0:
            break
        chosen.append(i)
    return "\n".join(lines[i] for i in sorted(chosen))


def fits(messages: Sequence[Message]) -> bool:
    """Whether a text suits the part it was written to: events are dated or said by someone, facts are not."""
    prompt = messages[-1].content
    event = any(_DATED.search(line) or _SAID.fullmatch(line) for line in _section(prompt, "written").split("\n"))
    return "to the part core" in prompt or event == ("to the part episodic" in prompt)


def garbled(text: str, rng: random.Random) -> str:
    """Calls of which the last is cut off; a reply without calls stays as it is."""
    start = text.rfind("{", 0, text.rfind('"arguments"') + 1)
    return text if start < 0 else text[: rng.randint(start + 1, max(start + 1, len(text) - len("}}\n</tool_call>")))]


def offered(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The tools of a request, and those that stand in a prompt, each on a line of its own."""
    lines = [line for m in messages for line in m.content.split("\n") if line.startswith('{"function":{')]
    return [*tools, *(json.loads(line) for line in lines)]


def _things(chunk: str) -> list[tuple[str, str]]:
    """What the chunk tells, each with the part it suits: events are what someone says, with the date of the heading."""
    found = []
    date = ""
    for line in chunk.split("\n"):
        line = line.strip()
        if (heading := _DATED.search(line)) and len(line.split()) <= _HEADING_WORDS:
            date = heading[0]
            continue
        if numbered := _NUMBERED.fullmatch(line):
            found.append(("semantic", f"{numbered[1]}. {numbered[2]}"))
        elif said := _SAID.fullmatch(line):
            if said[1] == "assistant":
                continue
            for sentence in _sentences(said[2]):
                found.append(("episodic", f"{date + ' ' if date else ''}{said[1]}: {sentence}"))
        else:
            found += [("semantic", sentence) for sentence in _sentences(line)]
    return found


def _sentences(text: str) -> list[str]:
    sentences = (s.strip() for s in _SENTENCE_ENDS.split(text))
    return [s for s in sentences if len(s.split()) >= _FEWEST_WORDS and not s.endswith("?")]


def _subject(text: str) -> str:
    bare = _NUMBERED.sub(r"\2", text)
    return _PREDICATE.split(bare, maxsplit=1)[0] if _PREDICATE.search(bare) else bare


def _items(prompt: str, part: str) -> list[tuple[str, str]]:
    return [(m[1], m[2]) for line in _section(prompt, part).split("\n") if (m := _ITEM.fullmatch(line))]


def _section(prompt: str, tag: str) -> str:
    start, end = prompt.find(f"<{tag}>"), prompt.find(f"</{tag}>")
    return prompt[start + len(tag) + 2 : end].strip("\n") if 0 <= start < end else ""


def _choices(properties: Mapping[str, Any]) -> list[str]:
    return next((p["enum"] for p in properties.values() if "enum" in p), [])


def _written(call: tuple[str, str, str, str], published: bool) -> str:
    operation, part, id, text = call
    if published:
        name = {"insert": "new_memory_insert", "update": "memory_update"}[operation]
        content = "content" if operation == "insert" else "new_content"
        arguments = {"memory_type": f"{part}_memory", content: text, **({"memory_id": id} if id else {})}
    else:
        name, arguments = operation, {"memory": part, "content": text, **({"id": id} if id else {})}
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"

"""`arcmemo`: typed concepts out of solved questions, merged by name; a model chooses those that a question needs.

In: judged answers. Out: a meta-memory of concepts, and the recall `arcmemo`: the model that answers is shown what
concepts there are and by what one knows that they apply, and names those to be put into the prompt.

Source: ArcMemo (arXiv 2509.04439; matt-seb-ho/arc_memo, its program-synthesis memory): a concept has a name, a kind
(structure or routine), a description, parameters, cues and notes on how it is done; one of a known name is merged:
the first kind and description stay, parameters are replaced by name, cues and notes are added where they are new;
whoever abstracts sees the concepts there are. Faithful: all of that. Different: the trace is the answer itself,
abstracted by one call, where theirs becomes pseudocode first; names are compared without case; a routine's output
type is left out, there is no code; a concept that only this very question taught is not offered to it; without a
readable choice the nearest by their cues are shown. `nano` cannot do it: it seldom writes a concept that can be read,
a description without a name then, and it cannot choose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.calls import Failure, Generation
from metamem.core.contracts import Caller, Embedder
from metamem.core.learned import Bounds, ExpectedCalls, Judged, Laboratory, Position, Update
from metamem.core.meta_memory import LONGEST_TEXT, Action, Change, Guideline, MetaMemory, Operation, Refusal, apply
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import told
from metamem.optimizers.attempts import attempt_all, beginning
from metamem.optimizers.batched import Scheduled
from metamem.optimizers.cases import case_of, usable
from metamem.prompts.templates import Prompts
from metamem.recall.asking import ask
from metamem.recall.embedding import Comparing
from metamem.replies.json_in_text import UnreadableError, read_json

KINDS = ("structure", "routine")
_SHORT, _LONG = 80, 300  # characters of a name or cue, and of a description


@register("optimizer", "arcmemo")
class ArcMemo(Scheduled):
    """ArcMemo: concepts with cues and parameters, abstracted from right answers and merged by name."""

    prompts = ("arcmemo_concepts", "repair")
    recall = "arcmemo"

    @dataclass
    class Config:
        """The schedule, and how much a solved question teaches."""

        epochs: int = option(1, "passes over the training part", least=0)
        batch_size: int = option(10, "questions per step", least=1)
        concepts: int = option(3, "concepts taken of one question at most", least=1)
        tokens: int = option(2048, "new tokens per abstraction at most", least=1)

    config: Config

    def plan(self, batch: Sequence[Question]) -> Bounds:
        """Return that each question is answered, and what was right abstracted."""
        count = len(batch)
        return Bounds(count, (ExpectedCalls("arcmemo_concepts", 0, count / 2, 2 * count, self.config.tokens),))

    async def step(self, at: Position, batch: Sequence[Question], laboratory: Laboratory) -> Update:
        """Answer a batch, abstract what was right, and merge it in the order of ids."""
        judged = await attempt_all(batch, at.meta_memory, laboratory)
        solved = [one for one in judged if (found := usable(one)) and found[0][1].correct]
        read = await asyncio.gather(*(self._abstract(one, at.meta_memory, laboratory) for one in solved))
        memory, changes, refused = at.meta_memory, list[Change](), list[Refusal]()
        for one, concepts in zip(solved, read, strict=True):
            for concept in concepts:
                memory, operation = _merged(memory, concept, one.question)
                memory, changed, not_taken = apply(memory, [operation] if operation else [], laboratory.step)
                changes += changed
                refused += not_taken
        counts = {"solved": len(solved), "concepts": sum(map(len, read)), "nothing_read": sum(not c for c in read)}
        return Update(memory, at.state, tuple(changes), tuple(refused), counts)

    async def _abstract(self, judged: Judged, memory: MetaMemory, laboratory: Laboratory) -> list[dict[str, Any]]:
        found = await laboratory.read(
            "arcmemo_concepts",
            self.config.tokens,
            read_concepts,
            **case_of(judged),
            attempt=told(usable(judged)[0][0]),
            concepts=[offered(g) for g in memory.guidelines],
            most=self.config.concepts,
        )
        return (found.value or [])[: self.config.concepts]


def read_concepts(reply: Generation) -> list[dict[str, Any]]:
    """Return the concepts of a reply; one without a name is named by its text. Raises `UnreadableError`."""
    value, _ = read_json(reply.text)
    items = value if isinstance(value, list) else value.get("concepts", [value])
    made = []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, Mapping):
            continue
        text = beginning(str(item.get("description") or item.get("text") or ""), _LONG)
        name = beginning(str(item.get("name") or item.get("concept") or text), _SHORT)
        if not any(c.isalnum() for c in name):
            continue
        kind = str(item.get("kind") or "").strip().casefold()
        parameters = [p if isinstance(p, Mapping) else {"name": p} for p in _list(item.get("parameters"))]
        made.append(
            {
                "name": name,
                "kind": kind if kind in KINDS else KINDS[1],
                "description": text,
                "parameters": [
                    {k: beginning(str(p.get(k) or ""), _SHORT) for k in ("name", "type", "description")}
                    for p in parameters
                    if p.get("name")
                ],
                "cues": [beginning(str(c), _SHORT) for c in _list(item.get("cues"))],
                "notes": [beginning(str(n), _SHORT) for n in _list(item.get("notes"))],
            }
        )
    if items and not made:
        raise UnreadableError('no item has a "name"')
    return made


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return a concept with what another one of its name adds."""
    parameters = {p["name"]: p for p in (*old["parameters"], *new["parameters"])}
    return {
        "name": old["name"],
        "kind": old["kind"],
        "description": old["description"] or new["description"],
        "parameters": list(parameters.values()),
        "cues": list(dict.fromkeys((*old["cues"], *new["cues"]))),
        "notes": list(dict.fromkeys((*old["notes"], *new["notes"]))),
    }


def _merged(memory: MetaMemory, concept: Mapping[str, Any], question: Question) -> tuple[MetaMemory, Operation | None]:
    """Return what adds a concept or merges it into that of its name; one that says nothing new only gains support."""
    known = next((g for g in memory.guidelines if g.about["name"].casefold() == concept["name"].casefold()), None)
    if known is None:
        return memory, Operation(Action.add, None, rendered(concept), (question.id,), concept)
    merged = merge(known.about, concept)
    if rendered(merged) != known.text:
        return memory, Operation(Action.update, known.id, rendered(merged), (question.id,), merged)
    behind = tuple(dict.fromkeys((*known.support, question.id)))
    kept = (replace(g, support=behind, about=merged) if g.id == known.id else g for g in memory.guidelines)
    return replace(memory, guidelines=tuple(kept)), None


def rendered(concept: Mapping[str, Any]) -> str:
    """Return a concept as prompts show it."""
    said = concept["description"]
    parts = [f"{concept['name']} ({concept['kind']})" + (f": {said}" if said not in ("", concept["name"]) else "")]
    specified = [
        "".join((p["name"], p["type"] and f" ({p['type']})", p["description"] and f" = {p['description']}"))
        for p in concept["parameters"]
    ]
    for title, values in (("Parameters", specified), ("Cues", concept["cues"]), ("How", concept["notes"])):
        if values:
            parts.append(f"{title}: {'; '.join(values)}")
    return beginning(" | ".join(parts), LONGEST_TEXT - 2)


def offered(concept: Guideline) -> dict[str, Any]:
    """Return a concept as it is offered for a choice."""
    return {"id": concept.id, **{k: concept.about[k] for k in ("name", "kind", "description", "cues")}}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


@register("recall", "arcmemo")
class Chosen(Comparing):
    """Show the concepts that the answering model names for a question."""

    prompts = ("arcmemo_select",)

    @dataclass
    class Config:
        """How many."""

        k: int = option(5, "concepts shown per question at most", least=1)
        tokens: int = option(1024, "new tokens per choice at most", least=1)

    def __init__(self, config: Config, *, embedder: Embedder, prompts: Prompts, caller: Caller | None = None) -> None:
        super().__init__(config, embedder=embedder)
        self.config: Chosen.Config = config
        self._prompts, self._caller = prompts, caller

    async def shown(self, meta_memory: MetaMemory, question: Question) -> Sequence[Guideline]:
        """Return the concepts that were named, in that order; without a readable choice the nearest by their cues."""
        held = [g for g in meta_memory.guidelines if set(g.support) != {question.id}]
        if not held:
            return ()
        values = {"question": question.text, "concepts": [offered(g) for g in held], "most": self.config.k}
        reply = await ask(self._caller, self._prompts, "arcmemo_select", question.id, self.config.tokens, **values)
        named = None if isinstance(reply, Failure) else _choice(reply)
        if named is not None:
            by_name = {key: g for g in held for key in (g.id.casefold(), g.about["name"].casefold())}
            return list({by_name[n].id: by_name[n] for n in named if n in by_name}.values())[: self.config.k]
        keys = ["; ".join(g.about["cues"]) or g.text for g in held]
        scores = await asyncio.to_thread(self._similarity, question.text, keys)
        order = sorted(range(len(held)), key=lambda i: (-scores[i], i))
        return [held[i] for i in order[: self.config.k]]


def _choice(reply: Generation) -> list[str] | None:
    """Return the names in a reply; None where it holds no choice."""
    try:
        value, _ = read_json(reply.text)
    except UnreadableError:
        return None
    named = value.get("concepts") if isinstance(value, Mapping) else None
    return [str(n).strip(" []").casefold() for n in named] if isinstance(named, list) else None

"""Answers in several turns: the policy may search the question's memory before it answers, within a budget.

In: the prompt of a question, and the first reply to it. Out: `Answered`: the reply that answers, what all replies took
together, and every call with what came of it. A call that is malformed or refused gets a reply that says why and takes
from the budget like any other, so that the loop ends; once the budget is spent, the tool is gone and the policy is told
to answer. Each turn is a call of its own in the journal: its prompt holds the turns before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.calls import Draw, Failure, Generation, Message, Request, Usage
from metamem.core.contracts import Caller, Reply
from metamem.core.json_form import canonical
from metamem.core.records import Evidence, Question, Search
from metamem.core.text import CUT_KIND, render_unit
from metamem.prompts.templates import Prompts
from metamem.replies.tool_calls import Call, Malformed, ToolsIn, as_text, read_calls
from metamem.retrieval.searching import RefusedSearch, Searcher

Tools = tuple[dict[str, Any], ...]

Fits = Callable[[tuple[Message, ...], Tools], bool]

FOUND, REFUSED, MALFORMED = "found", "refused", "malformed"


@dataclass(frozen=True)
class Answered:
    """The last reply to a question, what all of them took, and the searches between."""

    reply: Reply
    usage: Usage
    searches: tuple[Search, ...] = ()


@dataclass(frozen=True)
class AskedQuestion:
    """A question as it is asked: the request, and the units that its prompt shows."""

    question: Question
    request: Request
    shown: tuple[Evidence, ...]


class Searching:
    """Lets answers search: what stands in their prompts for it, and the turns that follow a first reply."""

    def __init__(self, searcher: Searcher, prompts: Prompts, fits: Fits) -> None:
        self._searcher = searcher
        self._prompts = prompts
        self._fits = fits

    def offer(
        self, messages: tuple[Message, ...], bank: MemoryBank | None, shown: Sequence[Evidence]
    ) -> tuple[tuple[Message, ...], Tools]:
        """A prompt with the offer to search, and the tools of its request; as it is where all is `shown` already."""
        options, tools = self._searcher.options, self._tools(bank, shown)
        if not tools:
            return messages, ()
        in_prompt = options.tools is ToolsIn.prompt
        (offer,) = self._prompts.render(
            "search", calls=options.calls, tools=[canonical(tool) for tool in tools] if in_prompt else []
        )
        *before, last = messages
        return (*before, replace(last, content=f"{last.content}\n\n{offer.content}")), () if in_prompt else tools

    async def follow(
        self, asked: AskedQuestion, bank: MemoryBank | None, first: Reply, draw: Draw, policy: Caller
    ) -> Answered:
        """Go on from the first reply until one calls nothing, or the budget is spent."""
        left = self._searcher.options.calls
        tools, shown = self._tools(bank, asked.shown), _whole(asked.shown)
        messages, offered, reply = asked.request.messages, asked.request.tools, first
        number, usage = len(asked.shown), Usage()
        searches: list[Search] = []
        turn = 0
        while True:
            if isinstance(reply.outcome, Failure):
                return Answered(reply, usage, tuple(searches))
            said = reply.outcome
            usage += said.usage
            calls = read_calls(said, tools) if left and tools else []
            if not calls or bank is None:
                return Answered(reply, usage, tuple(searches))
            made: list[Search] = []
            for call in calls:
                search = Search(turn, reply.key, REFUSED, _written(call), "no searches are left")
                known = shown.union(*(m.units for m in made))
                made.append(await self._made(search, call, bank, asked.question, known) if left else search)
                left = max(0, left - 1)
            turn += 1
            offered = offered if left else ()
            before = (*messages, Message("assistant", as_text(said)))
            messages, made = self._fitting(before, offered, made, number, left)
            searches += made
            shown = shown.union(*(search.units for search in made))
            number += sum(len(search.units) for search in made)
            request = Request(messages, asked.request.sampling, (Draw(f"{draw.scope}/{turn}", draw.index),))
            (reply,) = await policy(replace(request, tools=offered))

    def _tools(self, bank: MemoryBank | None, shown: Sequence[Evidence]) -> Tools:
        if bank is None or _whole(shown).issuperset(unit.id for unit in bank.units):
            return ()
        return self._searcher.tools(bank)

    async def _made(
        self, search: Search, call: Call | Malformed, bank: MemoryBank, question: Question, shown: frozenset[str]
    ) -> Search:
        if isinstance(call, Malformed):
            return replace(search, result=MALFORMED, reply=call.problem)
        try:
            found = await self._searcher.find(call, bank, question, shown)
        except RefusedSearch as refused:
            return replace(search, reply=str(refused))
        told = f"{len(found)} found" if found else "nothing found that is not shown already"
        units = tuple(e.unit.id for e in found)
        return replace(search, result=FOUND, reply=told, units=units, lines=tuple(render_unit(e.unit) for e in found))

    def _fitting(
        self, before: tuple[Message, ...], tools: Tools, made: list[Search], number: int, left: int
    ) -> tuple[tuple[Message, ...], list[Search]]:
        """The next prompt; where the model takes no more, without the last of what was found."""
        while True:
            messages = (*before, *self._results(made, number, left))
            longest = max(range(len(made)), key=lambda i: len(made[i].units))
            if not made[longest].units or self._fits(messages, tools):
                return messages, made
            search = made[longest]
            told = f"{len(search.units) - 1} shown, there is no room for more"
            made[longest] = replace(search, reply=told, units=search.units[:-1], lines=search.lines[:-1])

    def _results(self, made: Sequence[Search], number: int, left: int) -> tuple[Message, ...]:
        results = []
        for search in made:
            units = [{"number": number + i, "text": line} for i, line in enumerate(search.lines, 1)]
            number += len(units)
            results.append({"call": search.call, "reply": search.reply, "units": units})
        return self._prompts.render("search_results", results=results, left=left)


async def follow_all(
    searching: Searching | None, asked: AskedQuestion, bank: MemoryBank | None, replies: Sequence[Reply], policy: Caller
) -> list[Answered]:
    """What becomes of each first reply, in their order, all at once."""
    if searching is None:
        return [Answered(reply, _usage(reply)) for reply in replies]
    draws = asked.request.draws
    jobs = (searching.follow(asked, bank, reply, draw, policy) for reply, draw in zip(replies, draws, strict=True))
    return list(await asyncio.gather(*jobs))


def _whole(shown: Sequence[Evidence]) -> frozenset[str]:
    """Ids of the units that are shown; one that was cut for the budget may still be found whole."""
    return frozenset(e.unit.id for e in shown if not e.unit.kind.endswith(CUT_KIND))


def _usage(reply: Reply) -> Usage:
    return reply.outcome.usage if isinstance(reply.outcome, Generation) else Usage()


def _written(call: Call | Malformed) -> str:
    return call.raw if isinstance(call, Malformed) else canonical(dict(call.arguments))

"""A real local server whose replies are a function of (prompt, seed): the simulated backbone behind HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metamem.backbones.scripted import Scripted
from metamem.core.calls import Draw, Message, Request, Sampling
from metamem.core.registry import REGISTRY, load_components


@dataclass(frozen=True)
class SeededDraw(Draw):
    """A draw of which only the seed is known, as on a server."""

    given: int = 0

    @property
    def seed(self) -> int:
        """The seed that came with the request."""
        return self.given


def simulated_reply(**options: Any) -> Callable[[dict[str, Any]], str]:
    """`reply(body)` for `tests.server.Server`."""
    load_components()  # it replies from the templates that components bring
    backbone: Scripted = REGISTRY.build("backbone", {"name": "simulated", **options})

    def reply(body: dict[str, Any]) -> str:
        messages = tuple(Message(m["role"], m["content"]) for m in body["messages"])
        sampling = Sampling(temperature=float(body.get("temperature") or 0.0), max_tokens=4096)
        tools = tuple(body.get("tools") or ())
        request = Request(messages, sampling, (SeededDraw("", given=int(body.get("seed") or 0)),), tools=tools)
        coroutine = backbone.generate(request)
        try:
            coroutine.send(None)
        except StopIteration as done:
            return str(done.value[0].text)
        raise AssertionError("the simulated backbone waited")

    return reply

"""When the simulated backbone searches before it answers, and for what.

In: the messages of an answer prompt and the tools offered. Out: the calls as an LLM would write them, or nothing. It
searches once, in every list that it is offered, when no fragment holds most of what the question speaks of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from metamem.backbones.simulation.answering import asked_in, remembered
from metamem.backbones.simulation.matching import coverage
from metamem.backbones.simulation.writing import offered
from metamem.core.calls import Message

_COVERED = 0.9


def calls(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
    """The calls that search for what a question lacks; empty when it lacks nothing, or has searched."""
    properties = {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in offered(messages, tools)}
    if "search" not in properties or any(m.role == "assistant" for m in messages):
        return ""
    asked = asked_in(messages)
    if coverage(remembered(messages), list(asked.stems))[0] >= _COVERED:
        return ""
    lists = properties["search"].get("memory", {}).get("enum", [""])
    arguments = [{**({"memory": name} if name else {}), "query": asked.text} for name in lists]
    made = (json.dumps({"name": "search", "arguments": given}, ensure_ascii=False) for given in arguments)
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in made)

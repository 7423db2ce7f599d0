"""Where a thinking model's reasoning ends and its answer begins.

In: a reply as a model wrote it. Out: `split_reasoning`, the answer, the reasoning, and whether the reasoning was ended.
Backbones use it on every reply and the verdict reader on what it is given, so that both cut at the same place.
"""

from __future__ import annotations

import re

# The tags that public thinking models write around their reasoning (Qwen, DeepSeek and others `think`, some `thinking`,
# Mistral's `[THINK]`). Square brackets count in capitals only: `[think]` is ordinary prose.
_TAG = re.compile(r"<(?P<close>/?)(?i:think|thinking)>|\[(?P<close2>/?)THINK\]")


def split_reasoning(text: str) -> tuple[str, str, bool]:
    """`(answer, reasoning, finished)` of a reply; both texts are stripped of white space around them.

    A closing tag without an opening one ends reasoning that began with the reply (some chat templates open the tag in
    the prompt). An opening tag that is never closed leaves `finished` False; the answer is then what stood before it.
    Linear in the length of the text; never raises.
    """
    answer: list[str] = []
    reasoning: list[str] = []
    inside = False
    position = 0
    for tag in _TAG.finditer(text):
        piece = text[position : tag.start()]
        position = tag.end()
        closes = bool(tag["close"] or tag["close2"])
        if inside:
            reasoning.append(piece)
            inside = not closes
        elif closes:
            reasoning += [*answer, piece]
            answer = []
        else:
            answer.append(piece)
            inside = True
    (reasoning if inside else answer).append(text[position:])
    return "".join(answer).strip(), "\n".join(r.strip() for r in reasoning if r.strip()), not inside

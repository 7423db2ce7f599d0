"""Whether the prompts of the data fit into what a model takes, known before the first is answered.

In: the prompts' lengths in characters, and what measures one in tokens. Out: a sentence about those that are too long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metamem.core.errors import ConfigError

_LONGEST = 3  # prompts that are measured first


def check_prompts(characters: Mapping[str, int], measure: Callable[[str], int], room: int, context: int) -> str | None:
    """Compare the data's prompts with what a model takes beside a reply, the longest first.

    Returns a sentence when some are too long, None when none is.

    `characters` are the prompts' lengths by question, `measure` gives one's tokens. Raises `ConfigError` when all are
    too long.
    """
    order = sorted(characters, key=lambda i: (-characters[i], i))
    tokens = {i: measure(i) for i in order[:_LONGEST]}
    if not tokens or max(tokens.values()) <= room:
        return None
    tokens |= {i: measure(i) for i in order[_LONGEST:]}
    long = [i for i in order if tokens[i] > room]
    worst, least = max(order, key=lambda i: tokens[i]), min(order, key=lambda i: tokens[i])
    kept = f"{room:,} tokens fit: of a context of {context:,} (backbone.max_model_len) {context - room:,} are kept for "
    kept += "the reply (backbone.max_tokens)"
    fix = "raise backbone.max_model_len, set evidence.budget, or drop evidence where it does not fit "
    fix += "(backbone.on_overflow=drop_evidence)"
    if len(long) == len(order):
        raise ConfigError(
            f"backbone.max_model_len: every prompt of the data is too long for the policy. {kept}; the shortest, of "
            f"question {least}, has {tokens[least]:,}, the longest, of question {worst}, {tokens[worst]:,}. To mend "
            f"it, {fix}"
        )
    return (
        f"{len(long)} of {len(order)} prompts are too long for the policy: these attempts will fail. {kept}; the "
        f"longest, of question {worst}, has {tokens[worst]:,}. To mend it, {fix}"
    )

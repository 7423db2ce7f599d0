"""The model's own tokenizer: whole words of the world, the prompts and the grammars, and pieces of JSON.

In: nothing. Out: `build()`, a `tokenizers.Tokenizer`, and the files that go with it. Words are split by a pattern; a
word that is not known is `<|unknown|>`.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import guidance
import roles
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from metamem.datasets.world.vocabulary import NUMBERS, POOLS, UNKNOWN

PAD, OPEN, CLOSE, UNK = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"
# JSON as the model writes it, in pieces.
PIECES = (roles.OPENED, roles.CLOSED, '[{"action":"add","text":"', '"}]', '["', '","', '"]', "[]")
# A reply follows its prompt at once (the last word of a question is the name to look up) and ends with a token.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['content'] }}{% if message['role'] == 'assistant' %}<|im_end|>{% endif %}\n{% endfor %}"
)
_MARKS = (
    "answer reflect propose consolidate again judge Q T R right wrong yes no add or and - . , ? : user: assistant: ' \""
)
PATTERN = "|".join(
    [*map(re.escape, sorted(PIECES, key=len, reverse=True)), "user:|assistant:", "[A-Za-z0-9]+", r"[^\sA-Za-z0-9]"]
)


def vocabulary() -> list[str]:
    """Every token, in order."""
    texts = [_MARKS, UNKNOWN, *NUMBERS, *(str(n) for n in range(32))]
    texts += [f"G{n}" for n in range(1, 41)] + [f"P{n}" for n in range(1, 61)]
    for pool in POOLS.values():
        texts += [*pool.names, *pool.things, *pool.openers]
        texts += [word for verb in pool.verbs for word in (verb.base, verb.past)]
        for held in (pool.facts, pool.questions):
            texts += [re.sub(r"\{\w+\}", " ", s) for sentences in held.values() for s in sentences]
    texts += sorted(guidance.words())
    texts += ["sort", *guidance.GUIDELINES, *(word for words in roles.LOOKED_FOR.values() for word in words)]
    for held in (roles.PRACTICE.facts, roles.PRACTICE.questions):
        texts += [re.sub(r"\{\w+\}", " ", s) for sentences in held.values() for s in sentences]
    texts += roles.PRACTICE.openers
    found = dict.fromkeys([PAD, OPEN, CLOSE, UNK, *PIECES])
    for text in texts:
        found |= dict.fromkeys(re.findall(PATTERN, text))
    return list(found)


@cache
def word_rows() -> tuple[list[int], ...]:
    """The numbers of all names, all things, all verbs and all their past forms, of every part."""
    at = {word: i for i, word in enumerate(vocabulary())}
    pools = POOLS.values()
    return (
        sorted(at[n] for pool in pools for n in pool.names),
        sorted(at[t] for pool in pools for t in pool.things),
        sorted({at[v.base] for pool in pools for v in pool.verbs}),
        sorted({at[v.past] for pool in pools for v in pool.verbs}),
    )


def build() -> Tokenizer:
    """The tokenizer."""
    words = {word: i for i, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True)
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in (PAD, OPEN, CLOSE)])
    return tokenizer


def write(folder: Path, positions: int) -> None:
    """The tokenizer's files of a checkpoint."""
    build().save(str(folder / "tokenizer.json"))
    about: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "eos_token": CLOSE,
        "pad_token": PAD,
        "unk_token": UNK,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

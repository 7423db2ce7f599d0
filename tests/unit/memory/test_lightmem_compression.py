"""LLMLingua-2 run through transformers: what is kept, attention, batches, and none of the traps of its package."""

from __future__ import annotations

import random
import re
import socket
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.core.errors import ConfigError, UnreachableError
from metamem.memory.lightmem.compression import Compressor, keep_words
from tests import tiny_models

slow = pytest.mark.slow  # they import transformers and make models

TEXTS = [
    "I moved to Bergen, and my rent is 950 euros a month!",
    "",
    "Mia",
    "The cat isn't old.  It likes coffee\nevery morning.",
    "Rex " * 700,
    "Zażółć gęślą jaźń – 猫 \ud83d",
]


@pytest.fixture(scope="module", params=["bert", "xlm_roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = getattr(tiny_models, f"{request.param}_compressor")(tmp_path_factory.mktemp(request.param))
    return made


@pytest.fixture(scope="module")
def compressor(folder: Path) -> Compressor:
    return Compressor(str(folder), [1, 2], device="cpu", batch_size=3)


def spaced(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


@slow
@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_about_the_share_of_words_stays_in_its_order(compressor: Compressor, rate: float) -> None:
    text = TEXTS[0]
    (made,) = compressor.compress([text], rate)
    left = iter(spaced(text))
    assert all(word in left for word in spaced(made))  # a subsequence
    assert 0 < len(spaced(made)) < len(spaced(text))


@slow
def test_rate_one_changes_nothing_and_something_is_always_kept(compressor: Compressor) -> None:
    clean = [t.encode("utf-8", "replace").decode() for t in TEXTS]
    assert compressor.compress(TEXTS, 1.0) == clean
    assert all(made.strip() for text, made in zip(TEXTS, compressor.compress(TEXTS, 0.01), strict=True) if text)


@slow
def test_a_text_is_compressed_the_same_alone_and_among_others(compressor: Compressor) -> None:
    together = compressor.compress(TEXTS, 0.5)
    assert together == [compressor.compress([text], 0.5)[0] for text in TEXTS]


@slow
def test_attention_is_the_models_own_and_the_same_alone_and_in_a_batch(compressor: Compressor, folder: Path) -> None:
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    buffers = [["I live in Oslo.", "The cat is old!"], ["Mia"], ["the rent is new", "", "we moved"]]
    together = compressor.attention(buffers)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, attn_implementation="eager").eval()
    for sentences, (attention, spans) in zip(buffers, together, strict=True):
        np.testing.assert_allclose(attention, compressor.attention([sentences])[0][0], atol=1e-5)
        ids = [tokenizer(s, add_special_tokens=False)["input_ids"] for s in sentences]
        assert [b - a for a, b in spans] == [len(i) for i in ids]
        assert spans[0][0] == 1
        assert all(end == start for (_, end), (start, _) in pairwise(spans))
        whole = [tokenizer.cls_token_id, *(t for i in ids for t in i), tokenizer.sep_token_id]
        with torch.no_grad():
            layers = model(torch.tensor([whole]), output_attentions=True).attentions
        expected = np.mean([layers[i][0].mean(0).numpy() for i in (1, 2)], axis=0)
        np.testing.assert_allclose(attention, expected, atol=1e-5)


@slow
def test_loading_reaches_for_no_network_and_moves_nobodys_random_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was reached for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    made = Compressor(str(folder), [0], device="cpu")
    made.check(512)
    made.compress(["The cat is old."], 0.5)
    assert made.identity() == Compressor(str(folder), [3]).identity()
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    assert after == before


def test_a_model_that_cannot_be_had_is_named_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnreachableError) as raised:
        Compressor("nobody/such-a-llmlingua-2", [8]).identity()
    assert all(part in str(raised.value) for part in ("nobody/such-a-llmlingua-2", "ownload", "memory.compressor=none"))


@slow
def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"memory\.attention_layers"):
        Compressor(str(folder), [1, 8]).check(512)
    with pytest.raises(ConfigError, match=r"memory\.sensory_tokens must be at most 512"):
        Compressor(str(folder), [1]).check(513)
    with pytest.raises(ConfigError, match="2 labels"):
        Compressor(str(tiny_models.bert_compressor(tmp_path, labels=3)), [1]).check(512)
    with pytest.raises(ConfigError, match="safetensors"):
        Compressor(str(Path(__file__).parent), [1]).identity()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.floats(0.01, 1))
def test_the_words_kept_are_the_likeliest(scores: list[int], rate: float) -> None:
    text = " ".join(f"w{i}" for i in range(len(scores)))
    spans, at = [], 0
    for i in range(len(scores)):
        spans += [(at, at + 1), (at + 1, at + len(f"w{i}"))]  # two tokens a word
        at += len(f"w{i}") + 1
    words = [i for i in range(len(scores)) for _ in range(2)]
    probabilities = [p for s in scores for p in (s / 20, s / 10)]
    made = keep_words(text, spans, words, probabilities, rate).split()
    count = max(1, round(rate * len(scores))) if scores and rate < 1 else len(scores)
    best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count]
    assert made == [f"w{i}" for i in sorted(best)]


@slow
def test_most_of_what_llmlinguas_own_package_keeps_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package weighs words by another tokenizer's tokens; on words of one token each the two agree.

    It gives XLM-RoBERTa BERT's special tokens, which that model does not know: there the two cannot be compared.
    """
    if "xlm" in str(folder):
        pytest.skip("the package gives XLM-RoBERTa the special tokens of BERT")
    llmlingua = pytest.importorskip("llmlingua", reason="needs the package llmlingua, which metamem does not use")
    import tiktoken
    from llmlingua import prompt_compressor

    class Words:
        """Stands for the encoding that the package would fetch: a token a word."""

        def encode(self, text: str) -> list[int]:
            return [0] * max(1, len(text.split()))

    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: Words())
    monkeypatch.setattr(prompt_compressor, "seed_everything", lambda _: None)
    named = tmp_path / ("xlm-roberta-large" if "xlm" in str(folder) else "bert-base-multilingual-cased")
    named.symlink_to(folder)
    theirs = llmlingua.PromptCompressor(str(named), device_map="cpu", use_llmlingua2=True)
    ours = Compressor(str(folder), [0], device="cpu")
    text = "I live in Oslo and my cat Mia is three and the rent was old but we like coffee every morning"
    for rate in (0.3, 0.5, 0.8):
        kept = theirs.compress_prompt([text], rate=rate)["compressed_prompt"].split()
        mine = ours.compress([text], rate)[0].split()
        # The package's threshold is a percentile that keeps up to a word less.
        assert set(kept) <= set(mine)
        assert len(mine) - len(kept) <= 2

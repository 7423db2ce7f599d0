"""A run's identity: the options that can change a result are in it, no others are, and files count by content."""

from __future__ import annotations

import dataclasses
import itertools
import json
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from metamem.cli.hydra_bridge import config_folder, export
from metamem.config.options import BaseConfig
from metamem.config.resolve import resolve
from metamem.core.errors import UserError
from metamem.core.registry import REGISTRY
from metamem.pipeline.prepare import prepare
from metamem.runs.identity import run_identity

pytestmark = pytest.mark.usefixtures("composed_once")


def identity_of(program: str, *overrides: str) -> str:
    """The id of the run that a command would make, from the real config and the real contents."""
    from hydra import compose, initialize_config_dir

    export()
    with initialize_config_dir(config_dir=str(config_folder()), version_base="1.3"):
        config = resolve(compose(program, overrides=list(overrides)))
    assert isinstance(config, BaseConfig)
    return run_identity(program, config, prepare(config).contents)


# Where no file changes in between, a command is composed once.
known = cache(identity_of)


# Components whose options are walked: group → choices that need no server, model or further package.
WALKED = {
    "split": ["kfold", "reference"],
    "retriever": ["bm25"],
    "optimizer": ["metamem"],
    "evaluator": ["llm_judge", "token_f1", "substring_match"],
    "backbone": ["simulated"],
    "dataset": ["sample"],
}
# Options whose other value needs more than a value, each with its reason.
LEFT_OUT = {
    "split.fold": "walked below",
    "backbone.stop": "a list, walked below",
    "backbone.thinking_budget": "does not act without backbone.thinking",
}


def other(value: Any, annotation: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Enum):
        return next(e.name for e in type(value) if e is not value)
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return round(value / 2 + 0.01, 4)
    if isinstance(value, str):
        return f"{value}x"
    if value is None and "int" in str(annotation):
        return 30
    return None


def options() -> list[tuple[str, str, str, bool]]:
    found = []
    for group, names in WALKED.items():
        for name in names:
            entry = REGISTRY.entry(group, name)
            for f in entry.options:
                key = f"evaluator.{name}.{f.name}" if group == "evaluator" else f"{group}.{f.name}"
                default = f.default if f.default is not dataclasses.MISSING else None
                changed = other(default, f.type)
                if changed is None or key in LEFT_OUT:
                    continue
                choice = f"evaluator=[{name}]" if group == "evaluator" else f"{group}={name}"
                found.append((choice, key, f"{key}={changed}", bool(f.metadata.get("result", True))))
    return found


export()


@pytest.mark.slow
@pytest.mark.parametrize(("choice", "key", "change", "counts"), options(), ids=lambda v: str(v))
def test_an_option_changes_the_identity_exactly_when_it_can_change_a_result(
    choice: str, key: str, change: str, counts: bool
) -> None:
    try:
        changed = known("train", choice, change)
    except UserError as error:
        pytest.skip(f"the other value is refused: {error}")
    assert (changed != known("train", choice)) is counts


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "seed=43",
        "split.fold=1",
        "evidence.order=time",
        "evidence.budget=100",
        "evaluation.attempts=2",
        "retriever=full",
        "reward=token_f1",
        "eval_every=2",
        "search.calls=2",
    ],
)
def test_root_options_that_can_change_a_result_are_in_the_identity(change: str) -> None:
    base = ["evaluator=[llm_judge,token_f1]"]
    assert known("train", *base, change) != known("train", *base)


@pytest.mark.slow
def test_places_and_parts_that_are_not_used_are_not() -> None:
    changes = ["name=x", "outputs=/tmp/elsewhere", "run.force=true", "journal.reuse=run", "tracker=wandb"]
    unused = ["backbone=simulated", "embedder=hashing", "evidence.tokenizer=elsewhere"]
    assert known("train", *changes, *unused) == known("train")


@pytest.mark.slow
def test_how_answers_search_counts_only_where_they_do() -> None:
    assert known("eval", "search.k=3", "search.methods=[bm25]") == known("eval")
    base, hashing = "search.calls=2", "embedder=hashing"
    changes = ([], ["search.k=3"], [hashing], ["search.methods=[bm25]"], ["search.tokens=50"], ["search.tools=prompt"])
    found = [known("eval", base, *change) for change in changes]
    assert len(set(found)) == len(found)
    assert known("eval", base, "search.methods=[bm25]", hashing) == known("eval", base, "search.methods=[bm25]")


@pytest.mark.slow
def test_what_evaluation_does_not_use_is_not_in_its_identity() -> None:
    assert known("eval", "backbone@reflector=simulated", "reflector.seed=9") == known("eval")
    assert known("eval", "allow_seen=true") == known("eval")


OPENAI = ["backbone=openai", "backbone.model=m"]


@pytest.mark.slow
def test_a_server_s_address_counts_unless_the_weights_are_named() -> None:
    def ids(*more: str) -> set[str]:
        return {known("train", *OPENAI, f"backbone.base_url=http://{host}/v1", *more) for host in ("a", "b")}

    assert len(ids()) == 2
    assert len(ids("backbone.identity=weights")) == 1


@pytest.mark.slow
def test_options_of_a_server_that_cannot_change_a_result_do_not_count() -> None:
    base = [*OPENAI, "backbone.base_url=http://a/v1"]
    changes = [
        "backbone.max_concurrency=3",
        "backbone.retries=1",
        "backbone.timeout=5",
        "backbone.api_key_env=OTHER",
        "backbone.samples_per_call=1",
    ]
    assert known("train", *base, *changes) == known("train", *base)
    assert len({known("train", *base, *c) for c in ([], ["backbone.top_p=0.5"], ["backbone.max_tokens=9"])}) == 3


@pytest.mark.slow
def test_files_count_by_content_and_not_by_place(tmp_path: Path, prepared_file: Path) -> None:
    records = json.loads(prepared_file.read_text())
    texts = [json.dumps(records), json.dumps(records), json.dumps([{**records[0], "answer": "x"}, *records[1:]])]
    found = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        found.append(identity_of("train", "dataset=prepared", f"dataset.path={path}", "backbone=simulated"))
    assert found[0] == found[1] != found[2]
    again = ["dataset=prepared", f"dataset.path={tmp_path / '0.json'}", "backbone=simulated"]
    # A question that brings its evidence along has neither memory nor retriever.
    assert identity_of("train", *again, "retriever=full", "memory=turns") == found[0]


@pytest.mark.slow
def test_corrected_labels_count_by_content_and_not_by_place(tmp_path: Path) -> None:
    question = json.loads(Path(str(REGISTRY.build("dataset", {"name": "sample"}).files()[0])).read_text())[0][
        "question_id"
    ]
    first, moved, other = (tmp_path / f"{name}.json" for name in ("first", "moved", "other"))
    for path, answer in ((first, "x"), (moved, "x"), (other, "y")):
        path.write_text(json.dumps([{"question_id": question, "answer": answer}]))
    ids = [identity_of("eval", f"dataset.overlay={path}") for path in (first, moved, other)]
    assert ids[0] == ids[1]
    assert len({*ids, known("eval")}) == 3


@pytest.mark.slow
def test_the_content_of_prompts_rubrics_tokenizers_and_splits_counts(tmp_path: Path) -> None:
    prompt, rubric = tmp_path / "answer.jinja", tmp_path / "rubric"
    rubric.mkdir()
    split = tmp_path / "split.json"
    ids = [
        r["question_id"] for r in json.loads((config_folder().parent / "metamem/datasets/data/sample.json").read_text())
    ]

    def write(number: int) -> None:
        prompt.write_text("{% block user %}{{ question }}" + "!" * (number == 1) + "{% endblock %}")
        (rubric / "default.jinja").write_text("{{ question }} {{ response }}" + "!" * (number == 2))
        split.write_text(json.dumps({"train": ids[: 20 + (number == 3)], "test": ids[30:]}))

    given = [f"prompts.answer={prompt}", "rubric=file", f"rubric.path={rubric}", "split=file", f"split.path={split}"]
    found = []
    for number in range(4):
        write(number)
        found.append(identity_of("train", *given))
    assert all(a != b for a, b in itertools.combinations(found, 2))

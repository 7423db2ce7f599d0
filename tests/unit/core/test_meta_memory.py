"""The meta-memory: ids are never reused, nothing is refused silently, and a file gives back what was saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.core.checkpoints import Checkpoint, load_checkpoint, save
from metamem.core.errors import DataError
from metamem.core.json_form import digest
from metamem.core.meta_memory import (
    Action,
    Change,
    MetaMemory,
    OnLong,
    Operation,
    Origin,
    apply,
    diff,
    from_dict,
    from_texts,
    items_json,
    to_dict,
)

texts = st.sampled_from(["a", "b", "c", "  A ", "", " ", "long " * 40, "d\n e"])
ids = st.sampled_from([None, "G1", "G2", "G3", "G9", ""])
operations = st.lists(st.builds(Operation, st.sampled_from(Action), ids, st.none() | texts), max_size=8)


@given(st.lists(operations, max_size=6), st.integers(0, 4), st.sampled_from(OnLong))
def test_applying_any_operations_keeps_every_bound(steps: list[list[Operation]], cap: int, on_long: OnLong) -> None:
    memory = MetaMemory()
    ever: list[str] = []
    for step, batch in enumerate(steps, 1):
        before = memory
        memory, changes, refused = apply(memory, batch, step, on_long=on_long, max_guidelines=cap)
        assert len(changes) + len(refused) == len(batch)
        assert all(r.reason for r in refused)
        born = [c.id for c in changes if c.action is Action.add]
        assert not set(born) & set(ever), "an id was given out twice"
        ever += born
        held = [g.id for g in memory.guidelines]
        assert len(set(held)) == len(held)
        assert all(g.text == " ".join(g.text.split()) != "" for g in memory.guidelines)
        assert len({g.text.casefold() for g in memory.guidelines}) == len(held)
        assert not cap or len(held) <= max(cap, len(before))
        if on_long is OnLong.refuse:
            assert all(len(g.text.split()) <= 30 for g in memory.guidelines)
        assert memory.next_id == len(ever) + 1


@given(st.lists(operations, max_size=6))
def test_the_changes_alone_rebuild_the_guidelines(steps: list[list[Operation]]) -> None:
    memory = MetaMemory()
    history: list[Change] = []
    for step, batch in enumerate(steps, 1):
        memory, changes, _ = apply(memory, batch, step)
        history += changes
    rebuilt: dict[str, str] = {}
    for change in history:
        if change.after is None:
            assert rebuilt.pop(change.id) == change.before
        else:
            assert rebuilt.get(change.id) == change.before
            rebuilt[change.id] = change.after
    assert rebuilt == {g.id: g.text for g in memory.guidelines}


def test_an_update_after_a_delete_of_the_same_guideline_is_refused() -> None:
    memory, _, refused = apply(
        from_texts(["a", "b"]), [Operation(Action.delete, "G1"), Operation(Action.update, "G1", "again")], 1
    )
    assert [g.id for g in memory.guidelines] == ["G2"]
    assert refused[0].reason == "no guideline G1"


def test_support_and_steps_follow_a_guideline() -> None:
    memory, _, _ = apply(MetaMemory(), [Operation(Action.add, None, "a", ("q1",))], 1)
    memory, _, _ = apply(memory, [Operation(Action.update, "G1", "b", ("q2", "q1"))], 4)
    (guideline,) = memory.guidelines
    assert (guideline.born, guideline.changed, guideline.support) == (1, 4, ("q1", "q2"))


@settings(deadline=None)  # files, on a machine that may be busy
@given(st.lists(operations, max_size=4))
def test_a_saved_meta_memory_is_loaded_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[Operation]]
) -> None:
    memory = MetaMemory()
    for step, batch in enumerate(steps, 1):
        memory, _, _ = apply(memory, batch, step)
    path = tmp_path_factory.mktemp("m") / "step.json"
    save(memory, path, {"validation": 0.5, "step": 3})
    assert load_checkpoint(path) == Checkpoint(memory, 3)
    assert json.loads(path.read_text())["meta_memory"] == to_dict(memory)


@pytest.mark.parametrize("data", [{"M0": "Use  dates.", "M1": "Count."}, ["Use dates.", "Count."]])
def test_plain_files_of_sentences_are_read(tmp_path: Path, data: object) -> None:
    (tmp_path / "m.json").write_text(json.dumps(data))
    assert [(g.id, g.text) for g in load_checkpoint(tmp_path / "m.json").meta_memory.guidelines] == [
        ("G1", "Use dates."),
        ("G2", "Count."),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        '{"M0": 5}',
        '["", "a"]',
        '{"meta_memory": {"guidelines": [{"nope": 1}]}}',
        '{"meta_memory": {"guidelines": 5}}',
        '{"meta_memory": {"guidelines": [], "texts": {"answer.system": 5}}}',
    ],
)
def test_other_files_are_refused_naming_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(DataError, match="m.json"):
        load_checkpoint(tmp_path / "m.json")


def test_a_missing_file_is_an_error_and_never_an_empty_meta_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_checkpoint(tmp_path / "gone.json")


def test_diff_names_what_was_added_changed_and_deleted() -> None:
    after, _, _ = apply(
        from_texts(["a", "b"]),
        [Operation(Action.delete, "G1"), Operation(Action.update, "G2", "c"), Operation(Action.add, None, "d")],
        1,
    )
    after = replace(after, texts={"answer.system": "t"})
    assert [(c.action.value, c.id, c.before, c.after) for c in diff(from_texts(["a", "b"]), after)] == [
        ("delete", "G1", "a", None),
        ("update", "G2", "b", "c"),
        ("add", "G3", None, "d"),
        ("add", "answer.system", None, "t"),
    ]


def test_a_checkpoint_of_version_0_1_is_read_with_its_step(tmp_path: Path) -> None:
    old = {"guidelines": [{"id": "G2", "text": "a", "born": 1, "changed": 1, "support": []}], "next_id": 3}
    (tmp_path / "m.json").write_text(json.dumps({"meta_memory": {**old, "step": 4, "history": [{"step": 1}]}}))
    held = load_checkpoint(tmp_path / "m.json")
    assert (held.step, held.recall, held.meta_memory) == (4, None, from_dict(old))


def test_the_origin_survives_files_and_operations_and_changes_no_hash(tmp_path: Path) -> None:
    origin = Origin(("q1", "q2"), ("q3",))
    memory = replace(from_texts(["a", "b"]), origin=origin)
    assert memory.hash == from_texts(["a", "b"]).hash and memory == from_texts(["a", "b"])
    grown, _, _ = apply(memory, [Operation(Action.add, None, "c")], 1)
    save(grown.without("G1").reworded({"G2": "d"}), tmp_path / "m.json")
    assert load_checkpoint(tmp_path / "m.json").meta_memory.origin == origin
    assert "origin" not in to_dict(from_texts(["a"])), "a file from before there was one is read as unknown"


def test_the_hash_is_of_ids_and_texts_alone_where_there_is_nothing_else() -> None:
    memory = from_texts(["a", "b"])
    assert memory.hash == digest([["G1", "a"], ["G2", "b"]])
    others = [memory.noted("G1", q=1), replace(memory, texts={"answer.system": "t"}), replace(memory, adapter="f00")]
    others.append(replace(memory, about={"weights": [0.5]}))
    assert len({m.hash for m in (memory, *others)}) == 5
    assert MetaMemory(adapter="f00") and not MetaMemory(next_id=3), "trained weights alone are something learned"
    assert from_dict(to_dict(others[-1])) == others[-1]


def test_what_is_kept_about_a_guideline_follows_it_and_is_never_among_what_is_shown() -> None:
    memory, _, _ = apply(MetaMemory(), [Operation(Action.add, None, "a", about={"question": "q?", "utility": 0})], 1)
    memory, _, _ = apply(memory, [Operation(Action.update, "G1", "b", about={"utility": 1})], 2)
    memory = memory.noted("G1", seen=2)
    assert memory.guidelines[0].about == {"question": "q?", "utility": 1, "seen": 2}
    assert from_dict(to_dict(memory)) == memory
    assert "q?" not in json.dumps(items_json(memory))


def test_items_are_guidelines_and_texts_and_can_be_left_out_and_reworded() -> None:
    memory = replace(from_texts(["a", "b"]), texts={"answer.system": "t"})
    assert [(i.id, i.text) for i in memory.items] == [("G1", "a"), ("G2", "b"), ("answer.system", "t")]
    assert memory.sizes() == {"guidelines": 2, "texts": 1} and len(memory) == 3
    assert [i.id for i in memory.without("G1").items] == ["G2", "answer.system"]
    assert [i.id for i in memory.without("answer.system").items] == ["G1", "G2"]
    assert [i.text for i in memory.reworded({"G2": "c", "answer.system": "u"}).items] == ["a", "c", "u"]


@pytest.mark.parametrize("mark", ["\x1b[31m", "\u202e", "\u200b", "\x00"], ids=ascii)
def test_a_guideline_that_no_reader_sees_as_it_is_never_enters_a_prompt(mark: str) -> None:
    memory, _, (refusal,) = apply(MetaMemory(), [Operation(Action.add, None, f"Say {mark}yes.")], 1)
    assert len(memory) == 0 and "control characters" in refusal.reason


def test_a_guideline_longer_than_any_sentence_is_refused_by_default() -> None:
    memory, _, (refusal,) = apply(MetaMemory(), [Operation(Action.add, None, "x" * 1001)], 1)
    assert len(memory) == 0 and refusal.reason == "1001 characters, at most 1000"
    assert len(apply(MetaMemory(), [Operation(Action.add, None, "long " * 40)], 1)[0]) == 1

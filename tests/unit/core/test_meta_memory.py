"""The meta-memory: ids are never reused, nothing is refused silently, and a file gives back what was saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.core.errors import DataError
from metamem.core.meta_memory import Action, MetaMemory, OnLong, Operation, apply, diff, from_texts, load, save, to_dict

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
        assert memory.history == before.history + changes
        assert before == before and memory.next_id == len(ever) + 1


@given(st.lists(operations, max_size=6))
def test_the_history_alone_rebuilds_the_guidelines(steps: list[list[Operation]]) -> None:
    memory = MetaMemory()
    for step, batch in enumerate(steps, 1):
        memory, _, _ = apply(memory, batch, step)
    rebuilt: dict[str, str] = {}
    for change in memory.history:
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


@given(st.lists(operations, max_size=4))
def test_a_saved_meta_memory_is_loaded_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[Operation]]
) -> None:
    memory = MetaMemory()
    for step, batch in enumerate(steps, 1):
        memory, _, _ = apply(memory, batch, step)
    path = tmp_path_factory.mktemp("m") / "step.json"
    save(memory, path, {"validation": 0.5})
    assert load(path) == memory
    assert json.loads(path.read_text())["meta_memory"] == to_dict(memory)


@pytest.mark.parametrize("data", [{"M0": "Use  dates.", "M1": "Count."}, ["Use dates.", "Count."]])
def test_plain_files_of_sentences_are_read(tmp_path: Path, data: object) -> None:
    (tmp_path / "m.json").write_text(json.dumps(data))
    assert [(g.id, g.text) for g in load(tmp_path / "m.json").guidelines] == [("G1", "Use dates."), ("G2", "Count.")]


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
    ],
)
def test_other_files_are_refused_naming_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(DataError, match="m.json"):
        load(tmp_path / "m.json")


def test_a_missing_file_is_an_error_and_never_an_empty_meta_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "gone.json")


def test_diff_names_what_was_added_changed_and_deleted() -> None:
    after, _, _ = apply(
        from_texts(["a", "b"]),
        [Operation(Action.delete, "G1"), Operation(Action.update, "G2", "c"), Operation(Action.add, None, "d")],
        1,
    )
    assert [(a.value, g.text) for a, g in diff(from_texts(["a", "b"]), after)] == [
        ("delete", "a"),
        ("update", "c"),
        ("add", "d"),
    ]

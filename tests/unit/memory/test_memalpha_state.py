"""Mem-α's memory: no id reused, no write lost, limits kept, and the history says all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from metamem.memory.memalpha.state import (
    LISTS,
    Limits,
    LongCore,
    Memory,
    MemoryPart,
    Operation,
    RefusedOperation,
    StateChange,
)

CORE_TOKENS = 4
ITEMS = 5
# Few texts, so that repetitions occur; some with space around, some empty, some too long for core or a list.
texts = st.sampled_from(
    ["a", " a ", "b", "c d", "c  d", "one two three four", "one two three four five", "", " \n", "é\ud800"]
)
parts = st.sampled_from(list(MemoryPart))
lists = st.sampled_from(LISTS)


def words(text: str) -> int:
    return len(text.split())


def limits(disabled: frozenset[MemoryPart] = frozenset()) -> Limits:
    return Limits(words, core_tokens=CORE_TOKENS, item_tokens=4, items=ITEMS, disabled=disabled)


class AgainstADictionary(RuleBasedStateMachine):
    """Random calls on a memory and on a model: core as a string, each list as a dictionary, all ids ever given."""

    disabled: frozenset[MemoryPart] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(limits(self.disabled))
        self.core = ""
        self.lists: dict[MemoryPart, dict[str, str]] = {part: {} for part in LISTS}
        self.given: list[str] = []
        self.states: list[tuple[str, list[list[tuple[str, str]]]]] = [self.snapshot()]
        self.chunk = 0

    def snapshot(self) -> tuple[str, list[list[tuple[str, str]]]]:
        return self.core, [list(held.items()) for held in self.lists.values()]

    def refused(self, part: MemoryPart, text: str | None = None, id: str | None = None) -> bool:
        """Whether the model would refuse."""
        text = None if text is None else text.strip()
        wrong = part in self.disabled or text == "" or (text is not None and words(text) > 4)
        return wrong or (part is not MemoryPart.core and id is not None and id not in self.lists[part])

    def done(self, change: StateChange | None) -> None:
        if change is not None:
            assert change.chunk == self.chunk
            self.states.append(self.snapshot())

    @rule()
    def next_chunk(self) -> None:
        self.chunk += 1

    @rule(part=parts, text=texts)
    def insert(self, part: MemoryPart, text: str) -> None:
        held = {} if part is MemoryPart.core else self.lists[part]
        if part is MemoryPart.core or self.refused(part, text):
            with pytest.raises(RefusedOperation):
                self.memory.insert(part, text, self.chunk)
        elif text.strip() in held.values():
            assert self.memory.insert(part, text, self.chunk) is None
        elif len(held) >= ITEMS:
            with pytest.raises(RefusedOperation):
                self.memory.insert(part, text, self.chunk)
        else:
            change = self.memory.insert(part, text, self.chunk)
            assert change is not None and change.id not in self.given
            self.given.append(change.id)
            held[change.id] = text.strip()
            self.done(change)

    @rule(part=parts, text=texts, pick=st.integers(0, 20))
    def update(self, part: MemoryPart, text: str, pick: int) -> None:
        id = self.pick(pick)
        if self.refused(part, text, id):
            with pytest.raises(RefusedOperation):
                self.memory.update(part, id, text, self.chunk)
        elif part is MemoryPart.core:
            same = self.core == text.strip()
            self.core = text.strip()
            change = self.memory.update(part, id, text, self.chunk)
            assert (change is None) == same
            self.done(change)
        elif text.strip() in [held for other, held in self.lists[part].items() if other != id]:
            with pytest.raises(RefusedOperation):
                self.memory.update(part, id, text, self.chunk)
        else:
            same = self.lists[part][id] == text.strip()
            self.lists[part][id] = text.strip()
            change = self.memory.update(part, id, text, self.chunk)
            assert (change is None) == same
            self.done(change)

    @rule(part=parts, pick=st.integers(0, 20))
    def delete(self, part: MemoryPart, pick: int) -> None:
        id = self.pick(pick)
        if self.refused(part, None, id):
            with pytest.raises(RefusedOperation):
                self.memory.delete(part, id, self.chunk)
        elif part is MemoryPart.core:
            was, self.core = self.core, ""
            change = self.memory.delete(part, id, self.chunk)
            assert (change is None) == (was == "")
            self.done(change)
        else:
            del self.lists[part][id]
            self.done(self.memory.delete(part, id, self.chunk))

    def pick(self, number: int) -> str:
        """An id that was given at some time, or one that never was."""
        return self.given[number] if number < len(self.given) else "s9999"

    @invariant()
    def the_memory_holds_what_the_model_holds(self) -> None:
        assert "".join(item.text for item in self.memory.items(MemoryPart.core)) == self.core
        for part in LISTS:
            assert [(item.id, item.text) for item in self.memory.items(part)] == list(self.lists[part].items())
            for item in self.memory.items(part):
                assert self.memory.find(part, item.text) == item.id

    @invariant()
    def every_limit_holds_and_disabled_parts_are_empty(self) -> None:
        assert words(self.core) <= CORE_TOKENS
        assert all(len(self.memory.items(part)) <= ITEMS for part in LISTS)
        assert all(not self.memory.items(part) for part in self.disabled)

    @invariant()
    def the_history_rebuilds_the_memory(self) -> None:
        again = Memory.replay(self.memory.limits, self.memory.changes)
        assert again == self.memory

    @precondition(lambda self: len(self.states) > 1)
    @rule(share=st.floats(0, 1))
    def a_part_of_the_history_gives_the_memory_as_it_was(self, share: float) -> None:
        number = int(share * (len(self.states) - 1))
        then = Memory.replay(self.memory.limits, self.memory.changes[:number])
        core = "".join(item.text for item in then.items(MemoryPart.core))
        assert (core, [[(i.id, i.text) for i in then.items(part)] for part in LISTS]) == self.states[number]


class WithoutSemantic(AgainstADictionary):
    disabled = frozenset({MemoryPart.semantic})


class WithoutCoreAndEpisodic(AgainstADictionary):
    disabled = frozenset({MemoryPart.core, MemoryPart.episodic})


CALLS = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestAllParts = AgainstADictionary.TestCase
TestWithoutSemantic = WithoutSemantic.TestCase
TestWithoutCoreAndEpisodic = WithoutCoreAndEpisodic.TestCase
for case in (TestAllParts, TestWithoutSemantic, TestWithoutCoreAndEpisodic):
    case.settings = CALLS


def test_an_id_is_not_given_again_after_its_item_was_deleted() -> None:
    memory = Memory(limits())
    for number in range(1, 4):
        change = memory.insert(MemoryPart.semantic, "a")
        assert change is not None and change.id == f"s{number}"
        memory.delete(MemoryPart.semantic, change.id)


def test_a_thousand_inserts_have_a_thousand_ids() -> None:
    memory = Memory(Limits(words))
    changes = [memory.insert(part, f"fact {i}") for i in range(500) for part in LISTS]
    assert len({c.id for c in changes if c}) == 1000


def test_core_at_its_limit_is_taken_and_one_token_more_is_refused_with_both_numbers() -> None:
    memory = Memory(Limits(words, core_tokens=4, long_core=LongCore.refuse))
    memory.update(MemoryPart.core, "", "one two three four")
    with pytest.raises(RefusedOperation, match="core may have 4 tokens, and this text has 5"):
        memory.update(MemoryPart.core, "", "one two three four five")
    assert memory.core is not None and memory.core.text == "one two three four"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" ".join(map(str, range(12))), " ".join(map(str, range(12)))),
        (" ".join(map(str, range(13))), "0 1 2 3 4 5 6 [cut: longer than 12 tokens]"),
        ("0 1 2  3\n4 5 6\n\n" + "x " * 40, "0 1 2  3\n4 5 6 [cut: longer than 12 tokens]"),
    ],
)
def test_core_above_its_limit_is_cut_at_a_word_and_marked(text: str, kept: str) -> None:
    memory = Memory(Limits(words, core_tokens=12))
    change = memory.update(MemoryPart.core, "", text)
    assert change is not None and change.after == kept
    assert words(kept) <= 12
    assert memory.update(MemoryPart.core, "", text) is None, "the same text gives the same core"


def test_a_core_without_words_is_cut_at_a_character() -> None:
    memory = Memory(Limits(len, core_tokens=40))
    memory.update(MemoryPart.core, "", "語" * 60)
    assert memory.core is not None and memory.core.text == "語" * 11 + " [cut: longer than 40 tokens]"
    with pytest.raises(RefusedOperation, match="core may have 8 tokens"):
        Memory(Limits(len, core_tokens=8)).update(MemoryPart.core, "", "語" * 9)


def test_an_unknown_id_is_refused_with_the_ids_that_are_there() -> None:
    memory = Memory(limits())
    with pytest.raises(RefusedOperation, match="no items yet"):
        memory.delete(MemoryPart.semantic, "s1")
    memory.insert(MemoryPart.semantic, "a")
    with pytest.raises(RefusedOperation, match="no item 's7'; its ids are s1"):
        memory.update(MemoryPart.semantic, "s7", "b")


def test_an_item_says_which_chunks_wrote_it_first_and_last() -> None:
    memory = Memory(limits())
    memory.insert(MemoryPart.episodic, "a", 3)
    memory.update(MemoryPart.episodic, "e1", "b", 7)
    (item,) = memory.items(MemoryPart.episodic)
    assert (item.born, item.changed) == (3, 7)


def test_the_newest_are_the_last_inserted_in_their_order() -> None:
    memory = Memory(Limits(words))
    for i in range(30):
        memory.insert(MemoryPart.semantic, f"fact {i}")
    assert [i.text for i in memory.newest(MemoryPart.semantic, 20)] == [f"fact {i}" for i in range(10, 30)]
    assert memory.newest(MemoryPart.semantic, 0) == ()


def test_tokens_are_those_of_all_three_parts() -> None:
    memory = Memory(limits())
    assert memory.tokens == 0
    memory.update(MemoryPart.core, "", "a b")
    memory.insert(MemoryPart.semantic, "c d")
    memory.insert(MemoryPart.episodic, "e")
    assert memory.tokens == 5


@given(st.integers(0, 2))
def test_a_history_with_a_gap_is_refused(lost: int) -> None:
    memory = Memory(limits())
    memory.insert(MemoryPart.semantic, "a")
    memory.update(MemoryPart.semantic, "s1", "b")
    memory.delete(MemoryPart.semantic, "s1")
    memory.insert(MemoryPart.semantic, "c")
    changes = [c for c in memory.changes if c.number != lost + 1]
    with pytest.raises(ValueError, match="does not follow"):
        Memory.replay(memory.limits, changes)


def test_a_history_that_skips_an_id_is_refused() -> None:
    with pytest.raises(ValueError, match="not the next id"):
        Memory.replay(limits(), [StateChange(1, 0, Operation.insert, MemoryPart.semantic, "s2", None, "a")])

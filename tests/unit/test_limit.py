"""`limit=`: a quick look at any data set that still can be split."""

from __future__ import annotations

from collections import Counter

from metamem.core.contracts import Dataset
from metamem.core.records import Conversation, Question
from metamem.pipeline.prepare import limited


def test_a_quick_look_takes_as_much_of_every_conversation_and_no_conversation_in_vain() -> None:
    questions = tuple(
        Question(f"q{c}.{i}", "?", "t", answers=("a",), conversation_id=f"c{c}") for c in range(4) for i in range(c + 1)
    )
    whole = Dataset("d", {f"c{c}": Conversation(f"c{c}", ()) for c in range(4)}, questions)
    for limit in range(1, 12):
        few = limited(whole, limit)
        assert len(few.questions) == min(limit, 10)
        assert [q for q in questions if q in few.questions] == list(few.questions)
        per = Counter(q.conversation_id for q in few.questions)
        assert max(per.values()) - min(per.values()) <= 1 or limit > 4
        assert set(few.conversations) == set(per)
        assert few.notices["questions left out by limit"] == max(0, 10 - limit)
    assert limited(whole, None) is whole


def test_a_quick_look_asks_the_same_where_every_question_has_a_conversation_of_its_own() -> None:
    def kept(own: bool) -> list[str]:
        places = {(c, i): f"c{c}.{i}" if own else f"c{c}" for c in range(4) for i in range(5)}
        questions = tuple(
            Question(f"q{c}.{i}", "?", "t", answers=("a",), conversation_id=place, group=f"c{c}")
            for (c, i), place in places.items()
        )
        whole = Dataset("d", {place: Conversation(place, ()) for place in places.values()}, questions)
        return [q.id for q in limited(whole, 6).questions]

    assert kept(own=True) == kept(own=False)

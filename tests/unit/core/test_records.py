"""Records: their JSON form gives back what was put in; what teaches is what disagrees."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.core.calls import Draw, Generation, Usage
from metamem.core.json_form import digest, from_json, to_json
from metamem.core.records import (
    Attempt,
    Conversation,
    Evidence,
    MemoryUnit,
    Question,
    Session,
    Status,
    Turn,
    Verdict,
    teaches,
)

dates = st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))
units = st.builds(
    MemoryUnit,
    st.text(),
    st.text(),
    dates,
    st.none() | st.text(),
    st.lists(st.text(), max_size=2).map(tuple),
    st.text(),
)
records = st.one_of(
    units,
    st.builds(Evidence, units, st.floats(allow_nan=False, allow_infinity=False), st.integers()),
    st.builds(
        Conversation,
        st.text(),
        st.lists(
            st.builds(
                Session,
                st.text(),
                dates,
                st.lists(st.builds(Turn, st.text(), st.text(), st.text()), max_size=2).map(tuple),
            ),
            max_size=2,
        ).map(tuple),
    ),
    st.builds(
        Question,
        st.text(),
        st.text(),
        st.text(),
        st.lists(st.text(), max_size=2).map(tuple),
        dates,
        st.booleans(),
        prepared=st.none() | st.lists(units, max_size=2).map(tuple),
    ),
    st.builds(
        Verdict, st.text(), st.text(), st.text(), st.sampled_from(Status), st.floats(0, 1), st.none() | st.booleans()
    ),
    st.builds(Generation, st.text(), st.text(), st.builds(Usage, st.integers(), st.integers()), st.text()),
)


@given(records)
def test_every_record_survives_its_json_form(record: object) -> None:
    assert from_json(type(record), json.loads(json.dumps(to_json(record)))) == record


def test_unknown_fields_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(KeyError):
        from_json(Turn, {"id": "1", "role": "user", "text": "a", "extra": 1})
    with pytest.raises(TypeError):
        from_json(Session, {"id": "1", "time": None, "turns": "abc"})


@given(st.text(), st.integers(0, 50))
def test_the_seed_of_a_later_sample_is_that_of_the_first_plus_its_index(scope: str, index: int) -> None:
    assert Draw(scope, index).seed == Draw(scope, 0).seed + index
    assert 0 <= Draw(scope, index).seed < 2**31


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=4))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert digest(value) == digest(dict(reversed(list(value.items()))))


def attempts(n: int, **changes: object) -> list[Attempt]:
    return [Attempt(f"a#{i}", "q", "a", i, "r", **(changes if i == 0 else {})) for i in range(n)]  # type: ignore[arg-type]


def verdicts(*outcomes: bool | None) -> list[Verdict]:
    return [
        Verdict(f"a#{i}", "q", "e", Status.invalid if o is None else Status.scored, float(bool(o)), o)
        for i, o in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((True, False), True),
        ((True, True), False),
        ((False, False, False), False),
        ((True, None), False),
        ((None, None), False),
        ((True, None, False), True),
    ],
)
def test_a_question_teaches_when_valid_verdicts_disagree(outcomes: tuple[bool | None, ...], expected: bool) -> None:
    assert teaches(attempts(len(outcomes)), verdicts(*outcomes)) is expected


@pytest.mark.parametrize("change", [{"finish_reason": "length"}, {"error": "timeout"}])
def test_cut_and_failed_attempts_do_not_teach(change: dict[str, str]) -> None:
    assert not teaches(attempts(2, **change), verdicts(True, False))
    assert teaches(attempts(3, **change), verdicts(True, False, True))

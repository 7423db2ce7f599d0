from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.datasets.reading import leading_date, parse_date, read_json, read_jsonl

MINUTES = st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda d: d.replace(second=0, microsecond=0))
MONTHS = ["January", "February", "March", "April", "May", "June", "July"]
MONTHS += ["August", "September", "October", "November", "December"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def longmemeval_form(d: datetime) -> str:
    return f"{d.year}/{d.month:02d}/{d.day:02d} ({DAYS[d.weekday()][:3]}) {d.hour:02d}:{d.minute:02d}"


def locomo_form(d: datetime) -> str:
    half = "am" if d.hour < 12 else "pm"
    return f"{d.hour % 12 or 12}:{d.minute:02d} {half} on {d.day} {MONTHS[d.month - 1]}, {d.year}"


@settings(deadline=None)
@given(MINUTES)
def test_a_date_written_in_any_of_the_forms_reads_back_as_itself(d: datetime) -> None:
    assert parse_date(longmemeval_form(d)) == d
    assert parse_date(locomo_form(d)) == d
    assert parse_date(d.isoformat()) == d
    assert parse_date(f" {d.isoformat()}Z ") == d
    assert parse_date(d.date().isoformat()) == d.replace(hour=0, minute=0)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_text_is_a_naive_date_or_a_value_error(text: str) -> None:
    try:
        date = parse_date(text)
    except ValueError:
        return
    assert date.tzinfo is None


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2023/13/01 (Sat) 02:21", "2023/02/30", "13:56 pm on 8 May, 2023", "0:10 am on 8 May, 2023",
     "1:56 pm on 8 Mai, 2023", "1:75 pm on 8 May, 2023", "2023-05", "20/05/2023 02:21"],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a date such as"):
        parse_date(text)


@settings(deadline=None)
@given(MINUTES, st.sampled_from(["", ":", " -", ","]), st.booleans(), st.booleans())
def test_a_leading_timestamp_is_taken_off_with_its_weekday(
    d: datetime, mark: str, bracket: bool, weekday: bool
) -> None:
    stamp = d.isoformat(timespec="minutes") + (f" {DAYS[d.weekday()][:3]}" if weekday else "")
    stamp = f"[{stamp}]" if bracket else stamp
    assert leading_date(f"{stamp}{mark} she moved - at last") == (d, "she moved - at last")
    assert leading_date(f"{longmemeval_form(d)}{mark} she moved") == (d, "she moved")


@pytest.mark.parametrize(
    "text",
    [
        "she moved on 2023-05-20",
        "2023-13-20 she moved",
        "2023 was good",
        "12:30 lunch",
        "2023-05-20",
        "2023-05-20x y",
        "",
    ],
)
def test_text_without_a_leading_timestamp_stays_as_it_is(text: str) -> None:
    assert leading_date(text) == (None, text)


def test_only_the_dates_own_weekday_is_taken_off() -> None:
    saturday = datetime(2023, 5, 20)
    assert leading_date("2023-05-20 Saturday she ran") == (saturday, "she ran")
    assert leading_date("2023-05-20 Sun is bad for her") == (saturday, "Sun is bad for her")
    assert leading_date("2023-05-20 Sa is a name") == (saturday, "Sa is a name")


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3), max_size=5))
def test_jsonl_values_come_back_with_their_line_numbers(tmp_path_factory: pytest.TempPathFactory, values: list) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "values.jsonl"
    # Every second line is empty, and U+2028, which is no end of line, may stand unescaped in a text.
    path.write_text("\n\n".join(json.dumps(v, ensure_ascii=False) for v in values), encoding="utf-8", newline="")
    assert read_jsonl(path, "k") == [(2 * i + 1, v) for i, v in enumerate(values)]


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", "k") == [1]

from __future__ import annotations

import io
import unicodedata

import pytest
import rich.console
from hypothesis import given
from hypothesis import strategies as st

from metamem.reporting.console.text import duration, one_line, rate, safe, say, several, share, visible


@given(st.text())
def test_nothing_that_is_shown_can_move_the_cursor_or_reorder_what_stands_around_it(text: str) -> None:
    for shown in (one_line(text), visible(text)):
        assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in shown)
        assert not any(unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "PDI") for c in shown)
        shown.encode("utf-8")


@given(st.text())
def test_text_is_printed_on_one_line_with_its_brackets(text: str) -> None:
    console = rich.console.Console(file=io.StringIO(), width=20)
    say(console, f"[bold]{text}[/bold]")
    written = console.file.getvalue()
    assert written == f"[bold]{visible(text)}[/bold]\n"


@given(st.text())
def test_safe_text_is_the_text_itself_without_markup(text: str) -> None:
    assert safe(text).plain == one_line(text)
    assert not safe(text).spans


@pytest.mark.parametrize("text", ["日本語の文", "e\u0301", "a\u200db", "🎉", "naïve – “x”"])
def test_ordinary_text_of_any_language_is_shown_as_it_is(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (100, "1 min 40 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7_500, "2 h 05 min"),
    ],
)
def test_durations_read_naturally(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_numbers_read_naturally() -> None:
    assert (share(None), share(0.12345), share(1, 2)) == ("–", "0.123", "1.00")
    assert (several(1, "question"), several(12345, "question")) == ("1 question", "12,345 questions")
    assert (rate(0.25), rate(1234.5)) == ("0.2", "1,234")

"""Dates in sentences: what day 'yesterday', 'last Friday', '9th of June' or 'two weeks ago' was, what span is meant.

In: a sentence and the day on which it was said. Out: days and spans of days.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache

from metamem.backbones.simulation.vocabulary import MONTHS, NUMBER_WORDS, WEEKDAYS

_ORDINALS = {
    word: place
    for place, word in enumerate(
        """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
        fifteenth sixteenth seventeenth eighteenth nineteenth twentieth""".split(),
        start=1,
    )
}
_MONTH = rf"(?P<month>{'|'.join(MONTHS)}|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?"
_DAY = rf"(?P<day>\d{{1,2}}|{'|'.join(_ORDINALS)})(?:st|nd|rd|th)?"
_COUNT = rf"(?P<count>\d{{1,4}}|an?|{'|'.join(NUMBER_WORDS)}|a couple of|couple of|a few|few|several)"
_UNIT = r"(?P<unit>day|week|month|year)s?"
_DAYS_OF_UNIT = {"day": 1, "week": 7}


def _counted(text: str) -> int:
    rough = {"a": 1, "an": 1, "a couple of": 2, "couple of": 2, "a few": 3, "few": 3, "several": 3}
    return rough.get(text) or int(NUMBER_WORDS.get(text, text))


def shift(day: date, count: int, unit: str) -> date:
    """`day` moved by `count` days, weeks, months or years, within the month's and the calendar's bounds."""
    if unit in _DAYS_OF_UNIT:
        moved = day.toordinal() + count * _DAYS_OF_UNIT[unit]
        return date.fromordinal(min(max(moved, 1), date.max.toordinal()))
    months = day.year * 12 + day.month - 1 + count * (12 if unit == "year" else 1)
    months = min(max(months, 12), 9999 * 12 + 11)
    return date(months // 12, months % 12 + 1, min(day.day, 28))


def _month(text: str) -> int:
    return next(i for i, name in enumerate(MONTHS, 1) if name.startswith(text[:3]))


def _calendar(match: re.Match[str], said: date) -> date | None:
    groups = match.groupdict()
    number = groups.get("day") or {"early": "5", "mid": "15", "late": "25"}.get(groups.get("part") or "", "15")
    month = int(groups["month"]) if groups["month"].isdigit() else _month(groups["month"])
    try:
        if groups.get("year"):
            return date(int(groups["year"]), month, _ORDINALS.get(number) or int(number))
        # Without a year it is the one nearest to when it was said; people speak more of the past.
        years = [
            date(said.year + step, month, _ORDINALS.get(number) or int(number))
            for step in (-1, 0, 1)
            if said.year + step > 0
        ]
    except ValueError:
        return None
    return min(years, key=lambda day: abs((day - said).days + 60))


def _weekday(match: re.Match[str], said: date) -> date:
    ahead = (WEEKDAYS.index(match.group("weekday")) - said.weekday()) % 7
    if (match.group("which") or "").strip() in ("next", "this coming", "coming", "this"):
        return shift(said, ahead or 7, "day")
    return shift(said, ahead - 7, "day")


def _fixed(days: int) -> Callable[[re.Match[str], date], date]:
    return lambda match, said: shift(said, days, "day")


_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], date], date | None]], ...] = tuple(
    (re.compile(rf"\b(?:{pattern})\b"), read)
    for pattern, read in (
        (r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})", _calendar),
        (r"(?P<month>1[0-2]|0?[1-9])/(?P<day>3[01]|[12]\d|0?[1-9])(?:/(?P<year>\d{4}))?", _calendar),
        (rf"{_MONTH} (?:the )?{_DAY}(?!\d)(?:,? (?P<year>\d{{4}}))?", _calendar),
        (rf"{_DAY} (?:of )?{_MONTH}(?:,? (?P<year>\d{{4}}))?", _calendar),
        (rf"{_COUNT} {_UNIT} ago", lambda m, said: shift(said, -_counted(m.group("count")), m.group("unit"))),
        (r"the day before yesterday", _fixed(-2)),
        (r"yesterday|last night", _fixed(-1)),
        (r"today|tonight|this (?:morning|afternoon|evening)", _fixed(0)),
        (r"tomorrow", _fixed(1)),
        (rf"in {_COUNT} {_UNIT}(?! of)", lambda m, said: shift(said, _counted(m.group("count")), m.group("unit"))),
        (rf"(?P<which>last |next |this coming |coming |this |on |since )?(?P<weekday>{'|'.join(WEEKDAYS)})", _weekday),
        (
            r"last weekend|(?:this|the) past weekend|over the weekend",
            lambda m, said: shift(said, -1 - (said.weekday() + 1) % 7, "day"),
        ),
        (r"last (?P<unit>week|month|year)", lambda m, said: shift(said, -1, m.group("unit"))),
        (rf"(?:(?P<part>early|mid|late)[- ]|in |since |of ){_MONTH}(?: (?P<year>\d{{4}}))?", _calendar),
    )
)
_HINT = re.compile(
    r"\d[/-]\d|tonight|this (?:morning|afternoon|evening)|tomorrow|last |ago\b|\bin |day\b|weekend|"
    + "|".join(month[:3] for month in MONTHS)
)


@lru_cache(maxsize=16384)
def mentioned(text: str, said: date) -> date | None:
    """The day that a text mentions, the most explicit of several, relative ones counted from `said`; None for none."""
    lowered = text.lower()
    if not _HINT.search(lowered):
        return None
    for pattern, read in _RULES:
        match = pattern.search(lowered)
        day = read(match, said) if match else None
        if day:
            return day
    return None


def span(question: str, asked: date) -> tuple[date, date] | None:
    """The days that 'this year', 'since March' or 'in the past two weeks' means; None when a question names no span."""
    lowered = question.lower()
    if re.search(r"\b(?:this year|(?:start|beginning) of the year)\b", lowered):
        return date(asked.year, 1, 1), asked
    past = re.search(rf"\b(?:past|last) (?:{_COUNT} )?{_UNIT}\b", lowered)
    if past:
        # A few days of grace, since 'the last month' is seldom meant to the day.
        return shift(shift(asked, -_counted(past.group("count") or "a"), past.group("unit")), -2, "day"), asked
    if "this month" in lowered:
        return asked.replace(day=1), asked
    month = re.search(rf"\b(?P<how>in|during|since|of) (?:the month of )?{_MONTH}(?![a-z])", lowered)
    if month:
        number = _month(month.group("month"))
        start = date(max(asked.year - (number > asked.month), 1), number, 1)
        since = month.group("how") == "since" or "since the" in lowered
        return start, asked if since else shift(shift(start, 1, "month"), -1, "day")
    return None


def between(start: date, end: date, unit: str) -> int:
    """The whole or nearest number of days, weeks, months or years between two days, in either direction."""
    if start > end:
        start, end = end, start
    days = (end - start).days
    if unit == "week":
        return round(days / 7)
    if unit == "month":
        return round(days / 30.44)
    if unit == "year":
        return round(days / 365.25)
    return days

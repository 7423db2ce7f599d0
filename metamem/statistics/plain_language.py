"""What a comparison shows, in words that do not promise more than the numbers.

In: rows of a comparison's tables. Out: sentences. A difference is called one only where `shown` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def points(value: float, signed: bool = False) -> str:
    """A share in percentage points with one decimal: 2.6, or +2.6 and −1.9."""
    shown = f"{100 * value:+.1f}" if signed else f"{100 * abs(value):.1f}"
    return shown.replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def number(p: float) -> str:
    """A p-value: 0.29, 0.013, <0.001."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}"


def pair_sentence(row: Mapping[str, Any]) -> str:
    """One row of `comparison.decide` as a sentence."""
    where = "" if row["part"] == "overall" else f"{row['part']}: "
    low, high = row["interval"]
    several = row["comparisons"] > 1
    corrected = f" ({number(row['p_holm'])} corrected for {row['comparisons']} comparisons)" if several else ""
    if row["shown"]:
        better, worse = (row["second"], row["first"]) if row["difference"] > 0 else (row["first"], row["second"])
        ends = sorted((abs(low), abs(high)))
        return (
            f"{where}{better} is better than {worse} by {points(row['difference'])} points "
            f"(95 % interval {points(ends[0])} to {points(ends[1])}; exact McNemar p {_equals(row['p'])}{corrected})."
        )
    why = " once corrected for the comparisons of this table" if row["separated"] and several else ""
    if row["separated"] and not why:
        why = " by the interval and the test together"
    return (
        f"{where}no difference shown between {row['first']} and {row['second']}{why}: "
        f"{points(row['difference'], True)} points for {row['second']}, 95 % interval {points(low, True)} to "
        f"{points(high, True)}, exact McNemar p {_equals(row['p'])}{corrected}. {detectable(row)}"
    )


def _equals(p: float) -> str:
    return number(p) if p < 0.001 else f"= {number(p)}"


def detectable(row: Mapping[str, Any]) -> str:
    """What a sample of this size could have shown."""
    sample = f"{row['questions']} questions, {100 * row['discordance']:.0f} % of them decided differently"
    if row["smallest_difference"] is None:
        return f"A sample like this ({sample}) is too small to show any difference."
    return (
        f"A sample like this ({sample}) would show a difference of {points(row['smallest_difference'])} points "
        "four times out of five."
    )

"""Figures as data: series with intervals, drawn as SVG into reports and by matplotlib for papers.

In: figures from runs and studies. Out: `Figure` records and their SVG, which takes its colours from the page, so that
it reads on light, on dark and in print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 62


@dataclass(frozen=True)
class Series:
    """One line, or one colour of bars. `low` and `high` are ends of intervals (None: unknown), `y` may miss values."""

    name: str
    x: tuple[str | float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Figure:
    """One set of axes. `kind` is bars (x are names) or lines (x are numbers); `name` is the file's."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: str = "lines"
    share: bool = True

    def names(self) -> list[str]:
        """The names on the x axis of bars, in order of appearance."""
        return [str(x) for x in dict.fromkeys(x for s in self.series for x in s.x)]

    def span(self) -> tuple[float, float]:
        """The y axis: shares from 0 to 1, else from 0 to the highest value."""
        if self.share:
            return 0.0, 1.0
        values = [v for s in self.series for v in (*s.y, *s.high) if v is not None]
        return 0.0, max(values, default=1.0) * 1.05 or 1.0


def svg(figure: Figure) -> str:
    """The figure as an SVG element; every text in it is escaped."""
    low, high = figure.span()
    height = HEIGHT - _BOTTOM - _TOP

    def y_of(value: float) -> float:
        return _TOP + height * (1 - (value - low) / (high - low))

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="figure" aria-label="{escape(figure.title, True)}">',
        f"<title>{escape(figure.title)}</title>",
    ]
    for i in range(5):
        value = low + (high - low) * i / 4
        y = y_of(value)
        text = f"{value:.2f}" if high <= 5 else f"{value:,.0f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    parts += _bars(figure, y_of) if figure.kind == "bars" else _lines(figure, y_of)
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 26}" text-anchor="middle">{escape(figure.x_label)}</text>')
    turned = f'transform="translate(11 {_TOP + height / 2:.0f}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{escape(figure.y_label)}</text>')
    x = float(_LEFT)
    for i, series in enumerate(figure.series):
        parts.append(f'<rect class="s{i % 6}" x="{x:.0f}" y="{HEIGHT - 15}" width="10" height="10"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="{HEIGHT - 6}">{escape(_short(series.name, 24))}</text>')
        x += 24 + 6.6 * min(len(series.name), 24)
    return "".join([*parts, "</svg>"])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _interval(x: float, low: float | None, high: float | None, y_of: Callable[[float], float]) -> list[str]:
    if low is None or high is None:
        return []
    return [f'<line class="interval" x1="{x:.1f}" x2="{x:.1f}" y1="{y_of(low):.1f}" y2="{y_of(high):.1f}"/>']


def _ends(series: Series, i: int) -> tuple[float | None, float | None]:
    return (series.low[i] if series.low else None, series.high[i] if series.high else None)


def _bars(figure: Figure, y_of: Callable[[float], float]) -> list[str]:
    names = figure.names()
    slot = (WIDTH - _LEFT - _RIGHT) / max(len(names), 1)
    width = slot * 0.8 / max(len(figure.series), 1)
    parts = []
    for number, series in enumerate(figure.series):
        for i, (name, value) in enumerate(zip(series.x, series.y, strict=True)):
            if value is None:
                continue
            x = _LEFT + slot * (names.index(str(name)) + 0.1) + width * number
            top, bottom = y_of(value), y_of(0)
            said = f"<title>{escape(f'{series.name}, {name}: {value:.3f}')}</title>"
            rect = f'x="{x:.1f}" y="{top:.1f}" width="{width * 0.92:.1f}" height="{max(bottom - top, 0):.1f}"'
            parts.append(f'<rect class="s{number % 6}" {rect}>{said}</rect>')
            parts += _interval(x + width * 0.46, *_ends(series, i), y_of)
    for i, name in enumerate(names):
        most = max(int(slot / 6.2), 4)
        x, y = _LEFT + slot * (i + 0.5), HEIGHT - _BOTTOM + (14 if i % 2 == 0 or len(names) < 5 else 26)
        shown = _short(name, most * (1 if len(names) < 5 else 2))
        parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{escape(shown)}</text>')
    return parts


def _lines(figure: Figure, y_of: Callable[[float], float]) -> list[str]:
    xs = [float(x) for s in figure.series for x in s.x]
    first, last = min(xs, default=0.0), max(xs, default=1.0)
    room = WIDTH - _LEFT - _RIGHT - 20

    def x_of(x: float) -> float:
        return _LEFT + 10 + room * ((x - first) / (last - first) if last > first else 0.5)

    parts = []
    for number, series in enumerate(figure.series):
        points = [(x_of(float(x)), y, i) for i, (x, y) in enumerate(zip(series.x, series.y, strict=True))]
        known = [(x, y, i) for x, y, i in points if y is not None]
        path = " ".join(f"{x:.1f},{y_of(y):.1f}" for x, y, _ in known)
        parts.append(f'<polyline class="line s{number % 6}" points="{path}"/>')
        for x, y, i in known:
            parts += _interval(x, *_ends(series, i), y_of)
            said = f"<title>{escape(f'{series.name}, {series.x[i]}: {y:.3f}')}</title>"
            parts.append(f'<circle class="s{number % 6}" cx="{x:.1f}" cy="{y_of(y):.1f}" r="3.5">{said}</circle>')
    for x in _ticks(sorted(set(xs))):
        parts.append(f'<text x="{x_of(x):.1f}" y="{HEIGHT - _BOTTOM + 14}" text-anchor="middle">{x:g}</text>')
    return parts


def _ticks(values: Sequence[float]) -> Sequence[float]:
    """The values themselves where they are few whole numbers, else round ones within their range."""
    if all(v.is_integer() for v in values) and len(values) <= 10 and (len(values) < 3 or values[-1] <= 40):
        return values
    if len(values) < 2:
        return values
    rough = (values[-1] - values[0]) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
    first = math.ceil(values[0] / step)
    return [i * step for i in range(first, math.floor(values[-1] / step) + 1)]

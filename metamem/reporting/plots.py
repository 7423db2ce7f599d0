"""Figures for papers: PNG and PDF, by matplotlib, from the same series as in the reports.

In: `Figure` records. Out: `NAME.png` and `NAME.pdf`. Text stays text in the PDF; the files do not hold the time they
were made, so that the same figure is the same file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metamem.core.files import write_bytes
from metamem.reporting.figures import Figure, Series
from metamem.reporting.points import apart, front, place, powers, value_at

# Distinguishable for colour-blind readers and in grey (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def write_figures(figures: Sequence[Figure], folder: Path, stamps: Sequence[str] = ()) -> list[Path]:
    """Write each figure as PNG and PDF, with what its runs are stamped as in a corner; returns the paths."""
    if not figures:
        return []
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    paths = []
    with mpl.rc_context({"pdf.fonttype": 42, "font.size": 9, "axes.prop_cycle": cycler(color=COLOURS)}):
        for figure in figures:
            canvas = Canvas(figsize=(6.4, 3.4), layout="constrained")
            FigureCanvasAgg(canvas)
            _draw(canvas.subplots(), figure)
            stamped = ", ".join(stamps).replace("$", r"\$")
            canvas.text(0.995, 0.99, stamped, ha="right", va="top", fontsize=6, color="0.4")
            for kind, about in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
                sink = io.BytesIO()
                canvas.savefig(sink, format=kind, dpi=200, metadata=about)
                paths.append(folder / f"{figure.name}.{kind}")
                write_bytes(paths[-1], sink.getvalue())
    return paths


def _draw(axes: Any, figure: Figure) -> None:
    names = figure.names()
    for number, series in enumerate(figure.series):
        kept = [i for i, y in enumerate(series.y) if y is not None]
        y = [series.y[i] for i in kept]
        errors = _errors(series, kept)
        # matplotlib reads dollars as mathematics; names are data.
        label = series.name.replace("$", r"\$")
        if figure.kind == "points":
            x = [float(series.x[i]) for i in kept]
            axes.errorbar(x, y, yerr=errors, fmt="o", markersize=4, elinewidth=0.5, label=label)
        elif figure.kind == "bars":
            width = 0.8 / max(len(figure.series), 1)
            x = [names.index(str(series.x[i])) + width * (number - (len(figure.series) - 1) / 2) for i in kept]
            axes.bar(x, y, width * 0.92, yerr=errors, capsize=2, label=label, error_kw={"linewidth": 0.8})
        else:
            x = [float(series.x[i]) for i in kept]
            axes.errorbar(x, y, yerr=errors, marker="o", markersize=3.5, capsize=2, linewidth=1.2, label=label)
    if figure.kind == "bars":
        turned = {"rotation": 20, "ha": "right"} if len(names) > 4 else {}
        axes.set_xticks(range(len(names)), [n.replace("$", r"\$") for n in names], **turned)
    if figure.kind == "points":
        _name_points(axes, figure)
    axes.set_ylim(*figure.span())
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label, title=figure.title.replace("$", r"\$"))
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    if len(figure.series) > 1:
        axes.legend(frameon=False, fontsize=8)


def _name_points(axes: Any, figure: Figure) -> None:
    """Put names beside points, and a line through those that no other one is better than."""
    known = [
        (float(x), y, series.labels[i] if series.labels else "")
        for series in figure.series
        for i, (x, y) in enumerate(zip(series.x, series.y, strict=True))
        if y is not None
    ]
    marks = powers([x for x, _, _ in known])
    first, end = marks[1], 1.15 * place(marks[-1], marks[1])
    axes.set_xscale("function", functions=tuple(_each(f, first) for f in (place, value_at)))
    axes.set_xlim(-0.02 * first, value_at(end, first))
    axes.set_xticks(marks, [f"{mark:,.0f}" for mark in marks])
    best = [known[i] for i in front([(x, y) for x, y, _ in known])]
    axes.plot([x for x, _, _ in best], [y for _, y, _ in best], "--", color="0.6", linewidth=0.8, zorder=0)
    # Names are placed in points of the page, on axes of about 400 by 190.
    low, high = figure.span()
    width = 400 / end
    boxes = []
    for x, y, name in known:
        left = width * place(x, first)
        boxes.append((left, left + 3.2 * len(name) + 4, 190 * (high - y) / (high - low)))
    for (x, y, name), (_, _, wanted), height in zip(known, boxes, apart(boxes, 6.5), strict=True):
        text = name.replace("$", r"\$")
        axes.annotate(text, (x, y), (4, wanted - height - 2), textcoords="offset points", fontsize=6)


def _each(function: Callable[[float, float], float], first: float) -> Callable[[Any], Any]:
    import numpy as np

    return np.vectorize(lambda value: function(float(value), first), otypes=[float])


def _errors(series: Series, kept: Sequence[int]) -> Any:
    if not series.low:
        return None
    below, above = [], []
    for i in kept:
        y, low, high = series.y[i], series.low[i], series.high[i]
        assert y is not None
        below.append(max(y - low, 0.0) if low is not None else 0.0)
        above.append(max(high - y, 0.0) if high is not None else 0.0)
    return [below, above]

"""Figures for papers: PNG and PDF, by matplotlib, from the same series as in the reports.

In: `Figure` records. Out: `NAME.png` and `NAME.pdf`. Text stays text in the PDF; the files do not hold the time they
were made, so that the same figure is the same file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamem.core.files import write_bytes
from metamem.reporting.figures import Figure, Series

# Distinguishable for colour-blind readers and in grey (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def write_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write each figure as PNG and PDF; returns the paths."""
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
        if figure.kind == "bars":
            width = 0.8 / max(len(figure.series), 1)
            x = [names.index(str(series.x[i])) + width * (number - (len(figure.series) - 1) / 2) for i in kept]
            axes.bar(x, y, width * 0.92, yerr=errors, capsize=2, label=label, error_kw={"linewidth": 0.8})
        else:
            x = [float(series.x[i]) for i in kept]
            axes.errorbar(x, y, yerr=errors, marker="o", markersize=3.5, capsize=2, linewidth=1.2, label=label)
    if figure.kind == "bars":
        turned = {"rotation": 20, "ha": "right"} if len(names) > 4 else {}
        axes.set_xticks(range(len(names)), [n.replace("$", r"\$") for n in names], **turned)
    axes.set_ylim(*figure.span())
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label, title=figure.title.replace("$", r"\$"))
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    if len(figure.series) > 1:
        axes.legend(frameon=False, fontsize=8)


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

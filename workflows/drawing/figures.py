"""Histograms as inline SVG that takes its colours and fonts from the page around it, so that it follows its theme."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from labeler.quality import VERDICTS

Scale = Literal["linear", "log"]
# Colours that no figure holds otherwise, and what each becomes in the page.
_INK, _FAINT = "#010203", "#010204"
_FILLS = dict(zip(VERDICTS, ("#010205", "#010206", "#010207"), strict=True))
_VARIABLES = {
    _INK: "var(--ink-soft)",
    _FAINT: "var(--line)",
    **{colour: f"var(--{name})" for name, colour in _FILLS.items()},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def histogram_svg(
    histogram: Histogram,
    name: str,
    title: str,
    x_label: str,
    thresholds: Sequence[tuple[float, str]] = (),
    scale: Scale = "linear",
    ticks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Stacked bars by verdict.

    Args:
        name: of the figure, unique in the page; every id in it begins so.
        title: for those who cannot see it.
        thresholds: (value, label) of the lines to draw in; at most two get a label, the others are faint.
        ticks: (value, label) on the x axis, where matplotlib's own will not do.
    """
    import matplotlib  # half a second, which no other command is to pay for
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    edges = np.asarray(histogram.edges)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(4.6, 2.35), facecolor="none", layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set_facecolor("none")
        axes.set_xscale(scale)
        base = np.zeros(len(edges) - 1)
        gap = np.diff(edges) * 0.08
        for verdict, counts in zip(VERDICTS, histogram.counts, strict=True):
            there = counts > 0
            axes.bar(
                edges[:-1][there],
                counts[there],
                (np.diff(edges) - gap)[there],
                bottom=base[there],
                align="edge",
                color=_FILLS[verdict],
                linewidth=0,
            )
            base += counts
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, max(base.max(), 1) * 1.04)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        if ticks:
            axes.xaxis.set_major_locator(FixedLocator([value for value, _ in ticks]))
            axes.set_xticklabels([label for _, label in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(x_label)
        for value, _ in (each for each in thresholds if not each[1]):
            axes.axvline(value, color=_FAINT, linewidth=1.2, linestyle=(0, (1, 1)))
        labeled = sorted(each for each in thresholds if each[1])
        for place, (value, label) in enumerate(labeled):
            axes.axvline(value, color=_INK, linewidth=1.2, linestyle=(0, (4, 2)))
            leftwards = value > 0.75 or (len(labeled) > 1 and place == 0)
            axes.annotate(
                label,
                (value, 1),
                (-3 if leftwards else 3, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if leftwards else "left",
                va="bottom",
                fontsize=9.5,
            )
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return _inline(drawn.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> Markup:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # of the whole page, if inline
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    view_box = re.search(r'viewBox="([^"]+)"', svg)
    assert view_box is not None
    body = svg[svg.index(">") + 1 :]
    head = f'<svg class="plot" viewBox="{view_box[1]}" role="img" aria-label="{escape(title)}">'
    return Markup(head + body)


@dataclass
class Histogram:
    """Counts by bin and verdict; what lies outside the edges is counted in the outermost bins."""

    edges: tuple[float, ...]
    counts: NDArray[np.int64] = field(init=False)  # (verdicts, bins)

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(VERDICTS), len(self.edges) - 1), dtype=np.int64)

    def add(self, value: float, verdict: str = VERDICTS[0]) -> None:
        place = bisect_right(self.edges, value) - 1
        self.counts[VERDICTS.index(verdict), min(max(place, 0), len(self.edges) - 2)] += 1

    def rows(self) -> list[tuple[float, float, list[int]]]:
        """(from, to, counts by verdict) of every bin."""
        return list(zip(self.edges, self.edges[1:], self.counts.T.tolist(), strict=False))

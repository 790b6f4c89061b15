"""Figures as SVG that stands in the page itself and takes the page's font and colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prag_lightning.report.comparison import Comparison
from prag_lightning.report.gather import Experiment
from prag_lightning.report.published import published_f1
from prag_lightning.report.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 4.4
_ROW_HEIGHT = 0.34
_COLORS = {
    "#010101": "currentColor",
    "#020202": "var(--line)",
    "#030303": "var(--ours)",
    "#040404": "var(--paper)",
    "#050505": "var(--both)",
    "#060606": "var(--first)",
    "#070707": "var(--second)",
    "#080808": "var(--neither)",
}
"""Stand-ins that are drawn with, and what the page's style has for each."""
_TEXT, _LINE, _OURS, _PAPER, _BOTH, _FIRST, _SECOND, _NEITHER = _COLORS
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "axes.edgecolor": _LINE,
    "grid.color": _LINE,
}


def f1_plot(experiment: Experiment, split: str) -> str:
    """F1 of each method with its interval, and the paper's beside it."""
    results = experiment.of_split(split)
    with _style(f"f1 {experiment.name} {split}"):
        figure, axes = _axes(len(results) + 1.2)
        for place, result in enumerate(results):
            mean, interval = 100 * result.mean("f1"), mean_interval(result.values("f1"))
            if interval is not None:
                axes.plot([100 * interval.low, 100 * interval.high], [place, place], color=_OURS, linewidth=2)
            axes.plot(mean, place, "o", color=_OURS, markersize=7)
            paper = published_f1(experiment.model, experiment.dataset, split, result.method)
            if paper is not None:
                axes.plot(100 * paper, place, "D", color=_PAPER, markersize=7, fillstyle="none", markeredgewidth=1.6)
        _label(axes, [result.method for result in results])
        axes.set_xlim(-2, 102)
        axes.set_xlabel("F1, in per cent")
        return _svg(figure, f"F1 of {len(results)} methods on {split}, as in the table of scores")


def comparison_plot(comparisons: Sequence[Comparison], name: str) -> str:
    """For each pair of methods the shares of questions that both get right, one alone, or none."""
    with _style(f"comparison {name}"):
        figure, axes = _axes(len(comparisons) + 1.2)
        for place, c in enumerate(comparisons):
            left = 0.0
            counts = (c.both, c.only_first, c.only_second, c.neither)
            for count, color in zip(counts, (_BOTH, _FIRST, _SECOND, _NEITHER), strict=True):
                axes.barh(place, 100 * count / c.shared, 0.62, left, color=color)
                left += 100 * count / c.shared
        _label(axes, [f"{c.first} / {c.second}" for c in comparisons])
        axes.set_xlim(0, 100)
        axes.set_xlabel("questions, in per cent")
        return _svg(figure, f"Questions right by both, one or none of {len(comparisons)} pairs, as in the table")


@contextmanager
def _style(name: str) -> Iterator[None]:
    """The report's own settings, whatever the user's are; the name keeps the ids of figures on a page apart."""
    from matplotlib import rc_context, rcdefaults, rcParams

    with rc_context():
        rcdefaults()
        rcParams.update({**_SETTINGS, "svg.hashsalt": name})
        yield


def _axes(rows: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 0.35 + _ROW_HEIGHT * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _label(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _svg(figure: Figure, description: str) -> str:
    """The figure as an SVG element without what only a file of its own needs, named for who cannot see it.

    It is drawn on nothing; ids that nothing refers to are dropped, since a page holds several figures.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = (
        re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", text.partition(">")[0])
        + ">"
        + text.partition(">")[2]
    )
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = text.replace("<svg", f'<svg role="img" aria-label="{_attribute(description)}"', 1)
    for stand_in, color in _COLORS.items():
        text = text.replace(stand_in, color)
    return text


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")

"""The ground that the charts stand on: one matplotlib panel, and its SVG made fit for a page.

The SVG has no ground of its own, writes its text as text, and takes its colours from the page: ink is
``currentColor``, series are custom properties. It holds no date and no random id, so that the same numbers give the
same bytes with the same matplotlib.
"""

from __future__ import annotations

import contextlib
import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .colours import LIGHT_INK, LIGHT_SERIES, series_variable
from .text import on_one_line, shorten

__all__ = [
    "INK",
    "LineStyle",
    "draw_panel",
    "line_style",
    "marker",
    "nothing_to_draw",
    "panel_png",
    "plain_logarithm",
    "row_text",
    "rows_only",
    "series_colour",
]

LineStyle = str | tuple[int, tuple[float, ...]]
"""As matplotlib takes it: solid, or the lengths of dashes and gaps."""

INK = LIGHT_INK

# In inches at 72 units an inch: about as many CSS pixels as a phone is wide, so that text keeps its size there.
_WIDTH = 4.9
_LEGEND_ROW = 0.21
_MOST_LABEL = 44
_NOTE_WIDTH = 62
_FEW_DECADES = 2.3
_SVG = "http://www.w3.org/2000/svg"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgeiqa",
    # A dollar sign in a file name is no formula.
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 11.0,
    "axes.labelsize": 11.0,
    "axes.titlesize": 9.5,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.fontsize": 10.0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.edgecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
}
_LINES: tuple[LineStyle, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
_MARKERS = "osD^vP*X"


def series_colour(index: int) -> str:
    """Colour of the series at ``index``, counted from 0."""
    return LIGHT_SERIES[index % len(LIGHT_SERIES)]


def line_style(index: int) -> LineStyle:
    """Dashes that tell series apart that come to the same colour, and neighbours on grey paper."""
    return _LINES[(index + index // len(LIGHT_SERIES)) % len(_LINES)]


def marker(index: int) -> str:
    """Shape that tells series apart without their colour."""
    return _MARKERS[(index + index // len(LIGHT_SERIES)) % len(_MARKERS)]


def draw_panel(
    draw: Callable[[Axes], Sequence[tuple[str, Line2D]]], alt: str, *, notes: Sequence[str] = (), height: float = 3.1
) -> str:
    """One panel as SVG.

    Args:
        draw: draws on the axes, and returns what the legend names, empty for none.
        alt: alternative text.
        notes: what is not drawn and why, written above the panel and added to ``alt``.
        height: of the panel without its legend, in inches.

    Returns:
        One ``svg`` element, well-formed as XML.
    """
    with _own_style():
        return _finished(_panel(draw, notes, height), " ".join([alt, *notes]))


def panel_png(
    draw: Callable[[Axes], Sequence[tuple[str, Line2D]]],
    *,
    notes: Sequence[str] = (),
    height: float = 3.1,
    dots_per_inch: int = 150,
) -> bytes:
    """The panel of `draw_panel` as a PNG file on white, for where a page is too much."""
    with _own_style(), _quiet_about_glyphs():
        file = io.BytesIO()
        _panel(draw, notes, height).savefig(
            file, format="png", dpi=dots_per_inch, facecolor="white", metadata={"Software": None}
        )
        return file.getvalue()


@contextlib.contextmanager
def _own_style() -> Iterator[None]:
    with matplotlib.rc_context():
        # What a user's matplotlibrc says must not change the page.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def _panel(draw: Callable[[Axes], Sequence[tuple[str, Line2D]]], notes: Sequence[str], height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    legend = [(_label(name), handle) for name, handle in draw(axes)]
    axes.set_xlabel(shorten(on_one_line(axes.get_xlabel()), _MOST_LABEL))
    axes.set_ylabel(shorten(on_one_line(axes.get_ylabel()), _MOST_LABEL - 12))
    lines = [line for note in notes for line in textwrap.wrap(on_one_line(note), _NOTE_WIDTH)]
    if lines:
        axes.set_title("\n".join(lines), loc="left")
    if legend:
        columns = 2 if len(legend) > 1 and max(len(name) for name, _ in legend) <= _MOST_LABEL // 2 else 1
        figure.legend(
            [handle for _, handle in legend],
            [name for name, _ in legend],
            loc="outside lower left",
            ncols=columns,
            handlelength=2.4,
            borderpad=0.0,
        )
    rows = -(-len(legend) // columns) if legend else 0
    figure.set_size_inches(_WIDTH, height + _LEGEND_ROW * (rows + 0.7 * len(lines)))
    return figure


def nothing_to_draw(what: str) -> str:
    """A panel that says that there is nothing to draw."""
    lines = textwrap.wrap(on_one_line(what), _NOTE_WIDTH - 10)

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", transform=axes.transAxes)
        return ()

    return draw_panel(draw, what, height=0.6 + _LEGEND_ROW * len(lines))


def row_text(axes: Axes, row: int, name: str, figures: str) -> None:
    """A name to the left and figures to the right above the bar at height ``-row``."""
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "bottom", "fontsize": 10.0}
    axes.text(0.0, -row + 0.24, shorten(on_one_line(name), 40), ha="left", **style)
    axes.text(1.0, -row + 0.24, figures, ha="right", **style)


def rows_only(axes: Axes, rows: int) -> None:
    """Axes for bars at heights 0 to ``1 - rows``, which have their names above them."""
    axes.set(ylim=(0.4 - rows, 0.75), yticks=[])
    axes.spines["left"].set_visible(False)


def plain_logarithm(axis: Axis) -> None:
    """Ticks of a logarithmic axis as plain numbers, not as powers of ten, which matplotlib writes as formulas."""
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < _FEW_DECADES else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _label(name: str) -> str:
    label = shorten(on_one_line(name), _MOST_LABEL)
    # matplotlib leaves names that begin with an underscore out of a legend; a word joiner is not seen.
    return f"\u2060{label}" if label.startswith("_") else label


def _finished(figure: Figure, alt: str) -> str:
    file = io.StringIO()
    with _quiet_about_glyphs():
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())  # noqa: S314 - drawn above
    for parent in list(root.iter()):
        for child in list(parent):
            # The metadata names addresses, and the style sheet would hold for the whole page.
            if child.tag == f"{{{_SVG}}}style" or child.tag.endswith("}metadata") or child.tag == "metadata":
                parent.remove(child)
    for element in root.iter():
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)
        if _XLINK_HREF in element.attrib:
            element.set("href", element.attrib.pop(_XLINK_HREF))
        for name in ("style", "fill", "stroke"):
            if name in element.attrib:
                element.set(name, _with_colours_of_the_page(element.attrib[name]))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", on_one_line(alt))
    root.set("stroke-linejoin", "round")
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


@contextlib.contextmanager
def _quiet_about_glyphs() -> Iterator[None]:
    with warnings.catch_warnings():
        # The page's font draws the text; matplotlib's own, which only measures it, need not know every script.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support")
        yield


def _with_colours_of_the_page(style: str) -> str:
    style = style.replace(INK, "currentColor")
    for index, colour in enumerate(LIGHT_SERIES):
        style = style.replace(colour, f"var({series_variable(index)}, {colour})")
    return style

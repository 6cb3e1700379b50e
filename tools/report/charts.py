"""Charts as SVG: pure functions from numbers to one drawing, or to small multiples by name.

Values that are not finite leave a gap, and series without one that can be drawn are named above the panel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from ...profiles.metrics import Interval
from ...runtime.errors import DataError, UsageError, require_field
from ...runtime.score_map import ScoreMap
from .drawing import (
    INK,
    draw_panel,
    line_style,
    marker,
    nothing_to_draw,
    row_text,
    rows_only,
    series_colour,
)
from .text import on_one_line, shorten, term_words

__all__ = [
    "MOST_LINE_POINTS",
    "MOST_SCATTER_POINTS",
    "Bar",
    "Points",
    "Severities",
    "bars_with_limits",
    "intervals",
    "loss_curves",
    "loss_panels",
    "scatter",
    "score_maps",
    "severity_curves",
]

Points = Sequence[tuple[float, float]]
"""Epochs or steps, rising, each with a value."""

Severities = Sequence[tuple[float, float, float]]
"""Severities in [0, 1], rising, each with the teacher's and the student's score."""

MOST_LINE_POINTS = 400
"""A longer line is drawn as the means of equal runs of its points."""

MOST_SCATTER_POINTS = 4000
"""Of more points, as many are drawn, evenly spaced in their order."""

_FEW_POINTS = 30
_DECADES = 1.5
_POINTS: dict[str, Any] = {"markeredgewidth": 0.0, "linestyle": "none"}


@dataclass(frozen=True, slots=True)
class Bar:
    """A quantity beside its limit.

    Attributes:
        name: of the quantity.
        value: at least 0.
        limit: above 0, in the unit of the value.
        unit: of both, such as ``GMACs``.

    Raises:
        RecordError: a number is out of its range.
    """

    name: str
    value: float
    limit: float
    unit: str

    def __post_init__(self) -> None:
        holds = math.isfinite(self.value) and self.value >= 0 and math.isfinite(self.limit) and self.limit > 0
        require_field(holds, f"{self.name}: {self.value} of {self.limit}", "a value of at least 0, a limit above 0")


def loss_curves(
    series: Mapping[str, Points], *, x_label: str = "epoch", y_label: str = "loss", log: bool | None = None
) -> str:
    """Values over epochs or steps, a line a series.

    Args:
        series: points by name.
        x_label: what is counted.
        y_label: what is drawn, with its unit.
        log: logarithmic or linear values; None takes the logarithm where all are above 0 and span a factor of 30.

    Returns:
        SVG.

    Raises:
        UsageError: ``log`` with a value that is not above 0.
    """
    lines = {name: _thinned(_finite_points(points)) for name, points in series.items()}
    drawn = {name: line for name, line in lines.items() if np.isfinite(line[:, 1]).any()}
    if not drawn:
        return nothing_to_draw(_nothing(y_label, series))
    values = np.concatenate([line[:, 1] for line in drawn.values()])
    values = values[np.isfinite(values)]
    if log and values.min() <= 0:
        raise UsageError(
            f"a logarithmic axis for a {y_label} of {values.min():g}",
            expected="values above 0",
            mend="draw it with log=False",
        )
    if log is None:
        log = bool(values.min() > 0 and math.log10(values.max() / values.min()) > _DECADES)

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        handles = []
        for index, (name, line) in enumerate(lines.items()):
            if name in drawn:
                (handle,) = axes.plot(line[:, 0], line[:, 1], color=series_colour(index), linestyle=line_style(index))
                if len(line) <= _FEW_POINTS:
                    handle.set(marker=marker(index), markersize=4.0)
                handles.append((name, handle))
        axes.set(xlabel=x_label, ylabel=y_label)
        if log:
            axes.set_yscale("log")
            # Not as powers of ten, which matplotlib writes as formulas.
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if all(float(x).is_integer() for line in drawn.values() for x in line[:, 0]):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return handles if len(series) > 1 else ()

    last = "; ".join(f"{name}: {_last(line):.4g} at the end" for name, line in drawn.items())
    notes = _not_drawn([name for name in series if name not in drawn])
    notes += [
        f"{name}: {gaps} of {len(series[name])} values are not finite."
        for name in drawn
        if (gaps := _not_finite(series[name]))
    ]
    longest = max(len(series[name]) for name in drawn)
    if longest > MOST_LINE_POINTS:
        notes.append(f"Each point is the mean of up to {-(-longest // MOST_LINE_POINTS)} values.")
    return draw_panel(draw, f"{y_label} over {x_label}{', logarithmic' if log else ''}. {last}.", notes=notes)


def loss_panels(
    terms: Mapping[str, Mapping[str, Points]], *, x_label: str = "epoch", log: bool | None = None
) -> dict[str, str]:
    """Small multiples: a drawing a term, as `loss_curves` makes it from the series of the term."""
    return {
        term: loss_curves(series, x_label=x_label, y_label=term_words(term), log=log) for term, series in terms.items()
    }


def scatter(
    predicted: ArrayLike,
    mos: ArrayLike,
    labels: Sequence[str],
    *,
    x_label: str = "predicted score",
    y_label: str = "MOS",
) -> str:
    """Points on two axes of one scale, with the line where both agree.

    Args:
        predicted: float ``[n]``, drawn to the right.
        mos: float ``[n]``, drawn upwards.
        labels: what each point belongs to, such as its fold, ``[n]``; in the legend in order of appearance.
        x_label: of ``predicted``.
        y_label: of ``mos``.

    Returns:
        SVG.

    Raises:
        DataError: the arrays are not of one length.
    """
    x, y = _paired(predicted, mos, len(labels))
    finite = np.isfinite(x) & np.isfinite(y)
    order = dict.fromkeys(labels)
    if not finite.any():
        return nothing_to_draw(_nothing(f"{y_label} against {x_label}", order))
    shown = _spaced(np.flatnonzero(finite))
    names = np.array([list(order).index(label) for label in labels])

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        handles = []
        for index, name in enumerate(order):
            own = shown[names[shown] == index]
            if len(own):
                style = _POINTS | {"marker": marker(index), "color": series_colour(index)}
                axes.plot(x[own], y[own], markersize=3.6, alpha=0.6, **style)
                handles.append((name, Line2D([], [], markersize=6.0, **style)))
        low, high = min(x[shown].min(), y[shown].min()), max(x[shown].max(), y[shown].max())
        margin = 0.03 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color=INK, alpha=0.5, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.set(xlim=limits, ylim=limits, xlabel=x_label, ylabel=y_label)
        axes.set_aspect("equal")
        return handles if len(order) > 1 else ()

    notes = _not_drawn([name for index, name in enumerate(order) if not (finite & (names == index)).any()])
    notes += _left_out(len(x), int(finite.sum()), len(shown))
    groups = f" in {len(order)} groups: {', '.join(order)}" if len(order) > 1 else ""
    alt = f"{y_label} against {x_label}, {len(shown)} points{groups}."
    return draw_panel(draw, alt, notes=notes, height=4.2)


def score_maps(maps: Mapping[str, tuple[ArrayLike, ArrayLike, ScoreMap]]) -> dict[str, str]:
    """Small multiples: the score map of each member over the raw outputs that it was fitted on.

    Args:
        maps: by member, raw outputs ``[n]``, MOS ``[n]`` on the map's scale, and the map.

    Returns:
        SVG by member; all have the same upward axis.

    Raises:
        DataError: raw outputs and MOS are not of one length.
    """
    pairs = {name: _paired(raw, mos) for name, (raw, mos, _) in maps.items()}
    finite = {name: np.flatnonzero(np.isfinite(raw) & np.isfinite(mos)) for name, (raw, mos) in pairs.items()}
    tops = [
        value
        for name, (_, _, score_map) in maps.items()
        for value in (score_map.low, score_map.high, *pairs[name][1][finite[name]])
    ]

    def panel(index: int, name: str) -> str:
        (raw, mos), score_map, shown = pairs[name], maps[name][2], _spaced(finite[name])
        if not len(shown):
            return nothing_to_draw(_nothing("raw outputs and MOS", [name]))
        low, high = float(raw[shown].min()), float(raw[shown].max())
        reach = 0.1 * (high - low) or max(1.0, abs(low)) * 0.1
        xs = np.linspace(low - reach, high + reach, 121)
        ys = score_map.apply(xs)

        def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
            style = _POINTS | {"marker": "o", "color": series_colour(index)}
            axes.plot(raw[shown], mos[shown], markersize=3.2, alpha=0.4, **style)
            (line,) = axes.plot(xs, ys, color=INK)
            margin = 0.03 * (max(tops) - min(tops))
            axes.set(ylim=(min(tops) - margin, max(tops) + margin), xlabel="raw output", ylabel="MOS")
            return [("photographs", Line2D([], [], markersize=6.0, **style)), ("score map", line)]

        alt = f"Score map of {name}: {ys[0]:.4g} at a raw output of {xs[0]:.4g}, {ys[-1]:.4g} at {xs[-1]:.4g}."
        return draw_panel(draw, alt, notes=_left_out(len(raw), len(finite[name]), len(shown)))

    return {name: panel(index, name) for index, name in enumerate(maps)}


def severity_curves(curves: Mapping[str, Severities], *, y_label: str = "score") -> dict[str, str]:
    """Small multiples: the teacher's and the student's score against the severity of each kind of distortion.

    Args:
        curves: severities and scores by kind; severity 0 is the photograph as it is.
        y_label: of the scores.

    Returns:
        SVG by kind; all have the same axes.
    """
    arrays = {kind: np.array(rows, dtype=np.float64).reshape(-1, 3) for kind, rows in curves.items()}
    scores = np.concatenate([np.empty(0), *(rows[:, 1:].ravel() for rows in arrays.values())])
    scores = scores[np.isfinite(scores)]

    def panel(kind: str, rows: NDArray[np.float64]) -> str:
        both = {"teacher": rows[:, 1], "student": rows[:, 2]}
        drawn = {name: values for name, values in both.items() if np.isfinite(values).any()}
        if not drawn:
            return nothing_to_draw(_nothing(f"scores under {kind}", both))

        def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
            handles = []
            for index, name in enumerate(both):
                if name in drawn:
                    (handle,) = axes.plot(rows[:, 0], both[name], color=series_colour(index), marker=marker(index))
                    handle.set(linestyle=line_style(index), markersize=5.0)
                    handles.append((name, handle))
            margin = 0.06 * float(np.ptp(scores)) or 1.0
            axes.set(xlim=(-0.03, 1.03), ylim=(scores.min() - margin, scores.max() + margin))
            axes.set(xlabel=f"severity of {kind}", ylabel=y_label)
            return handles

        ends = "; ".join(f"{name}: {values[0]:.4g} to {values[-1]:.4g}" for name, values in drawn.items())
        alt = f"{y_label} against the severity of {kind}, {rows[0, 0]:g} to {rows[-1, 0]:g}. {ends}."
        return draw_panel(draw, alt, notes=_not_drawn([name for name in both if name not in drawn]), height=2.7)

    return {kind: panel(kind, rows) for kind, rows in arrays.items()}


def bars_with_limits(bars: Sequence[Bar]) -> str:
    """Quantities as shares of their limits, a bar each; one that is over its limit is hatched."""
    if not bars:
        return nothing_to_draw(_nothing("a quantity and its limit", ()))
    shares = [100 * bar.value / bar.limit for bar in bars]

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        for row, (bar, share) in enumerate(zip(bars, shares, strict=True)):
            over = share > 100
            fill: dict[str, Any] = {"color": series_colour(1 if over else 0), "alpha": 0.85}
            axes.barh(-row, share, height=0.42, **fill, hatch="///" if over else None, edgecolor=INK, linewidth=0)
            row_text(axes, row, bar.name, f"{bar.value:.4g} of {bar.limit:.4g} {shorten(on_one_line(bar.unit), 12)}")
            # Not through the text above.
            axes.plot((100, 100), (-row - 0.3, -row + 0.22), color=INK, linewidth=1.4)
        axes.set(xlim=(0, max(110.0, 1.05 * max(shares))), xlabel="% of the limit")
        rows_only(axes, len(bars))
        return ()

    said = "; ".join(
        f"{bar.name}: {bar.value:.4g} of {bar.limit:.4g} {bar.unit}{', over the limit' if share > 100 else ''}"
        for bar, share in zip(bars, shares, strict=True)
    )
    return draw_panel(draw, f"Shares of limits. {said}.", height=0.8 + 0.5 * len(bars))


def intervals(rows: Mapping[str, Interval], *, x_label: str, decimals: int = 3) -> str:
    """Figures with their intervals, a row each, on one axis."""
    drawn = {name: row for name, row in rows.items() if np.isfinite([row.value, row.low, row.high]).all()}
    if not drawn:
        return nothing_to_draw(_nothing(x_label, rows))

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        for row, (name, figure) in enumerate(drawn.items()):
            axes.plot((figure.low, figure.high), (-row, -row), color=series_colour(0), linewidth=2.2)
            axes.plot(figure.value, -row, color=series_colour(0), marker="o", markersize=6.5)
            row_text(axes, row, name, _with_interval(figure, decimals))
        axes.set(xlabel=x_label)
        axes.margins(x=0.08)
        rows_only(axes, len(drawn))
        return ()

    said = "; ".join(f"{name}: {_with_interval(row, decimals)}" for name, row in drawn.items())
    notes = _not_drawn([name for name in rows if name not in drawn])
    return draw_panel(draw, f"{x_label} with intervals. {said}.", notes=notes, height=0.8 + 0.5 * len(drawn))


def _with_interval(figure: Interval, decimals: int) -> str:
    return f"{figure.value:.{decimals}f} ({figure.low:.{decimals}f} to {figure.high:.{decimals}f})"


def _finite_points(points: Points) -> NDArray[np.float64]:
    """Rows of x and value, float64 ``[n, 2]``; a value that is not finite is NaN, a row without x is left out."""
    rows = np.array(points, dtype=np.float64).reshape(-1, 2)
    rows = rows[np.isfinite(rows[:, 0])]
    rows[~np.isfinite(rows[:, 1]), 1] = np.nan
    return rows


def _thinned(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(rows) <= MOST_LINE_POINTS:
        return rows
    # A run with a value that is not finite stays a gap.
    run = -(-len(rows) // MOST_LINE_POINTS)
    return np.array([rows[start : start + run].mean(axis=0) for start in range(0, len(rows), run)])


def _last(line: NDArray[np.float64]) -> float:
    return float(line[np.isfinite(line[:, 1])][-1, 1])


def _not_finite(points: Points) -> int:
    return sum(not (math.isfinite(x) and math.isfinite(value)) for x, value in points)


def _paired(a: ArrayLike, b: ArrayLike, count: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or (count is not None and len(x) != count):
        raise DataError(
            f"arrays of shape {list(x.shape)} and {list(y.shape)}{'' if count is None else f' and {count} labels'}",
            expected="arrays of one length",
            mend="give both numbers of each photograph",
        )
    return x, y


def _spaced(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    if len(indices) <= MOST_SCATTER_POINTS:
        return indices
    return indices[np.linspace(0, len(indices) - 1, MOST_SCATTER_POINTS).round().astype(np.intp)]


def _nothing(what: str, names: Mapping[str, object] | Sequence[str]) -> str:
    return f"No values of {what}{': ' + ', '.join(names) if names else ''}."


def _not_drawn(names: Sequence[str]) -> list[str]:
    return [f"Without values, not drawn: {', '.join(names)}."] if names else []


def _left_out(given: int, finite: int, shown: int) -> list[str]:
    notes = [f"{given - finite} of {given} points are not finite."] if finite < given else []
    return [*notes, f"{shown} of {finite} points are drawn."] if shown < finite else notes

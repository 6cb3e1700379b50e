"""The Pareto plot of a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ...runtime.errors import UsageError, require_field
from .drawing import INK, draw_panel, marker, nothing_to_draw, plain_logarithm, series_colour
from .text import shorten

__all__ = ["Choice", "pareto"]

_POINTS: dict[str, Any] = {"markeredgewidth": 0.0, "linestyle": "none"}
_DECADES = 1.2
# Of the chosen point in the legend, so that it has two columns.
_MOST_NAME = 22


@dataclass(frozen=True, slots=True)
class Choice:
    """A point of a plan.

    Attributes:
        name: such as the backbone with its input size.
        group: points of one group share a colour and a shape, and a name in the legend.
        x: what it costs, above 0.
        y: what it gains, above 0.

    Raises:
        RecordError: a number is not finite or not above 0.
    """

    name: str
    group: str
    x: float
    y: float

    def __post_init__(self) -> None:
        holds = all(math.isfinite(value) and value > 0 for value in (self.x, self.y))
        require_field(holds, f"{self.name} at {self.x:g}, {self.y:g}", "finite numbers above 0")


def pareto(
    points: Sequence[Choice],
    chosen: int | None = None,
    *,
    marked: Sequence[Choice] = (),
    x_label: str = "GMACs",
    y_label: str = "% of pixels seen",
    limit: float | None = None,
) -> str:
    """Gains against costs, a mark a point, with the chosen one ringed and named.

    Args:
        points: to be drawn.
        chosen: index into them.
        marked: further points, of which the page is: stars in the colour of the text, named by their group.
        x_label: of the cost.
        y_label: of the gain.
        limit: of the cost, drawn as an upright line.

    Returns:
        SVG. The axis of the cost is logarithmic; that of the gain where its values span more than a factor of 16.

    Raises:
        UsageError: ``chosen`` is no index, or ``limit`` is not above 0.
    """
    if (chosen is not None and not 0 <= chosen < len(points)) or (limit is not None and not limit > 0):
        raise UsageError(
            f"the choice {chosen} of {len(points)} points, with a limit of {limit}",
            expected="an index into the points, and a limit above 0",
            mend="leave them out where there is none",
        )
    if not (points or marked):
        return nothing_to_draw(f"No values of {y_label} against {x_label}.")
    groups = list(dict.fromkeys(point.group for point in points))
    values = [point.y for point in (*points, *marked)]
    log_y = math.log10(max(values) / min(values)) > _DECADES

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        handles = []
        for index, group in enumerate(groups):
            own = [point for point in points if point.group == group]
            style = _POINTS | {"marker": marker(index), "color": series_colour(index)}
            axes.plot([point.x for point in own], [point.y for point in own], markersize=6.0, alpha=0.85, **style)
            handles.append((group, Line2D([], [], markersize=6.0, **style)))
        if chosen is not None:
            ring: dict[str, Any] = {
                "marker": "o",
                "markerfacecolor": "none",
                "markeredgecolor": INK,
                "linestyle": "none",
            }
            axes.plot(points[chosen].x, points[chosen].y, markersize=13.0, markeredgewidth=1.6, **ring)
            handles.append(
                (shorten(points[chosen].name, _MOST_NAME), Line2D([], [], markersize=10.0, markeredgewidth=1.6, **ring))
            )
        for group in dict.fromkeys(point.group for point in marked):
            own = [point for point in marked if point.group == group]
            star = _POINTS | {"marker": "*", "color": INK}
            axes.plot([point.x for point in own], [point.y for point in own], markersize=11.0, **star)
            handles.append((group, Line2D([], [], markersize=10.0, **star)))
        if limit is not None:
            axes.axvline(limit, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set(xlabel=x_label, ylabel=y_label, xscale="log", yscale="log" if log_y else "linear")
        for axis in (axes.xaxis, axes.yaxis) if log_y else (axes.xaxis,):
            plain_logarithm(axis)
        return handles

    named = "" if chosen is None else f" Chosen: {points[chosen].name}, {_at(points[chosen], x_label, y_label)}."
    bound = "" if limit is None else f" The limit is {limit:.4g} {x_label}."
    alt = f"{y_label} against {x_label}, {len(points)} points in {len(groups)} groups: {', '.join(groups)}."
    here = "".join(f" {point.group}: {point.name}, {_at(point, x_label, y_label)}." for point in marked)
    return draw_panel(draw, f"{alt}{named}{here}{bound}", height=3.6)


def _at(point: Choice, x_label: str, y_label: str) -> str:
    return f"{point.x:.4g} {x_label}, {point.y:.4g} {y_label}"

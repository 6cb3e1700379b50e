"""Charts of a profile: where the time of a photograph goes, and the layers under the machine's roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ...profiles.roofline import Roofline, RooflinePoint
from ...runtime.errors import require_field
from .drawing import (
    INK,
    draw_panel,
    line_style,
    marker,
    nothing_to_draw,
    plain_logarithm,
    row_text,
    rows_only,
    series_colour,
)

__all__ = ["Step", "kinds_of_layers", "latency_breakdown", "roofline_plot"]

_POINTS: dict[str, Any] = {"markeredgewidth": 0.0, "linestyle": "none"}
# Of a marker, in points: of a layer that takes no time, and of one that takes all.
_LEAST_SIZE, _MOST_SIZE = 4.0, 16.0
# Where a number may stand beside its point, in points; the first that is free is taken.
_PLACES = ((11, 6), (-11, 6), (11, -14), (-11, -14), (0, 13), (0, -21), (20, -4), (-20, -4), (22, 14), (-22, 14))
_NEAR = 12.0
_HATCHES = (None, "///", "...", "xxx")


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the way from file to score.

    Attributes:
        name: of the part.
        p50_ms: its median, from 0.
        p95_ms: its 95th percentile, no less.

    Raises:
        RecordError: a number is out of its range.
    """

    name: str
    p50_ms: float
    p95_ms: float

    def __post_init__(self) -> None:
        holds = 0 <= self.p50_ms <= self.p95_ms < math.inf
        require_field(holds, f"{self.name}: {self.p50_ms} ms, p95 {self.p95_ms} ms", "0 <= p50 <= p95, finite")


def latency_breakdown(steps: Sequence[Step], whole: Step | None = None) -> str:
    """Medians one after another, each bar beginning where the one before ends, a thin line to the 95th percentile.

    Args:
        steps: each measured alone, in the order in which they run.
        whole: all of them in one call, drawn below from 0.

    Returns:
        SVG.
    """
    rows = [*steps, *([] if whole is None else [whole])]
    if not rows:
        return nothing_to_draw("No latency was measured.")
    starts = [0.0, *np.cumsum([step.p50_ms for step in steps])[:-1], *([] if whole is None else [0.0])][: len(rows)]

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        for row, (step, start) in enumerate(zip(rows, starts, strict=True)):
            colour = INK if step is whole else series_colour(0)
            axes.barh(-row, step.p50_ms, left=start, height=0.36, color=colour, alpha=0.85, linewidth=0)
            if step.p95_ms > step.p50_ms:
                ends = (start + step.p50_ms, start + step.p95_ms)
                axes.plot(ends, (-row, -row), color=colour, linewidth=1.4, solid_capstyle="butt")
                axes.plot(ends[1], -row, color=colour, marker="|", markersize=7.0, markeredgewidth=1.4)
            row_text(axes, row, step.name, f"{_ms(step.p50_ms)} (p95 {_ms(step.p95_ms)})")
        longest = max(start + step.p95_ms for step, start in zip(rows, starts, strict=True))
        axes.set(xlim=(0, 1.04 * longest or 1.0), xlabel="milliseconds")
        rows_only(axes, len(rows))
        return ()

    said = "; ".join(f"{step.name}: median {_ms(step.p50_ms)} ms, p95 {_ms(step.p95_ms)} ms" for step in rows)
    return draw_panel(draw, f"Where the time of a photograph goes. {said}.", height=0.8 + 0.5 * len(rows))


def kinds_of_layers(times_ms: Mapping[str, Mapping[str, float]]) -> str:
    """The time of each kind of layer, a bar each, the members' parts one after another.

    Args:
        times_ms: by kind, by member; drawn in this order.

    Returns:
        SVG.
    """
    members = list(dict.fromkeys(member for parts in times_ms.values() for member in parts))
    totals = {kind: sum(parts.values()) for kind, parts in times_ms.items()}
    whole = sum(totals.values())
    if not (math.isfinite(whole) and whole > 0):
        return nothing_to_draw("No times of layers.")

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        for row, (kind, parts) in enumerate(times_ms.items()):
            start = 0.0
            for index, member in enumerate(members):
                part = parts.get(member, 0.0)
                style: dict[str, Any] = {"color": series_colour(index), "alpha": 0.85, "edgecolor": INK, "linewidth": 0}
                axes.barh(-row, part, left=start, height=0.42, hatch=_HATCHES[index % len(_HATCHES)], **style)
                start += part
            row_text(axes, row, kind, f"{_ms(totals[kind])} ms, {totals[kind] / whole:.1%}")
        axes.set(xlim=(0, 1.04 * max(totals.values())), xlabel="milliseconds")
        rows_only(axes, len(times_ms))
        square: dict[str, Any] = {"marker": "s", "markersize": 8.0, "linestyle": "none", "markeredgewidth": 0.0}
        handles = [
            (member, Line2D([], [], color=series_colour(index), **square)) for index, member in enumerate(members)
        ]
        return handles if len(members) > 1 else ()

    said = "; ".join(f"{kind}: {_ms(total)} ms, {total / whole:.1%}" for kind, total in totals.items())
    return draw_panel(draw, f"Time by kind of layer. {said}.", height=0.8 + 0.5 * len(times_ms))


def roofline_plot(
    roofline: Roofline,
    *,
    shares: Mapping[int, float] | None = None,
    numbers: Mapping[int, int] | None = None,
) -> str:
    """Speed over intensity, both logarithmic: the limits as lines, a mark a layer, a ring a whole graph.

    Args:
        roofline: measured.
        shares: of its member's time, 0 to 1, by index into ``roofline.layers``: the size of the mark.
        numbers: beside the marks, by index into ``roofline.layers``.

    Returns:
        SVG.
    """
    shares, numbers = shares or {}, numbers or {}
    members = list(dict.fromkeys(point.member for point in (*roofline.whole, *roofline.layers)))
    layers = [at for at, point in enumerate(roofline.layers) if _drawable(point)]
    whole = [point for point in roofline.whole if _drawable(point)]
    bandwidth = roofline.bytes_per_second
    peaks = [peak for peak in roofline.peaks if math.isfinite(peak.macs_per_second) and peak.macs_per_second > 0]
    if not ((layers or whole) and peaks and math.isfinite(bandwidth) and bandwidth > 0):
        return nothing_to_draw("No values of multiply-adds a second against multiply-adds a byte.")
    drawn = [*(roofline.layers[at] for at in layers), *whole]
    ridges = [peak.macs_per_second / bandwidth for peak in peaks]
    low = 0.6 * min(*(point.intensity for point in drawn), min(ridges) / 4)
    high = 1.6 * max(*(point.intensity for point in drawn), 2 * max(ridges))

    def draw(axes: Axes) -> Sequence[tuple[str, Line2D]]:
        axes.set(xscale="log", yscale="log", xlabel="multiply-adds a byte", ylabel="GMACs/s")
        handles: list[tuple[str, Line2D]] = []
        # The lowest limit first, as its slope is that of all.
        for index, (ridge, peak) in enumerate(sorted(zip(ridges, peaks, strict=True), key=lambda pair: pair[0])):
            top = peak.macs_per_second / 1e9
            (line,) = axes.plot(
                (low, ridge, high),
                (low * bandwidth / 1e9, top, top),
                color=INK,
                linewidth=1.6,
                linestyle=line_style(index),
                alpha=0.8,
            )
            handles.append((f"{peak.precision} {top:.3g} GMACs/s", line))
        for index, member in enumerate(members):
            style = _POINTS | {"marker": marker(index), "color": series_colour(index)}
            for at in layers:
                point = roofline.layers[at]
                if point.member == member:
                    size = _LEAST_SIZE + (_MOST_SIZE - _LEAST_SIZE) * math.sqrt(min(1.0, max(0.0, shares.get(at, 0.0))))
                    axes.plot(point.intensity, point.macs_per_second / 1e9, markersize=size, alpha=0.6, **style)
            handles.append((f"layers of {member}", Line2D([], [], markersize=6.0, **style)))
            ring: dict[str, Any] = {
                "marker": marker(index),
                "markerfacecolor": "none",
                "markeredgecolor": INK,
                "linestyle": "none",
            }
            own = [point for point in whole if point.member == member]
            for point in own:
                axes.plot(point.intensity, point.macs_per_second / 1e9, markersize=12.0, markeredgewidth=1.6, **ring)
            if own:
                handles.append((f"all of {member}", Line2D([], [], markersize=9.0, markeredgewidth=1.6, **ring)))
        axes.set_xlim(low, high)
        for axis in (axes.xaxis, axes.yaxis):
            plain_logarithm(axis)
        _write_numbers(axes, [(roofline.layers[at], numbers[at]) for at in layers if at in numbers])
        return handles

    limits = ", ".join(f"peak {peak.precision} {peak.macs_per_second / 1e9:.4g} GMACs/s" for peak in peaks)
    graphs = "".join(
        f" All of {point.member}: {point.intensity:.3g} multiply-adds a byte, {point.macs_per_second / 1e9:.3g} "
        f"GMACs/s, {point.share:.0%} of the roofline."
        for point in whole
    )
    missing = len(roofline.layers) - len(layers)
    notes = [f"{missing} of {len(roofline.layers)} layers have no finite place."] if missing else []
    alt = f"Roofline of {len(layers)} layers: {limits}, memory {bandwidth / 1e9:.4g} GB/s.{graphs}"
    return draw_panel(draw, alt, notes=notes, height=4.4)


def _drawable(point: RooflinePoint) -> bool:
    return all(math.isfinite(value) and value > 0 for value in (point.intensity, point.macs_per_second))


def _write_numbers(axes: Axes, numbered: Sequence[tuple[RooflinePoint, int]]) -> None:
    """Numbers beside points, where none stands already."""
    taken: list[tuple[float, float]] = []
    for point, number in numbered:
        x, y = axes.transData.transform((point.intensity, point.macs_per_second / 1e9))
        # transData is in pixels of the figure's dpi; places are in points.
        scale = axes.figure.dpi / 72.0
        free = (
            place
            for place in _PLACES
            if all(math.dist((x / scale + place[0], y / scale + place[1]), other) > _NEAR for other in taken)
        )
        place = next(free, _PLACES[0])
        taken.append((x / scale + place[0], y / scale + place[1]))
        axes.annotate(
            str(number),
            (point.intensity, point.macs_per_second / 1e9),
            xytext=place,
            textcoords="offset points",
            ha="center",
            fontsize=10.0,
            fontweight="bold",
        )


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"

"""The chart of a network's sensitivity: two bars a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ...export.sensitivity import SensitivityReport
from .drawing import INK, draw_panel, nothing_to_draw, panel_png, row_text, rows_only, series_colour

__all__ = ["MOST_BLOCKS", "sensitivity_png", "sensitivity_svg"]

MOST_BLOCKS = 24
"""Of more blocks the first are drawn; all stand in the table."""

_LEGEND = ("it alone quantized: error", "it alone float: error that it takes away")


@dataclass(frozen=True, slots=True)
class _Chart:
    """What is drawn.

    Attributes:
        report: all blocks.
        shown: how many of them.
    """

    report: SensitivityReport
    shown: int

    @classmethod
    def of(cls, report: SensitivityReport) -> _Chart:
        return cls(report, min(len(report.blocks), MOST_BLOCKS))

    @property
    def notes(self) -> Sequence[str]:
        count = len(self.report.blocks)
        return [f"The first {self.shown} of {count} blocks."] if self.shown < count else []

    @property
    def height(self) -> float:
        return 0.8 + 0.55 * self.shown

    def draw(self, axes: Axes) -> Sequence[tuple[str, Line2D]]:
        for row, block in enumerate(self.report.blocks[: self.shown]):
            for index, value in enumerate((block.alone_rmse, block.gain)):
                style: dict[str, Any] = {"color": series_colour(index), "alpha": 0.85, "linewidth": 0}
                axes.barh(0.1 - row - 0.24 * index, value, height=0.2, **style)
            # Not through the text above.
            axes.plot((0, 0), (-row - 0.3, -row + 0.22), color=INK, linewidth=1.0)
            row_text(axes, row, block.block, f"{block.alone_rmse:.2f}, {block.gain:+.2f}")
        axes.set(xlabel="score points, root mean square")
        axes.margins(x=0.02)
        rows_only(axes, self.shown)
        return [
            (name, Line2D([], [], color=series_colour(index), linewidth=6.0, alpha=0.85))
            for index, name in enumerate(_LEGEND)
        ]


def sensitivity_svg(report: SensitivityReport) -> str:
    """The blocks in their order, each with its own error and with what keeping it float takes away.

    Returns:
        SVG.
    """
    chart = _Chart.of(report)
    if not chart.shown:
        return nothing_to_draw("No block was quantized.")
    said = "; ".join(
        f"{block.block}: {block.alone_rmse:.2f} and {block.gain:+.2f}" for block in report.blocks[: chart.shown]
    )
    alt = f"Score error of each block alone, and what it takes away when it alone is float. {said}."
    return draw_panel(chart.draw, alt, notes=chart.notes, height=chart.height)


def sensitivity_png(report: SensitivityReport) -> bytes:
    """The same chart as a PNG file; of at least one block."""
    chart = _Chart.of(report)
    return panel_png(chart.draw, notes=chart.notes, height=chart.height)

"""Colours of the pages and of their charts, for a light and a dark ground.

A chart names its colours by custom properties, so that it follows the page from light to dark and to paper.
"""

from __future__ import annotations

__all__ = ["DARK_GROUND", "DARK_INK", "DARK_SERIES", "LIGHT_GROUND", "LIGHT_INK", "LIGHT_SERIES", "series_variable"]

LIGHT_GROUND, LIGHT_INK = "#ffffff", "#1c2430"
DARK_GROUND, DARK_INK = "#12161c", "#e6e9ee"

# Neighbours differ in lightness too, for readers who do not tell all hues apart and for grey paper.
LIGHT_SERIES = ("#0b5fa5", "#d9480f", "#087f5b", "#7048e8", "#a86400", "#c2255c", "#0c7c99", "#596275")
DARK_SERIES = ("#74b9ff", "#ff9f5a", "#4fd6a3", "#b9a6ff", "#f5cb4c", "#ff8fb8", "#5fd4ec", "#b4bdcb")


def series_variable(index: int) -> str:
    """The custom property of the series at ``index``, counted from 0; the colours repeat after the eighth."""
    return f"--series-{index % len(LIGHT_SERIES) + 1}"

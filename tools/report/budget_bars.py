"""What was measured beside the limits of a budget, in the units of the pages."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ...profiles.budget import Budget, Quantity
from .charts import Bar

__all__ = ["UNITS", "budget_bars"]

UNITS: dict[Quantity, tuple[str, float, str]] = {
    "macs": ("compute", 1e9, "GMACs"),
    "parameters": ("parameters", 1e6, "M"),
    "size_bytes": ("file", 1e6, "MB"),
    "latency_p95_ms": ("file to score, p95", 1.0, "ms"),
    "peak_rss_mib": ("peak memory", 1.0, "MiB"),
    "energy_mj": ("energy of a photograph", 1.0, "mJ"),
}
"""Of each quantity that a budget may bound: what the pages call it, what its figures are divided by, and the unit."""


def budget_bars(budget: Budget, measured: Mapping[str, float | None]) -> list[Bar]:
    """A bar for each quantity that the budget bounds and that was measured.

    Args:
        budget: the limits.
        measured: by the quantities' names, in their units.
    """
    bars = []
    for quantity, limit in budget.limits.items():
        name, scale, unit = UNITS[quantity]
        value = measured.get(quantity)
        if value is not None and math.isfinite(value):
            bars.append(Bar(name=name, value=value / scale, limit=limit / scale, unit=unit))
    return bars

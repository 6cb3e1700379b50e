"""The main score of the AIM 2024 challenge on UHD blind photo quality: the mean of an entry's ranks in five figures.

Source: V. Hosu et al., "AIM 2024 Challenge on UHD Blind Photo Quality Assessment", 2024, arXiv 2409.16271. Needs numpy
alone; the figures themselves come from `metrics.evaluate`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

import numpy as np

from ..runtime.errors import DataError
from .metrics import Metric

__all__ = ["mean_ranks"]

# The others are correlations, of which the greatest is the best.
_LESS_IS_BETTER: tuple[Metric, ...] = ("mae", "rmse")


def mean_ranks(figures: Mapping[str, Mapping[Metric, float]]) -> dict[str, float]:
    """The mean of each entry's ranks in PLCC, SRCC, KRCC (most is best), MAE and RMSE (least is best).

    Entries that tie in a figure all get the mean of the ranks they take up, as in Spearman's correlation: two that
    share the first place have 1.5 each. So the ranks of a figure always add up to the same. This is our choice; figures
    that were rounded for a table tie where exact ones do not.

    Args:
        figures: of each entry by its name, all five metrics, finite, all on the same photographs; at least one entry.

    Returns:
        By entry, in the order given: 1 for one that is best in everything, the number of entries for one that is worst.

    Raises:
        DataError: no entry, or one that lacks a metric or has one that is not finite.
    """
    if not figures:
        raise DataError("no entry", expected="figures of at least one", mend="evaluate a model first")
    metrics: tuple[Metric, ...] = get_args(Metric)
    for entry, row in figures.items():
        bad = [metric for metric in metrics if not math.isfinite(row.get(metric, math.nan))]
        if bad:
            raise DataError(
                f"the entry {entry!r} without a finite {', '.join(bad)}",
                expected=f"finite {', '.join(metrics)} of every entry",
                mend="evaluate every entry on the same photographs",
            )
    sign = np.array([1.0 if metric in _LESS_IS_BETTER else -1.0 for metric in metrics])
    losses = sign * np.array([[row[metric] for metric in metrics] for row in figures.values()])
    better = (losses[None] < losses[:, None]).sum(axis=1)
    alike = (losses[None] == losses[:, None]).sum(axis=1)
    ranks = better + (alike + 1) / 2
    return dict(zip(figures, ranks.mean(axis=1).tolist(), strict=True))

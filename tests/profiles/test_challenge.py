from __future__ import annotations

import math

import numpy as np
import pytest
from edgeiqa.profiles.challenge import mean_ranks
from edgeiqa.profiles.metrics import Metric
from edgeiqa.runtime.errors import DataError
from hypothesis import given
from hypothesis import strategies as st

ORDER: tuple[Metric, ...] = ("srcc", "plcc", "krcc", "rmse", "mae")


def row(*figures: float) -> dict[Metric, float]:
    return dict(zip(ORDER, figures, strict=True))


# Six of the eight rows of the AIM 2024 UHD-IQA challenge (arXiv 2409.16271) on its test set, to three decimals, as the
# winning team quotes them: README.md of github.com/sunwei925/UIQA. The challenge's own table has GS-PIQA and CLIP-IQA*
# too, and more decimals.
QUOTED = {
    "SJTU": row(0.846, 0.798, 0.657, 0.061, 0.042),
    "CIPLAB": row(0.835, 0.800, 0.642, 0.064, 0.044),
    "ZX AIE Vector": row(0.795, 0.768, 0.605, 0.062, 0.044),
    "I2Group": row(0.788, 0.756, 0.598, 0.066, 0.046),
    "Dominator": row(0.731, 0.712, 0.539, 0.072, 0.052),
    "ICL": row(0.517, 0.521, 0.361, 0.136, 0.115),
}


def test_the_six_quoted_entries_of_the_challenge() -> None:
    """SJTU is second in PLCC alone; CIPLAB is third in RMSE and shares second and third place in MAE."""
    assert mean_ranks(QUOTED) == pytest.approx(
        {
            "SJTU": (1 + 2 + 1 + 1 + 1) / 5,
            "CIPLAB": (2 + 1 + 2 + 3 + 2.5) / 5,
            "ZX AIE Vector": (3 + 3 + 3 + 2 + 2.5) / 5,
            "I2Group": 4,
            "Dominator": 5,
            "ICL": 6,
        }
    )


def test_correlations_rise_and_errors_fall() -> None:
    assert mean_ranks({"good": row(0.9, 0.9, 0.7, 3, 2), "bad": row(0.8, 0.8, 0.6, 4, 3)}) == {"good": 1, "bad": 2}
    # Ahead in three figures of five.
    assert mean_ranks({"a": row(0.9, 0.9, 0.7, 4, 3), "b": row(0.8, 0.8, 0.6, 3, 2)}) == {"a": 1.4, "b": 1.6}


def test_ties_share_the_mean_of_their_ranks() -> None:
    same = row(0.9, 0.9, 0.7, 4, 3)
    assert mean_ranks({"a": same}) == {"a": 1}
    assert mean_ranks({"a": same, "b": same, "c": row(0.8, 0.8, 0.6, 5, 4), "d": same}) == {
        "a": 2,
        "b": 2,
        "c": 4,
        "d": 2,
    }


@given(st.lists(st.tuples(*[st.integers(-2, 2)] * 5), min_size=1, max_size=6))
def test_ranks_add_up_and_the_order_of_entries_does_not_matter(rows: list[tuple[int, ...]]) -> None:
    figures = {str(place): row(*values) for place, values in enumerate(rows)}
    ranks = mean_ranks(figures)
    assert list(ranks) == list(figures)
    assert sum(ranks.values()) == pytest.approx(len(rows) * (len(rows) + 1) / 2)
    assert all(1 <= rank <= len(rows) for rank in ranks.values())
    assert mean_ranks(dict(reversed(figures.items()))) == ranks
    # Only the order counts: a map that rises changes nothing.
    assert mean_ranks({name: row(*np.exp(list(f.values()))) for name, f in figures.items()}) == ranks


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(DataError, match="no entry"):
        mean_ranks({})
    good = row(0.9, 0.9, 0.7, 4, 3)
    with pytest.raises(DataError, match="the entry 'b' without a finite krcc, mae"):
        mean_ranks({"a": good, "b": {"srcc": 0.9, "plcc": 0.9, "rmse": 4}})
    with pytest.raises(DataError, match="without a finite plcc"):
        mean_ranks({"a": good | {"plcc": math.nan}})

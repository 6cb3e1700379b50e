"""Figures of what was held out, against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from edgeiqa.compress.judging import HeldOut, heldout_figures
from edgeiqa.compress.stages import ScoreLosses
from edgeiqa.runtime.score_map import InversePiecewiseLinear

MSE = ScoreLosses(mse=1.0, huber=0.0, plcc=0.0)
TRANSFORM = InversePiecewiseLinear(mos=(0.0, 0.5, 1.0), transformed=(0.0, 0.8, 1.0))
STREAM = np.random.default_rng(0)
MOS = STREAM.random(40)
SAID = np.clip(MOS + STREAM.normal(0, 0.1, 40), 0, 1)


def held(scores: np.ndarray[tuple[int], np.dtype[np.float64]], transform: InversePiecewiseLinear | None) -> HeldOut:
    return HeldOut((), np.arange(len(scores)), scores, transform)


def test_loss_and_r2() -> None:
    figures = heldout_figures(SAID, held(MOS, None), MSE)
    assert figures["heldout_loss"] == pytest.approx(np.mean((SAID - MOS) ** 2))
    assert figures["heldout_r2"] == pytest.approx(1 - np.sum((SAID - MOS) ** 2) / np.sum((MOS - MOS.mean()) ** 2))
    assert figures["heldout_rmse"] == pytest.approx(100 * np.sqrt(np.mean((SAID - MOS) ** 2)))
    assert "heldout_range_mse" not in figures


def test_behind_a_transform_the_loss_is_of_what_is_learned_and_the_rest_of_opinions() -> None:
    raw = TRANSFORM.forward(SAID)
    figures = heldout_figures(raw, held(TRANSFORM.forward(MOS), TRANSFORM), MSE)
    plain = heldout_figures(SAID, held(MOS, None), MSE)
    assert figures["heldout_loss"] == pytest.approx(np.mean((raw - TRANSFORM.forward(MOS)) ** 2))
    assert figures["heldout_loss"] != pytest.approx(plain["heldout_loss"])
    for name in ("srcc", "plcc", "r2", "rmse"):
        assert figures[f"heldout_{name}"] == pytest.approx(plain[f"heldout_{name}"]), name


def test_ranges_count_alike_however_many_they_hold() -> None:
    mos = np.array([0.05, *[0.5] * 30, 0.25, 0.7, 0.95])
    said = mos + np.array([0.2, *[0.1] * 30, 0.0, 0.0, -0.3])
    figures = heldout_figures(said, held(mos, None), MSE, ranges=5)
    assert figures["heldout_range_mse"] == pytest.approx(400 + 0 + 100 + 0 + 900)
    # A range without photographs has no part in it.
    few = heldout_figures(said[:-1], held(mos[:-1], None), MSE, ranges=5)
    assert few["heldout_range_mse"] == pytest.approx(400 + 0 + 100 + 0)


def test_one_score_for_all_and_scores_that_are_none() -> None:
    same = heldout_figures(np.full(40, 0.5), held(MOS, None), MSE)
    assert math.isnan(same["heldout_srcc"]) and math.isnan(same["heldout_plcc"])
    assert same["heldout_r2"] <= 0
    broken = heldout_figures(np.full(40, np.inf), held(MOS, None), MSE, ranges=5)
    assert math.isnan(broken["heldout_loss"]) and broken["heldout_rmse"] == math.inf == broken["heldout_range_mse"]

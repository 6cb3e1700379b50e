from __future__ import annotations

import math
import sys

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.metrics import rmse, srcc
from edgeiqa.profiles.refit_score_map import MapRefit, refit_to
from edgeiqa.runtime.errors import DataError, MissingExtraError
from edgeiqa.runtime.score_map import Affine, InversePiecewiseLinear, Isotonic, Logistic, ScoreMap, Sigmoid
from hypothesis import given, settings
from hypothesis import strategies as st

SIGMOID = ScoreMap(steps=(Sigmoid(slope=1.7, centre=0.4, low=0.0, high=100.0),), fitted_on="opinions")
MAPS = (
    SIGMOID,
    ScoreMap(steps=(Affine(scale=12.0, offset=50.0),)),
    ScoreMap(steps=(Logistic(b1=82.0, b2=11.0, b3=0.7, b4=0.9),)),
    ScoreMap(steps=(InversePiecewiseLinear(mos=(0.0, 20.0, 100.0), transformed=(-3.0, 0.0, 3.5)),)),
    ScoreMap(steps=(Affine(scale=2.0), Sigmoid(slope=1.0, centre=0.0, low=0.0, high=1.0)), low=0.0, high=1.0),
)
# Ties what lies on its flat piece.
PIECES = ScoreMap(steps=(Isotonic(raw=(-3.0, -0.5, 0.5, 3.5), score=(0.0, 20.0, 20.0, 100.0)),))
RAW = np.random.default_rng(5).normal(0.3, 1.0, 120)


@pytest.mark.parametrize("score_map", [*MAPS, PIECES])
@pytest.mark.parametrize(("scale", "offset"), [(0.9, 0.05), (1.15, -0.4), (1.0, 0.3)])
def test_a_shift_and_a_scale_of_the_raw_scores_are_taken_back(score_map: ScoreMap, scale: float, offset: float) -> None:
    wanted = score_map.apply(RAW)
    refit = refit_to(score_map, scale * RAW + offset, wanted)
    span = score_map.high - score_map.low
    assert refit.rmse_before > 0.003 * span
    assert refit.rmse_after < 1e-4 * span
    assert (refit.scale, refit.offset) == pytest.approx((1 / scale, -offset / scale), abs=2e-3)
    np.testing.assert_allclose(refit.score_map.apply(scale * RAW + offset), wanted, atol=1e-3 * span)


def test_the_figures_are_those_of_the_two_maps() -> None:
    raw = 0.9 * RAW + 0.1 + 0.05 * np.random.default_rng(1).normal(size=len(RAW))
    wanted = SIGMOID.apply(RAW)
    refit = refit_to(SIGMOID, raw, wanted)
    assert refit.photos == len(RAW)
    assert refit.rmse_before == pytest.approx(rmse(SIGMOID.apply(raw), wanted))
    assert refit.rmse_after == pytest.approx(rmse(refit.score_map.apply(raw), wanted))
    assert refit.mean_before == pytest.approx(np.mean(SIGMOID.apply(raw) - wanted))
    assert abs(refit.mean_after) < 0.1 < abs(refit.mean_before)
    assert msgspec.json.decode(msgspec.json.encode(refit), type=MapRefit) == refit


def test_the_references_map_stands_behind_the_correction() -> None:
    refit = refit_to(SIGMOID, 0.9 * RAW, SIGMOID.apply(RAW))
    assert refit.score_map.steps == (Affine(scale=refit.scale, offset=refit.offset), *SIGMOID.steps)
    assert refit.score_map.fitted_on == "opinions; brought back to the reference's scores of 120 photographs"
    assert (refit.score_map.low, refit.score_map.high) == (SIGMOID.low, SIGMOID.high)


def test_fitting_again_and_again_does_not_lengthen_the_map() -> None:
    fitted = SIGMOID
    for _ in range(20):
        fitted = refit_to(fitted, 0.99 * RAW, SIGMOID.apply(RAW)).score_map
    assert [type(step) for step in fitted.steps] == [Affine, Sigmoid]
    np.testing.assert_allclose(fitted.apply(0.99 * RAW), SIGMOID.apply(RAW), atol=0.01)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(MAPS), st.floats(0.3, 3), st.floats(-2, 2), st.floats(0, 0.5))
def test_ranks_stay_and_no_fit_is_worse_than_none(
    seed: int, score_map: ScoreMap, scale: float, offset: float, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    raw = scale * RAW + offset + noise * rng.normal(size=len(RAW))
    refit = refit_to(score_map, raw, score_map.apply(RAW))
    assert refit.scale > 0
    assert refit.rmse_after <= refit.rmse_before + 1e-9
    inside = (refit.score_map.apply(raw) > score_map.low) & (refit.score_map.apply(raw) < score_map.high)
    assert srcc(refit.score_map.apply(raw)[inside], raw[inside]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_raw_scores_does_not_matter(unit: float) -> None:
    score_map = ScoreMap(steps=(Sigmoid(slope=1.7 / unit, centre=0.4 * unit, low=0.0, high=100.0),))
    refit = refit_to(score_map, unit * (0.9 * RAW + 0.05), score_map.apply(unit * RAW))
    assert refit.scale == pytest.approx(1 / 0.9, abs=1e-3)
    assert refit.rmse_after < 0.01


def test_equal_scores_are_left_as_they_are() -> None:
    refit = refit_to(SIGMOID, RAW, SIGMOID.apply(RAW))
    assert (refit.scale, refit.offset, refit.rmse_before, refit.rmse_after) == (1.0, 0.0, 0.0, 0.0)


def test_what_cannot_be_brought_back_is_refused() -> None:
    wanted = SIGMOID.apply(RAW)
    with pytest.raises(DataError, match=r"quantized raw scores that are not finite, or the same for all 120"):
        refit_to(SIGMOID, np.ones(120), wanted)
    with pytest.raises(DataError, match="quantized raw scores that are not finite"):
        refit_to(SIGMOID, np.where(RAW > 0, math.nan, RAW), wanted)
    with pytest.raises(DataError, match="reference scores that are not finite"):
        refit_to(SIGMOID, RAW, np.full(120, 50.0))
    with pytest.raises(DataError, match=r"do not rise with the reference's scores \(SRCC -1.000\)"):
        refit_to(SIGMOID, -RAW, wanted)
    with pytest.raises(DataError, match=r"in the map's range, \[0, 100\]"):
        refit_to(SIGMOID, RAW, wanted + 100)
    with pytest.raises(DataError, match=r"shape \[2\].*at least 3"):
        refit_to(SIGMOID, RAW[:2], wanted[:2])
    with pytest.raises(DataError, match=r"shape \[3\] and reference scores of shape \[4\]"):
        refit_to(SIGMOID, RAW[:3], wanted[:4])


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[evaluate\]"'):
        refit_to(SIGMOID, RAW, SIGMOID.apply(RAW))

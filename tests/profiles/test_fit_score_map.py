from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.profiles.fit_score_map import fit_isotonic, fit_logistic4, fit_minmax, fit_sigmoid
from edgeiqa.profiles.metrics import mae, plcc, rmse, srcc
from edgeiqa.runtime.errors import DataError, MissingExtraError, RecordError
from edgeiqa.runtime.score_map import Affine, Isotonic, Logistic, ScoreMap, Sigmoid
from numpy.typing import NDArray

Fit = Callable[..., ScoreMap]
RAW = np.linspace(-3, 5, 60)


def read_fixture(data_root: Path, part: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with (data_root / "fixtures" / f"uhd_iqa_{part}_lar_iqa.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([float(row["prediction"]) for row in rows]), np.array([float(row["mos"]) for row in rows])


def test_a_logistic_fitted_on_validation_takes_test_to_its_known_figures(data_root: Path) -> None:
    fitted = fit_logistic4(*read_fixture(data_root, "validation"), 0.0, 1.0, fitted_on="UHD-IQA validation")
    raw, mos = read_fixture(data_root, "test")
    scores = fitted.apply(raw)
    assert [round(metric(scores, mos), 4) for metric in (mae, rmse, plcc)] == [0.0396, 0.0571, 0.7893]
    assert srcc(scores, mos) == pytest.approx(srcc(raw, mos))
    assert (fitted.low, fitted.high, fitted.fitted_on) == (0.0, 1.0, "UHD-IQA validation")


def test_the_parameters_of_a_sigmoid_are_found_again() -> None:
    truth = Sigmoid(slope=1.7, centre=0.4, low=10.0, high=90.0)
    (step,) = fit_sigmoid(RAW, truth.apply(RAW), 10.0, 90.0).steps
    assert isinstance(step, Sigmoid)
    assert (step.slope, step.centre, step.low, step.high) == pytest.approx((1.7, 0.4, 10.0, 90.0))


def test_the_parameters_of_a_logistic_are_found_again() -> None:
    truth = Logistic(b1=82.0, b2=11.0, b3=0.7, b4=0.9)
    (step,) = fit_logistic4(RAW, truth.apply(RAW)).steps
    assert isinstance(step, Logistic)
    assert (step.b1, step.b2, step.b3, step.b4) == pytest.approx((82.0, 11.0, 0.7, 0.9))


@pytest.mark.parametrize("fit", [fit_sigmoid, fit_logistic4])
def test_noisy_opinions_are_brought_nearer_and_keep_their_order(fit: Fit) -> None:
    rng = np.random.default_rng(2)
    raw = rng.normal(size=150)
    mos = np.clip(20 + 60 / (1 + np.exp(-2 * raw)) + 5 * rng.normal(size=150), 0, 100)
    fitted = fit(raw, mos, 0.0, 100.0)
    assert srcc(fitted.apply(raw), mos) == pytest.approx(srcc(raw, mos))
    line = np.polyval(np.polyfit(raw, mos, 1), raw)
    assert rmse(fitted.apply(raw), mos) < rmse(line, mos)
    steep = fitted.apply(np.linspace(-4, 4, 200))
    assert np.all(np.diff(steep) > 0)


@pytest.mark.parametrize("fit", [fit_sigmoid, fit_logistic4])
@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e6, -3e7), (1.0, 500.0)])
def test_the_unit_of_the_raw_output_does_not_matter(fit: Fit, scale: float, offset: float) -> None:
    mos = np.clip(50 + 12 * RAW + 8 * np.sin(40 * RAW), 0, 100)
    expected = fit(RAW, mos, 0.0, 100.0).apply(RAW)
    raw = scale * RAW + offset
    np.testing.assert_allclose(fit(raw, mos, 0.0, 100.0).apply(raw), expected, atol=0.02)


def test_straight_data_are_followed() -> None:
    mos = 50 + 3 * RAW
    np.testing.assert_allclose(fit_logistic4(RAW, mos).apply(RAW), mos, atol=0.05)


@pytest.mark.parametrize("fit", [fit_sigmoid, fit_logistic4])
def test_what_no_rising_curve_describes_is_refused(fit: Fit) -> None:
    mos = np.clip(50 + 12 * RAW, 0, 100)
    with pytest.raises(DataError, match=r"do not rise with the opinions \(SRCC -0.999, PLCC -.*negate the output"):
        fit(-RAW, mos, 0.0, 100.0)
    with pytest.raises(DataError, match=r"60 of 60 opinions outside \[101, 200\]"):
        fit(RAW, mos, 101.0, 200.0)
    with pytest.raises(DataError, match="at least"):
        fit(RAW[:2], mos[:2], 0.0, 100.0)
    with pytest.raises(DataError, match="the same score"):
        fit(np.ones(60), mos, 0.0, 100.0)
    with pytest.raises(DataError, match="not finite"):
        fit(np.full(60, np.nan), mos, 0.0, 100.0)
    with pytest.raises(DataError, match="opinions that jump"):
        fit(RAW, np.where(RAW > 0, 90.0, 10.0), 10.0, 90.0)
    with pytest.raises(RecordError, match="low below high"):
        fit(RAW, mos, 100.0, 0.0)


def test_a_fit_that_does_not_converge_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object, **__: object) -> None:
        raise RuntimeError("Optimal parameters not found")

    monkeypatch.setattr("scipy.optimize.curve_fit", give_up)
    with pytest.raises(DataError, match=r"did not converge on 60 photographs.*to mend: fit on more photographs"):
        fit_logistic4(RAW, 50 + RAW)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[evaluate\]"'):
        fit_logistic4(RAW, 50 + RAW)


def knots(score_map: ScoreMap) -> Isotonic:
    (step,) = score_map.steps
    assert isinstance(step, Isotonic)
    return step


def test_an_isotonic_map_pools_what_is_out_of_order() -> None:
    # 4 and 2 pool to 3, 9 and 6 and 6 to 7; one photograph before and one behind.
    fitted = fit_isotonic([0, 1, 2, 3, 4, 5, 6], [1, 4, 2, 9, 6, 6, 10], 0.0, 10.0, fitted_on="seven")
    step = knots(fitted)
    assert step.raw == (0, 1, 2, 3, 5, 6)
    assert step.score == pytest.approx((1, 3, 3, 7, 7, 10), abs=1e-12)
    assert fitted.apply([-1, 1.5, 2.5, 4, 5.5, 7]) == pytest.approx([1, 3, 5, 7, 8.5, 10], abs=1e-12)
    assert (fitted.low, fitted.high, fitted.fitted_on) == (0.0, 10.0, "seven")


def test_equal_raw_outputs_count_by_their_mean_and_their_number() -> None:
    # At 1 the mean of three is 5; with the 1 behind it they pool to (3 * 5 + 1) / 4.
    step = knots(fit_isotonic([1, 2, 1, 0, 1, 3], [4, 1, 5, 0, 6, 9], 0.0, 10.0))
    assert step.raw == (0, 1, 2, 3)
    assert step.score == pytest.approx((0, 4, 4, 9), abs=1e-12)


def test_what_rises_already_is_followed_through_every_photograph() -> None:
    mos = 50 + 20 * np.tanh(RAW)
    step = knots(fit_isotonic(RAW, mos, 0.0, 100.0))
    assert step.raw == tuple(RAW)
    np.testing.assert_allclose(step.score, mos, rtol=0, atol=1e-12)


def test_no_curve_that_never_falls_is_nearer_and_no_ranking_is_inverted(data_root: Path) -> None:
    raw, mos = read_fixture(data_root, "validation")
    fitted = fit_isotonic(raw, mos, 0.0, 1.0)
    scores = fitted.apply(raw)
    assert (np.diff(scores[np.argsort(raw)]) >= 0).all()
    for other in (fit_sigmoid(raw, mos, 0.0, 1.0), fit_logistic4(raw, mos, 0.0, 1.0)):
        assert rmse(scores, mos) < rmse(other.apply(raw), mos)
    # Pooling keeps the mean, and leaves of each piece its breakpoints alone.
    assert scores.mean() == pytest.approx(mos.mean())
    step = knots(fitted)
    assert len(step.raw) < 0.2 * len(raw)
    assert not np.any((np.diff(step.score)[1:] == 0) & (np.diff(step.score)[:-1] == 0))


def test_an_isotonic_map_of_very_many_pieces_keeps_as_many_as_a_map_may_have() -> None:
    raw = np.linspace(0, 1, 10_000)
    fitted = fit_isotonic(raw, 100 * raw**2, 0.0, 100.0)
    step = knots(fitted)
    assert (len(step.raw), step.raw[0], step.raw[-1]) == (4096, 0.0, 1.0)
    np.testing.assert_allclose(fitted.apply(raw), 100 * raw**2, atol=1e-4)


def test_an_isotonic_map_takes_a_jump_and_refuses_what_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    jump = np.where(RAW > 0, 90.0, 10.0)
    np.testing.assert_allclose(fit_isotonic(RAW, jump, 0.0, 100.0).apply(RAW), jump)
    with pytest.raises(DataError, match=r"do not rise with the opinions .*negate the output"):
        fit_isotonic(-RAW, 50 + RAW, 0.0, 100.0)
    with pytest.raises(DataError, match=r"60 of 60 opinions outside \[101, 200\]"):
        fit_isotonic(RAW, 50 + RAW, 101.0, 200.0)
    with pytest.raises(DataError, match="at least 3"):
        fit_isotonic(RAW[:2], 50 + RAW[:2], 0.0, 100.0)
    with pytest.raises(RecordError, match="low below high"):
        fit_isotonic(RAW, 50 + RAW, 100.0, 0.0)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[evaluate\]"'):
        fit_isotonic(RAW, 50 + RAW, 0.0, 100.0)


def test_minmax_takes_the_extremes_of_training_to_the_ends_and_clips_beyond() -> None:
    fitted = fit_minmax([0.5, -1.5, 2.5], 1.0, 5.0, fitted_on="three")
    assert fitted.steps == (Affine(scale=1.0, offset=2.5),)
    assert fitted.apply([-1.5, 0.5, 2.5, -9.0, 9.0]).tolist() == [1.0, 3.0, 5.0, 1.0, 5.0]
    assert (fitted.low, fitted.high, fitted.fitted_on) == (1.0, 5.0, "three")


@pytest.mark.parametrize("predictions", [[], [2.0], [2.0, 2.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0]]])
def test_minmax_refuses_predictions_without_two_ends(predictions: list[float]) -> None:
    with pytest.raises(DataError, match="finite numbers"):
        fit_minmax(predictions, 0.0, 100.0)


def test_minmax_refuses_a_scale_that_falls() -> None:
    with pytest.raises(RecordError, match="low below high"):
        fit_minmax(RAW, 100.0, 0.0)

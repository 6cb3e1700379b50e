from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.profiles.fit_score_map import fit_logistic4, fit_sigmoid
from edgeiqa.profiles.metrics import mae, plcc, rmse, srcc
from edgeiqa.runtime.errors import DataError, MissingExtraError, RecordError
from edgeiqa.runtime.score_map import Logistic, ScoreMap, Sigmoid
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

from __future__ import annotations

import csv
import math
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.metrics import (
    Accuracy,
    Metric,
    SceneAccuracy,
    evaluate,
    krcc,
    mae,
    paired_difference,
    per_scene,
    plcc,
    rmse,
    srcc,
)
from edgeiqa.runtime.errors import DataError, MissingExtraError, UsageError
from numpy.typing import NDArray

CORRELATIONS = (plcc, srcc, krcc)


def read_fixture(data_root: Path, part: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with (data_root / "fixtures" / f"uhd_iqa_{part}_lar_iqa.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([float(row["prediction"]) for row in rows]), np.array([float(row["mos"]) for row in rows])


def noisy(n: int, noise: float = 0.7, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    mos = rng.normal(size=n)
    return mos + noise * rng.normal(size=n), mos


def test_closed_forms() -> None:
    # Ranks 1 3 2 4 against 1 2 3 4: squared rank differences sum to 2; five of six pairs agree.
    x, y = [1.0, 3.0, 2.0, 10.0], [1.0, 2.0, 3.0, 4.0]
    assert srcc(x, y) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert krcc(x, y) == pytest.approx((5 - 1) / 6)
    assert plcc(x, y) == pytest.approx(13 / math.sqrt(50 * 5))
    assert mae(x, y) == pytest.approx((0 + 1 + 1 + 6) / 4)
    assert rmse(x, y) == pytest.approx(math.sqrt((0 + 1 + 1 + 36) / 4))


def test_ties_are_at_their_mean_rank_and_tau_is_tau_b() -> None:
    x, y = [1.0, 1.0, 2.0], [1.0, 2.0, 3.0]
    assert srcc(x, y) == pytest.approx(math.sqrt(3) / 2)
    assert krcc(x, y) == pytest.approx(2 / math.sqrt(2 * 3))


def test_a_monotone_map_keeps_ranks_and_a_linear_one_keeps_plcc() -> None:
    x, y = noisy(50)
    assert srcc(np.exp(x), y) == pytest.approx(srcc(x, y))
    assert krcc(np.exp(x), y) == pytest.approx(krcc(x, y))
    assert plcc(3 * x + 5, y) == pytest.approx(plcc(x, y))
    assert srcc(-x, y) == pytest.approx(-srcc(x, y))


@pytest.mark.parametrize(
    ("part", "figures"),
    [
        ("validation", (0.0312, 0.0404, 0.8093, 0.8033, 0.6110)),
        ("test", (0.0410, 0.0601, 0.7871, 0.8358, 0.6418)),
    ],
)
def test_published_predictions_give_their_known_figures(data_root: Path, part: str, figures: tuple[float, ...]) -> None:
    x, y = read_fixture(data_root, part)
    got = [metric(x, y) for metric in (mae, rmse, plcc, srcc, krcc)]
    assert [round(value, 4) for value in got] == list(figures)


@pytest.mark.parametrize("metric", CORRELATIONS)
def test_constants_have_no_correlation(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(DataError, match=r"the same score, 2, for all 3 photographs; expected scores that differ"):
        metric([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match=r"the same opinion, 5"):
        metric([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])
    with pytest.raises(DataError, match=r"\[2\] and opinions of shape \[3\]"):
        metric([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="1 of 3 scores not finite, the first at place 1"):
        metric([1.0, math.nan, 3.0], [1.0, 2.0, 3.0])


def test_errors_of_constants_are_defined() -> None:
    assert mae([2.0, 2.0], [1.0, 3.0]) == rmse([2.0, 2.0], [1.0, 3.0]) == 1.0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_beyond_floating_point_are_told() -> None:
    with pytest.raises(DataError, match="beyond what floating point can tell apart"):
        plcc([1.7e308, 1.6e308, 1.0e308], [1.0, 2.0, 3.0])


def test_evaluate_has_the_figures_inside_their_intervals() -> None:
    x, y = noisy(200)
    start = time.perf_counter()
    accuracy = evaluate(x, y, failed=2)
    assert time.perf_counter() - start < 3
    assert (accuracy.n, accuracy.failed, accuracy.level) == (200, 2, 0.95)
    for metric in (srcc, plcc, krcc, mae, rmse):
        interval = getattr(accuracy, metric.__name__)
        assert interval.value == pytest.approx(metric(x, y))
        assert interval.low < interval.value < interval.high
    assert evaluate(x, y, failed=2) == accuracy
    assert evaluate(x, y, seed=1).srcc.low != accuracy.srcc.low
    assert msgspec.json.decode(msgspec.json.encode(accuracy), type=Accuracy) == accuracy


def test_the_interval_of_plcc_is_that_of_fisher() -> None:
    x, y = noisy(400)
    interval = evaluate(x, y, resamples=2000).plcc
    half = 1.96 / math.sqrt(400 - 3)
    centre = math.atanh(interval.value)
    assert interval.low == pytest.approx(math.tanh(centre - half), abs=0.015)
    assert interval.high == pytest.approx(math.tanh(centre + half), abs=0.015)
    narrower = evaluate(x, y, resamples=2000, level=0.5).plcc
    assert interval.low < narrower.low < narrower.high < interval.high


def test_undefined_resamples_of_a_tiny_set_are_left_out() -> None:
    accuracy = evaluate([1.0, 2.0, 4.0], [1.0, 3.0, 4.0])
    for interval in (accuracy.srcc, accuracy.plcc, accuracy.krcc):
        assert -1 <= interval.low <= interval.high <= 1


def test_evaluate_refuses() -> None:
    x, y = noisy(20)
    with pytest.raises(DataError, match="at least 3"):
        evaluate(x[:2], y[:2])
    with pytest.raises(DataError, match="the same score"):
        evaluate(np.ones(20), y)
    with pytest.raises(UsageError, match="10 resamples; expected at least 100"):
        evaluate(x, y, resamples=10)
    with pytest.raises(UsageError, match="level"):
        evaluate(x, y, level=95)


@pytest.mark.parametrize("metric", ["srcc", "plcc", "krcc"])
def test_a_better_model_is_told_from_a_worse_one(metric: Metric) -> None:
    good, mos = noisy(200, noise=0.3)
    bad = mos + np.random.default_rng(9).normal(size=200)
    difference = paired_difference(good, bad, mos, metric=metric)
    assert 0 < difference.low < difference.value < difference.high
    opposite = paired_difference(bad, good, mos, metric=metric)
    assert opposite.value == pytest.approx(-difference.value)
    assert opposite.low == pytest.approx(-difference.high)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    a, mos = noisy(200)
    b = a + 0.05 * np.random.default_rng(4).normal(size=200)
    difference = paired_difference(a, b, mos, metric="rmse")
    alone = evaluate(a, mos).rmse
    assert difference.low < difference.value < difference.high
    assert difference.high - difference.low < 0.3 * (alone.high - alone.low)
    assert paired_difference(a, a, mos).value == 0
    with pytest.raises(UsageError, match="'accuracy'; expected one of srcc, plcc"):
        paired_difference(a, b, mos, metric="accuracy")  # type: ignore[arg-type]


def test_per_scene_is_the_mean_over_scenes() -> None:
    mos = np.array([1.0, 2, 3, 11, 12, 13, 14, 5, 6, 7, 7, 7])
    scores = np.array([1.0, 2, 3, 4, 3, 2, 1, 5, 6, 1, 2, 3])
    scenes = list("aaabbbbccddd")
    accuracy = per_scene(scores, mos, scenes)
    assert (accuracy.n, accuracy.scenes, accuracy.scenes_left_out) == (7, 2, 2)
    # One scene in order, one in reverse; the gap of ten points between them tells nothing.
    for interval in (accuracy.srcc, accuracy.plcc, accuracy.krcc):
        assert (interval.low, interval.value, interval.high) == pytest.approx((-1, 0, 1))
    assert msgspec.json.decode(msgspec.json.encode(accuracy), type=SceneAccuracy) == accuracy


def test_per_scene_refuses() -> None:
    mos = np.arange(6.0)
    with pytest.raises(DataError, match="0 of 3 scenes with 3 or more"):
        per_scene(mos, mos, list("aabbcc"))
    with pytest.raises(DataError, match="5 scenes for 6 photographs"):
        per_scene(mos, mos, list("aabbc"))
    with pytest.raises(DataError, match=r"the same score, 1, for all 3 photographs of scene 'b'"):
        per_scene([0, 1, 2, 1, 1, 1], mos, list("aaabbb"))


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[evaluate\]"'):
        srcc([1.0, 2.0], [1.0, 2.0])
    assert mae([1.0, 2.0], [1.0, 2.0]) == 0

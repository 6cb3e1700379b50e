from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.runtime.errors import RecordError
from edgeiqa.runtime.score_map import Affine, InversePiecewiseLinear, Isotonic, Logistic, ScoreMap, Sigmoid, Step

from .messages import require_message

# Breakpoints of a transform that makes densely voted scores wider.
TRANSFORM = InversePiecewiseLinear(mos=(0.0, 20.0, 45.0, 70.0, 100.0), transformed=(-1.0, 0.05, 0.4, 0.9, 1.0))
# Flat pieces and the rises between them.
PIECES = Isotonic(raw=(-1.0, 0.5, 1.5, 2.0, 4.0), score=(-10.0, -10.0, 30.0, 30.0, 90.0))
WIDE = np.linspace(-1e3, 1e3, 4001)


def unclipped(*steps: Step) -> ScoreMap:
    return ScoreMap(steps=steps, low=-1e6, high=1e6)


def test_no_steps_are_the_identity_and_the_clip() -> None:
    assert ScoreMap().apply([-5.0, 0.0, 42.5, 100.0, 101.0]).tolist() == [0.0, 0.0, 42.5, 100.0, 100.0]


def test_affine() -> None:
    assert unclipped(Affine(scale=2.0, offset=-3.0)).apply([0.0, 1.5, -4.0]).tolist() == [-3.0, 0.0, -11.0]


def test_sigmoid() -> None:
    step = Sigmoid(slope=2.0, centre=0.5, low=10.0, high=90.0)
    assert unclipped(step).apply(0.5) == 50.0
    x = np.linspace(-10, 10, 101)
    expected = [10 + 80 / (1 + math.exp(-2 * (value - 0.5))) for value in x]
    np.testing.assert_allclose(unclipped(step).apply(x), expected, rtol=0, atol=1e-12)
    # Symmetric about its centre.
    np.testing.assert_allclose(step.apply(0.5 + x) + step.apply(0.5 - x), 100.0, atol=1e-12)


def test_logistic() -> None:
    step = Logistic(b1=95.0, b2=5.0, b3=0.4, b4=-0.2)
    x = np.linspace(-3, 3, 101)
    expected = [5 + 90 / (1 + math.exp(-(value - 0.4) / 0.2)) for value in x]
    np.testing.assert_allclose(unclipped(step).apply(x), expected, rtol=0, atol=1e-12)
    assert np.array_equal(step.apply(x), Logistic(b1=95.0, b2=5.0, b3=0.4, b4=0.2).apply(x))
    same = Sigmoid(slope=5.0, centre=0.4, low=5.0, high=95.0)
    np.testing.assert_allclose(step.apply(x), same.apply(x), atol=1e-12)


@pytest.mark.parametrize("step", [Sigmoid(slope=1.0, centre=0.0), Logistic(b1=1.0, b2=0.0, b3=0.0, b4=1.0)])
def test_saturation_neither_overflows_nor_warns(step: Step) -> None:
    with np.errstate(all="raise", under="ignore"):
        assert step.apply(np.array([-1e308, -750.0, 0.0, 750.0, 1e308])).tolist() == pytest.approx([0, 0, 0.5, 1, 1])


def test_the_inverse_of_the_piecewise_linear_transform() -> None:
    mos = np.linspace(0, 100, 10_001)
    np.testing.assert_allclose(TRANSFORM.apply(TRANSFORM.forward(mos)), mos, rtol=0, atol=1e-12)
    transformed = np.linspace(-1, 1, 10_001)
    np.testing.assert_allclose(TRANSFORM.forward(TRANSFORM.apply(transformed)), transformed, rtol=0, atol=1e-12)


def test_the_inverse_at_and_between_and_beyond_its_breakpoints() -> None:
    assert TRANSFORM.apply(np.array(TRANSFORM.transformed)).tolist() == list(TRANSFORM.mos)
    assert TRANSFORM.apply(np.array([-0.475, 0.65])) == pytest.approx([10.0, 57.5], abs=1e-12)
    assert TRANSFORM.apply(np.array([-9.0, 9.0])).tolist() == [0.0, 100.0]


def test_an_isotonic_map_at_and_between_and_beyond_its_breakpoints() -> None:
    assert PIECES.apply(np.array(PIECES.raw)).tolist() == list(PIECES.score)
    assert PIECES.apply(np.array([0.0, 0.75, 1.0, 1.75, 2.5])) == pytest.approx([-10.0, 0.0, 10.0, 30.0, 45.0])
    assert PIECES.apply(np.array([-9.0, 9.0, -math.inf, math.inf])).tolist() == [-10.0, 90.0, -10.0, 90.0]


@pytest.mark.parametrize("seed", range(60))
def test_an_isotonic_map_never_falls_not_even_by_rounding(seed: int) -> None:
    stream = np.random.default_rng(seed)
    count = int(stream.integers(2, 7))
    raw = np.unique(stream.uniform(-1e3, 1e3, count) * 10.0 ** stream.integers(-12, 1))
    # Every third has flat pieces.
    score = np.sort(stream.uniform(-1e3, 1e3, len(raw)) if seed % 3 else stream.integers(-2, 3, len(raw)).astype(float))
    step = Isotonic(raw=tuple(raw.tolist()), score=tuple(score.tolist()))
    for middle in raw:
        around = np.sort(middle + np.arange(-7, 8) * np.spacing(middle))
        assert (np.diff(step.apply(around)) >= 0).all()
    assert (np.diff(step.apply(np.linspace(raw[0] - 1, raw[-1] + 1, 301))) >= 0).all()


@pytest.mark.parametrize(
    "steps",
    [
        (PIECES,),
        (Affine(scale=1e-3),),
        (Sigmoid(slope=0.03, centre=10.0),),
        (Logistic(b1=3.0, b2=-3.0, b3=1.0, b4=40.0),),
        (TRANSFORM,),
        (Affine(scale=0.001), TRANSFORM, Sigmoid(slope=0.1, centre=50.0)),
    ],
)
def test_every_map_is_monotone(steps: tuple[Step, ...]) -> None:
    scores = unclipped(*steps).apply(WIDE)
    assert (np.diff(scores) >= 0).all()
    assert scores[0] < scores[-1]
    clipped = ScoreMap(steps=steps, low=0.2, high=0.7).apply(WIDE)
    assert (np.diff(clipped) >= 0).all()
    assert (clipped.min(), clipped.max()) == (0.2, 0.7)


def test_steps_are_applied_in_order() -> None:
    chain = unclipped(Affine(scale=2.0), Affine(scale=1.0, offset=3.0), Affine(scale=10.0))
    assert chain.apply(1.0) == 50.0
    assert unclipped(Affine(scale=1.0, offset=3.0), Affine(scale=2.0), Affine(scale=10.0)).apply(1.0) == 80.0


def test_then_puts_steps_behind() -> None:
    first = ScoreMap(steps=(Affine(scale=2.0),), low=0.0, high=1.0, fitted_on="five photographs")
    second = first.then(Affine(scale=50.0), low=0.0, high=100.0)
    assert second.apply([0.5, 3.0]).tolist() == [50.0, 100.0]
    assert second.fitted_on == "five photographs"
    assert first.then(low=0.0, high=1.0, fitted_on="six").fitted_on == "six"
    assert first.steps == (Affine(scale=2.0),)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
def test_shapes_are_kept_in_float64(shape: tuple[int, ...]) -> None:
    raw = np.full(shape, 0.3, dtype=np.float32)
    result = ScoreMap(steps=(TRANSFORM, Affine(scale=0.5))).apply(raw)
    assert np.shape(result) == shape
    assert np.asarray(result).dtype == np.float64


def test_nan_stays_nan() -> None:
    for steps in ((), (Affine(scale=2.0),), (Sigmoid(slope=1.0, centre=0.0),), (TRANSFORM,), (PIECES,)):
        assert math.isnan(ScoreMap(steps=steps).apply(math.nan))


@pytest.mark.filterwarnings("error")
def test_finite_numbers_never_become_nan() -> None:
    extreme = (
        Affine(scale=1e100, offset=-1e100),
        Affine(scale=1e100, offset=1e100),
        Affine(scale=1e100),
        Affine(scale=1e100),
        Sigmoid(slope=1e100, centre=-1e100, low=-1e100, high=1e100),
        Logistic(b1=1e100, b2=-1e100, b3=0.0, b4=5e-324),
        InversePiecewiseLinear(mos=(-1e100, 1e100), transformed=(0.0, 5e-324)),
        Isotonic(raw=(-1e-300, 0.0, 5e-324, 1e100), score=(-1e100, -1e100, 1e100, 1e100)),
    )
    for count in range(len(extreme) + 1):
        scores = ScoreMap(steps=extreme[:count]).apply([-3e38, -1.0, 0.0, 1e-45, 1.0, 3e38])
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.1e100])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: Affine(scale=x),
        lambda x: Affine(scale=1.0, offset=x),
        lambda x: Sigmoid(slope=x, centre=0.0),
        lambda x: Sigmoid(slope=1.0, centre=x),
        lambda x: Sigmoid(slope=1.0, centre=0.0, low=x),
        lambda x: Sigmoid(slope=1.0, centre=0.0, high=x),
        lambda x: Logistic(b1=x, b2=0.0, b3=0.0, b4=1.0),
        lambda x: Logistic(b1=1.0, b2=x, b3=0.0, b4=1.0),
        lambda x: Logistic(b1=1.0, b2=0.0, b3=x, b4=1.0),
        lambda x: Logistic(b1=1.0, b2=0.0, b3=0.0, b4=x),
        lambda x: InversePiecewiseLinear(mos=(0.0, x), transformed=(0.0, 1.0)),
        lambda x: InversePiecewiseLinear(mos=(0.0, 1.0), transformed=(x, 1.0)),
        lambda x: Isotonic(raw=(0.0, x), score=(0.0, 1.0)),
        lambda x: Isotonic(raw=(0.0, 1.0), score=(x, 1.0)),
        lambda x: ScoreMap(low=x),
        lambda x: ScoreMap(high=x),
    ],
)
def test_parameters_that_are_not_finite_are_refused(make: Any, bad: float) -> None:
    with pytest.raises(RecordError) as caught:
        make(bad)
    require_message(caught, str(bad), "finite numbers of at most 1e+100", "fit it again")


@pytest.mark.parametrize(
    ("make", "got", "expected"),
    [
        (lambda: Affine(scale=0.0), "a scale of 0.0", "above 0"),
        (lambda: Affine(scale=-1.0), "a scale of -1.0", "above 0"),
        (lambda: Sigmoid(slope=0.0, centre=0.0), "a slope of 0.0", "above 0"),
        (lambda: Sigmoid(slope=-2.0, centre=0.0), "a slope of -2.0", "above 0"),
        (lambda: Sigmoid(slope=1.0, centre=0.0, low=1.0, high=1.0), "[1.0, 1.0]", "low below high"),
        (lambda: Logistic(b1=1.0, b2=1.0, b3=0.0, b4=1.0), "b1=1.0", "b1 above b2"),
        (lambda: Logistic(b1=1.0, b2=0.0, b3=0.0, b4=0.0), "b4 = 0", "other than 0"),
        (lambda: InversePiecewiseLinear(mos=(0.0,), transformed=(0.0,)), "1 and 1", "2 to 4096"),
        (lambda: InversePiecewiseLinear(mos=(), transformed=()), "0 and 0", "2 to 4096"),
        (lambda: InversePiecewiseLinear(mos=(0.0, 1.0, 2.0), transformed=(0.0, 1.0)), "3 and 2", "the same number"),
        (lambda: InversePiecewiseLinear(mos=(0.0, 0.0), transformed=(0.0, 1.0)), "(0.0, 0.0)", "rising strictly"),
        (lambda: InversePiecewiseLinear(mos=(0.0, 1.0), transformed=(1.0, 0.0)), "(1.0, 0.0)", "rising strictly"),
        (lambda: Isotonic(raw=(0.0,), score=(0.0,)), "1 and 1", "2 to 4096"),
        (lambda: Isotonic(raw=(*range(4097),), score=(*range(4097),)), "4097 and 4097", "2 to 4096"),
        (lambda: Isotonic(raw=(0.0, 1.0), score=(0.0, 1.0, 2.0)), "2 and 3", "the same number"),
        (lambda: Isotonic(raw=(0.0, 0.0), score=(0.0, 1.0)), "(0.0, 0.0)", "rising strictly"),
        (lambda: Isotonic(raw=(0.0, 1.0), score=(1.0, 0.5)), "(1.0, 0.5)", "never falling"),
        (lambda: ScoreMap(low=5.0, high=5.0), "[5.0, 5.0]", "low below high"),
        (lambda: ScoreMap(steps=(Affine(scale=1.0),) * 17), "17 steps", "at most 16"),
    ],
)
def test_parameters_that_make_no_rising_map_are_refused(make: Any, got: str, expected: str) -> None:
    with pytest.raises(RecordError) as caught:
        make()
    require_message(caught, got, expected)


def test_a_map_survives_json() -> None:
    steps = (
        Affine(scale=0.1 + 0.2, offset=-1 / 3),
        Sigmoid(slope=1.0, centre=2.0, low=-1.0, high=4.0),
        Logistic(b1=1.0, b2=0.0, b3=5e-324, b4=-1.0),
        TRANSFORM,
        PIECES,
    )
    record = ScoreMap(steps=steps, low=-1.0, high=1.0, fitted_on="out-of-fold scores")
    assert msgspec.json.decode(msgspec.json.encode(record), type=ScoreMap) == record
    tags = [step["type"] for step in msgspec.to_builtins(record)["steps"]]
    assert tags == ["affine", "sigmoid", "logistic", "inverse_piecewise_linear", "isotonic"]


@pytest.mark.parametrize(
    "broken",
    [
        '{"steps": [{"type": "cubic", "scale": 1}]}',
        '{"steps": [{"type": "affine", "scale": 1, "shift": 2}]}',
        '{"steps": [{"type": "affine"}]}',
        '{"steps": [{"type": "affine", "scale": NaN}]}',
        '{"steps": [{"type": "affine", "scale": 1e999}]}',
        '{"steps": [{"type": "affine", "scale": -1}]}',
        '{"steps": [], "unit": "percent"}',
        '{"steps": [{"type": "isotonic", "raw": [0, 1], "score": [1, 0]}]}',
        '{"steps": [{"type": "isotonic", "raw": [0, 1], "score": [0, 1], "flat": true}]}',
    ],
)
def test_json_that_is_unknown_or_out_of_range_is_refused(broken: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(broken, type=ScoreMap)

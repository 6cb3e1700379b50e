from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.signal_to_noise import SignalToNoise, measure_signal_to_noise, signal_to_noise_db
from edgeiqa.runtime.errors import DataError, RecordError
from hypothesis import given
from hypothesis import strategies as st


def test_closed_forms() -> None:
    # A tenth of the size is 20 dB, a signal of its own size 0.
    assert signal_to_noise_db([3.0, 4.0], [3.3, 4.4]) == pytest.approx(20.0)
    assert signal_to_noise_db([3.0, 4.0], [0.0, 0.0]) == pytest.approx(0.0)
    assert signal_to_noise_db([3.0, 4.0], [3.0, 3.0]) == pytest.approx(10 * math.log10(25 / 1))
    assert signal_to_noise_db([[1.0], [-2.0]], [[1.0], [-2.0]]) == math.inf
    assert signal_to_noise_db([0.0, 0.0], [0.0, 1.0]) == -math.inf
    assert signal_to_noise_db([0.0], [0.0]) == math.inf


@given(st.floats(0.01, 100), st.floats(1e-4, 10), st.integers(0, 9))
def test_a_share_of_the_signal_is_its_decibels(size: float, share: float, seed: int) -> None:
    features = size * np.random.default_rng(seed).normal(size=(7, 12))
    assert signal_to_noise_db(features, features * (1 + share)) == pytest.approx(-20 * math.log10(share), abs=1e-6)


def test_eight_bits_of_a_full_range_are_the_known_fifty_decibels() -> None:
    # 6.02 dB a bit and 0 for a uniform signal; W. R. Bennett, "Spectra of quantized signals", 1948.
    signal = np.random.default_rng(0).uniform(-1, 1, 100_000)
    step = 2 / 256
    assert signal_to_noise_db(signal, np.round(signal / step) * step) == pytest.approx(6.0206 * 8, abs=0.1)


def test_photographs_are_pooled_before_the_ratio() -> None:
    reference = [
        {"score": np.array(2.0), "features.last": np.array([3.0, 0.0])},
        {"features.last": np.array([0.0, 1.0])},
    ]
    reference[1]["score"] = np.array(0.0)
    got = [{"score": np.array(1.0), "features.last": np.array([3.0, 1.0])}, {"features.last": np.array([0.0, 1.0])}]
    got[1]["score"] = np.array(1.0)
    score, last = measure_signal_to_noise(iter(reference), iter(got))
    assert (score.output, score.photos, score.signal, score.noise) == ("score", 2, 2.0, 1.0)
    assert score.db == pytest.approx(10 * math.log10(2))
    assert (last.output, last.signal, last.noise) == ("features.last", 10 / 4, 1 / 4)
    assert last.db == pytest.approx(10.0) and last.reaches(9.99) and not last.reaches(10.01)


def test_no_noise_reaches_anything() -> None:
    (same,) = measure_signal_to_noise([{"a": np.array([1.0])}], [{"a": np.array([1.0])}])
    assert same.db is None and same.noise == 0 and same.reaches(1e9)
    (silent,) = measure_signal_to_noise([{"a": np.array([0.0])}], [{"a": np.array([1.0])}])
    assert silent.db is None and not silent.reaches(-1e9)
    for record in (same, silent):
        assert msgspec.json.decode(msgspec.json.encode(record), type=SignalToNoise) == record


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_reaches_nothing(broken: float) -> None:
    good = {"a": np.array([1.0, 2.0])}
    (record,) = measure_signal_to_noise([good, good], [good, {"a": np.array([1.0, broken])}])
    assert (record.not_finite, record.signal, record.noise, record.db) == (1, None, None, None)
    assert not record.reaches(-1e9)
    with pytest.raises(DataError, match="not finite"):
        signal_to_noise_db([1.0, 2.0], [1.0, broken])


@pytest.mark.parametrize(
    ("reference", "got"),
    [
        ([], []),
        ([{}], [{}]),
        ([{"a": [1.0]}], []),
        ([], [{"a": [1.0]}]),
        ([{"a": [1.0]}], [{"a": [1.0]}, {"a": [1.0]}]),
        ([{"a": [1.0]}], [{"b": [1.0]}]),
        ([{"a": [1.0]}], [{"a": [1.0, 2.0]}]),
        ([{"a": [1.0]}, {"b": [1.0]}], [{"a": [1.0]}, {"b": [1.0]}]),
    ],
)
def test_sides_that_differ_are_refused(reference: Any, got: Any) -> None:
    with pytest.raises(DataError, match="on both sides"):
        measure_signal_to_noise(reference, got)


@pytest.mark.parametrize(
    "forged", [{"db": 20.0}, {"noise": math.nan}, {"signal": None}, {"photos": 0}, {"not_finite": 1}]
)
def test_decibels_that_do_not_follow_are_refused(forged: dict[str, Any]) -> None:
    (record,) = measure_signal_to_noise([{"a": np.array([3.0])}], [{"a": np.array([2.0])}])
    with pytest.raises(RecordError, match="dB of a signal"):
        SignalToNoise(**(msgspec.structs.asdict(record) | forged))

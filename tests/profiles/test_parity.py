from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.parity import ParityReport, check_parity, hash_photos
from edgeiqa.runtime.errors import RecordError, UsageError
from hypothesis import given
from hypothesis import strategies as st

HASH = "0" * 64


def check(reference: list[float], got: list[float], tolerance: float = 0.05, **options: Any) -> ParityReport:
    names = [f"{index}.jpg" for index in range(len(reference))]
    return check_parity(
        reference, got, names, tolerance, engine="onnxruntime", precision="f32", images_sha256=HASH, **options
    )


def test_the_figures_of_known_differences() -> None:
    report = check([10.0, 20.0, 30.0], [10.0, 20.5, 29.0], tolerance=1.0)
    assert report == ParityReport(
        engine="onnxruntime",
        precision="f32",
        photos=3,
        images_sha256=HASH,
        unit="score points",
        tolerance=1.0,
        max_abs_difference=1.0,
        mean_abs_difference=0.5,
        worst_photo="2.jpg",
        not_finite=0,
        passed=True,
    )


def test_a_difference_of_the_tolerance_passes_and_one_above_fails() -> None:
    assert check([0.0], [0.5], tolerance=0.5).passed
    assert not check([0.0], [math.nextafter(0.5, 1)], tolerance=0.5).passed


def test_equal_scores_pass_a_tolerance_of_zero() -> None:
    assert check([1.0, 2.0], [1.0, 2.0], tolerance=0.0).passed


@pytest.mark.parametrize("reference", [1.0, math.nan, math.inf])
@pytest.mark.parametrize("got", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_passes(reference: float, got: float) -> None:
    report = check([1.0, reference, 3.0], [1.0, got, 3.0], tolerance=1e300)
    assert not report.passed
    assert (report.not_finite, report.worst_photo) == (1, "1.jpg")
    assert (report.max_abs_difference, report.mean_abs_difference) == (None, None)


def test_a_nan_before_the_largest_difference_is_not_lost() -> None:
    report = check([1.0, 1.0, 1.0], [math.nan, 1.0, 1.0], tolerance=10.0)
    assert (report.passed, report.worst_photo) == (False, "0.jpg")


def test_raw_outputs_say_so() -> None:
    assert check([0.1], [0.1], unit="raw").unit == "raw"


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(-1, 1), st.floats(0, 1))
def test_a_constant_shift_is_its_own_difference(scores: list[float], shift: float, tolerance: float) -> None:
    report = check(scores, [score + shift for score in scores], tolerance)
    assert report.max_abs_difference == pytest.approx(abs(shift), abs=1e-9)
    assert report.mean_abs_difference == pytest.approx(abs(shift), abs=1e-9)
    assert msgspec.json.decode(msgspec.json.encode(report), type=ParityReport) == report


def test_a_report_of_broken_outputs_goes_through_json() -> None:
    report = check([1.0], [math.nan])
    assert msgspec.json.decode(msgspec.json.encode(report), type=ParityReport) == report


def test_numpy_arrays_are_sequences_too() -> None:
    report = check_parity(
        np.array([1.0], dtype=np.float32),
        np.array([1.0], dtype=np.float32),
        ["a"],
        0.0,
        engine="openvino",
        precision="bf16",
        images_sha256=HASH,
    )
    assert report.passed is True


@pytest.mark.parametrize(("reference", "got"), [([], []), ([1.0], []), ([1.0], [1.0, 2.0])])
def test_sides_that_are_not_as_many_are_refused(reference: list[float], got: list[float]) -> None:
    with pytest.raises(UsageError, match=r"reference scores.*as many of each, and at least one"):
        check(reference, got)


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(UsageError, match="a tolerance of"):
        check([1.0], [1.0], tolerance)


@pytest.mark.parametrize(
    "forged",
    [
        {"passed": True},
        {"max_abs_difference": 0.01},
        {"mean_abs_difference": 3.0},
        {"photos": 0},
        {"images_sha256": "abc"},
        {"not_finite": 1},
        {"tolerance": math.nan},
    ],
)
def test_a_report_whose_verdict_does_not_follow_is_refused(forged: dict[str, Any]) -> None:
    report = check([1.0, 2.0], [1.0, 4.0])
    with pytest.raises(RecordError, match="parity report"):
        ParityReport(**(msgspec.structs.asdict(report) | forged))


def test_the_hash_of_photographs_is_of_their_bytes_in_order() -> None:
    digests = hashlib.sha256(b"a").digest() + hashlib.sha256(b"b").digest()
    assert hash_photos([b"a", b"b"]) == hashlib.sha256(digests).hexdigest()
    assert hash_photos([b"a", b"b"]) != hash_photos([b"b", b"a"])
    assert hash_photos([b"a", b"b"]) != hash_photos([b"ab"])

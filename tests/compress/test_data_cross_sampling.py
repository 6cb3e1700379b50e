"""Cross-sampling by its sums on KonIQ-10k's training set, and what holds for every set of opinions."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.compress.data.cross_sampling import CrossSampling, draw_epoch, draws, range_counts
from edgeiqa.runtime.errors import DataError, RecordError
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

COUNTS = (129, 833, 2157, 3790, 149)
METHODS: list[tuple[Any, tuple[int, ...], int]] = [
    (1, (1, 1, 1, 1, 1), 645),
    (2, (1, 1, 2, 2, 1), 903),
    (3, (1, 4, 5, 6, 1), 2193),
]
RULES = [
    *(CrossSampling(method=method) for method, _, _ in METHODS),
    CrossSampling(method="log", base=1.5, rounding="floor"),
    CrossSampling(method="log", base=math.e, rounding="nearest"),
]


@pytest.fixture(scope="module")
def opinions(data_root: Path) -> NDArray[np.float64]:
    """Of KonIQ-10k's training set, over 100."""
    with (data_root / "fixtures" / "koniq10k_distributions_sets.csv").open(newline="") as file:
        return np.array([float(row["MOS"]) / 100 for row in csv.DictReader(file) if row["set"] == "training"])


def places(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> list[int]:
    return [int(count) for count in np.histogram(scores[rows], bins=5, range=(0, 1))[0]]


@pytest.mark.parametrize(("method", "multiples", "total"), METHODS)
def test_epochs_of_koniq10k_are_as_long_as_the_papers(
    opinions: NDArray[np.float64], method: Any, multiples: tuple[int, ...], total: int
) -> None:
    sampling = CrossSampling(method=method)
    assert range_counts(opinions, 5) == COUNTS
    assert draws(COUNTS, sampling) == tuple(129 * multiple for multiple in multiples)
    rows = draw_epoch(opinions, sampling, np.random.default_rng(0))
    assert rows.dtype == np.int64
    assert len(rows) == len(set(rows.tolist())) == total
    assert places(opinions, rows) == [129 * multiple for multiple in multiples]


def test_an_epoch_draws_anew_from_large_ranges_and_all_of_the_smallest(opinions: NDArray[np.float64]) -> None:
    sampling = CrossSampling(method=2)
    one, same, other = (draw_epoch(opinions, sampling, np.random.default_rng([0, seed])) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    least = set(np.flatnonzero(opinions < 0.2).tolist())
    assert least <= set(one.tolist()) and least <= set(other.tolist())
    # 258 of 3,790 twice: 17.6 are in both on average.
    large = [{row for row in rows.tolist() if 0.6 <= opinions[row] < 0.8} for rows in (one, other)]
    assert len(large[0] & large[1]) < 40


def test_every_photograph_is_drawn_in_some_epoch_about_as_often_as_its_neighbours() -> None:
    scores = np.array([0.1] * 2 + [0.5] * 8)
    seen = np.zeros(10)
    for epoch in range(2000):
        seen[draw_epoch(scores, CrossSampling(method=1), np.random.default_rng(epoch))] += 1
    assert seen[:2].tolist() == [2000, 2000]
    # Two of eight: 500 +- 19.
    assert np.abs(seen[2:] - 500).max() < 100


def test_ranges_are_mixed_in_an_epoch(opinions: NDArray[np.float64]) -> None:
    rows = draw_epoch(opinions, CrossSampling(method=1), np.random.default_rng(3))
    halves = [places(opinions, half) for half in (rows[:322], rows[322:])]
    assert all(40 < count < 90 for half in halves for count in half)


@pytest.mark.parametrize(("base", "rounding", "method"), [(10.0, "floor", 2), (2.0, "nearest", 3), (1e9, "floor", 1)])
def test_the_methods_are_cases_of_the_rule(base: float, rounding: Any, method: Any) -> None:
    rule = CrossSampling(method="log", base=base, rounding=rounding)
    assert draws(COUNTS, rule) == draws(COUNTS, CrossSampling(method=method))


def test_logarithms_are_rounded_where_they_say() -> None:
    floor, nearest = (CrossSampling(method="log", base=10.0, rounding=rounding) for rounding in ("floor", "nearest"))
    counts = (1, 9, 10, 99, 100, 999, 1000, 10**15)
    assert draws(counts, floor) == (1, 1, 2, 2, 3, 3, 4, 16)
    assert draws((1, 3, 4, 31, 32, 316, 317), nearest) == (1, 1, 2, 2, 3, 3, 4)
    # A half goes up: the logarithm of 2 to base 4.
    assert draws((7, 14), CrossSampling(method="log", base=4.0, rounding="nearest")) == (7, 14)
    assert draws((100, 199), CrossSampling(method="log", base=4.0, rounding="nearest")) == (100, 100)


def test_empty_ranges_give_nothing_and_short_ones_what_they_have() -> None:
    assert draws((0, 10, 0, 45, 10), CrossSampling(method=3)) == (0, 10, 0, 30, 10)
    assert draws((0, 0, 0), CrossSampling()) == (0, 0, 0)
    # 1 + log2 of 3/2, to the nearest, is twice the smallest: more than there are.
    assert draws((100, 150), CrossSampling(method=3)) == (100, 150)
    # A base next to 1 asks for everything, and does not take long over it.
    everything = CrossSampling(method="log", base=1 + 1e-12, rounding="floor")
    assert draws((1, 100_000), everything) == (1, 100_000)
    assert len(draw_epoch(np.zeros(0), CrossSampling(), np.random.default_rng(0))) == 0


def test_an_edge_belongs_to_the_upper_range_and_one_to_the_last() -> None:
    hundredths = np.arange(101) / 100
    assert range_counts(hundredths, 5) == (20, 20, 20, 20, 21)
    assert range_counts(hundredths, 100) == (*([1] * 99), 2)
    assert range_counts(hundredths, 1) == (101,)


@pytest.mark.parametrize("wrong", [-1e-9, 1.01, math.nan, math.inf])
def test_scores_that_are_no_opinions(wrong: float) -> None:
    scores = np.array([0.5, wrong])
    with pytest.raises(DataError, match=r"expected scores in \[0, 1\]"):
        draw_epoch(scores, CrossSampling(), np.random.default_rng(0))
    with pytest.raises(DataError, match="score range"):
        range_counts(scores, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranges": 0},
        {"method": "log"},
        {"method": "log", "base": 2.0},
        {"method": "log", "rounding": "floor"},
        {"method": "log", "base": 1.0, "rounding": "floor"},
        {"method": "log", "base": math.inf, "rounding": "floor"},
        {"method": "log", "base": math.nan, "rounding": "floor"},
        {"method": 3, "base": 2.0},
        {"method": 2, "rounding": "floor"},
    ],
    ids=str,
)
def test_a_sampling_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="expected"):
        CrossSampling(**wrong)


def test_a_sampling_goes_through_json_and_other_methods_are_refused() -> None:
    for sampling in RULES:
        assert msgspec.json.decode(msgspec.json.encode(sampling), type=CrossSampling) == sampling
    assert msgspec.convert({"method": 3}, CrossSampling) == CrossSampling(method=3)
    for wrong in ({"method": 4}, {"method": "exp"}, {"methods": 2}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, CrossSampling)


@given(counts=st.lists(st.integers(0, 5000), min_size=1, max_size=12), rule=st.sampled_from(RULES))
def test_draws_of_any_counts(counts: list[int], rule: CrossSampling) -> None:
    found = draws(counts, rule)
    smallest = min((count for count in counts if count), default=0)
    for count, drawn in zip(counts, found, strict=True):
        assert min(count, smallest) <= drawn <= count
        assert drawn in (count, 0) or drawn % smallest == 0
    # More photographs never give fewer draws.
    assert [drawn for _, drawn in sorted(zip(counts, found, strict=True))] == sorted(found)


@given(
    scores=st.lists(st.floats(0, 1), max_size=60),
    rule=st.sampled_from(RULES),
    ranges=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_an_epoch_of_any_scores(scores: list[float], rule: CrossSampling, ranges: int, seed: int) -> None:
    sampling = msgspec.structs.replace(rule, ranges=ranges)
    given_scores = np.array(scores, dtype=np.float64)
    rows = draw_epoch(given_scores, sampling, np.random.default_rng(seed))
    assert len(rows) == len(set(rows.tolist()))
    wanted = draws(range_counts(given_scores, ranges), sampling)
    assert range_counts(given_scores[rows], ranges) == wanted
    np.testing.assert_array_equal(rows, draw_epoch(given_scores, sampling, np.random.default_rng(seed)))

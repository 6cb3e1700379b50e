from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.range_errors import RangeErrors, equal_edges, range_errors, range_of
from edgeiqa.runtime.errors import DataError, UsageError

FIFTHS = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)


def test_koniq10k_in_fifths_of_its_scale(data_root: Path) -> None:
    with (data_root / "fixtures" / "koniq10k_distributions_sets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = range_of([float(row["MOS"]) for row in rows], equal_edges(0, 100))
    training = np.array([row["set"] == "training" for row in rows])
    assert np.bincount(places).tolist() == [183, 1189, 3081, 5408, 212]
    assert np.bincount(places[training]).tolist() == [129, 833, 2157, 3790, 149]


def test_a_range_holds_its_lower_edge_and_the_last_one_its_upper_edge_too() -> None:
    places = range_of([0, 19.999, 20, 40, 79.9, 80, 100], FIFTHS)
    assert places.dtype == np.int64
    assert places.tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert range_of([1.0, 2.0, 5.0], [1.0, 5.0]).tolist() == [0, 0, 0]
    assert range_of([], FIFTHS).tolist() == []


def test_equal_edges() -> None:
    assert equal_edges(0, 100) == FIFTHS
    assert equal_edges(1, 5, 4) == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert equal_edges(0, 1, 1) == (0.0, 1.0)


def test_the_errors_of_each_range_and_their_sum_and_spread() -> None:
    errors = range_errors([13, 7, 32, 58], [10, 10, 30, 50], [0, 20, 40, 60])
    assert (errors.edges, errors.counts) == ((0, 20, 40, 60), (2, 1, 1))
    assert (errors.mse, errors.total) == ((9, 4, 64), 77)
    mean = 77 / 3
    assert errors.std == pytest.approx((((9 - mean) ** 2 + (4 - mean) ** 2 + (64 - mean) ** 2) / 2) ** 0.5)
    assert msgspec.json.decode(msgspec.json.encode(errors), type=RangeErrors) == errors


def test_a_crowded_range_counts_as_much_as_a_thin_one() -> None:
    mos = np.array([*np.full(98, 50.0), 10.0, 90.0])
    always_in_the_middle = range_errors(np.full(100, 50.0), mos, [0, 20, 80, 100])
    assert always_in_the_middle.total == 3200
    assert range_errors(mos + 4, mos, [0, 20, 80, 100]).total == 48
    assert range_errors(mos + 4, mos, [0, 20, 80, 100]).std == 0


def test_opinions_outside_the_ranges_are_refused() -> None:
    for outside in (-0.001, 100.001, np.nan, np.inf):
        with pytest.raises(DataError, match=r"1 of 3 opinions outside \[0, 100\], the first"):
            range_of([50, outside, 20], FIFTHS)
    with pytest.raises(DataError, match="one opinion for each photograph"):
        range_of([[1.0, 2.0]], FIFTHS)


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(DataError, match=r"from 20 to 40, and 2 further empty ranges; .*edges of wider ranges"):
        range_errors([1, 41], [1, 41], FIFTHS)
    with pytest.raises(DataError, match="from 40 to 100; "):
        range_errors([1, 21], [1, 21], [0, 20, 40, 100])
    with pytest.raises(DataError, match="two arrays of the same length"):
        range_errors([1, 2], [1], FIFTHS)


@pytest.mark.parametrize("edges", [[], [1], [0, 0], [1, 0], [0, np.nan], [0, np.inf], [[0, 1]]])
def test_edges_that_do_not_rise_are_refused(edges: list[float]) -> None:
    with pytest.raises(UsageError, match="rise strictly"):
        range_of([0.5], edges)


def test_other_arguments_out_of_range() -> None:
    with pytest.raises(UsageError, match="0 ranges"):
        equal_edges(0, 1, 0)
    with pytest.raises(UsageError, match="rise strictly"):
        equal_edges(1, 1)
    with pytest.raises(UsageError, match="at least two"):
        range_errors([0.5], [0.5], [0, 1])

"""Which calibration images are chosen, what is told of the choice, and views that are cut when they are asked for."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.export.calibration import (
    LEAST_CALIBRATION,
    CalibrationCandidate,
    CalibrationImages,
    CalibrationRecord,
    check_calibration_images,
    choose_calibration,
    record_calibration,
)
from edgeiqa.export.pack import Photograph, cut_photograph
from edgeiqa.runtime.errors import DataError, PhotoError, RecordError, UsageError
from edgeiqa.runtime.preprocess import single_view
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from .networks import photograph

PREPROCESS = single_view(32, 24)


def candidates(sizes: dict[str, int], seed: int = 0) -> list[CalibrationCandidate]:
    scores = np.random.default_rng(seed).uniform(0, 100, sum(sizes.values()))
    kinds = [kind for kind, size in sizes.items() for _ in range(size)]
    return [
        CalibrationCandidate(key=f"{place:04x}", score=float(score), distortion=kind)
        for place, (score, kind) in enumerate(zip(scores, kinds, strict=True))
    ]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["", "blur", "jpeg", "noise"]), st.integers(1, 60), min_size=1),
    st.integers(LEAST_CALIBRATION, 120),
    st.integers(0, 5),
)
def test_what_is_chosen_is_stratified_and_without_repeats(sizes: dict[str, int], count: int, seed: int) -> None:
    total = sum(sizes.values())
    if total < LEAST_CALIBRATION:
        with pytest.raises(DataError, match=f"{total} different calibration images"):
            choose_calibration(candidates(sizes), count, seed)
        return
    pool = candidates(sizes)
    chosen = choose_calibration(pool, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, total)
    assert chosen == choose_calibration(pool, count, seed)
    taken = Counter(pool[place].distortion for place in chosen)
    for kind, size in sizes.items():
        share = len(chosen) * size / total
        # Small kinds that are raised to one are paid for by the largest.
        assert taken[kind] >= 1 and share - len(sizes) < taken[kind] < share + 2
        # One from each of as many quantile bins as were taken.
        order = sorted(candidate.score for candidate in pool if candidate.distortion == kind)
        bins = [order.index(pool[place].score) for place in chosen if pool[place].distortion == kind]
        for place, rank in enumerate(sorted(bins)):
            assert size * place // taken[kind] <= rank < size * (place + 1) // taken[kind]


def test_the_order_of_the_candidates_does_not_matter_and_the_seed_does() -> None:
    pool = candidates({"": 80, "blur": 40})
    keys = [pool[place].key for place in choose_calibration(pool, 30, seed=1)]
    turned = pool[::-1]
    assert [turned[place].key for place in choose_calibration(turned, 30, seed=1)] == keys
    assert [pool[place].key for place in choose_calibration(pool, 30, seed=2)] != keys


def test_the_first_few_are_of_all_kinds_and_of_all_scores() -> None:
    pool = candidates({"": 100, "blur": 100})
    first = [pool[place] for place in choose_calibration(pool, 100)[:30]]
    assert {candidate.distortion for candidate in first} == {"", "blur"}
    assert min(c.score for c in first) < 25 and max(c.score for c in first) > 75


def test_the_same_photograph_is_taken_once() -> None:
    pool = candidates({"": 20})
    chosen = choose_calibration(pool * 3, 60)
    assert sorted(chosen) == list(range(20))
    with pytest.raises(DataError, match=r"1 different calibration images among 100 candidates; .*at least 16"):
        choose_calibration(pool[:1] * 100)


@pytest.mark.parametrize(("count", "seed"), [(15, 0), (0, 0), (100, -1)])
def test_arguments_out_of_range_are_refused(count: int, seed: int) -> None:
    with pytest.raises(UsageError, match="at least 16"):
        choose_calibration(candidates({"": 200}), count, seed)


def test_a_score_that_is_none_is_refused() -> None:
    pool = [*candidates({"": 20}), CalibrationCandidate(key="bad", score=math.nan)]
    with pytest.raises(DataError, match="a score of nan of the calibration candidate bad"):
        choose_calibration(pool)


def test_the_record_of_a_choice() -> None:
    pool = candidates({"": 90, "noise": 30})
    chosen = choose_calibration(pool, 40, seed=3)
    record = record_calibration(pool, chosen, wanted=40, seed=3, source="photographs of the tests")
    assert (record.photographs, record.versions) == (40, 10)
    assert (record.wanted, record.count, record.seed, record.source) == (40, 40, 3, "photographs of the tests")
    assert [(s.distortion, s.candidates, s.count) for s in record.strata] == [("", 90, 30), ("noise", 30, 10)]
    undistorted = [pool[place].score for place in chosen if not pool[place].distortion]
    assert (record.strata[0].lowest_score, record.strata[0].highest_score) == (min(undistorted), max(undistorted))
    keys = "".join(pool[place].key + "\n" for place in chosen)
    assert record.keys_sha256 == hashlib.sha256(keys.encode()).hexdigest()
    assert msgspec.json.decode(msgspec.json.encode(record), type=CalibrationRecord) == record
    other = record_calibration(pool, chosen[::-1], wanted=40, seed=3, source="")
    assert other.keys_sha256 != record.keys_sha256


def test_a_photograph_and_its_distorted_versions_are_one() -> None:
    pool = [
        CalibrationCandidate(key=f"{place:02x}{what}", score=float(place), distortion=kind)
        for place in range(10)
        for kind, what in (("", ""), ("blur", " blur 1"), ("blur", " blur 2"))
    ]
    record = record_calibration(pool, choose_calibration(pool, 30), wanted=30, seed=0, source="")
    assert (record.count, record.photographs, record.versions) == (30, 10, 20)


@pytest.mark.parametrize(
    "forged",
    [
        {"count": 39},
        {"wanted": 20},
        {"keys_sha256": "no"},
        {"strata": ()},
        {"photographs": 0},
        {"photographs": 41},
        {"versions": 1},
    ],
)
def test_a_record_that_does_not_add_up_is_refused(forged: dict[str, Any]) -> None:
    pool = candidates({"": 90})
    record = record_calibration(pool, choose_calibration(pool, 40), wanted=40, seed=0, source="")
    with pytest.raises(RecordError):
        CalibrationRecord(**(msgspec.structs.asdict(record) | forged))


def cut(photo: Photograph) -> dict[str, NDArray[np.uint8]]:
    return cut_photograph(photo, PREPROCESS)


def named(photo: Photograph) -> str:
    return photo.name


def test_views_are_cut_when_asked_for_again_and_again() -> None:
    photos = [photograph(f"waves-{seed}", seed) for seed in range(LEAST_CALIBRATION)]
    calls: list[str] = []

    def counted(photo: Photograph) -> dict[str, NDArray[np.uint8]]:
        calls.append(photo.name)
        return cut(photo)

    images = CalibrationImages(photos, counted, named)
    assert isinstance(images, Collection) and len(images) == LEAST_CALIBRATION and not calls
    first = iter(images)
    next(first)
    next(first)
    assert calls == ["waves-0", "waves-1"]
    rounds = [[views["image"].tobytes() for views in images] for _ in range(2)]
    assert rounds[0] == rounds[1] == [cut(photo)["image"].tobytes() for photo in photos]
    assert cut(photos[3]) in images
    assert cut(photograph("other", 99)) not in images
    assert {"other": cut(photos[3])["image"]} not in images
    anything: Collection[object] = images
    assert "waves-3" not in anything
    assert check_calibration_images(images) == LEAST_CALIBRATION


def test_an_unreadable_photograph_is_named() -> None:
    photos = [photograph(f"waves-{seed}", seed) for seed in range(LEAST_CALIBRATION)]
    photos[5] = Photograph("cut-off", photos[5].data[:500])
    with pytest.raises(PhotoError, match=r"^calibration image cut-off: ") as caught:
        check_calibration_images(CalibrationImages(photos, cut, named))
    assert caught.value.got.count("cut-off") == 1


def test_a_file_that_is_gone_is_named_once(tmp_path: Path) -> None:
    def gone(path: Path) -> dict[str, NDArray[np.uint8]]:
        raise PhotoError(f"no file {path}", expected="a photograph", mend="correct the path")

    with pytest.raises(PhotoError) as caught:
        list(CalibrationImages([tmp_path / "gone.jpg"], gone))
    assert caught.value.got == f"calibration image no file {tmp_path / 'gone.jpg'}"


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "0 calibration images; "),
        (list(range(15)), "15 calibration images; "),
        ([7] * 40, "40 calibration images that are all the same; "),
        ([1, 2, 3] * 10, "30 calibration images, only 3 of them different; "),
    ],
)
def test_too_few_that_differ_are_refused(seeds: list[int], message: str) -> None:
    # Other names do not make other photographs.
    photos = [photograph(f"{place}", seed) for place, seed in enumerate(seeds)]
    with pytest.raises(DataError) as caught:
        check_calibration_images(CalibrationImages(photos, cut, named))
    assert str(caught.value).startswith(message)
    assert "at least 16 different ones" in caught.value.expected

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.metrics import Interval, srcc
from edgeiqa.profiles.rank import MAX_SRCC_DROP, RankReport, check_rank, swapped_share
from edgeiqa.runtime.errors import DataError, RecordError, UsageError
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

HASH = "0" * 64
SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0, 40.0]), min_size=2, max_size=12)
LIMITS = ("least_srcc", "max_srcc_drop", "swap_margin", "max_swapped_share", "max_change")


def check(reference: ArrayLike, got: ArrayLike, **options: Any) -> RankReport:
    r, q = np.asarray(reference, dtype=np.float64), np.asarray(got, dtype=np.float64)
    names = [f"{index}.jpg" for index in range(len(r))]
    return check_rank(r, q, names, engine="onnxruntime", precision="int8", images_sha256=HASH, **options)


def students(n: int, similarity: float, seed: int = 0) -> tuple[NDArray[np.float64], ...]:
    """Opinions, a student's scores of SRCC .83 to them, and changed ones of about ``similarity`` to its own."""
    rng = np.random.default_rng(seed)
    mos = rng.normal(size=n)
    scores = 0.83 * mos + math.sqrt(1 - 0.83**2) * rng.normal(size=n)
    changed = scores + math.sqrt(1 / similarity**2 - 1) * rng.normal(size=n)
    return 50 + 15 * mos, 50 + 15 * scores, 50 + 15 * changed


def test_the_figures_of_known_scores() -> None:
    # Ranks 1 2 3 4 against 2 1 3 4: squared rank differences sum to 2. One of six pairs swaps, by 2 + 1 points.
    report = check([10.0, 12.0, 30.0, 50.0], [11.0, 10.0, 30.0, 54.0], least_srcc=0.8)
    assert report == RankReport(
        engine="onnxruntime",
        precision="int8",
        photos=4,
        versions=0,
        images_sha256=HASH,
        not_finite=0,
        worst_photo="3.jpg",
        distinct_reference=4,
        distinct_got=4,
        least_srcc=0.8,
        srcc=1 - 6 * 2 / (4 * 15),
        opinions=0,
        max_srcc_drop=None,
        srcc_drop=None,
        level=0.95,
        resamples=1000,
        seed=0,
        swap_margin=1.0,
        swapped_share=1 / 6,
        max_swapped_share=None,
        mean_change=(1 - 2 + 0 + 4) / 4,
        p99_change=report.p99_change,
        largest_change=4.0,
        max_change=None,
        passed=True,
    )
    # Of the sorted changes 0 1 2 4 at place 2.97.
    assert report.p99_change == pytest.approx(2 + 0.97 * 2)


def test_equal_scores_pass_the_strictest_limits() -> None:
    mos, scores, _ = students(112, 1.0)
    report = check(
        scores, scores, mos=mos, least_srcc=1.0, max_srcc_drop=0.0, max_swapped_share=0.0, max_change=0.0, swap_margin=0
    )
    assert report.passed and report.failures == ()
    assert (report.srcc, report.largest_change, report.swapped_share) == (1.0, 0.0, 0.0)
    assert report.srcc_drop == Interval(value=0.0, low=0.0, high=0.0)


@given(SCORES, st.data(), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_the_swapped_share_is_that_of_all_pairs(reference: list[float], data: st.DataObject, margin: float) -> None:
    got = data.draw(st.permutations(reference) | st.just([score / 2 for score in reference]))
    pairs = list(itertools.combinations(range(len(reference)), 2))
    swapped = 0
    for i, j in pairs:
        before, after = reference[i] - reference[j], got[i] - got[j]
        order = [(gap > 0) - (gap < 0) for gap in (before, after)]
        swapped += order[0] != order[1] and abs(before) + abs(after) > margin
    assert swapped_share(reference, got, margin) == swapped / len(pairs)


def test_a_tie_on_one_side_alone_is_a_change_of_order() -> None:
    assert swapped_share([1.0, 3.0], [2.0, 2.0], 1.9) == 1
    assert swapped_share([1.0, 3.0], [2.0, 2.0], 2.0) == 0
    assert swapped_share([2.0, 2.0], [5.0, 5.0], 0.0) == 0


def test_the_swapped_share_of_many_photographs_takes_little_memory() -> None:
    scores = np.random.default_rng(3).normal(50, 15, 5000)
    tracemalloc.start()
    share = swapped_share(scores, -scores, 0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert share == 1.0
    assert peak < 100e6  # all pairs at once would be 200 MB for each of the arrays


@pytest.mark.parametrize("shift", [0.0, -3.5])
def test_a_shift_keeps_the_order_and_is_told_as_bias(shift: float) -> None:
    _, scores, _ = students(60, 1.0)
    report = check(scores, scores + shift)
    assert report.passed
    assert report.mean_change == pytest.approx(shift)
    assert report.largest_change == pytest.approx(abs(shift))
    assert report.p99_change == pytest.approx(abs(shift))


def test_one_that_changes_much_is_named_and_held_where_asked() -> None:
    _, scores, _ = students(500, 1.0)
    got = scores.copy()
    got[17] += 21
    report = check(scores, got)
    assert report.passed and report.worst_photo == "17.jpg"
    assert report.largest_change == pytest.approx(21) and report.p99_change == 0
    held = check(scores, got, max_change=10.0)
    assert held.failures == ("17.jpg changes by 21 points, expected at most 10",)
    assert not held.passed


def test_an_srcc_below_the_least_fails_and_says_so() -> None:
    _, scores, changed = students(200, 0.97)
    report = check(scores, changed)
    assert report.srcc == pytest.approx(srcc(scores, changed)) and report.srcc is not None and report.srcc < 0.99
    assert not report.passed
    assert "SRCC to the reference" in report.failures[0] and "at least 0.99" in report.failures[0]
    assert check(scores, changed, least_srcc=report.srcc).passed
    assert not check(scores, changed, least_srcc=math.nextafter(report.srcc, 1)).passed


def test_the_share_of_swapped_pairs_is_held_where_asked() -> None:
    _, scores, changed = students(200, 0.995)
    share = check(scores, changed).swapped_share
    assert share is not None and 0 < share < 0.05
    assert check(scores, changed, max_swapped_share=share).passed
    assert "pairs change order by more than 1 points" in check(scores, changed, max_swapped_share=0.0).failures[0]


@pytest.mark.parametrize("side", ["reference", "artefact", "both"])
def test_scores_that_are_all_the_same_never_pass(side: str) -> None:
    mos, scores, _ = students(40, 1.0)
    flat = np.full(40, 50.0)
    sides = {"reference": (flat, scores), "artefact": (scores, flat), "both": (flat, flat)}
    report = check(*sides[side], mos=mos, least_srcc=-1.0, max_srcc_drop=2.0)
    assert not report.passed and report.srcc is None and report.srcc_drop is None
    assert len(report.failures) == (2 if side == "both" else 1)
    assert all("the same score of the" in reason and "40 photographs" in reason for reason in report.failures)
    assert msgspec.json.decode(msgspec.json.encode(report), type=RankReport) == report


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, 1e101])
@pytest.mark.parametrize("both", [False, True])
def test_what_is_not_finite_never_passes(broken: float, both: bool) -> None:
    reference, got = [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, broken, 4.0]
    report = check(got if both else reference, got, mos=[1.0, 2.0, 3.0, 4.0], least_srcc=-1.0, max_srcc_drop=2.0)
    assert not report.passed
    assert (report.not_finite, report.worst_photo) == (1, "2.jpg")
    assert report.srcc_drop is None
    assert {report.srcc, report.swapped_share, report.largest_change, report.mean_change} == {None}
    assert report.failures == ("1 of 4 photographs without finite scores, as 2.jpg",)
    assert msgspec.json.decode(msgspec.json.encode(report), type=RankReport) == report


def test_the_bound_of_the_drop_is_held_and_not_the_drop() -> None:
    mos, scores, changed = students(60, 0.995, seed=4)
    drop = check(scores, changed, mos=mos).srcc_drop
    assert drop is not None and drop.value == pytest.approx(srcc(scores, mos) - srcc(changed, mos))
    between = (max(drop.value, 0.0) + drop.high) / 2
    held = check(scores, changed, mos=mos, max_srcc_drop=between)
    assert not held.passed and "more photographs would narrow it" in held.failures[0]
    assert check(scores, changed, mos=mos, max_srcc_drop=drop.high).passed
    # Without opinions there is nothing to drop.
    assert check(scores, changed, max_srcc_drop=0.0).passed


def test_the_drop_is_that_on_photographs_with_opinions() -> None:
    mos, scores, changed = students(90, 0.99, seed=2)
    rated = np.arange(90) % 3 > 0
    report = check(scores, changed, mos=np.where(rated, mos, math.nan))
    assert (report.photos, report.opinions) == (90, 60)
    assert report.srcc_drop == check(scores[rated], changed[rated], mos=mos[rated]).srcc_drop
    assert report.srcc == check(scores, changed).srcc and check(scores, changed).opinions == 0
    assert msgspec.json.decode(msgspec.json.encode(report), type=RankReport) == report


@pytest.mark.parametrize("side", [0, 1])
def test_one_score_for_all_that_have_opinions_fails(side: int) -> None:
    mos, scores, _ = students(60, 1.0)
    sides = [scores, scores.copy()]
    sides[side][:30] = 50.0
    opinions = np.where(np.arange(60) < 30, mos, math.nan)
    report = check(*sides, mos=opinions, least_srcc=-1.0, max_srcc_drop=2.0)
    assert not report.passed and report.srcc is not None and report.srcc_drop is None
    assert report.failures == ("the same score of one side for all 30 photographs with opinions: they have no order",)
    assert msgspec.json.decode(msgspec.json.encode(report), type=RankReport) == report


def test_versions_are_told() -> None:
    assert check([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], versions=2).versions == 2
    for versions in (-1, 3):
        with pytest.raises(RecordError, match="rank report"):
            check([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], versions=versions)


def test_a_harmless_change_passes_by_default_and_a_careless_one_does_not() -> None:
    passed = {
        similarity: sum(
            check(scores, changed, mos=mos, resamples=200, least_srcc=0.9).passed
            for mos, scores, changed in (students(112, similarity, seed) for seed in range(20))
        )
        for similarity in (0.999, 0.996, 0.92)
    }
    assert MAX_SRCC_DROP == 0.03
    assert passed[0.999] == 20 and passed[0.996] >= 14 and passed[0.92] == 0


def test_more_photographs_narrow_the_bound() -> None:
    highs = [
        np.mean([check(q, r, mos=mos, resamples=200).srcc_drop.high for mos, q, r in sets])  # type: ignore[union-attr]
        for sets in ([students(n, 0.995, seed) for seed in range(6)] for n in (50, 400))
    ]
    assert highs[1] < 0.6 * highs[0]


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=15), st.floats(-5, 5), st.floats(0, 2))
def test_reports_go_through_json(scores: list[float], shift: float, factor: float) -> None:
    report = check(scores, np.array(scores) * factor + shift)
    assert msgspec.json.decode(msgspec.json.encode(report), type=RankReport) == report


@pytest.mark.parametrize(
    ("reference", "got", "mos"),
    [([], [], None), ([1.0, 2.0], [1.0, 2.0], None), ([1.0] * 3, [1.0] * 4, None), ([1.0] * 3, [1.0] * 3, [1.0] * 2)],
)
def test_sides_that_are_not_as_many_are_refused(reference: list[float], got: list[float], mos: Any) -> None:
    with pytest.raises(UsageError, match="as many of each, and at least 3"):
        check(reference, got, mos=mos)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("value", [-1.5, math.nan, math.inf])
def test_limits_that_are_none_are_refused(limit: str, value: float) -> None:
    with pytest.raises(UsageError, match="other limits"):
        check([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], **{limit: value})


@pytest.mark.parametrize("mos", [[1.0, math.nan, 3.0], [1.0, math.inf, 3.0], [2.0, 2.0, 2.0]])
def test_opinions_that_judge_nothing_are_refused(mos: list[float]) -> None:
    with pytest.raises(DataError, match="opinion"):
        check([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], mos=mos)


@pytest.mark.parametrize("scores", [([1.0], [1.0, 2.0]), ([1.0], [1.0]), ([1.0, math.nan], [1.0, 2.0])])
def test_pairs_of_nothing_are_refused(scores: tuple[list[float], list[float]]) -> None:
    with pytest.raises(UsageError, match="two arrays of the same length"):
        swapped_share(*scores)


@pytest.mark.parametrize(
    "forged",
    [
        {"passed": True},
        {"srcc": 1.0},
        {"srcc": 1.1, "passed": True},
        {"srcc": None, "passed": True},
        {"srcc": math.nan},
        {"least_srcc": -1.0},
        {"swapped_share": 1.5},
        {"largest_change": -1.0},
        {"largest_change": None},
        {"mean_change": 80.0},
        {"p99_change": math.nan},
        {"photos": 2},
        {"distinct_got": 0},
        {"distinct_got": 1, "passed": True},
        {"images_sha256": "abc"},
        {"not_finite": 1},
        {"max_srcc_drop": None},
        {"opinions": 0},
        {"opinions": 2},
        {"opinions": 61},
        {"versions": 60},
        {"srcc_drop": None},
        {"srcc_drop": Interval(value=0.0, low=0.1, high=-0.1)},
        {"srcc_drop": Interval(value=0.0, low=math.nan, high=math.nan)},
        {"swap_margin": math.nan},
    ],
)
def test_a_report_whose_verdict_does_not_follow_is_refused(forged: dict[str, Any]) -> None:
    mos, scores, changed = students(60, 0.985)
    # The bound passes, the correlation does not.
    report = check(scores, changed, mos=mos, max_srcc_drop=1.0)
    assert len(report.failures) == 1
    with pytest.raises(RecordError, match="rank report"):
        RankReport(**(msgspec.structs.asdict(report) | forged))

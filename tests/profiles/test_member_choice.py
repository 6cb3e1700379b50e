"""Fewer members: the best sets by hand and by brute force, limits, and that neither order nor ties decide."""

from __future__ import annotations

from itertools import combinations

import msgspec
import numpy as np
import pytest
from edgeiqa.profiles.member_choice import MOST_EXHAUSTIVE, How, MemberChoice, choose_members
from edgeiqa.profiles.metrics import evaluate, srcc
from edgeiqa.runtime.errors import BudgetError, DataError, UsageError
from numpy.typing import NDArray

HOWS: tuple[How, ...] = ("greedy", "exhaustive")
FEW = 100


def ensemble(
    members: int, photos: int = 40, seed: int = 0
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Members that see the opinions through noise of several strengths."""
    rng = np.random.default_rng(seed)
    mos = rng.uniform(0, 100, photos)
    strength = rng.uniform(10, 60, (members, 1))
    return [f"m{row:02}" for row in range(members)], mos + strength * rng.normal(size=(members, photos)), mos


def values(choice: MemberChoice) -> list[float]:
    return [kept.accuracy.srcc.value for kept in choice.curve]


def sets(choice: MemberChoice) -> list[tuple[str, ...]]:
    return [kept.members for kept in choice.curve]


@pytest.mark.parametrize("seed", range(4))
def test_every_subset_is_looked_at(seed: int) -> None:
    names, scores, mos = ensemble(5, photos=25, seed=seed)
    choice = choose_members(names, scores, mos, how="exhaustive", resamples=FEW)
    for count, kept in enumerate(choice.curve, 1):
        every = {rows: srcc(scores[list(rows)].mean(axis=0), mos) for rows in combinations(range(5), count)}
        assert kept.accuracy.srcc.value == pytest.approx(max(every.values()), abs=1e-12)
        assert every[tuple(names.index(name) for name in kept.members)] == pytest.approx(max(every.values()), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_all_subsets_are_never_worse_than_forward_selection(seed: int) -> None:
    names, scores, mos = ensemble(7, photos=30, seed=seed)
    greedy, exhaustive = (choose_members(names, scores, mos, how=how, resamples=FEW) for how in HOWS)
    assert len(greedy.curve) == len(exhaustive.curve) == 7
    assert all(one >= other - 1e-12 for one, other in zip(values(exhaustive), values(greedy), strict=True))
    # One member, and all of them, are no matter of search.
    assert greedy.curve[0] == exhaustive.curve[0] and greedy.curve[-1] == exhaustive.curve[-1]
    # Each step of forward selection keeps those before.
    assert all(set(one) < set(more) for one, more in zip(sets(greedy), sets(greedy)[1:], strict=False))


@pytest.mark.parametrize("how", HOWS)
def test_all_members_are_the_plain_mean(how: How) -> None:
    names, scores, mos = ensemble(6)
    last = choose_members(names, scores, mos, how=how, resamples=FEW).curve[-1]
    expected = evaluate(scores.mean(axis=0), mos, resamples=FEW)
    assert last.members == tuple(names)
    for figure in ("srcc", "plcc", "rmse"):
        found, wanted = getattr(last.accuracy, figure), getattr(expected, figure)
        assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high), abs=1e-9)


def planted() -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Two poor members whose errors cancel, and a good one that neither mends."""
    rng = np.random.default_rng(5)
    mos = rng.uniform(0, 100, 60)
    error, other = 80 * rng.normal(size=60), 15 * rng.normal(size=60)
    return ["good", "minus", "plus"], np.stack([mos + other, mos - error, mos + error]), mos


def test_a_planted_pair_is_found_by_looking_at_all() -> None:
    names, scores, mos = planted()
    choice = choose_members(names, scores, mos, how="exhaustive", resamples=FEW)
    assert choice.chosen.members == ("minus", "plus")
    assert choice.chosen.accuracy.srcc.value == pytest.approx(1)
    assert choice.chosen.accuracy.rmse.value == pytest.approx(0, abs=1e-9)
    # Forward selection begins with the good one, and never gets there.
    assert sets(choose_members(names, scores, mos, how="greedy", resamples=FEW))[0] == ("good",)


@pytest.mark.parametrize("how", HOWS)
def test_a_planted_pair_among_noise(how: How) -> None:
    rng = np.random.default_rng(2)
    mos = rng.uniform(0, 100, 80)
    error = 10 * rng.normal(size=80)
    scores = rng.uniform(0, 100, (6, 80))
    scores[1], scores[4] = mos + error, mos - error
    chosen = choose_members(list("abcdef"), scores, mos, how=how, resamples=FEW).chosen
    assert chosen.members == ("b", "e") and chosen.accuracy.srcc.value == pytest.approx(1)


@pytest.mark.parametrize("how", HOWS)
def test_the_order_of_members_does_not_matter(how: How) -> None:
    names, scores, mos = ensemble(6)
    # A copy of a member ties with it everywhere.
    names, scores = [*names, "copy"], np.concatenate([scores, scores[2:3]])
    macs = [10 * (row + 1) for row in range(7)]
    first = choose_members(names, scores, mos, macs=macs, how=how, resamples=FEW)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(7)
        again = choose_members(
            [names[row] for row in order],
            scores[order],
            mos,
            macs=[macs[row] for row in order],
            how=how,
            resamples=FEW,
        )
        assert again == first


@pytest.mark.parametrize("how", HOWS)
def test_of_equals_the_earlier_names_and_fewer_members_are_kept(how: How) -> None:
    mos = np.arange(20.0)
    choice = choose_members(["c", "a", "b"], np.stack([mos, mos + 1, 2 * mos]), mos, how=how, resamples=FEW)
    assert sets(choice) == [("a",), ("a", "b"), ("a", "b", "c")]
    assert values(choice) == pytest.approx([1, 1, 1]) and choice.chosen.members == ("a",)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("seed", range(4))
def test_limits_are_held(how: How, seed: int) -> None:
    names, scores, mos = ensemble(6, seed=seed)
    rng = np.random.default_rng(seed)
    macs, size = (rng.integers(1, 50, 6).tolist() for _ in range(2))
    choice = choose_members(
        names, scores, mos, macs=macs, size_bytes=size, most_macs=90, most_size_bytes=80, how=how, resamples=FEW
    )
    for count, kept in enumerate(choice.curve, 1):
        rows = [names.index(name) for name in kept.members]
        assert len(rows) == count
        assert kept.macs == sum(macs[row] for row in rows) <= 90
        assert kept.size_bytes == sum(size[row] for row in rows) <= 80
    if how == "exhaustive":
        most = max(
            len(rows)
            for count in range(1, 7)
            for rows in combinations(range(6), count)
            if sum(macs[row] for row in rows) <= 90 and sum(size[row] for row in rows) <= 80
        )
        assert len(choice.curve) == most


def test_a_limit_that_is_met_exactly_is_kept_and_one_less_is_not() -> None:
    names, scores, mos = ensemble(3)
    for most, count in ((30, 3), (29, 2), (10, 1)):
        choice = choose_members(names, scores, mos, macs=[10] * 3, most_macs=most, resamples=FEW)
        assert len(choice.curve) == count
    with pytest.raises(BudgetError, match="none of which is within macs of 9"):
        choose_members(names, scores, mos, macs=[10] * 3, most_macs=9)


def test_multiply_adds_of_large_members_do_not_overflow() -> None:
    names, scores, mos = ensemble(2)
    choice = choose_members(names, scores, mos, macs=[2**50] * 2, size_bytes=[3, 4], resamples=FEW)
    assert (choice.curve[1].macs, choice.curve[1].size_bytes) == (2**51, 7)
    assert choose_members(names, scores, mos, resamples=FEW).curve[0].macs is None


def test_a_member_with_one_score_for_all_is_no_help() -> None:
    mos = np.arange(10.0)
    choice = choose_members(["flat", "good"], np.stack([np.full(10, 50.0), mos]), mos, resamples=FEW)
    assert sets(choice) == [("good",), ("flat", "good")]


def test_sixteen_members_of_a_selection_part() -> None:
    names, scores, mos = ensemble(MOST_EXHAUSTIVE, photos=112)
    choice = choose_members(names, scores, mos, how="exhaustive", resamples=FEW)
    assert [len(kept.members) for kept in choice.curve] == list(range(1, 17))
    # A planted pair in the last places, past the first batch of subsets.
    error = 5 * np.random.default_rng(1).normal(size=112)
    scores[14], scores[15] = mos + error, mos - error
    assert choose_members(names, scores, mos, how="exhaustive", resamples=FEW).chosen.members == ("m14", "m15")


def test_a_choice_is_a_record() -> None:
    names, scores, mos = ensemble(2)
    choice = choose_members(names, scores, mos, resamples=FEW)
    assert msgspec.json.decode(msgspec.json.encode(choice), type=MemberChoice) == choice


def test_what_cannot_be_chosen_from() -> None:
    names, scores, mos = ensemble(17, photos=5)
    with pytest.raises(UsageError, match=r"17 members for an exhaustive choice.*at most 16.*greedy"):
        choose_members(names, scores, mos, how="exhaustive")
    names, scores = names[:2], scores[:2]
    with pytest.raises(UsageError, match="a name of its own"):
        choose_members(["a", "a"], scores, mos)
    with pytest.raises(UsageError, match="a name of its own"):
        choose_members(["a"], scores, mos)
    with pytest.raises(UsageError, match="most_size_bytes without size_bytes"):
        choose_members(names, scores, mos, most_size_bytes=1)
    with pytest.raises(UsageError, match="macs of 1 members for 2"):
        choose_members(names, scores, mos, macs=[1])
    for table in (scores[0], np.empty((0, 5))):
        with pytest.raises(DataError, match="at least one member"):
            choose_members(names, table, mos)
    with pytest.raises(DataError, match="at least 3"):
        choose_members(names, scores[:, :2], mos[:2])
    scores[1, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        choose_members(names, scores, mos)
    with pytest.raises(DataError, match="the same opinion"):
        choose_members(names, np.nan_to_num(scores), np.full(5, 50.0))

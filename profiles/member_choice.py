"""Fewer members of an ensemble: which M of its K members score best together.

One of the two ways to a smaller ensemble in "An Ensemble of ConvNeXt Models for Perceptual Quality Assessment of
Filtered Images", VCIP 2025. Forward selection is that of R. Caruana et al., "Ensemble Selection from Libraries of
Models", ICML 2004, with no member taken twice. Needs the extra ``evaluate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, islice
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import BudgetError, DataError, MissingExtraError, UsageError
from .metrics import Accuracy, evaluate, paired_arrays

__all__ = ["MOST_EXHAUSTIVE", "How", "MemberChoice", "MemberSet", "choose_members"]

How = Literal["greedy", "exhaustive"]

MOST_EXHAUSTIVE = 16
"""Members of which all subsets are tried: 65,535 take about a second, each further member twice as long."""

_LEAST_PHOTOS = 3
# Numbers held at a time, so that all subsets of many photographs stay in a few tens of MiB.
_BATCH_NUMBERS = 1_000_000
# Below any correlation: of scores that are all the same there is none.
_NO_CORRELATION = -2.0


class MemberSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members that were kept of an ensemble, where so many of them are wanted.

    Attributes:
        members: their names, sorted.
        accuracy: of the mean of their mapped scores on the photographs that they were chosen on, which flatter it.
        macs: multiply-adds a photograph of all of them; None where the members' are not known.
        size_bytes: likewise.
    """

    members: tuple[str, ...]
    accuracy: Accuracy
    macs: int | None = None
    size_bytes: int | None = None


class MemberChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many members to keep, and which.

    Attributes:
        how: they were looked for.
        curve: the best set found of each number of members, from one on; numbers that the limits do not let be are
            left out.
        chosen: that of them with the greatest SRCC; among equals that of the fewest members.
    """

    how: How
    curve: tuple[MemberSet, ...]
    chosen: MemberSet


def choose_members(
    names: Sequence[str],
    scores: ArrayLike,
    mos: ArrayLike,
    *,
    macs: Sequence[int] | None = None,
    size_bytes: Sequence[int] | None = None,
    most_macs: int | None = None,
    most_size_bytes: int | None = None,
    how: How = "greedy",
    resamples: int = 1000,
) -> MemberChoice:
    """Find, for each number of members, those whose mean of mapped scores has the greatest SRCC.

    ``greedy`` is forward selection: each step adds the member that gives the greatest SRCC with those before, as long
    as one fits in the limits. ``exhaustive`` looks at every subset within them, and is never worse. Among equals the
    earlier names in alphabetical order are kept, so the order of the members does not matter.

    The photographs that choose flatter the figure: it is a maximum over sets, of the same photographs. The figure for
    documentation is that of other photographs.

    Args:
        names: of the K members, each its own.
        scores: mapped scores of the members on the selection part, float ``[K, n]``, finite, n at least 3, in the unit
            of the opinions.
        mos: opinions, float ``[n]``.
        macs: multiply-adds a photograph of each member, ``[K]``.
        size_bytes: of each member, ``[K]``.
        most_macs: limit of the sum of ``macs``; a sum that equals it keeps it.
        most_size_bytes: likewise.
        how: to look for them.
        resamples: of the bootstrap of the figures.

    Returns:
        The sets, with their accuracy and cost.

    Raises:
        UsageError: more than `MOST_EXHAUSTIVE` members for ``exhaustive``, a limit of what is not given, costs of
            another number of members, or names that are not one for each.
        BudgetError: no member is within the limits.
        DataError: the arrays are not so, or all opinions or all scores of a set are the same.
        MissingExtraError: scipy is not installed.
    """
    table, opinions = _checked(names, scores, mos)
    # By name, so that neither ties nor the rounding of means depend on the order that is given.
    order = sorted(range(len(names)), key=lambda row: names[row])
    table = table[order]
    costs = [
        _Cost("macs", _costs("macs", macs, most_macs, order), most_macs),
        _Cost("size_bytes", _costs("size_bytes", size_bytes, most_size_bytes, order), most_size_bytes),
    ]
    if how == "exhaustive" and len(order) > MOST_EXHAUSTIVE:
        raise UsageError(
            f"{len(order)} members for an exhaustive choice",
            expected=f"at most {MOST_EXHAUSTIVE}: each further one doubles the subsets",
            mend="choose them by how='greedy'",
        )
    ranks = _centred_ranks(opinions)
    sets = (_greedy if how == "greedy" else _exhaustive)(table, ranks, costs)
    if not sets:
        limits = " and ".join(f"{cost.name} of {cost.most:,}" for cost in costs if cost.most is not None)
        raise BudgetError(
            f"{len(order)} members, none of which is within {limits}",
            expected="limits that at least one member keeps",
            mend="raise them, or teach smaller members",
        )
    curve = []
    for _, rows in sets:
        picked = np.array([rows])
        totals = [None if cost.each is None else int(cost.each[picked].sum()) for cost in costs]
        judged = _accuracy(_means(table, picked)[0].tobytes(), opinions.tobytes(), resamples)
        kept = tuple(names[order[row]] for row in rows)
        curve.append(MemberSet(members=kept, accuracy=judged, macs=totals[0], size_bytes=totals[1]))
    # By the values that were compared: those of the figures differ in their last digits where orders are equally good.
    best = max(range(len(sets)), key=lambda place: sets[place][0])
    return MemberChoice(how=how, curve=tuple(curve), chosen=curve[best])


_Found = tuple[float, tuple[int, ...]]
"""The SRCC of a set of members, and their places, rising."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """What members cost in one quantity, int64 ``[K]`` or not known, and the limit of its sum."""

    name: str
    each: NDArray[np.int64] | None
    most: int | None

    def keeps(self, sets: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which sets ``[B, M]`` are within the limit, ``[B]``."""
        if self.each is None or self.most is None:
            return np.ones(len(sets), dtype=np.bool_)
        return np.asarray(self.each[sets].sum(axis=1) <= self.most)


def _checked(
    names: Sequence[str], scores: ArrayLike, mos: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise DataError(
            f"scores of shape {list(table.shape)}",
            expected="an array [members, photographs], at least one member",
            mend="give one row of scores for each member",
        )
    if len(names) != len(table) or len(set(names)) != len(names):
        raise UsageError(
            f"the names {list(names)} for {len(table)} members",
            expected="a name of its own for each",
            mend="correct them",
        )
    opinions = np.empty(0)
    for row in table:
        _, opinions = paired_arrays(row, mos, least=_LEAST_PHOTOS)
    return table, opinions


def _costs(name: str, each: Sequence[int] | None, most: int | None, order: Sequence[int]) -> NDArray[np.int64] | None:
    if each is None:
        if most is not None:
            raise UsageError(f"most_{name} without {name}", expected=f"{name} of each member", mend="give both")
        return None
    if len(each) != len(order):
        raise UsageError(
            f"{name} of {len(each)} members for {len(order)}",
            expected="one for each member",
            mend="correct the argument",
        )
    return np.array([each[row] for row in order], dtype=np.int64)


def _greedy(table: NDArray[np.float64], ranks: NDArray[np.float64], costs: Sequence[_Cost]) -> list[_Found]:
    found: list[_Found] = []
    kept: tuple[int, ...] = ()
    while left := [row for row in range(len(table)) if row not in kept]:
        # In order of the member that is added, as the first of equals is taken.
        best = _best(table, ranks, costs, np.array([sorted((*kept, row)) for row in left], dtype=np.intp))
        if best is None:
            break
        kept = best[1]
        found.append(best)
    return found


def _exhaustive(table: NDArray[np.float64], ranks: NDArray[np.float64], costs: Sequence[_Cost]) -> list[_Found]:
    found: list[_Found] = []
    for count in range(1, len(table) + 1):
        batches = (_best(table, ranks, costs, sets) for sets in _batches(len(table), count, table.shape[1]))
        # Sets come in the order of their names, and of equals max gives the first.
        best = max((one for one in batches if one is not None), key=lambda one: one[0], default=None)
        if best is not None:
            found.append(best)
    return found


def _batches(members: int, count: int, photos: int) -> Iterator[NDArray[np.intp]]:
    """All sets of so many members, ``[B, count]``, each rising and in the order of their names."""
    every = combinations(range(members), count)
    while batch := list(islice(every, max(1, _BATCH_NUMBERS // photos))):
        yield np.array(batch, dtype=np.intp)


def _best(
    table: NDArray[np.float64], ranks: NDArray[np.float64], costs: Sequence[_Cost], sets: NDArray[np.intp]
) -> _Found | None:
    """The first best of sets ``[B, M]`` within the limits; None where there is none."""
    sets = sets[np.logical_and.reduce([cost.keeps(sets) for cost in costs])]
    if not len(sets):
        return None
    values = _srcc(_means(table, sets), ranks)
    first = int(values.argmax())
    return float(values[first]), tuple(sets[first].tolist())


def _means(table: NDArray[np.float64], sets: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean of the members' scores of each of the sets ``[B, M]``, ``[B, n]``.

    Added one member after the other, so that a set has the same mean to the bit whoever asks for it.
    """
    total = table[sets[:, 0]]
    for column in sets.T[1:]:
        total = total + table[column]
    return np.asarray(total / sets.shape[1])


def _srcc(means: NDArray[np.float64], ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's correlation of each row of scores ``[B, n]`` with opinions, of which centred ranks are given, ``[B]``.

    Ranks are halves of whole numbers, and so are sums of their products exact: equal orders give equal values.
    """
    own = _centred_ranks(means)
    squares = np.square(own).sum(axis=-1) * np.square(ranks).sum()
    defined = squares > 0
    return np.where(defined, own @ ranks / np.sqrt(np.where(defined, squares, 1.0)), _NO_CORRELATION)


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks along the last axis less their mean, ties at their mean rank."""
    try:
        from scipy.stats import rankdata
    except ImportError as error:
        raise MissingExtraError(
            "no scipy, which ranks scores",
            expected="the extra 'evaluate'",
            mend='pip install "edgeiqa[evaluate]"',
        ) from error
    return np.asarray(rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2)


@lru_cache(maxsize=64)
def _accuracy(means: bytes, mos: bytes, resamples: int) -> Accuracy:
    """Of float64 scores and opinions as bytes: a choice in both ways judges most of its sets twice."""
    return evaluate(np.frombuffer(means), np.frombuffer(mos), resamples=resamples)

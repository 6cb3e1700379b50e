"""Splits: a reserved selection part and K folds, deterministic, stratified by MOS, disjoint in content."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

import msgspec

from ...runtime.errors import DataError, UsageError
from ...runtime.splitmix import hash_cell, permutation
from .dataset import Dataset, select
from .items import hash_files

__all__ = ["Split", "select_apart", "split_folds"]


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which photographs of a data set are in which part.

    Attributes:
        selection: ascending indices into ``Dataset.photos`` of the part that no member is trained on.
        folds: those of each fold; together with ``selection`` every photograph once.
    """

    selection: tuple[int, ...]
    folds: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """Photographs that must stay together."""

    mean_mos: float
    key: str
    indices: tuple[int, ...]


def split_folds(dataset: Dataset, folds: int, selection_fraction: float = 0.15, seed: int = 0) -> Split:
    """Divide a data set into a selection part and folds.

    Photographs of one ``scene``, and those whose files are the same to the byte, form a group that stays
    together. Groups are sorted by their mean MOS. From each run of neighbours the selection part draws its
    share; what is left is dealt out in blocks of ``folds`` neighbours, one to each fold, the larger groups
    of a block to the folds that hold least. Draws are SplitMix64's, so the split is the same on every
    machine, and for every order of the rows.

    Args:
        dataset: whose files are read (for their hashes).
        folds: number of folds, at least 1.
        selection_fraction: share of photographs for the selection part, in [0, .5].
        seed: of the draws, in [0, 2**63).

    Returns:
        The parts. The selection part has ``selection_fraction * n`` photographs to within half the largest
        group; the largest fold is larger than the smallest by at most the largest group.

    Raises:
        DataError: there are too few groups for that many parts, or a file cannot be read.
        UsageError: an argument is out of its range.
    """
    _require(folds >= 1, f"{folds} folds", "at least 1")
    _require(0 <= selection_fraction <= 0.5, f"a selection fraction of {selection_fraction}", "one in [0, 0.5]")
    _require(0 <= seed < 2**63, f"a seed of {seed}", "a seed in [0, 2**63)")
    groups = _groups(dataset)
    selected, rest = _draw_selection(groups, selection_fraction, seed) if selection_fraction else ([], groups)
    if len(rest) < folds or (selection_fraction and not selected):
        raise DataError(
            f"{len(dataset.photos)} photographs of {len(groups)} different contents",
            expected=f"enough for {folds} folds and a selection part of {selection_fraction:g}, none empty",
            mend="ask for fewer folds, a larger selection part, or give more photographs",
        )
    return Split(
        selection=_indices(selected),
        folds=tuple(_indices(fold) for fold in _deal(rest, folds, seed)),
    )


def select_apart(dataset: Dataset, split: str) -> Dataset:
    """The photographs of one of the data set's own parts, less those that another part holds too, to the byte.

    Raises:
        DataError: there is no such part, nothing is left of it, or a file cannot be read.
    """
    part = select(dataset, split=split)
    mine = {photo.image for photo in part.photos}
    others = set(hash_files([photo.path for photo in dataset.photos if photo.image not in mine]))
    hashes = hash_files([photo.path for photo in part.photos])
    return replace(
        part, photos=tuple(photo for photo, sha in zip(part.photos, hashes, strict=True) if sha not in others)
    )


def _require(holds: bool, got: str, expected: str) -> None:
    if not holds:
        raise UsageError(got, expected=expected, mend="correct the argument")


def _groups(dataset: Dataset) -> list[_Group]:
    """Groups sorted by mean MOS, then by their first image name."""
    leader = list(range(len(dataset.photos)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first_with: dict[tuple[str, str], int] = {}
    hashes = hash_files([photo.path for photo in dataset.photos])
    for index, (photo, sha256) in enumerate(zip(dataset.photos, hashes, strict=True)):
        marks = [("bytes", sha256)]
        if photo.scene is not None:
            marks.append(("scene", photo.scene))
        for mark in marks:
            leader[find(index)] = find(first_with.setdefault(mark, index))
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(dataset.photos)):
        members[find(index)].append(index)
    groups = [
        _Group(
            # fsum is exact, so the order of the rows cannot move the mean.
            mean_mos=math.fsum(dataset.photos[index].mos for index in indices) / len(indices),
            key=min(dataset.photos[index].image for index in indices),
            indices=tuple(indices),
        )
        for indices in members.values()
    ]
    return sorted(groups, key=lambda group: (group.mean_mos, group.key))


def _draw_selection(groups: list[_Group], fraction: float, seed: int) -> tuple[list[_Group], list[_Group]]:
    """Groups drawn evenly along the MOS, and the others, in order."""
    run = max(2, round(1 / fraction))
    drawn: set[int] = set()
    owed = 0.0
    for start in range(0, len(groups), run):
        block = groups[start : start + run]
        owed += fraction * sum(len(group.indices) for group in block)
        for place in permutation(hash_cell(seed, start, 0), len(block)):
            # A group is drawn only when that brings the part nearer to its share.
            if len(block[place].indices) < 2 * owed:
                drawn.add(start + place)
                owed -= len(block[place].indices)
    selected = [group for index, group in enumerate(groups) if index in drawn]
    return selected, [group for index, group in enumerate(groups) if index not in drawn]


def _deal(groups: list[_Group], folds: int, seed: int) -> list[list[_Group]]:
    dealt: list[list[_Group]] = [[] for _ in range(folds)]
    loads = [0] * folds
    for start in range(0, len(groups), folds):
        block = sorted(groups[start : start + folds], key=lambda group: -len(group.indices))
        # Both sorts are stable: among equals the permutation decides.
        order = sorted(permutation(hash_cell(seed, start, 1), folds), key=loads.__getitem__)
        for fold, group in zip(order, block, strict=False):
            dealt[fold].append(group)
            loads[fold] += len(group.indices)
    return dealt


def _indices(groups: list[_Group]) -> tuple[int, ...]:
    return tuple(sorted(index for group in groups for index in group.indices))

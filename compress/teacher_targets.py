"""What a teacher says of an item, by the rule that no label leaks into a judgement."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError
from ..runtime.manifest import Combine, WeightedMean
from .data.items import Item
from .teacher_cache import TeacherCache
from .teacher_members import Features, Part, ScoreTable, Teacher

__all__ = ["Targets", "speaking_features", "table_targets", "targets"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """What a teacher says of n items, in [0, 1], higher is better.

    Attributes:
        keys: of the items, in their order.
        members: names of the K members; of a table of scores, the table's.
        mean: combined score of the members that may speak (their mean, or as the teacher's bundle combines them),
            float64 ``[n]``.
        spread: population standard deviation of the scores of the members that may speak, 0 where one does, float64
            ``[n]``.
        scores: each member's, NaN where it may not speak, float64 ``[n, K]``.
        mask: which members may speak, bool ``[n, K]``.
    """

    keys: tuple[str, ...]
    members: tuple[str, ...]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    scores: NDArray[np.float64]
    mask: NDArray[np.bool_]


def targets(cache: TeacherCache, teacher: Teacher, items: Sequence[Item]) -> Targets:
    """What a teacher says of items.

    Of an undistorted photograph (or a crop of it) that members were trained on, only those speak that held its fold
    out. Of all others (the selection part, photographs that no member was trained on, distorted ones) the whole
    ensemble does.

    Which fold a photograph is of, the teacher says; where it does not know, the cache's column ``fold`` says what a
    teacher with the same members knew.

    Args:
        cache: that was filled with the teacher, at least with the members that may speak.
        teacher: whose members they are.
        items: n of them, at least one.

    Raises:
        DataError: no member held a photograph's fold out, the cache does not hold what is asked for, or raw scores do
            not lie in the range that was stated for them.
    """
    if not items:
        raise DataError("no items", expected="at least one", mend="give photographs")
    keys = tuple(item.key for item in items)
    mask = _mask(cache, teacher, items, keys)
    scores = np.full(mask.shape, np.nan)
    for place, member in enumerate(teacher.members):
        rows = np.flatnonzero(mask[:, place])
        if not rows.size:
            continue
        raw, _ = cache.read(member.key, [keys[row] for row in rows], with_features=False)
        member.require_range(raw)
        scores[rows, place] = member.unit(raw)
    return Targets(
        keys=keys,
        members=tuple(member.name for member in teacher.members),
        mean=np.array([_combined(teacher.combine, row, may) for row, may in zip(scores, mask, strict=True)]),
        spread=np.nanstd(scores, axis=1),
        scores=scores,
        mask=mask,
    )


def speaking_features(
    cache: TeacherCache, teacher: Teacher, said: Targets, rows: NDArray[np.int64] | Sequence[int], member: int
) -> Features:
    """A member's pooled features of items on which it may speak.

    Args:
        cache: as in `targets`.
        teacher: likewise.
        said: its targets.
        rows: m places in ``said``.
        member: its place in ``teacher.members``.

    Returns:
        float32 ``[m, C]`` by name.

    Raises:
        DataError: it may not speak on one of them, or the cache does not hold them.
    """
    silent = [row for row in rows if not said.mask[row, member]]
    if silent:
        raise DataError(
            f"{teacher.members[member].name} asked of {len(silent)} items whose labels it was trained on",
            expected="items of the fold it held out, or distorted ones",
            mend="draw the member from those whose mask is set",
        )
    return cache.read(teacher.members[member].key, [said.keys[row] for row in rows])[1]


def table_targets(
    table: ScoreTable, items: Sequence[Item], images: Sequence[str], *, left_out: Collection[str] = ()
) -> Targets:
    """What a table of scores says of whole photographs; it has one member and no spread.

    Args:
        table: the scores.
        items: n of them.
        images: the name of each item's photograph, as the table has it.
        left_out: names of further photographs that the table may know.

    Raises:
        DataError: an item is a crop or distorted, a photograph has no score, or the table names others.
    """
    parts = [item for item in items if item.crop is not None or item.distortion is not None]
    if parts:
        raise DataError(
            f"{len(parts)} crops or distorted photographs, such as of {parts[0].path}, for the teacher {table.path}",
            expected="whole photographs: a table of scores says nothing of their parts or of distorted ones",
            mend="ask for --crops 1 and --distortions 0, or name a teacher that can be run",
        )
    table.require_known({*images, *left_out})
    scores = table.unit_scores(images)
    return Targets(
        keys=tuple(item.key for item in items),
        members=(table.path.stem,),
        mean=scores,
        spread=np.zeros(len(scores)),
        scores=scores[:, None],
        mask=np.ones((len(scores), 1), dtype=np.bool_),
    )


def _mask(cache: TeacherCache, teacher: Teacher, items: Sequence[Item], keys: Sequence[str]) -> NDArray[np.bool_]:
    """Which members may speak, bool ``[n, K]``."""
    unsure = [
        key
        for key, item in zip(keys, items, strict=True)
        if item.distortion is None and item.sha256 not in teacher.folds
    ]
    written = cache.folds([member.key for member in teacher.members], unsure)
    mask = np.empty((len(items), len(teacher.members)), dtype=np.bool_)
    for row, (key, item) in enumerate(zip(keys, items, strict=True)):
        part = teacher.folds.get(item.sha256)
        if part is None:
            part = _written_part(written, key, item)
        mask[row] = teacher.speakers(part, distorted=item.distortion is not None)
    return mask


def _written_part(written: Mapping[str, set[str]], key: str, item: Item) -> Part | None:
    parts = written.get(key, set())
    if len(parts) > 1:
        raise DataError(
            f"{item.path}, which the teacher cache has in the parts {', '.join(sorted(parts))}",
            expected="one part for each photograph",
            mend="members of different runs cannot judge one photograph: name one run as the teacher",
        )
    if not parts:
        return None
    (part,) = parts
    return "selection" if part == "selection" else int(part)


def _combined(combine: Combine, scores: NDArray[np.float64], may: NDArray[np.bool_]) -> float:
    """The score of those that may speak, by the rule of the whole ensemble."""
    if isinstance(combine, WeightedMean):
        combine = WeightedMean(tuple(weight for weight, speaks in zip(combine.weights, may, strict=True) if speaks))
    return combine(scores[may])

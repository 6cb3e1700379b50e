"""Transfer sets: the items by which a teacher's knowledge goes over to a student."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...runtime.errors import UsageError
from ...runtime.splitmix import hash_cell
from .crops import draw_crops
from .distortions import KINDS, draw_distortion
from .distortions import ladder as rungs
from .draws import LADDER_DRAWS, photograph_number
from .items import Item, Photograph

__all__ = ["transfer_items"]


def transfer_items(
    photographs: Iterable[Photograph],
    *,
    crops: int = 1,
    distortions: int = 0,
    ladder: Sequence[float] = (),
    seed: int = 0,
) -> list[Item]:
    """The items of photographs: ``crops`` undistorted ones of each, then ``distortions`` distorted ones, then a ladder.

    Crops are those of `draw_crops` (the first is the whole photograph), distortions those of `draw_distortion`; the
    distorted item of index i shows crop ``i % crops``. The ladder is every kind of distortion at each of its
    severities, of every crop, crop by crop; on crop i all have one seed,
    ``hash_cell(photograph_number(seed, key, LADDER_DRAWS, i), 0, 0) % 2**32``. A photograph's items follow each other,
    and larger numbers of distortions begin with the same items.

    Args:
        photographs: that can be decoded.
        crops: at least 1.
        distortions: at least 0.
        ladder: severities in (0, 1].
        seed: of all draws, in [0, 2**63).

    Raises:
        UsageError: a number is out of its range.
        RecordError: a severity is.
    """
    if crops < 1 or distortions < 0:
        raise UsageError(
            f"{crops} crops and {distortions} distortions", expected="at least 1 and 0", mend="give larger numbers"
        )
    items = []
    for photo in photographs:
        drawn = draw_crops(photo.width, photo.height, crops, seed=seed, key=photo.sha256)
        items += [Item(path=photo.path, sha256=photo.sha256, crop=crop) for crop in drawn]
        items += [
            Item(
                path=photo.path,
                sha256=photo.sha256,
                distortion=draw_distortion(seed, photo.sha256, index),
                crop=drawn[index % crops],
            )
            for index in range(distortions)
        ]
        for index, crop in enumerate(drawn):
            number = hash_cell(photograph_number(seed, photo.sha256, LADDER_DRAWS, index), 0, 0) % 2**32
            items += [
                Item(path=photo.path, sha256=photo.sha256, distortion=distortion, crop=crop)
                for distortion in rungs(KINDS, ladder, number)
            ]
    return items

"""Transfer sets: the items by which a teacher's knowledge goes over to a student."""

from __future__ import annotations

from collections.abc import Iterable

from ...runtime.errors import UsageError
from .crops import draw_crops
from .distortions import draw_distortion
from .items import Item, Photograph

__all__ = ["transfer_items"]


def transfer_items(
    photographs: Iterable[Photograph], *, crops: int = 1, distortions: int = 0, seed: int = 0
) -> list[Item]:
    """The items of photographs: ``crops`` undistorted ones of each, then ``distortions`` distorted ones.

    Crops are those of `draw_crops` (the first is the whole photograph), distortions those of `draw_distortion`; the
    distorted item of index i shows crop ``i % crops``. A photograph's items follow each other, and larger numbers of
    distortions begin with the same items.

    Args:
        photographs: that can be decoded.
        crops: at least 1.
        distortions: at least 0.
        seed: of all draws, in [0, 2**63).

    Raises:
        UsageError: a number is out of its range.
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
    return items

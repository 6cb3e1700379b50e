"""Crops: the parts of a photograph that a teacher and a student both look at, before either's own preprocessing."""

from __future__ import annotations

import math

import msgspec

from ...runtime.errors import UsageError, require_field
from ...runtime.splitmix import hash_cell, offsets
from .draws import CROP_DRAWS, photograph_number

__all__ = ["Crop", "draw_crops"]


class Crop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rectangle of a photograph, and whether it is mirrored.

    Attributes:
        x: its left edge, in pixels of the whole photograph as a person sees it (after the EXIF orientation).
        y: its upper edge, likewise.
        width: in the same pixels, at least 1.
        height: likewise.
        flip: mirrored from left to right, after it was cut.
    """

    x: int
    y: int
    width: int
    height: int
    flip: bool = False

    def __post_init__(self) -> None:
        # A float, or an integer of numpy, would have another key, or none.
        plain = all(type(value) is int for value in (self.x, self.y, self.width, self.height))
        require_field(plain and type(self.flip) is bool, f"{self}", "whole numbers, and true or false for flip")
        require_field(self.x >= 0 and self.y >= 0, f"a crop at ({self.x}, {self.y})", "a place of at least (0, 0)")
        require_field(
            self.width >= 1 and self.height >= 1, f"a crop of {self.width}x{self.height}", "at least 1x1 pixel"
        )

    def lies_in(self, width: int, height: int) -> bool:
        """Whether it lies in a photograph of that size, in pixels."""
        return self.x + self.width <= width and self.y + self.height <= height


def draw_crops(
    width: int, height: int, count: int, *, seed: int, key: str, smallest: float = 0.6
) -> tuple[Crop | None, ...]:
    """Draw the crops of a photograph: the whole of it, the whole of it mirrored, then parts of it.

    Parts have the photograph's aspect (the shorter side rounded half up, at least 1 pixel), a longer side drawn evenly
    from ``smallest`` to 1 of the photograph's, and an evenly drawn place; every other one is mirrored, and whether it
    is the first or the second is drawn. A crop depends on the seed, the key and its index only: a larger ``count``
    begins with the same crops.

    The number of part ``index`` (2, 3, ...) is ``n = photograph_number(seed, key, CROP_DRAWS, index)``. With ``longer``
    the longer side and ``low = max(1, ceil(smallest * longer))`` (in double precision), its own is
    ``low + hash_cell(n, 0, 0) % (longer - low + 1)``, its place ``splitmix.offsets(n, 0, 1, ...)``. It is mirrored
    where ``index + photograph_number(seed, key, CROP_DRAWS, 0)`` is odd.

    Args:
        width: of the whole photograph as a person sees it, in pixels.
        height: likewise.
        count: of crops, at least 1.
        seed: of the draws, in [0, 2**63).
        key: sha256 of the photograph's file.
        smallest: part of the photograph's side, in (0, 1].

    Returns:
        ``count`` crops; None is the whole photograph, decoded as the device decodes it.

    Raises:
        UsageError: an argument is out of its range.
    """
    if width < 1 or height < 1 or count < 1 or not 0 < smallest <= 1:
        raise UsageError(
            f"{count} crops of {width}x{height} pixels, of a side from {smallest:g}",
            expected="at least one crop of at least 1x1 pixel, of a side in (0, 1] of the photograph's",
            mend="correct the argument",
        )
    first = photograph_number(seed, key, CROP_DRAWS, 0)
    longer = max(width, height)
    low = max(1, math.ceil(smallest * longer))
    crops: list[Crop | None] = [None, Crop(x=0, y=0, width=width, height=height, flip=True)]
    for index in range(2, count):
        number = photograph_number(seed, key, CROP_DRAWS, index)
        side = low + hash_cell(number, 0, 0) % (longer - low + 1)
        across, down = (max(1, (2 * whole * side + longer) // (2 * longer)) for whole in (width, height))
        y, x = offsets(number, 0, 1, height - down + 1, width - across + 1)
        crops.append(Crop(x=x, y=y, width=across, height=down, flip=(index + first) % 2 == 1))
    return tuple(crops[:count])

"""From a photograph to the views that graphs look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .decode import PhotoSource, open_photo
from .preprocess import FullDecode, Preprocess
from .views import cut_views

__all__ = ["PhotoViews", "read_views"]


@dataclass(frozen=True, slots=True)
class PhotoViews:
    """What graphs see of a photograph.

    Attributes:
        width: of the photograph as a person sees it, in pixels.
        height: likewise.
        views: for each `Preprocess`, its views by name: uint8 ``[H, W, 3]`` or ``[T, H, W, 3]``.
    """

    width: int
    height: int
    views: dict[Preprocess, dict[str, NDArray[np.uint8]]]


def read_views(source: PhotoSource, preprocesses: Sequence[Preprocess]) -> PhotoViews:
    """Decode a photograph, once for all that want the same pixels of it, and cut its views.

    Args:
        source: a path, the bytes of a file, a Pillow image, or a uint8 RGB array ``[H, W, 3]``.
        preprocesses: at least one; equal ones count once.

    Raises:
        PhotoError: it cannot be read, or is too small for a view that refuses small images.
    """
    alike: dict[object, list[Preprocess]] = {}
    for preprocess in dict.fromkeys(preprocesses):
        alike.setdefault(_pixels(preprocess), []).append(preprocess)
    views: dict[Preprocess, dict[str, NDArray[np.uint8]]] = {}
    sizes = []
    for group in alike.values():
        # One decoded photograph is in memory at a time.
        photo = open_photo(source, group[0])
        sizes.append((photo.width, photo.height))
        for preprocess in group:
            views[preprocess] = cut_views(photo.image, preprocess)
        del photo
    return PhotoViews(*sizes[0], views)


def _pixels(preprocess: Preprocess) -> object:
    """Equal for those whose decoded pixels are equal, whatever the photograph."""
    policies = (preprocess.exif, preprocess.colour, preprocess.alpha)
    if isinstance(preprocess.decode, FullDecode):
        return policies
    # The scale of a DCT decode follows from the margin and from what the views begin with.
    return policies, preprocess.decode, tuple(view.operations[0] for view in preprocess.views)

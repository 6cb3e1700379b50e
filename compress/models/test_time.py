"""Test-time augmentation: the same network on several images of one view.

What is cut is data of the `Preprocess`, appended to the view's chain: the device cuts the same pixels, and the
multiply-adds of a system, a module or a graph count every image.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...runtime.errors import ModelError, UsageError
from ...runtime.preprocess import Crop, Flip, Operation
from .records import System

__all__ = ["TEST_TIME", "USUAL_COUNT", "with_test_time"]

LEAST_SIDE = 32
"""Of a crop, in pixels: the coarsest features of most networks have one position there."""

USUAL_COUNT = 8
"""Of seeded crops, where nobody says how many."""

_Cut = Callable[[int, int, int], Operation]
"""From a crop's width and height, in pixels, and a number of crops to the operation."""

TEST_TIME: dict[str, _Cut] = {
    "flip": lambda _width, _height, _count: Flip(),
    "five": lambda width, height, _count: Crop(width=width, height=height, at="five"),
    "ten": lambda width, height, _count: Crop(width=width, height=height, at="ten"),
    "nine": lambda width, height, _count: Crop(width=width, height=height, at="grid", rows=3, columns=3),
    "seeded": lambda width, height, count: Crop(width=width, height=height, at="seeded", count=count),
}
"""By name what is appended: the view and its mirror image; crops at the corners and the centre, with ``ten`` their
mirror images too; at nine places, edge to edge; at ``count`` places of seed 0."""


def with_test_time(system: System, name: str, *, count: int = USUAL_COUNT, share: float = 7 / 8) -> System:
    """The same system, whose view is cut into T images; the weights of the one fit the other.

    The network turns each image into a vector and takes the vectors' mean (the fusion `Attention` lets the images
    attend to each other instead). With the head `Linear` the score is the mean of the images' scores. With `Mlp` it is
    not: it is the score of the mean vector, as the head bends between them. Multiply-adds are T times those of one
    image, but for the head, which runs once.

    Args:
        system: of one view. A view of several images gets T of each.
        name: of `TEST_TIME`. ``flip`` keeps the view's size. With the others the network runs at the crop's size,
            which is closer than what it was trained at.
        count: of ``seeded`` crops, 1 to 256.
        share: of the view's width and height that a crop has, in (0, 1); each side is rounded half up.

    Raises:
        UsageError: there is no such name, or a share out of range.
        ModelError: several views, crops below `LEAST_SIDE`, or crops for a backbone whose size is fixed (a vision
            transformer's position embeddings are of the view's size).
        RecordError: a count out of range, or more images than a view may have.
    """
    if name not in TEST_TIME:
        raise UsageError(f"test time {name!r}", expected=f"one of {', '.join(TEST_TIME)}", mend="name one of these")
    if not 0 < share < 1:
        raise UsageError(f"crops of {share} of a view", expected="a share in (0, 1)", mend="correct the share")
    views = system.preprocess.views
    if len(views) != 1:
        raise ModelError(
            f"{system.name}, which looks at the views {', '.join(view.name for view in views)}",
            expected="a system of one view for test-time augmentation",
            mend="use it as it is, or append the operations to its record's views",
        )
    height, width = (int(side * share + 0.5) for side in views[0].shape[-3:-1])
    operation = TEST_TIME[name](width, height, count)
    if isinstance(operation, Crop):
        _require_croppable(system, width, height)
    view = msgspec.structs.replace(views[0], operations=(*views[0].operations, operation))
    preprocess = msgspec.structs.replace(system.preprocess, views=(view,))
    return msgspec.structs.replace(system, preprocess=preprocess)


def _require_croppable(system: System, width: int, height: int) -> None:
    # Here and not above: the table is there without timm.
    from .backbones import has_fixed_size

    fixed = [branch.backbone for branch in system.branches if has_fixed_size(branch.backbone)]
    if fixed:
        raise ModelError(
            f"crops of {width}x{height} for {', '.join(fixed)}, which takes its view's size alone",
            expected="images of the view's size",
            mend="use flip, or a backbone that takes any size",
        )
    if min(width, height) < LEAST_SIDE:
        raise ModelError(
            f"crops of {width}x{height}",
            expected=f"sides of at least {LEAST_SIDE} pixels",
            mend="use flip, a larger share, or a network of a larger input",
        )

"""What `plan` looks at: backbones, views, members and precisions, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..runtime.errors import UsageError
from ..runtime.preprocess import MAX_VIEW_PIXELS, MAX_VIEW_SIDE, Crop, Fragments, Preprocess, Scale, View
from .input_size import candidate_sizes
from .models.backbones import backbone_normalisation
from .models.records import Branch, Gated, System
from .models.systems import one_backbone

__all__ = [
    "BACKBONES",
    "MEMBERS",
    "PRECISIONS",
    "VIEWS",
    "Precision",
    "ViewKind",
    "ViewName",
    "ladder",
    "share_of_crops",
    "share_of_resized",
    "solvable_sizes",
]

Precision = Literal["fp32", "fp16", "int8"]
ViewName = Literal["whole", "three-scale", "fragments"]

BACKBONES: tuple[str, ...] = (
    "convnext_atto",
    "convnext_femto",
    "convnext_pico",
    "convnext_nano",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "convnextv2_atto",
    "convnextv2_femto",
    "convnextv2_pico",
    "convnextv2_nano",
    "convnextv2_tiny",
    "convnextv2_base",
    "mobilenetv3_small_050",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium",
    "mobilenetv4_conv_large",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "tf_efficientnet_lite3",
    "tf_efficientnet_lite4",
    "fastvit_t8",
    "fastvit_t12",
    "fastvit_s12",
    "repvit_m1",
    "repvit_m1_5",
    "repvit_m2_3",
    "ghostnetv2_100",
    "ghostnetv2_130",
    "ghostnetv2_160",
    "nf_regnet_b0",
    "nf_regnet_b1",
    "edgenext_xx_small",
    "edgenext_x_small",
    "edgenext_small",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
)
"""Timm's names, of convolutional networks and then of three that attend."""

MEMBERS: tuple[int, ...] = (1, 2, 4, 8)

PRECISIONS: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
"""Bytes that a parameter takes on disk, the most exact first."""

_SHARES_OF_SIDES = (1.0, 0.75, 2 / 3, 0.5, 1 / 3, 0.25, 1 / 6, 0.125)
_CROPS = (224, 320, 384, 480, 576, 720, 864, 1080)
_GRIDS = ((7, 32), (16, 24), (15, 32))
_SCALES = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class ViewKind:
    """A way to look at a photograph.

    Attributes:
        images: how many of one size the backbone sees.
        system: from a backbone, a width and a height to the system of one member.
        sizes: from the photograph's size, a stride, and whether the network takes any size, to sizes to look at.
        share: from an input's and a photograph's size to the part of the photograph's pixels that is seen.
        solved: whether the largest size that a limit allows is looked at too.
    """

    images: int
    system: Callable[[str, int, int], System]
    sizes: Callable[[tuple[int, int], int, bool], Sequence[tuple[int, int]]]
    share: Callable[[tuple[int, int], tuple[int, int]], float]
    solved: bool


def ladder(image: tuple[int, int], stride: int, any_size: bool) -> list[tuple[int, int]]:
    """Sizes whose sides are fixed parts of a photograph's, in multiples of a stride; the photograph's own first."""
    sizes = [image] if any_size and min(image) >= stride else []
    for part in _SHARES_OF_SIDES:
        width, height = (max(stride, stride * round(part * side / stride)) for side in image)
        if width <= image[0] and height <= image[1]:
            sizes.append((width, height))
    return _takeable(sizes)


def _takeable(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [size for size in dict.fromkeys(sizes) if math.prod(size) <= MAX_VIEW_PIXELS and max(size) <= MAX_VIEW_SIDE]


def _squares(image: tuple[int, int], stride: int, any_size: bool) -> list[tuple[int, int]]:
    sides = [stride * round(side / stride) if not any_size else side for side in _CROPS]
    return _takeable([(side, side) for side in sides if stride <= side <= min(image)])


def _grids(image: tuple[int, int], stride: int, any_size: bool) -> list[tuple[int, int]]:
    sides = [cells * patch for cells, patch in _GRIDS]
    return [(side, side) for side in sides if side <= min(image) and (any_size or side % stride == 0)]


def share_of_resized(size: tuple[int, int], image: tuple[int, int]) -> float:
    """Pixels of the input for each of the photograph's, at most 1."""
    return min(1.0, math.prod(size) / math.prod(image))


def share_of_crops(size: tuple[int, int], image: tuple[int, int], scales: Sequence[int] = _SCALES) -> float:
    """The same of centre crops at 1:1, 1:2, ...: each part of the photograph counts at the finest scale it is seen at.

    Args:
        size: of every crop, width and height in pixels.
        image: of the photograph, likewise.
        scales: rising denominators.
    """
    seen, covered = 0.0, 0
    for scale in scales:
        area = math.prod(min(scale * side, whole) for side, whole in zip(size, image, strict=True))
        seen += max(0, area - covered) / scale**2
        covered = max(covered, area)
    return min(1.0, seen / math.prod(image))


def _three_scale(backbone: str, width: int, height: int) -> System:
    views = tuple(
        View(name=f"scale{k}", operations=(Scale(denominator=k), Crop(width=width, height=height))) for k in _SCALES
    )
    branch = Branch(
        name="scales",
        backbone=backbone,
        views=tuple(view.name for view in views),
        normalisation=backbone_normalisation(backbone),
    )
    name = f"{backbone}-three-scale-{width}x{height}"
    return System(name=name, preprocess=Preprocess(views=views), branches=(branch,), fusion=Gated())


def _fragments(backbone: str, width: int, height: int) -> System:
    cells, patch = next(((c, p) for c, p in _GRIDS if c * p == width == height), (0, 0))
    if not cells:
        raise UsageError(
            f"fragments of {width}x{height}",
            expected=f"one of {', '.join(f'{c}x{c} of {p} pixels ({c * p}x{c * p})' for c, p in _GRIDS)}",
            mend="choose one of these sizes, or --view whole",
        )
    view = View(name="fragments", operations=(Fragments(rows=cells, columns=cells, patch=patch),))
    branch = Branch(
        name="fragments", backbone=backbone, views=("fragments",), normalisation=backbone_normalisation(backbone)
    )
    name = f"{backbone}-fragments-{width}x{height}"
    return System(name=name, preprocess=Preprocess(views=(view,)), branches=(branch,))


VIEWS: dict[ViewName, ViewKind] = {
    "whole": ViewKind(1, one_backbone, ladder, share_of_resized, solved=True),
    "three-scale": ViewKind(3, _three_scale, _squares, share_of_crops, solved=True),
    "fragments": ViewKind(1, _fragments, _grids, share_of_resized, solved=False),
}
"""The whole photograph resized; its centre at 1:1, 1:2 and 1:3; 7x7x32, 16x16x24 or 15x15x32 mini-patches spliced."""


def solvable_sizes(view: ViewName, image: tuple[int, int], stride: int) -> list[tuple[int, int]]:
    """Sizes among which the largest that a limit allows is looked for, from the most pixels to the fewest."""
    if view == "three-scale":
        return [(side, side) for side in range(stride * (min(image) // stride), 0, -stride)]
    try:
        return candidate_sizes(image, 0.05, stride, None)
    except UsageError:
        # A photograph so small that no multiple of the stride has its aspect.
        return []

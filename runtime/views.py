"""Carrying out a `Preprocess`: the one implementation of every view operation, in Pillow and numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import PhotoError
from .preprocess import Crop, Flip, Fragments, Operation, Patches, Preprocess, Resize, Scale, View, turns
from .splitmix import offsets, permutation

__all__ = ["cut_view", "cut_views"]

MAX_GROWN_PIXELS = 200_000_000
"""A photograph that is smaller than a view grows to at most so many pixels on its way."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def cut_views(image: Image.Image, preprocess: Preprocess) -> dict[str, NDArray[np.uint8]]:
    """Cut all views of an upright RGB image.

    Args:
        image: mode RGB, upright.
        preprocess: whose views are cut; its decode policies have been carried out by `decode.open_photo`.

    Returns:
        By view name, uint8 arrays ``[H, W, 3]``, or ``[T, H, W, 3]`` for a view of several images.

    Raises:
        PhotoError: the image is too small for a crop that refuses small images.
    """
    return {view.name: cut_view(image, view) for view in preprocess.views}


def cut_view(image: Image.Image, view: View) -> NDArray[np.uint8]:
    """Cut one view of an upright RGB image: uint8, of ``view.shape``."""
    images: list[Image.Image] = [image]
    for operation in view.operations:
        images = [part for whole in images for part in _OPERATIONS[type(operation)](whole, operation)]
    if len(images) == 1:
        return np.asarray(images[0])
    return np.stack([np.asarray(part) for part in images])


def _resize(image: Image.Image, op: Resize) -> list[Image.Image]:
    if turns(op, image.width, image.height):
        image = image.transpose(Image.Transpose.ROTATE_90)
    if op.fit == "stretch":
        return [_sample(image, op.width, op.height, (0.0, 0.0, image.width, image.height), op)]
    if op.fit == "cover":
        scale = min(image.width / op.width, image.height / op.height)
        across, down = op.width * scale, op.height * scale
        # One side is covered just so, and its product may be rounded up past the edge.
        left, top = max(0.0, (image.width - across) / 2), max(0.0, (image.height - down) / 2)
        box = (left, top, min(left + across, image.width), min(top + down, image.height))
        return [_sample(image, op.width, op.height, box, op)]
    scale = min(op.width / image.width, op.height / image.height)
    width, height = (max(1, math.floor(side * scale + 0.5)) for side in image.size)
    inner = _sample(image, width, height, (0.0, 0.0, image.width, image.height), op)
    framed = Image.new("RGB", (op.width, op.height), (op.fill,) * 3)
    framed.paste(inner, ((op.width - width) // 2, (op.height - height) // 2))
    return [framed]


def _sample(
    image: Image.Image, width: int, height: int, box: tuple[float, float, float, float], op: Resize
) -> Image.Image:
    resample = _FILTERS[op.interpolation]
    if op.antialias:
        return _resample(image, width, height, box, resample)
    left, top, right, bottom = box
    affine = ((right - left) / width, 0.0, left, 0.0, (bottom - top) / height, top)
    return image.transform((width, height), Image.Transform.AFFINE, affine, resample)


def _resample(
    image: Image.Image, width: int, height: int, box: tuple[float, float, float, float], resample: Image.Resampling
) -> Image.Image:
    """Pillow's resize of a box, across first and then down.

    Each pass rounds to 8 bits, so their order moves pixels by a few grey levels. Pillow chooses it by its version and
    by the photograph's shape; as two calls it is always the same.
    """
    if resample is Image.Resampling.NEAREST:
        return image.resize((width, height), resample, box=box)
    left, top, right, bottom = box
    # A photograph one pixel wide and 100 million high would take a plane of the view's width in between.
    between = width * image.height
    if between > max(MAX_GROWN_PIXELS, image.width * image.height):
        raise PhotoError(
            f"a photograph of {image.width}x{image.height}, whose resize to {width}x{height} takes {between} pixels",
            expected=f"at most {MAX_GROWN_PIXELS} pixels then",
            mend="leave it out",
        )
    across = image.resize((width, image.height), resample, box=(left, 0, right, image.height))
    return across.resize((width, height), resample, box=(0, top, width, bottom))


def _scale(image: Image.Image, op: Scale) -> list[Image.Image]:
    if op.denominator == 1:
        return [image]
    d = op.denominator
    width, height = (max(1, (2 * side + d) // (2 * d)) for side in image.size)
    return [_resample(image, width, height, (0.0, 0.0, image.width, image.height), Image.Resampling.BICUBIC)]


def _enlarged(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image, or where it is smaller than ``width x height`` its smallest enlargement that covers it."""
    if image.width >= width and image.height >= height:
        return image
    # In integers, so that every port enlarges to the same size; the longer side is rounded up.
    if width * image.height >= height * image.width:
        covering = (width, -(-image.height * width // image.width))
    else:
        covering = (-(-image.width * height // image.height), height)
    _require_bounded(image, covering)
    return _resample(image, *covering, (0.0, 0.0, image.width, image.height), Image.Resampling.BICUBIC)


def _require_bounded(image: Image.Image, size: tuple[int, int]) -> None:
    # One pixel enlarged to a crop is a plane; a strip of 30000x10 would grow without bound.
    if size[0] * size[1] > MAX_GROWN_PIXELS:
        raise PhotoError(
            f"a photograph of {image.width}x{image.height} that would grow to {size[0]}x{size[1]} to cover a crop",
            expected=f"at most {MAX_GROWN_PIXELS} pixels then",
            mend="leave it out, or use a model that resizes the whole photograph",
        )


def _crop(image: Image.Image, op: Crop) -> list[Image.Image]:
    if image.width < op.width or image.height < op.height:
        if op.small == "refuse":
            raise PhotoError(
                f"a photograph of {image.width}x{image.height}",
                expected=f"at least {op.width}x{op.height}, the size of the model's crop",
                mend="use a larger photograph, or a model whose crop enlarges small ones",
            )
        if op.small == "enlarge":
            image = _enlarged(image, op.width, op.height)
        else:
            size = (max(image.width, op.width), max(image.height, op.height))
            _require_bounded(image, size)
            padded = Image.new("RGB", size)
            padded.paste(image, ((padded.width - image.width) // 2, (padded.height - image.height) // 2))
            image = padded
    crops = [
        image.crop((left, top, left + op.width, top + op.height))
        for top, left in _crop_offsets(op, image.height - op.height, image.width - op.width)
    ]
    if op.at == "ten":
        crops += [crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for crop in crops]
    return crops


def _crop_offsets(op: Crop, slack_y: int, slack_x: int) -> Iterable[tuple[int, int]]:
    centre = (slack_y // 2, slack_x // 2)
    if op.at == "centre":
        return [centre]
    if op.at in ("five", "ten"):
        return [(0, 0), (0, slack_x), (slack_y, 0), (slack_y, slack_x), centre]
    if op.at == "grid":
        return [
            (_spread(row, op.rows, slack_y), _spread(column, op.columns, slack_x))
            for row in range(op.rows)
            for column in range(op.columns)
        ]
    return [offsets(op.seed, index, 0, slack_y + 1, slack_x + 1) for index in range(op.count)]


def _spread(index: int, count: int, slack: int) -> int:
    return slack // 2 if count == 1 else index * slack // (count - 1)


def _fragments(image: Image.Image, op: Fragments) -> list[Image.Image]:
    image = _enlarged(image, op.columns * op.patch, op.rows * op.patch)
    pixels = np.asarray(image)
    spliced = np.empty((op.rows * op.patch, op.columns * op.patch, 3), dtype=np.uint8)
    for row in range(op.rows):
        top, bottom = (edge * image.height // op.rows for edge in (row, row + 1))
        for column in range(op.columns):
            left, right = (edge * image.width // op.columns for edge in (column, column + 1))
            y, x = offsets(op.seed, row, column, bottom - top - op.patch + 1, right - left - op.patch + 1)
            spliced[
                row * op.patch : (row + 1) * op.patch,
                column * op.patch : (column + 1) * op.patch,
            ] = pixels[top + y : top + y + op.patch, left + x : left + x + op.patch]
    return [Image.fromarray(spliced)]


def _patches(image: Image.Image, op: Patches) -> list[Image.Image]:
    width, height = image.width // op.columns, image.height // op.rows
    patches = [
        image.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
        for row in range(op.rows)
        for column in range(op.columns)
    ]
    if op.shuffle_seed is None:
        return patches
    return [patches[index] for index in permutation(op.shuffle_seed, len(patches))]


def _flip(image: Image.Image, _op: Flip) -> list[Image.Image]:
    return [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]


# Each function takes an image and its own record; the key is that record's type.
_OPERATIONS: dict[type[Operation], Callable[[Image.Image, Any], list[Image.Image]]] = {
    Resize: _resize,
    Crop: _crop,
    Fragments: _fragments,
    Scale: _scale,
    Patches: _patches,
    Flip: _flip,
}

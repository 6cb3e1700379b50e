"""Augmentation of a batch of views: crops, flips, small rotations, translations; colour, blur, noise if asked for."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .stages import Augmentation

__all__ = ["augment"]


def augment(view: NDArray[np.uint8], how: Augmentation, stream: np.random.Generator) -> Tensor:
    """A batch of one view, augmented.

    Args:
        view: uint8 ``[n, (T,) H, W, 3]``; the T images of a photograph are changed alike.
        how: what is done.
        stream: of the draws; which draws are taken depends on ``how`` alone, so that views of one batch that are given
            streams of one seed go through the same changes. Only noise depends on the view's size too; its strength
            does not.

    Returns:
        uint8 ``[n, (T,) h, w, 3]`` with h, w the crop's side, or the view's.
    """
    count = len(view)
    flips = stream.random(count) < 0.5
    angles = stream.uniform(-1, 1, count) * how.rotation_degrees
    shifts = stream.uniform(-1, 1, (count, 2)) * how.translation
    colours = 1 + stream.uniform(-1, 1, (count, 3)) * (how.brightness, how.contrast, how.saturation)
    sigmas = stream.random(count) * how.blur_sigma
    corner = stream.random(2)
    if how.translation and not how.rotation_degrees:
        view = _shifted(view, shifts)
    if how.crop is not None:
        view = _cropped(view, how.crop, corner)
    if how.flip:
        view = view.copy()
        view[flips] = view[flips][..., ::-1, :]
    batch = torch.from_numpy(np.ascontiguousarray(view))
    if how.rotation_degrees:
        batch = _rotated(batch, angles, shifts)
    if max(how.brightness, how.contrast, how.saturation, how.blur_sigma) > 0:
        batch = _recoloured(batch, how, colours, sigmas)
    if how.noise > 0:
        # Drawn last, and only then: without noise a stream gives what it gave before there was any.
        batch = _noisy(batch, stream.random(count) * how.noise, stream)
    return batch


def _cropped(view: NDArray[np.uint8], side: int, corner: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = view.shape[-3:-1]
    rows, columns = min(side, height), min(side, width)
    top, left = (int(at * (room + 1)) for at, room in zip(corner, (height - rows, width - columns), strict=True))
    return view[..., top : top + rows, left : left + columns, :]


def _shifted(view: NDArray[np.uint8], shifts: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Whole pixels, so that nothing is blurred; what comes in is mirrored."""
    moved = np.empty_like(view)
    height, width = view.shape[-3:-1]
    for row, (down, across) in enumerate(shifts * (height, width)):
        y, x = (_mirrored(round(by), size) for by, size in ((down, height), (across, width)))
        moved[row] = view[row][..., y, :, :][..., x, :]
    return moved


def _mirrored(by: int, size: int) -> NDArray[np.int64]:
    places = np.arange(size) - by
    return np.asarray(np.abs((places + size - 1) % (2 * size - 2) - (size - 1)) if size > 1 else 0 * places)


def _rotated(batch: Tensor, angles: NDArray[np.float64], shifts: NDArray[np.float64]) -> Tensor:
    several = batch.ndim == 5
    images = batch.shape[1] if several else 1
    pixels = (batch.flatten(0, 1) if several else batch).permute(0, 3, 1, 2).float()
    height, width = pixels.shape[2:]
    radians = np.repeat(angles, images) * math.pi / 180
    cosine, sine = np.cos(radians), np.sin(radians)
    moves = np.repeat(shifts, images, axis=0)
    # affine_grid's coordinates run from -1 to 1 on both sides, whatever their lengths.
    rows = np.stack(
        [
            np.stack([cosine, -sine * height / width, -2 * moves[:, 1]], 1),
            np.stack([sine * width / height, cosine, -2 * moves[:, 0]], 1),
        ],
        1,
    )
    grid = torch.nn.functional.affine_grid(torch.from_numpy(rows).float(), list(pixels.shape), align_corners=False)
    turned = torch.nn.functional.grid_sample(
        pixels, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    whole = turned.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return whole.reshape(-1, images, *whole.shape[1:]) if several else whole


def _recoloured(batch: Tensor, how: Augmentation, colours: NDArray[np.float64], sigmas: NDArray[np.float64]) -> Tensor:
    from torchvision.transforms.v2 import functional

    changed = []
    for images, (brightness, contrast, saturation), sigma in zip(batch, colours, sigmas, strict=True):
        pixels = images.movedim(-1, -3)
        if how.brightness:
            pixels = functional.adjust_brightness(pixels, float(brightness))
        if how.contrast:
            pixels = functional.adjust_contrast(pixels, float(contrast))
        if how.saturation:
            pixels = functional.adjust_saturation(pixels, float(saturation))
        if sigma > 0:
            # The borders are mirrored, which a kernel wider than the view would outrun.
            side = 2 * min(math.ceil(3 * sigma), *(length - 1 for length in pixels.shape[-2:])) + 1
            pixels = functional.gaussian_blur(pixels, [side, side], [float(sigma), float(sigma)])
        changed.append(pixels.movedim(-3, -1))
    return torch.stack(changed)


def _noisy(batch: Tensor, deviations: NDArray[np.float64], stream: np.random.Generator) -> Tensor:
    """The images of a photograph have the same noise."""
    size = tuple(batch.shape[-3:])
    noisy = torch.empty_like(batch)
    for row, deviation in enumerate(deviations):
        noise = torch.from_numpy(stream.standard_normal(size, dtype=np.float32)) * float(deviation)
        noisy[row] = (batch[row] + noise).round().clamp(0, 255)
    return noisy

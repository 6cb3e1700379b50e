"""Seeded distortions of photographs, each with a severity: what a teacher speaks of without people's opinions."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageStat

from ...runtime.errors import PhotoError, UsageError, require_field
from ...runtime.splitmix import hash_cell, mix
from .draws import DISTORTION_DRAWS, photograph_number

__all__ = ["KINDS", "Distortion", "Kind", "distort", "draw_distortion", "ladder"]

Kind = Literal["blur", "noise", "jpeg", "resampling", "exposure", "contrast"]
KINDS: tuple[Kind, ...] = get_args(Kind)

BLUR_SHARE = 0.01
"""Standard deviation of the strongest blur, as a part of the longer side."""
NOISE_LEVELS = 51.0
"""Standard deviation of the strongest noise, in grey levels of 255."""
JPEG_QUALITIES = (60, 3)
RESAMPLING_FACTOR = 8.0
EXPOSURE_STOPS = 3.0
CONTRAST_LOSS = 0.9

_JPEG_MAX_SIDE = 65_500
_NOISE_PIXELS = 1 << 20
"""Noise is added to so many pixels at a time: as floats, all of a large photograph would take much memory."""


class Distortion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to a photograph.

    Attributes:
        kind: one of `KINDS`; `distort` says what each does.
        severity: in (0, 1]; the larger, the farther from the photograph.
        seed: in [0, 2**63), of the noise and of the exposure's direction.
    """

    kind: Kind
    severity: float
    seed: int = 0

    def __post_init__(self) -> None:
        require_field(self.kind in KINDS, f"a distortion {self.kind!r}", f"one of {', '.join(KINDS)}")
        require_field(0 < self.severity <= 1, f"a severity of {self.severity}", "a severity in (0, 1]")
        require_field(type(self.seed) is int and 0 <= self.seed < 2**63, f"a seed of {self.seed}", "one in [0, 2**63)")
        # One and 1.0 are the same severity, and must have the same key.
        msgspec.structs.force_setattr(self, "severity", float(self.severity))


def distort(image: Image.Image, distortion: Distortion) -> Image.Image:
    """Distort a photograph.

    With ``s`` the severity:

    - ``blur``: Gaussian (Pillow's, by box blurs), of a standard deviation of ``BLUR_SHARE * s`` of the longer side;
    - ``noise``: Gaussian and independent, of ``NOISE_LEVELS * s`` sRGB grey levels, by numpy's generator of the seed;
    - ``jpeg``: written and read at quality ``60 * (3 / 60)**s``, rounded half up, colour at half resolution (4:2:0);
    - ``resampling``: reduced by ``8**s`` and enlarged again, both bicubic with antialias;
    - ``exposure``: linear light times ``2**(3 * s)``, or divided by it where ``mix(seed)`` is odd; the curve of sRGB,
      IEC 61966-2-1;
    - ``contrast``: the distance of all channels from the mean of the photograph's luma (ITU-R BT.601) times
      ``1 - 0.9 * s``.

    Noise, JPEG's blocks and resampling are in pixels of the photograph: on a larger one a model that looks at the
    whole sees less of them. Blur is in parts of its side, exposure and contrast know no size.

    Args:
        image: mode RGB.
        distortion: kind, severity and seed.

    Returns:
        Mode RGB, of the same size; the image itself is left as it is.

    Raises:
        PhotoError: another mode than RGB, or too large for JPEG.
    """
    if image.mode != "RGB":
        raise PhotoError(
            f"an image of mode {image.mode}",
            expected="mode RGB",
            mend="read it with edgeiqa.runtime.decode.open_photo",
        )
    return _DISTORTIONS[distortion.kind](image, distortion)


def ladder(kinds: Sequence[Kind], severities: Sequence[float], seed: int = 0) -> tuple[Distortion, ...]:
    """Every kind at every severity, kind by kind, all with one seed (so that a kind's steps differ in severity alone).

    Raises:
        RecordError: a kind, a severity or the seed is out of its range.
    """
    return tuple(
        Distortion(kind=kind, severity=severity, seed=seed) for kind, severity in itertools.product(kinds, severities)
    )


def draw_distortion(seed: int, key: str, index: int = 0) -> Distortion:
    """Draw a distortion of a photograph: any kind, and a severity drawn evenly from 0.100, 0.101, ..., 1.000.

    With ``n = photograph_number(seed, key, DISTORTION_DRAWS, index)`` the kind is ``KINDS[hash_cell(n, 0, 0) % 6]``,
    the severity ``(100 + hash_cell(n, 0, 1) % 901) / 1000``, the distortion's seed ``hash_cell(n, 0, 2) % 2**32``.

    Args:
        seed: of the draws, in [0, 2**63).
        key: sha256 of the photograph's file.
        index: which of the photograph's distortions, from 0.

    Raises:
        UsageError: an argument is out of its range.
    """
    if index < 0:
        raise UsageError(f"distortion {index}", expected="an index of at least 0", mend="count from 0")
    number = photograph_number(seed, key, DISTORTION_DRAWS, index)
    return Distortion(
        kind=KINDS[hash_cell(number, 0, 0) % len(KINDS)],
        severity=(100 + hash_cell(number, 0, 1) % 901) / 1000,
        seed=hash_cell(number, 0, 2) % 2**32,
    )


def _blur(image: Image.Image, distortion: Distortion) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(BLUR_SHARE * distortion.severity * max(image.size)))


def _noise(image: Image.Image, distortion: Distortion) -> Image.Image:
    pixels = np.array(image)
    stream = np.random.default_rng([distortion.seed])
    rows = max(1, _NOISE_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = pixels[top : top + rows]
        noise = stream.standard_normal(band.shape, dtype=np.float32)
        noise *= np.float32(NOISE_LEVELS * distortion.severity)
        band[...] = np.clip(np.rint(noise + band), 0, 255)
    return Image.fromarray(pixels)


def _jpeg(image: Image.Image, distortion: Distortion) -> Image.Image:
    if max(image.size) > _JPEG_MAX_SIDE:
        raise PhotoError(
            f"a photograph of {image.width}x{image.height} to be written as JPEG",
            expected=f"sides of at most {_JPEG_MAX_SIDE} pixels",
            mend="leave it out, or reduce it",
        )
    best, worst = JPEG_QUALITIES
    quality = math.floor(best * (worst / best) ** distortion.severity + 0.5)
    file = io.BytesIO()
    # Only the pixels: a profile or comment that the image carries is no part of the distortion.
    Image.fromarray(np.asarray(image)).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file, formats=["JPEG"]) as written:
        return written.convert("RGB")


def _resampling(image: Image.Image, distortion: Distortion) -> Image.Image:
    factor = RESAMPLING_FACTOR**distortion.severity
    reduced = (max(1, math.floor(image.width / factor + 0.5)), max(1, math.floor(image.height / factor + 0.5)))
    return image.resize(reduced, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


def _exposure(image: Image.Image, distortion: Distortion) -> Image.Image:
    stops = EXPOSURE_STOPS * distortion.severity * (-1 if mix(distortion.seed) % 2 else 1)
    levels = np.arange(256) / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    light = np.minimum(light * 2.0**stops, 1.0)
    return _looked_up(image, 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055))


def _contrast(image: Image.Image, distortion: Distortion) -> Image.Image:
    mean = ImageStat.Stat(image.convert("L")).mean[0]
    return _looked_up(image, mean + (1 - CONTRAST_LOSS * distortion.severity) * (np.arange(256) - mean))


def _looked_up(image: Image.Image, curve: NDArray[np.floating]) -> Image.Image:
    """Each channel through one curve of 256 values, rounded half up and clipped."""
    levels = np.clip(np.floor(curve + 0.5), 0, 255).astype(np.uint8)
    return image.point(levels.tolist() * 3)


_DISTORTIONS: dict[Kind, Callable[[Image.Image, Distortion], Image.Image]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "resampling": _resampling,
    "exposure": _exposure,
    "contrast": _contrast,
}

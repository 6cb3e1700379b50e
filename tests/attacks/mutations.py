"""Photographs' files of many kinds, and what damages them: as copying, disks and attackers do, but by a seed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

__all__ = ["MUTATIONS", "mutate", "photograph", "real_files"]

_HEADER = 64


def photograph(width: int = 120, height: int = 90, seed: int = 0) -> NDArray[np.uint8]:
    """Something like a photograph, uint8 ``[H, W, 3]``: shades, edges, texture and noise."""
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 6, height))
    waves = np.stack([np.sin(x + seed), np.cos(y * 2), np.sin(x + y)], axis=2)
    edges = np.where((x - 5) ** 2 + (y - 3) ** 2 < 3, 40.0, 0.0)[..., None]
    picture = 110 + 60 * waves + edges + generator.normal(0, 6, waves.shape)
    return picture.clip(0, 255).astype(np.uint8)


def real_files() -> dict[str, bytes]:
    """Good files of all kinds that are decoded, by a name that says what each is."""
    picture = photograph()
    colour = Image.fromarray(picture)
    frames = [Image.fromarray(photograph(seed=seed)) for seed in (1, 2)]
    grey = np.asarray(colour.convert("L"))
    see_through = Image.fromarray(np.dstack([picture, grey]))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "a camera", "a comment of some length" * 8
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    several: dict[str, Any] = {"save_all": True, "append_images": frames}
    return {
        "baseline.jpg": _file(colour, "JPEG", quality=90),
        "progressive.jpg": _file(colour, "JPEG", progressive=True, exif=exif, icc_profile=profile),
        "restarts.jpg": _file(colour.convert("CMYK"), "JPEG", restart_marker_rows=1),
        "colour.png": _file(colour, "PNG", icc_profile=profile, exif=exif),
        "palette.png": _file(colour.quantize(64), "PNG", transparency=3),
        "deep.png": _file(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "lossy.webp": _file(colour, "WEBP", exif=exif),
        "lossless.webp": _file(see_through, "WEBP", lossless=True, method=0),
        "animated.webp": _file(colour, "WEBP", **several, duration=40),
        "lzw.tif": _file(colour, "TIFF", compression="tiff_lzw", exif=exif),
        "pages.tif": _file(colour, "TIFF", **several),
        "jpeg.tif": _file(colour, "TIFF", compression="jpeg"),
        "colour.bmp": _file(colour, "BMP"),
        "palette.bmp": _file(colour.quantize(16), "BMP"),
        "animated.gif": _file(colour, "GIF", **several, duration=40, loop=0),
    }


def mutate(data: bytes, generator: np.random.Generator) -> bytes:
    """A file with one to three damages."""
    for _ in range(generator.integers(1, 4)):
        kind = MUTATIONS[generator.integers(len(MUTATIONS))]
        data = kind(data, generator)
    return data


def _file(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _block(data: bytes, generator: np.random.Generator) -> tuple[int, int]:
    """Where a piece of at most a quarter of the file begins and ends."""
    start = int(generator.integers(0, len(data)))
    return start, min(len(data), start + int(generator.integers(1, len(data) // 4 + 2)))


def flip_bits(data: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in generator.integers(0, len(data), generator.integers(1, 20)):
        changed[place] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def truncate(data: bytes, generator: np.random.Generator) -> bytes:
    return data[: int(generator.integers(1, len(data) + 1))]


def swap_blocks(data: bytes, generator: np.random.Generator) -> bytes:
    a, b = sorted(int(place) for place in generator.integers(0, len(data), 2))
    size = int(generator.integers(1, max(2, (b - a) + 1)))
    first, second = data[a : a + size], data[b : b + size]
    return data[:a] + second + data[a + len(first) : b] + first + data[b + len(second) :]


def duplicate_block(data: bytes, generator: np.random.Generator) -> bytes:
    start, end = _block(data, generator)
    return data[:end] + data[start:end] + data[end:]


def remove_block(data: bytes, generator: np.random.Generator) -> bytes:
    start, end = _block(data, generator)
    return data[:start] + data[end:] or data[:1]


def change_header(data: bytes, generator: np.random.Generator) -> bytes:
    """Bytes at the beginning, where sizes, kinds and offsets stand: any, the least or the greatest."""
    changed = bytearray(data)
    for place in generator.integers(0, min(_HEADER, len(data)), generator.integers(1, 5)):
        changed[place] = generator.choice([0, 1, 127, 128, 255, int(generator.integers(256))])
    return bytes(changed)


def insert_zeros(data: bytes, generator: np.random.Generator) -> bytes:
    place = int(generator.integers(0, len(data) + 1))
    return data[:place] + bytes(int(generator.integers(1, 200))) + data[place:]


MUTATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flip_bits,
    truncate,
    swap_blocks,
    duplicate_block,
    remove_block,
    change_header,
    insert_zeros,
)
"""Each takes at least one byte and gives at least one."""

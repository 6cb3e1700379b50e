"""Photographs made in memory, and how tests read them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.preprocess import DctDecode, Operation, Preprocess, Resize, View
from edgeiqa.runtime.views import cut_view
from numpy.typing import NDArray
from PIL import Image

from .bundles import pixels
from .icc import (
    DISPLAY_P3,
    matrix_profile,
    srgb_curve,
)

UInt8 = NDArray[np.uint8]
VIEWS = (View(name="image", operations=(Resize(width=8, height=8),)),)
PLAIN = Preprocess(views=VIEWS)
ORIENTATIONS = range(1, 9)
# How far two 8-bit roundings, one after the other, may be from one.
ROUNDING = 1
P3_PROFILE = matrix_profile("Display P3", DISPLAY_P3, srgb_curve())


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(source: Any, preprocess: Preprocess = PLAIN) -> UInt8:
    photo = open_photo(source, preprocess)
    assert photo.image.mode == "RGB"
    return np.asarray(photo.image)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def stored_as(upright: UInt8, orientation: int) -> UInt8:
    """How a camera stores an upright picture: TIFF 6.0 says where its first row and column lie."""
    height, width = upright.shape[:2]
    i, j = np.mgrid[0:width, 0:height] if orientation >= 5 else np.mgrid[0:height, 0:width]
    places = {
        1: (i, j),  # the first row is the top, the first column the left side
        2: (i, width - 1 - j),  # top, right
        3: (height - 1 - i, width - 1 - j),  # bottom, right
        4: (height - 1 - i, j),  # bottom, left
        5: (j, i),  # left, top
        6: (j, width - 1 - i),  # right, top
        7: (height - 1 - j, width - 1 - i),  # right, bottom
        8: (height - 1 - j, i),  # left, bottom
    }
    stored: UInt8 = upright[places[orientation]]
    return stored


def blocks(width: int, height: int) -> UInt8:
    """A picture of 8x8 blocks of one colour each, which JPEG keeps nearly as it is, however it is turned."""
    return np.kron(pixels(width // 8, height // 8, seed=3), np.ones((8, 8, 1), dtype=np.uint8))


def paletted() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


def png(width: int, height: int, content: bytes, bits: int = 8) -> bytes:
    """A PNG of RGB, chunk by chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def dct(width: int, height: int, margin: float = 1.0, **fields: Any) -> Preprocess:
    exif = fields.pop("exif", "apply")
    view = View(name="image", operations=(Resize(width=width, height=height, **fields),))
    return Preprocess(views=(view,), decode=DctDecode(margin=margin), exif=exif)


def cut(picture: UInt8, *operations: Operation) -> UInt8:
    """The view of one chain of operations, of the shape that it states."""
    view = View(name="v", operations=operations)
    result = cut_view(Image.fromarray(picture), view)
    assert result.dtype == np.uint8
    assert result.shape == view.shape
    return result

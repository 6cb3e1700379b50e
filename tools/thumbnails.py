"""Small pictures of photographs for pages."""

from __future__ import annotations

import base64
import io

from PIL import Image

__all__ = ["JPEG_PREFIX", "thumbnail"]

JPEG_PREFIX = "data:image/jpeg;base64,"


def thumbnail(image: Image.Image, side: int = 320) -> str:
    """A picture of at most ``side`` x ``side`` pixels as a JPEG data URI, without the metadata of the photograph."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small.info.clear()
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82, optimize=True)
    return JPEG_PREFIX + base64.b64encode(file.getvalue()).decode("ascii")

"""Reading photographs: the decode, orientation, colour and alpha policies of a `Preprocess`, in Pillow."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError, features

from .errors import PhotoError
from .preprocess import Preprocess

__all__ = ["IMAGE_SUFFIXES", "MAX_BYTES", "MAX_PIXELS", "Photo", "PhotoSource", "open_photo"]

PhotoSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 178_956_970
"""Photographs of more pixels are refused before they are decoded; it is the number at which Pillow itself refuses."""

MAX_BYTES = 1 << 30
"""Files of more bytes are refused before they are read: twice the bytes of `MAX_PIXELS` of 24 bits, uncompressed."""

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".jp2"),
        *(".avif", ".heic", ".heif", ".hif"),
    }
)
"""What a folder is searched for; a file that is named itself is tried whatever its suffix."""

# Only decoders that read pixels: no EPS (which starts an interpreter), no plugin that a process happens to hold.
# Pillow reads MPO with its JPEG decoder; it knows no decoder of that name.
_FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"]
if features.check("avif"):
    _FORMATS.append("AVIF")

# The brands of ISO base media files whose pictures HEVC codes; those that say nothing of the codec; those of AV1.
_HEVC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_ANY_BRANDS = frozenset({b"mif1", b"msf1"})
_AV1_BRANDS = frozenset({b"avif", b"avis"})
_BRANDS_BYTES = 128

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AS_STORED = {**_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""The inverse of each of `_UPRIGHT`."""
_QUARTER_TURNS = (5, 6, 7, 8)
_GROUND = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255)}


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photograph.

    Attributes:
        image: mode RGB, upright; at a DCT scale where the policy asked for one.
        width: of the whole photograph as a person sees it, in pixels.
        height: likewise.
        size_bytes: of the encoded file; None for pixels.
    """

    image: Image.Image
    width: int
    height: int
    size_bytes: int | None


def open_photo(source: PhotoSource, preprocess: Preprocess) -> Photo:
    """Decode a photograph as the policies of a `Preprocess` say.

    EXIF orientation is applied; embedded ICC profiles are converted to sRGB; alpha is laid on the policy's ground; of
    animations and multi-page files the first frame is taken; 16-bit grey is divided by 257 and rounded, of 16-bit
    colour the high byte is taken; bilevel, grey, palette, CMYK, YCbCr and Lab become RGB. Pixels that were given (an
    array, a Pillow image) are never DCT-scaled.

    Args:
        source: a path, the bytes of a file, a Pillow image, or a uint8 RGB array ``[H, W, 3]``.
        preprocess: whose policies count.

    Raises:
        PhotoError: there is no such file, it is no image, it is cut off, its kind has no stated range of values (float
            pixels, integers above 16 bits), or it has more than `MAX_PIXELS` pixels.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        with _broken_as_photo_error(f"a Pillow image of mode {source.mode}"):
            return _decode(source, preprocess, size_bytes=None, may_scale=False)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return _decode_file(io.BytesIO(data), "bytes", len(data), preprocess)
    path = Path(source)
    try:
        with path.open("rb") as file:
            return _decode_file(file, str(path), os.fstat(file.fileno()).st_size, preprocess)
    except FileNotFoundError:
        raise PhotoError(f"no file {path}", expected="a photograph", mend="correct the path") from None
    except IsADirectoryError:
        raise PhotoError(f"{path}, a folder", expected="a photograph", mend="name a file in it") from None
    except PermissionError:
        raise PhotoError(f"{path}, which may not be read", expected="a readable file", mend="chmod +r it") from None
    # A file as a folder of the path, a name too long, a loop of links, a NUL: there is no such photograph.
    except (OSError, ValueError) as error:
        raise PhotoError(f"{str(path)!r} ({error})", expected="a photograph", mend="correct the path") from None


def _decode_file(file: io.BufferedReader | io.BytesIO, name: str, size_bytes: int, preprocess: Preprocess) -> Photo:
    if size_bytes == 0:
        raise PhotoError(f"{name}, 0 bytes", expected="a photograph", mend="copy the file again")
    if size_bytes > MAX_BYTES:
        raise PhotoError(f"{name}, {size_bytes} bytes", expected=f"at most {MAX_BYTES}", mend="reduce the photograph")
    with _broken_as_photo_error(name):
        beginning = file.read(_BRANDS_BYTES)
        file.seek(0)
        with Image.open(file, formats=_heif_formats(name) if _is_heif(beginning) else _FORMATS) as image:
            return _decode(image, preprocess, size_bytes=size_bytes, may_scale=True)


def _is_heif(beginning: bytes) -> bool:
    """Whether a file is one that Pillow itself does not read: HEIC, or HEIF of a codec that is not AV1."""
    if beginning[4:8] != b"ftyp":
        return False
    # Major brand, version, compatible brands.
    box = beginning[8 : max(16, int.from_bytes(beginning[:4], "big"))]
    major = box[:4]
    brands = {box[place : place + 4] for place in range(8, len(box), 4)} | {major}
    if major in _HEVC_BRANDS or brands & _HEVC_BRANDS:
        return major not in _AV1_BRANDS
    return major in _ANY_BRANDS and not brands & _AV1_BRANDS


def _heif_formats(name: str) -> list[str]:
    """The format of a HEIC or HEIF file.

    Its decoder turns it upright by the file's own transforms, and scales more than 8 bits to 8.

    Raises:
        PhotoError: its decoder is not installed.
    """
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        raise PhotoError(f"{name}, a HEIC file", expected="its decoder", mend='pip install "edgeiqa[heic]"') from None
    register_heif_opener()
    return ["HEIF"]


@contextlib.contextmanager
def _broken_as_photo_error(name: str) -> Iterator[None]:
    try:
        yield
    # A lack of memory says nothing of the file; whoever bounds the memory knows what to say.
    except (PhotoError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise PhotoError(
            f"{name}, which no decoder recognises",
            expected=f"one of {', '.join(_FORMATS)}",
            mend="convert it to JPEG or PNG",
        ) from None
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(str(error)) from None
    # Decoders of broken files raise nearly anything (OSError, SyntaxError, struct.error, ValueError, ...); whatever it
    # is, the answer is that this photograph cannot be read.
    except Exception as error:
        raise PhotoError(
            f"{name}, broken or cut off ({type(error).__name__}: {error})",
            expected="a whole image file",
            mend="copy the file again",
        ) from error


def _too_many_pixels(what: str) -> PhotoError:
    return PhotoError(what, expected=f"at most {MAX_PIXELS} pixels", mend="reduce the photograph")


def _from_array(array: NDArray[np.uint8]) -> Photo:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise PhotoError(
            f"an array of {array.dtype} {array.shape}",
            expected="uint8 RGB of shape (H, W, 3)",
            mend="convert it: values 0 to 255, channels last",
        )
    height, width = array.shape[:2]
    if height * width > MAX_PIXELS:
        raise _too_many_pixels(f"an array of {width}x{height}")
    return Photo(Image.fromarray(np.ascontiguousarray(array)), width, height, None)


def _decode(image: Image.Image, preprocess: Preprocess, *, size_bytes: int | None, may_scale: bool) -> Photo:
    if 0 in image.size:
        raise PhotoError(f"an image of {image.width}x{image.height}", expected="pixels", mend="leave it out")
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels(f"an image of {image.width}x{image.height}")
    stored = _orientation(image)
    wanted = stored if preprocess.exif == "apply" else 1
    whole: tuple[int, int] | None = None
    if may_scale and image.format in ("JPEG", "MPO"):
        whole = image.size[::-1] if wanted in _QUARTER_TURNS else image.size
        _draft(image, preprocess.wanted_scale(*whole))
    image.load()
    # Pillow turns TIFF upright while it loads it, and then says that it is.
    found = _orientation(image)
    rgb = _to_rgb(image, preprocess)
    if wanted == stored and found in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[found])
    elif wanted != stored and found != stored and stored in _AS_STORED:
        rgb = rgb.transpose(_AS_STORED[stored])
    width, height = whole or rgb.size
    return Photo(rgb, width, height, size_bytes)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    # A broken EXIF block says nothing about the pixels; such a photograph is taken as upright.
    except Exception:
        return 1


def _draft(image: Image.Image, wanted_scale: float) -> None:
    """Tell the JPEG decoder to reduce by the largest of 8, 4, 2 that keeps ``1/d >= wanted_scale``."""
    for denominator in (8, 4, 2):
        if denominator * wanted_scale <= 1.0:
            # draft reduces by the largest power of two that leaves at least the size it is told.
            reduced = (math.floor(image.width / denominator), math.floor(image.height / denominator))
            if 0 not in reduced:
                image.draft(None, reduced)
                return


def _to_rgb(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    profile = image.info.get("icc_profile") if preprocess.colour == "srgb" else None
    if image.mode == "F":
        raise PhotoError("float pixels", expected="8- or 16-bit pixels", mend="convert it to 8 bits a channel")
    if image.mode == "I" or image.mode.startswith("I;"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise PhotoError(
                f"integer pixels from {levels.min()} to {levels.max()}",
                expected="8- or 16-bit pixels",
                mend="convert it to 8 bits a channel",
            )
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
        profile = None
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        rgb = _to_srgb(rgba.convert("RGB"), profile)
        if preprocess.alpha == "drop" or alpha.getextrema() == (255, 255):
            return rgb
        rgb.putalpha(alpha)
        return Image.alpha_composite(Image.new("RGBA", rgb.size, _GROUND[preprocess.alpha]), rgb).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGB")
    return _to_srgb(image, profile)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        transform = _srgb_transform(profile, image.mode)
        if transform is not None:
            return ImageCms.applyTransform(image, transform) or image
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None where the pixels are sRGB already or the profile cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and ImageCms.getProfileDescription(source).strip().startswith("sRGB"):
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

"""Items: what a teacher and a student look at: a photograph, its distortion if any, and the part of it if not all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...runtime.decode import IMAGE_SUFFIXES, open_photo
from ...runtime.errors import DataError, PhotoError
from ...runtime.preprocess import FULL_DECODE, DctDecode, Preprocess, single_view
from ...runtime.views import cut_views
from .crops import Crop
from .distortions import Distortion, distort

__all__ = ["Item", "Photograph", "cut_item", "cut_items", "hash_files", "list_photographs", "read_photographs"]

# The cheapest decode that reads a file to its end.
_GLANCE = single_view(1, 1, decode=DctDecode())


@dataclass(frozen=True, kw_only=True, slots=True)
class Photograph:
    """A photograph that can be decoded.

    Attributes:
        path: where its file lies.
        sha256: of the file's bytes, hexadecimal.
        width: as a person sees it (after the EXIF orientation), in pixels.
        height: likewise.
    """

    path: Path
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing to look at.

    Attributes:
        path: of the photograph's file.
        sha256: of the file's bytes, 64 lower-case hexadecimal digits.
        distortion: done to the whole photograph, before it is cropped; None for none.
        crop: the part that is looked at; None for the whole photograph.

    Raises:
        DataError: ``sha256`` is none.
    """

    path: Path
    sha256: str
    distortion: Distortion | None = None
    crop: Crop | None = None

    def __post_init__(self) -> None:
        if re.fullmatch(r"[0-9a-f]{64}", self.sha256) is None:
            raise DataError(
                f"{self.path} with the sha256 {self.sha256!r}",
                expected="64 lower-case hexadecimal digits",
                mend="take the sha256 of the file's bytes",
            )

    @property
    def key(self) -> str:
        """Hexadecimal sha256 of what is looked at, wherever the file lies.

        The hashed text is JSON with the keys ``crop``, ``distortion`` and ``sha256``, sorted at every level, without
        blanks; null for what is None.
        """
        content = {
            "sha256": self.sha256,
            "distortion": msgspec.to_builtins(self.distortion),
            "crop": msgspec.to_builtins(self.crop),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def cut_item(item: Item, preprocess: Preprocess) -> dict[str, NDArray[np.uint8]]:
    """Cut the views of an item; `cut_items` says how.

    Raises:
        DataError: the crop does not lie in the photograph.
        PhotoError: the photograph cannot be read.
    """
    return next(cut_items([item], preprocess))


def cut_items(items: Iterable[Item], preprocess: Preprocess) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """Cut the views of items, one after the other; a photograph whose items follow each other is decoded once.

    A whole photograph without a distortion is decoded just as a device decodes it. Anything else is decoded in full
    and turned upright, whatever ``preprocess.decode`` and ``preprocess.exif`` say (a crop and a distortion must be the
    same for every model), distorted, cropped, mirrored, and then its views are cut.

    Yields:
        For each item, by view name, uint8 arrays ``[H, W, 3]``, or ``[T, H, W, 3]`` for a view of several images.

    Raises:
        DataError: a crop does not lie in its photograph.
        PhotoError: a photograph cannot be read.
    """
    upright = msgspec.structs.replace(preprocess, decode=FULL_DECODE, exif="apply")
    path: Path | None = None
    decoded: dict[Preprocess, Image.Image] = {}
    distorted: tuple[Distortion, Image.Image] | None = None
    for item in items:
        if item.path != path:
            path, distorted = item.path, None
            decoded.clear()
        policies = preprocess if item.distortion is None and item.crop is None else upright
        if policies not in decoded:
            decoded[policies] = open_photo(item.path, policies).image
        image = decoded[policies]
        if item.distortion is not None:
            if distorted is None or distorted[0] != item.distortion:
                distorted = item.distortion, distort(image, item.distortion)
            image = distorted[1]
        if item.crop is not None:
            image = _cropped(image, item.crop, item.path)
        yield cut_views(image, preprocess)


def _cropped(image: Image.Image, crop: Crop, path: Path) -> Image.Image:
    if not crop.lies_in(*image.size):
        raise DataError(
            f"a crop of {crop.width}x{crop.height} at ({crop.x}, {crop.y}) of {path}, "
            f"a photograph of {image.width}x{image.height}",
            expected="a crop inside the photograph",
            mend="draw the crops of the photograph as it is now",
        )
    image = image.crop((crop.x, crop.y, crop.x + crop.width, crop.y + crop.height))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flip else image


def list_photographs(folder: Path) -> tuple[Path, ...]:
    """The files of a folder and the folders in it that have an image's suffix, sorted by path.

    Raises:
        DataError: there is no such folder, or it holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", expected="a folder of photographs", mend="correct the path")
    paths = tuple(
        sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    )
    if not paths:
        raise DataError(
            f"{folder}, a folder without images",
            expected=f"files with one of the suffixes {' '.join(sorted(IMAGE_SUFFIXES))}",
            mend="name another folder",
        )
    return paths


def hash_files(paths: Sequence[Path], *, threads: int | None = None) -> tuple[str, ...]:
    """Hexadecimal sha256 of the bytes of each file, in a pool of threads (one a processor unless said).

    Raises:
        DataError: a file cannot be read.
    """

    def hashed(path: Path) -> str:
        try:
            return _sha256(path)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror or error})",
                expected="a file for every photograph",
                mend="restore the file, or leave it out",
            ) from error

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        return tuple(pool.map(hashed, paths))


def read_photographs(
    paths: Sequence[Path],
    *,
    threads: int | None = None,
    on_photograph: Callable[[int, int], None] | None = None,
) -> tuple[tuple[Photograph, ...], tuple[tuple[Path, str], ...]]:
    """Hash and measure photographs, and find those that cannot be read.

    Each is decoded to its end, a JPEG at an eighth of its size, so that one that is cut off is found here.

    Args:
        paths: of the files.
        threads: that read at once; one a processor unless said.
        on_photograph: called in order with how many are done, and of how many.

    Returns:
        Those that can be read, and path and reason of each that cannot; both in the order of ``paths``.
    """

    def read(path: Path) -> Photograph | str:
        try:
            photo = open_photo(path, _GLANCE)
            return Photograph(path=path, sha256=_sha256(path), width=photo.width, height=photo.height)
        except PhotoError as error:
            return error.got
        except OSError as error:
            return f"{path} cannot be read ({error.strerror or error})"

    readable: list[Photograph] = []
    unreadable: list[tuple[Path, str]] = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for done, (path, found) in enumerate(zip(paths, pool.map(read, paths), strict=True), start=1):
            if isinstance(found, str):
                unreadable.append((path, found))
            else:
                readable.append(found)
            if on_photograph is not None:
                on_photograph(done, len(paths))
    return tuple(readable), tuple(unreadable)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

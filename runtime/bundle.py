"""Bundles: one file that holds everything a device needs to score photographs, and the proof that it still does.

A bundle is a zip archive without compression. ``docs/bundle-format.md`` has the rules; `Bundle.open` enforces them
before anything of the content is used.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import (
    BundleFormatError,
    BundleHashError,
    BundleRequiresError,
    BundleVersionError,
    UsageError,
)
from .manifest import FORMAT, SUPPORTED_REQUIREMENTS, Golden, Manifest, Member, Part

__all__ = [
    "MANIFEST_NAME",
    "Bundle",
    "decode_view",
    "encode_view",
    "listed_parts",
    "refuse_existing",
    "write_bundle",
]

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
MAX_PARTS = 4096
_PART_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
_STAMP = (1980, 1, 1, 0, 0, 0)
_AGAIN = "copy it again, or make it again with edgeiqa export"
# What zipfile raises for archives that were cut off or tampered with.
_UNREADABLE = (zipfile.BadZipFile, EOFError, OSError, LookupError, RuntimeError, ValueError, struct.error, zlib.error)


class _Header(msgspec.Struct, frozen=True):
    """What is read before anything else is believed."""

    format: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its manifest has been checked; its parts are checked when they are read.

    Attributes:
        path: of the file.
        manifest: what it holds.
        size_bytes: of the file.
    """

    path: Path
    manifest: Manifest
    size_bytes: int

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and check the rules of the format, all but the hashes of its parts.

        Raises:
            BundleFormatError: no such file, no bundle, or a rule is broken.
            BundleVersionError: a newer major format.
            BundleRequiresError: it needs a capability that this version does not have.
        """
        path = Path(path)
        try:
            is_file, is_folder = path.is_file(), path.is_dir()
        # A name that is too long, or a folder that may not be read.
        except OSError:
            is_file = is_folder = False
        if not is_file:
            raise BundleFormatError(
                f"{path}, which is {'a folder' if is_folder else 'not there'}",
                expected="a bundle file (NAME.eiqa)",
                mend="correct the path",
            )
        try:
            with zipfile.ZipFile(path) as archive:
                size_bytes = path.stat().st_size
                _check_entries(path, archive.infolist(), size_bytes)
                manifest = _decode_manifest(path, archive.read(MANIFEST_NAME))
                _check_parts(path, archive.infolist(), manifest.parts)
        except _UNREADABLE as error:
            raise BundleFormatError(f"{path}: {error}", expected="a whole bundle", mend=_AGAIN) from error
        return cls(path, manifest, size_bytes)

    def read(self, name: str) -> bytes:
        """Read a part and check it against the manifest.

        Raises:
            BundleFormatError: there is no such part.
            BundleHashError: its content is not what the manifest says.
        """
        part = self.manifest.parts.get(name)
        if part is None:
            raise BundleFormatError(
                f"part {name!r}",
                expected=f"one of {', '.join(sorted(self.manifest.parts))}",
                mend="name one of these",
            )
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = archive.read(name)
        except _UNREADABLE as error:
            raise BundleHashError(f"{self.path}: {name}: {error}", expected="a readable part", mend=_AGAIN) from error
        found = hashlib.sha256(data).hexdigest()
        if found != part.sha256 or len(data) != part.size_bytes:
            raise BundleHashError(
                f"{self.path}: {name} of {len(data)} bytes with sha256 {found}",
                expected=f"{part.size_bytes} bytes with sha256 {part.sha256}",
                mend=_AGAIN,
            )
        return data

    def golden_views(self, golden: Golden, member: Member) -> dict[str, NDArray[np.uint8]]:
        """The views of a golden photograph as they were when the bundle was made, uint8, by view name."""
        names = golden.views[member.name]
        return {view: decode_view(self.read(names[view]), shape) for view, shape in member.preprocess.shapes.items()}

    def unpack(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the manifest and every part, checked, into a new or empty folder.

        Raises:
            UsageError: the folder holds something.
            BundleHashError: a part is not what the manifest says; nothing is written then.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}, which exists", expected="a new or empty folder", mend="name another with -o")
        parts = {name: self.read(name) for name in self.manifest.parts}
        # As it stands in the file, with the fields of later minor formats that are passed over here.
        with zipfile.ZipFile(self.path) as archive:
            parts[MANIFEST_NAME] = archive.read(MANIFEST_NAME)
        above = folder.absolute().parent
        above.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=above, prefix=f".{folder.name}-") as partial:
            whole = Path(partial) / "whole"
            for name, data in parts.items():
                target = whole / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            if folder.exists():
                for item in whole.iterdir():
                    item.rename(folder / item.name)
            else:
                whole.rename(folder)
        return [folder / name for name in sorted(parts)]


def write_bundle(path: Path, manifest: Manifest, parts: Mapping[str, bytes], *, overwrite: bool = False) -> Bundle:
    """Write a bundle: to a temporary file, which is opened as a reader would, then renamed.

    Args:
        path: of the file to make.
        manifest: its ``parts`` are filled in from the parts given.
        parts: content by path inside the bundle.
        overwrite: replace a file that is there.

    Raises:
        UsageError: the file exists and may not be replaced.
        RecordError: the manifest does not agree with the parts.
    """
    refuse_existing(path, overwrite=overwrite)
    manifest = msgspec.structs.replace(manifest, parts=listed_parts(parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _write_entry(archive, MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
            for name in sorted(parts):
                _write_entry(archive, name, parts[name])
        Bundle.open(partial)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return Bundle.open(path)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise `UsageError` where a file is in the way of an output and may not be replaced."""
    if path.exists() and not (overwrite and path.is_file()):
        raise UsageError(
            f"{path}, which exists",
            expected="a name that is free",
            mend="give another -o" if path.is_dir() else "give --overwrite, or another -o",
        )


def listed_parts(parts: Mapping[str, bytes]) -> dict[str, Part]:
    """The manifest's list of parts: hash and size of each."""
    return {
        name: Part(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in sorted(parts.items())
    }


def encode_view(view: NDArray[np.uint8]) -> bytes:
    """A view's tensor ``[H, W, 3]`` or ``[T, H, W, 3]`` as a PNG, its images one below the other."""
    file = io.BytesIO()
    Image.fromarray(view.reshape(-1, *view.shape[-2:])).save(file, "PNG", optimize=True)
    return file.getvalue()


def decode_view(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The tensor of `encode_view`, of the shape that the manifest's `Preprocess` gives it.

    Raises:
        BundleFormatError: it is no PNG of that shape.
    """
    width, height = shape[-2], int(np.prod(shape[:-2]))
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode == "RGB" and image.size == (width, height):
                return np.asarray(image).reshape(shape)
            got = f"a golden view of {image.mode} {image.width}x{image.height}"
    # As in decoding photographs: whatever a broken PNG raises, the answer is the same.
    except Exception as error:
        got = f"a golden view that cannot be read ({type(error).__name__}: {error})"
    raise BundleFormatError(got, expected=f"an RGB PNG of {width}x{height}", mend=_AGAIN)


def _write_entry(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _STAMP)
    entry.external_attr = 0o644 << 16
    # Otherwise it is that of the system, and the bytes with it.
    entry.create_system = 3
    archive.writestr(entry, data)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size_bytes: int) -> None:
    def refuse(got: str, expected: str) -> BundleFormatError:
        return BundleFormatError(f"{path}: {got}", expected=expected, mend=_AGAIN)

    if len(entries) > MAX_PARTS:
        raise refuse(f"{len(entries)} entries", f"at most {MAX_PARTS}")
    names = [entry.filename for entry in entries]
    folded = [name.lower() for name in names]
    if len(set(folded)) != len(names):
        twice = sorted({name for name in folded if folded.count(name) > 1})
        raise refuse(f"entries that appear twice: {twice}", "each name once, in any case")
    for entry in entries:
        # orig_filename is the name before zipfile cuts it at a NUL or changes its separators.
        if not _PART_NAME.fullmatch(entry.orig_filename) or len(entry.orig_filename) > 255:
            raise refuse(f"an entry named {entry.orig_filename!r}", "a relative path of letters, digits, . _ -")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise refuse(f"{entry.filename}, compressed or encrypted", "entries stored as they are")
    both = sorted({folder for name in folded for folder in _folders(name)} & set(folded))
    if both:
        raise refuse(f"entries that are files and folders at once: {both}", "each one or the other")
    if sum(entry.file_size for entry in entries) > size_bytes:
        raise refuse("entries that overlap", "a file at least as large as its entries")
    manifest = next((entry for entry in entries if entry.filename == MANIFEST_NAME), None)
    if manifest is None:
        raise refuse(f"no {MANIFEST_NAME}", f"a bundle with {MANIFEST_NAME}")
    if manifest.file_size > MAX_MANIFEST_BYTES:
        raise refuse(f"a manifest of {manifest.file_size} bytes", f"at most {MAX_MANIFEST_BYTES}")


def _folders(name: str) -> list[str]:
    return [name[:at] for at, letter in enumerate(name) if letter == "/"]


def _decode_manifest(path: Path, data: bytes) -> Manifest:
    try:
        header = msgspec.json.decode(data, type=_Header)
        version = re.fullmatch("([0-9]{1,4})[.]([0-9]{1,4})", header.format)
        major = int(FORMAT.split(".")[0])
        if version is None:
            raise msgspec.ValidationError(f"format {header.format!r}")
        if int(version[1]) != major:
            raise BundleVersionError(
                f"{path}, of format {header.format}",
                expected=f"format {major}.x",
                mend="pip install --upgrade edgeiqa" if int(version[1]) > major else _AGAIN,
            )
        unknown = sorted(set(header.requires) - SUPPORTED_REQUIREMENTS)
        if unknown:
            raise BundleRequiresError(
                f"{path}, which requires {', '.join(unknown)}",
                expected=f"requirements among {sorted(SUPPORTED_REQUIREMENTS)}",
                mend="pip install --upgrade edgeiqa",
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleFormatError(
            f"{path}: {MANIFEST_NAME}: {error}", expected=f"a manifest of format {FORMAT}", mend=_AGAIN
        ) from error


def _check_parts(path: Path, entries: list[zipfile.ZipInfo], parts: Mapping[str, Part]) -> None:
    sizes = {entry.filename: entry.file_size for entry in entries if entry.filename != MANIFEST_NAME}
    listed = {name: part.size_bytes for name, part in parts.items()}
    if sizes != listed:
        wrong = sorted(name for name in sizes.keys() | listed.keys() if sizes.get(name) != listed.get(name))
        raise BundleFormatError(
            f"{path}: parts that are missing, not listed, or of another size: {wrong}",
            expected="just the parts that the manifest lists",
            mend=_AGAIN,
        )

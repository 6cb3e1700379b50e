"""Bundles that a bundle's writer would not write: a good one, with one rule broken."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import BundleError

from ..runtime.bundles import Recipe, build
from ..runtime.messages import require_message

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Entry:
    """A file of a zip archive, byte by byte; what is not said is as it should be."""

    name: bytes
    data: bytes
    method: int = 0
    flags: int = 0
    packed: bytes | None = None
    local_name: bytes | None = None
    claimed_size: int | None = None
    attributes: int = 0o644 << 16
    extra: bytes = b""
    shares_data_of: int | None = None


def archive(entries: Iterable[Entry]) -> bytes:
    """A zip archive of just these entries, in this order, whatever they are."""
    body, directory = b"", b""
    places: list[int] = []
    for entry in entries:
        packed = entry.data if entry.packed is None else entry.packed
        size = len(entry.data) if entry.claimed_size is None else entry.claimed_size
        packed_size = len(packed) if entry.claimed_size is None else entry.claimed_size
        local = entry.name if entry.local_name is None else entry.local_name
        common = struct.pack("<HHHHI", entry.flags, entry.method, 0, 0x21, zlib.crc32(entry.data))
        sizes = struct.pack("<II", packed_size, size)
        place = len(body)
        if entry.shares_data_of is not None:
            place = places[entry.shares_data_of]
        else:
            body += (
                b"PK\3\4" + struct.pack("<H", 20) + common + sizes + struct.pack("<HH", len(local), 0) + local + packed
            )
        places.append(place)
        directory += b"PK\1\2" + struct.pack("<HH", 0x0314, 20) + common + sizes
        directory += struct.pack("<HHHHHII", len(entry.name), len(entry.extra), 0, 0, 0, entry.attributes, place)
        directory += entry.name + entry.extra
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(places), len(places), len(directory), len(body), 0)
    return body + directory + end


def good_entries(folder: Path, recipe: Recipe | None = None) -> dict[str, bytes]:
    """What a good bundle holds, the manifest first."""
    made = build(folder / "good.eiqa", recipe, overwrite=True)
    with zipfile.ZipFile(made.path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def forge(
    folder: Path,
    *,
    manifest: Callable[[Any], Any] | None = None,
    raw_manifest: Callable[[bytes], bytes] | None = None,
    parts: Callable[[dict[str, bytes]], dict[str, bytes]] | None = None,
    entries: Callable[[list[Entry]], list[Entry]] | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """A bundle with one thing changed.

    Args:
        folder: where it is put.
        manifest: changes the manifest as data.
        raw_manifest: changes its bytes.
        parts: changes the parts; their sizes and hashes in the manifest are made to agree.
        entries: changes the archive's entries, which nothing is made to agree with.
        recipe: of the good bundle.
    """
    content = good_entries(folder, recipe)
    data = json.loads(content.pop(MANIFEST))
    if parts is not None:
        content = parts(content)
        data["parts"] = {
            name: {"sha256": hashlib.sha256(part).hexdigest(), "size_bytes": len(part)}
            for name, part in content.items()
        }
    if manifest is not None:
        data = manifest(data) or data
    text = json.dumps(data).encode()
    if raw_manifest is not None:
        text = raw_manifest(text)
    listed = [Entry(MANIFEST.encode(), text), *(Entry(name.encode(), part) for name, part in content.items())]
    if entries is not None:
        listed = entries(listed)
    path = folder / "forged.eiqa"
    path.write_bytes(archive(listed))
    return path


def refused(path: Path, kind: type[BundleError], got: str, expected: str = "", mend: str = "") -> None:
    """Opening it raises just this error, which says so in these words."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert type(caught.value) is kind
    require_message(caught, got, expected, mend)
    assert path.name in caught.value.got


def put(where: list[Any], value: Any) -> Callable[[Any], None]:
    """A change of a manifest: a value at a place that is named step by step."""

    def change(data: Any) -> None:
        *above, last = where
        for step in above:
            data = data.setdefault(step, {}) if isinstance(data, dict) else data[step]
        data[last] = value

    return change

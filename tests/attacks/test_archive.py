"""Archives that break a rule of the container."""

from __future__ import annotations

import dataclasses
import json
import stat
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from edgeiqa.runtime.bundle import Bundle, decode_view
from edgeiqa.runtime.errors import BundleFormatError, BundleHashError
from edgeiqa.runtime.scorer import Scorer

from ..runtime.bundles import Ingredients, Recipe, encoded, graph, pixels
from ..runtime.messages import require_message
from .forge import MANIFEST, Entry, archive, forge, good_entries, refused


def test_the_forger_makes_a_good_bundle_if_nothing_is_changed(tmp_path: Path) -> None:
    forged = Bundle.open(forge(tmp_path))
    good = Bundle.open(tmp_path / "good.eiqa")
    assert forged.manifest == good.manifest
    assert {name: forged.read(name) for name in forged.manifest.parts} == {
        name: good.read(name) for name in good.manifest.parts
    }
    assert Scorer(forged).score(pixels()) == Scorer(good).score(pixels())


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"not a zip", b"PK\5\6" + bytes(17), encoded(pixels()), graph("tiny.onnx"), bytes(100_000)],
    ids=["empty", "two bytes", "text", "an end cut off", "a photograph", "a graph", "zeros"],
)
def test_what_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.eiqa").write_bytes(content)
    refused(tmp_path / "a.eiqa", BundleFormatError, "", "a whole bundle", "copy it again")


def test_an_empty_zip(tmp_path: Path) -> None:
    (tmp_path / "a.eiqa").write_bytes(archive([]))
    refused(tmp_path / "a.eiqa", BundleFormatError, "no manifest.json")


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75, 0.99])
def test_a_file_that_is_cut_off(tmp_path: Path, share: float) -> None:
    data = forge(tmp_path).read_bytes()
    (tmp_path / "a.eiqa").write_bytes(data[: int(len(data) * share)])
    refused(tmp_path / "a.eiqa", BundleFormatError, "", "a whole bundle", "copy it again")


def test_a_file_whose_beginning_is_missing(tmp_path: Path) -> None:
    path = forge(tmp_path)
    path.write_bytes(path.read_bytes()[500:])
    with pytest.raises(BundleFormatError):
        Bundle.open(path)


# --- entries ----------------------------------------------------------------------------------------------------------


def replaced(at: int, **fields: Any) -> Any:
    return lambda entries: [
        dataclasses.replace(entry, **fields) if index == at else entry for index, entry in enumerate(entries)
    ]


@pytest.mark.parametrize("at", [0, 1])
def test_a_compressed_entry(tmp_path: Path, at: int) -> None:
    def deflate(entries: list[Entry]) -> list[Entry]:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(entries[at].data) + packer.flush()
        return list(replaced(at, method=8, packed=packed)(entries))

    refused(forge(tmp_path, entries=deflate), BundleFormatError, "compressed or encrypted", "stored as they are")


def test_a_bomb_is_never_unpacked(tmp_path: Path) -> None:
    def bomb(entries: list[Entry]) -> list[Entry]:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(bytes(64 << 20)) + packer.flush()
        return [Entry(MANIFEST.encode(), b" " * (64 << 20), method=8, packed=packed), *entries[1:]]

    refused(forge(tmp_path, entries=bomb), BundleFormatError, "compressed or encrypted")


@pytest.mark.parametrize("method", [1, 12, 14, 93, 99, 0xFFFF])
def test_other_methods_of_compression(tmp_path: Path, method: int) -> None:
    refused(forge(tmp_path, entries=replaced(1, method=method)), BundleFormatError, "compressed or encrypted")


def test_an_encrypted_entry(tmp_path: Path) -> None:
    refused(forge(tmp_path, entries=replaced(1, flags=1)), BundleFormatError, "compressed or encrypted")
    refused(forge(tmp_path / "x", entries=replaced(0, flags=1)), BundleFormatError, "compressed or encrypted")


@pytest.mark.parametrize("name", [b"one.onnx", b"ONE.onnx", b"manifest.json", b"Manifest.JSON"])
def test_a_name_that_appears_twice(tmp_path: Path, name: bytes) -> None:
    path = forge(tmp_path, entries=lambda entries: [*entries, Entry(name, b"another")])
    refused(path, BundleFormatError, "appear twice", "each name once, in any case")
    path = forge(tmp_path, entries=lambda entries: [Entry(name, b"another"), *entries])
    refused(path, BundleFormatError, "appear twice")


BAD_NAMES = [
    b"../out.onnx",
    b"golden/../../out.onnx",
    b"golden/..",
    b"..",
    b".",
    b"./one",
    b"/etc/passwd",
    b"//server/share",
    b"C:out.onnx",
    b"C:\\out.onnx",
    b"..\\out.onnx",
    b"golden\\out.onnx",
    b"a//b",
    b"a/",
    b"golden/",
    b".bashrc",
    b"golden/.hidden",
    b"",
    b" ",
    b"a b",
    b"a\n",
    b"one.onnx\n",
    b"a\0b",
    b"one.bin\0.txt",
    b"~/x",
    b"$HOME",
    b"\xc3\xbc",
    b"a" * 256,
    b"a/" * 30_000 + b"a",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name[:20]))
@pytest.mark.parametrize("listed", [False, True])
def test_a_name_that_may_climb_out(tmp_path: Path, name: bytes, listed: bool) -> None:
    def list_it(data: Any) -> None:
        text = name.decode("cp437")
        data["parts"][text] = {"sha256": "0" * 64, "size_bytes": 1}

    path = forge(tmp_path, manifest=list_it if listed else None, entries=lambda entries: [*entries, Entry(name, b"x")])
    refused(path, BundleFormatError, "an entry named", "a relative path of letters, digits, . _ -")


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = forge(tmp_path, entries=lambda entries: [*entries, Entry(b"\xff\xfe", b"x", flags=0x800)])
    refused(path, BundleFormatError, "")


@pytest.mark.parametrize(
    "name",
    ["a", "A-b_c.d", "9", "_x", "-x", "a..b", "golden/photo.jpg", "a/b/c/d", "x" * 255],
    ids=lambda name: name[:20],
)
def test_names_that_are_allowed(tmp_path: Path, name: str) -> None:
    opened = Bundle.open(forge(tmp_path, parts=lambda parts: {**parts, name: b"x"}))
    assert opened.read(name) == b"x"
    opened.unpack(tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == b"x"


@pytest.mark.parametrize("pair", [("a", "a/b"), ("a/b", "a/b/c"), ("A", "a/b"), ("golden", "one.onnx/x")])
def test_a_file_that_is_a_folder_too(tmp_path: Path, pair: tuple[str, str]) -> None:
    path = forge(tmp_path, parts=lambda parts: {**parts, **dict.fromkeys(pair, b"x")})
    refused(path, BundleFormatError, "files and folders at once", "one or the other")


def test_a_name_inside_that_is_another(tmp_path: Path) -> None:
    path = forge(tmp_path, entries=replaced(0, local_name=b"MANIFEST.json"))
    refused(path, BundleFormatError, "")
    path = forge(tmp_path, entries=replaced(1, local_name=b"../out"))
    opened = Bundle.open(path)
    name = next(iter(opened.manifest.parts))
    with pytest.raises(BundleHashError):
        for name in opened.manifest.parts:
            opened.read(name)
    with pytest.raises(BundleHashError):
        opened.unpack(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_entry_that_is_a_link(tmp_path: Path) -> None:
    def link(entries: list[Entry]) -> list[Entry]:
        return [
            dataclasses.replace(entry, attributes=(stat.S_IFLNK | 0o777) << 16) if entry.name == b"link" else entry
            for entry in entries
        ]

    path = forge(tmp_path, parts=lambda parts: {**parts, "link": b"/etc/passwd"}, entries=link)
    Bundle.open(path).unpack(tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()
    assert (tmp_path / "out" / "link").read_bytes() == b"/etc/passwd"


def test_more_entries_than_allowed(tmp_path: Path) -> None:
    many = [Entry(b"%d" % index, b"") for index in range(4091)]
    path = forge(tmp_path, entries=lambda entries: [*entries, *many])
    refused(path, BundleFormatError, "4097 entries", "at most 4096")


def test_an_entry_of_a_size_that_the_file_does_not_have(tmp_path: Path) -> None:
    path = forge(tmp_path, entries=replaced(1, claimed_size=0xFFFFFFF0))
    refused(path, BundleFormatError, "overlap", "at least as large as its entries")
    path = forge(tmp_path, entries=replaced(0, claimed_size=0xFFFFFFF0))
    refused(path, BundleFormatError, "")


def test_an_entry_of_an_astronomic_size(tmp_path: Path) -> None:
    # Zip64's field of 64-bit sizes.
    extra = struct.pack("<HHQQ", 1, 16, 2**63, 2**63)
    path = forge(tmp_path, entries=replaced(1, claimed_size=0xFFFFFFFF, extra=extra))
    refused(path, BundleFormatError, "")
    path = forge(tmp_path, entries=replaced(1, claimed_size=0xFFFFFFFF, extra=extra[:7]))
    refused(path, BundleFormatError, "")


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    many = [Entry(b"copy%d" % index, bytes(100), shares_data_of=1) for index in range(200)]
    path = forge(tmp_path, entries=lambda entries: [*entries, *many])
    refused(path, BundleFormatError, "overlap")


# --- parts ------------------------------------------------------------------------------------------------------------


def test_an_entry_that_is_not_listed(tmp_path: Path) -> None:
    path = forge(tmp_path, entries=lambda entries: [*entries, Entry(b"surprise.bin", b"x")])
    refused(path, BundleFormatError, "['surprise.bin']", "just the parts that the manifest lists")


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    path = forge(tmp_path, entries=lambda entries: [entry for entry in entries if entry.name != b"one.onnx"])
    refused(path, BundleFormatError, "['one.onnx']", "just the parts that the manifest lists")


@pytest.mark.parametrize("size", [0, 1, 10**15])
def test_a_part_of_another_size(tmp_path: Path, size: int) -> None:
    def lie(data: Any) -> None:
        data["parts"]["one.onnx"]["size_bytes"] = size

    refused(forge(tmp_path, manifest=lie), BundleFormatError, "['one.onnx']", "just the parts that the manifest lists")


def test_a_manifest_that_lists_itself(tmp_path: Path) -> None:
    def list_itself(data: Any) -> None:
        data["parts"][MANIFEST] = {"sha256": "0" * 64, "size_bytes": 1}

    refused(forge(tmp_path, manifest=list_itself), BundleFormatError, "manifest.json")


def test_a_wrong_hash(tmp_path: Path) -> None:
    def lie(data: Any) -> None:
        data["parts"]["one.onnx"]["sha256"] = "0" * 64

    opened = Bundle.open(forge(tmp_path, manifest=lie))
    for use in (lambda: opened.read("one.onnx"), lambda: Scorer(opened), lambda: opened.unpack(tmp_path / "out")):
        with pytest.raises(BundleHashError) as caught:
            use()
        require_message(caught, "one.onnx", "0" * 64, "copy it again")
    assert not (tmp_path / "out").exists()
    # The other parts are as they should be.
    assert opened.read("golden/smooth.png")


def test_a_part_of_the_right_size_and_checksum_that_is_another(tmp_path: Path) -> None:
    def swap(entries: list[Entry]) -> list[Entry]:
        return [
            dataclasses.replace(entry, data=entry.data[::-1]) if entry.name == b"one.onnx" else entry
            for entry in entries
        ]

    opened = Bundle.open(forge(tmp_path, entries=swap))
    with pytest.raises(BundleHashError):
        Scorer(opened)


# --- golden views that lie --------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("size", [(60_000, 60_000), (8, 2**31 - 1), (2**31 - 1, 8), (0, 0)])
def test_a_golden_view_whose_header_claims_a_plane(size: tuple[int, int]) -> None:
    with pytest.raises(BundleFormatError) as caught:
        decode_view(png_header(*size), (8, 8, 3))
    require_message(caught, "a golden view", "an RGB PNG of 8x8")


def test_a_bundle_may_hold_what_nothing_uses_if_it_is_listed(tmp_path: Path) -> None:
    opened = Bundle.open(forge(tmp_path, parts=lambda parts: {**parts, "README.md": b"hello"}))
    assert opened.read("README.md") == b"hello"


def test_the_good_bundle_of_the_forger_holds_what_the_tests_name(tmp_path: Path) -> None:
    names = list(good_entries(tmp_path, Recipe(members=(Ingredients(),))))
    assert names[0] == MANIFEST
    assert {"one.onnx", "golden/smooth.png"} <= set(names)
    assert json.loads(good_entries(tmp_path / "x")[MANIFEST])["format"] == "1.0"
    assert sys.getrecursionlimit() < 100_000

"""Manifests that break a rule of the format, in archives that break none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import BundleFormatError, BundleRequiresError, BundleVersionError

from ..runtime.bundles import Ingredients, Recipe
from .forge import forge, put, refused

OPERATIONS = ["members", 0, "preprocess", "views", 0, "operations"]
SCORE_MAP = ["members", 0, "artefacts", 0, "score_map"]


# --- versions and requirements ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.0", "2.7", "9999.0"])
def test_a_newer_major_format(tmp_path: Path, version: str) -> None:
    path = forge(tmp_path, manifest=put(["format"], version))
    refused(path, BundleVersionError, version, "format 1.x", "pip install --upgrade edgeiqa")


def test_a_newer_major_format_is_told_whatever_else_it_holds(tmp_path: Path) -> None:
    path = forge(tmp_path, raw_manifest=lambda _: b'{"format": "2.0", "everything": "new", "members": 7}')
    refused(path, BundleVersionError, "2.0")


def test_an_older_major_format(tmp_path: Path) -> None:
    path = forge(tmp_path, manifest=put(["format"], "0.9"))
    refused(path, BundleVersionError, "0.9", "format 1.x", "make it again")


@pytest.mark.parametrize("version", ["1.1", "1.9999"])
def test_a_newer_minor_format_is_read(tmp_path: Path, version: str) -> None:
    assert Bundle.open(forge(tmp_path, manifest=put(["format"], version))).manifest.format == version


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1",
        "1.",
        ".0",
        "1.0.0",
        "v1.0",
        " 1.0",
        "1.0 ",
        "1.0\n",
        "1,0",
        "-1.0",
        "1.-0",
        "one",
        "10000.0",
        "\u0661.\u0660",
    ],
)
def test_a_format_that_is_no_version(tmp_path: Path, version: str) -> None:
    refused(forge(tmp_path, manifest=put(["format"], version)), BundleFormatError, "format", "a manifest of format 1.0")


@pytest.mark.parametrize("version", [1, 1.0, None, ["1.0"], {"major": 1}])
def test_a_format_that_is_no_text(tmp_path: Path, version: Any) -> None:
    refused(forge(tmp_path, manifest=put(["format"], version)), BundleFormatError, "format")


def test_no_format(tmp_path: Path) -> None:
    refused(forge(tmp_path, manifest=lambda data: data.pop("format") and None), BundleFormatError, "format")


def test_an_unknown_requirement(tmp_path: Path) -> None:
    path = forge(tmp_path, manifest=put(["requires"], ["stats-view", "antigravity"]))
    refused(path, BundleRequiresError, "antigravity, stats-view", "requirements among", "pip install --upgrade edgeiqa")


def test_a_requirement_is_told_before_what_it_would_explain(tmp_path: Path) -> None:
    def change(data: Any) -> None:
        data["requires"] = ["fifth-dimension"]
        data["members"] = "of another shape"

    refused(forge(tmp_path, manifest=change), BundleRequiresError, "fifth-dimension")


def test_unknown_extensions_are_passed_over(tmp_path: Path) -> None:
    path = forge(tmp_path, manifest=put(["extensions"], {"com.example.colour": ["red", 1, None]}))
    assert Bundle.open(path).manifest.extensions == {"com.example.colour": ["red", 1, None]}


# --- JSON that is no JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"manifest"',
        b"1",
        b"{",
        b"{}",
        b"{'format': '1.0'}",
        b'{"format": "1.0",}',
        b'{"format": "1.0"}',
        b'\xef\xbb\xbf{"format": "1.0"}',
        b'{"format": "1.\xff"}',
        b'{"format": "1.0", "requires": ["\xff"]}',
        b'{"format": "\\ud800"}',
        b'{"format": "1.0", "requires": [1]}',
        b'{"format": "1.0"} {"format": "1.0"}',
        b"\0" * 100,
    ],
)
def test_a_manifest_that_is_no_manifest(tmp_path: Path, text: bytes) -> None:
    refused(
        forge(tmp_path, raw_manifest=lambda _: text), BundleFormatError, "manifest.json", "a manifest", "copy it again"
    )


def test_text_that_is_no_utf8_anywhere(tmp_path: Path) -> None:
    path = forge(tmp_path, raw_manifest=lambda text: text.replace(b'"name": "tiny"', b'"name": "tin\xff"'))
    refused(path, BundleFormatError, "manifest.json")
    path = forge(tmp_path, raw_manifest=lambda text: text[:-1] + b', "extensions": {"x": "\xff"}}')
    refused(path, BundleFormatError, "manifest.json")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e999", b"-1e999", b"9" * 5000])
@pytest.mark.parametrize("where", [["golden", 0, "score"], ["scale", "high"], [*SCORE_MAP, "low"], ["extensions", "x"]])
def test_a_number_that_is_not_finite(tmp_path: Path, number: bytes, where: list[Any]) -> None:
    path = forge(tmp_path, manifest=put(where, "HERE"), raw_manifest=lambda text: text.replace(b'"HERE"', number))
    refused(path, BundleFormatError, "manifest.json")


def test_a_huge_manifest(tmp_path: Path) -> None:
    path = forge(tmp_path, raw_manifest=lambda text: text + b" " * (4 << 20))
    refused(path, BundleFormatError, "a manifest of 4", "at most 4194304")


def test_a_manifest_of_just_the_largest_size_is_read(tmp_path: Path) -> None:
    path = forge(tmp_path, raw_manifest=lambda text: text + b" " * ((4 << 20) - len(text)))
    assert Bundle.open(path).manifest.name == "tiny"


@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("where", [["later_field"], ["extensions", "x"], ["provenance", "notes", "x"], ["requires"]])
def test_nesting_without_end(tmp_path: Path, start: bytes, end: bytes, where: list[Any]) -> None:
    deep = start * 200_000 + b"1" + end * 200_000
    path = forge(tmp_path, manifest=put(where, "HERE"), raw_manifest=lambda text: text.replace(b'"HERE"', deep))
    refused(path, BundleFormatError, "manifest.json")


# --- fields out of range ----------------------------------------------------------------------------------------------


def resize(**fields: Any) -> dict[str, Any]:
    return {"type": "resize", "width": 8, "height": 8, **fields}


def crop(**fields: Any) -> dict[str, Any]:
    return {"type": "crop", "width": 8, "height": 8, **fields}


@pytest.mark.parametrize(
    ("operations", "got"),
    [
        ([resize(width=10**9)], "1000000000x8"),
        ([resize(width=2**64)], "operations"),
        ([resize(width=-8)], "-8x8"),
        ([resize(width=8192, height=8192)], "67108864 pixels"),
        ([crop(at="seeded", count=10**9)], "1000000000 seeded"),
        ([crop(at="grid", rows=10**6, columns=10**6)], "1000000x1000000"),
        ([crop(width=8000, height=8000, at="seeded", count=256), resize()], "16384000000 pixels"),
        ([crop(width=8000, height=8000, at="ten"), *[crop(width=4000, height=4000, at="ten")] * 3], "pixels"),
        ([resize()] * 20_000, "20000 operations"),
        ([{"type": "fragments", "rows": 64, "columns": 64, "patch": 10**6}], "64000000x64000000"),
        ([{"type": "scale", "denominator": 0}, resize()], "1/0"),
        ([{"type": "patches", "rows": 2, "columns": 2}], "unknown size"),
        ([], "0 operations"),
        ([{"type": "python", "code": "import os"}], "python"),
    ],
)
def test_views_that_are_huge_or_nonsense(tmp_path: Path, operations: list[Any], got: str) -> None:
    refused(forge(tmp_path, manifest=put(OPERATIONS, operations)), BundleFormatError, got, "", "copy it again")


@pytest.mark.parametrize(
    ("where", "value", "got"),
    [
        (["combine"], {"type": "weighted_mean", "weights": [1.0, -1.0]}, "weights"),
        (["combine"], {"type": "weighted_mean", "weights": [0.0, 0.0]}, "weights"),
        (["combine"], {"type": "weighted_mean", "weights": [1.0]}, "1 weights for 2 members"),
        (["combine"], {"type": "weighted_mean", "weights": [1.0] * 3}, "3 weights for 2 members"),
        (["combine"], {"type": "maximum"}, "maximum"),
        (["members"], [], "0 members"),
        (["members", 0, "name"], "two", "['two', 'two']"),
        (["members", 0, "name"], "../one", "../one"),
        (["members", 0, "artefacts"], [], "without artefacts"),
        (["members", 0, "artefacts", 0, "files"], ["../../etc/passwd"], "../../etc/passwd"),
        (["members", 0, "artefacts", 0, "files"], [], "files"),
        (["members", 0, "artefacts", 0, "target"], "shell", "shell"),
        (["members", 0, "artefacts", 0, "precision"], "fp4", "fp4"),
        (["members", 0, "artefacts", 0, "golden_raw"], [0.5], "1 golden scores"),
        (["members", 0, "artefacts", 0, "golden_tolerance"], 0, "tolerance"),
        (["members", 0, "artefacts", 0, "golden_tolerance"], -1, "tolerance"),
        (["members", 0, "artefacts", 0, "macs"], "many", "macs"),
        (["members", 0, "preprocess", "exif"], "guess", "guess"),
        (["members", 0, "preprocess", "views", 0, "name"], "../image", "../image"),
        ([*SCORE_MAP, "high"], 1000, "(0.0, 1000.0)"),
        ([*SCORE_MAP, "low"], 100.0, "[100.0, 100.0]"),
        ([*SCORE_MAP, "steps"], [{"type": "affine", "scale": -1}], "scale"),
        ([*SCORE_MAP, "steps"], [{"type": "affine", "scale": 1e300}], "affine with (1e+300"),
        ([*SCORE_MAP, "steps"], [{"type": "affine", "scale": 1}] * 17, "17 steps"),
        ([*SCORE_MAP, "steps"], [{"type": "eval", "code": "1"}], "eval"),
        (["golden", 0, "source"], "elsewhere.png", "elsewhere.png"),
        (["golden", 0, "views"], {}, "golden views"),
        (["golden", 0, "views", "one", "image"], "../x.png", "../x.png"),
        (["parts", "one.onnx", "sha256"], "0" * 63, "sha256"),
        (["parts", "one.onnx", "sha256"], "A" * 64, "sha256"),
        (["parts", "one.onnx", "size_bytes"], -1, "-1 bytes"),
        (["parts"], {}, "not listed"),
        (["name"], "../tiny", "../tiny"),
        (["name"], "tiny\u001b[2J", "tiny"),
        (["engine"], "subprocess", "subprocess"),
        (["engine"], "coreml", "coreml"),
        (["scale", "low"], 100.0, "scale"),
        (["provenance"], None, "provenance"),
    ],
    ids=str,
)
def test_a_field_that_is_out_of_range(tmp_path: Path, where: list[Any], value: Any, got: str) -> None:
    recipe = Recipe(members=(Ingredients("one"), Ingredients("two")))
    path = forge(tmp_path, manifest=put(where, value), recipe=recipe)
    refused(path, BundleFormatError, got, "", "copy it again")


def test_more_members_than_allowed(tmp_path: Path) -> None:
    def multiply(data: Any) -> None:
        data["golden"] = []
        one = {**data["members"][0], "artefacts": [{**data["members"][0]["artefacts"][0], "golden_raw": []}]}
        data["members"] = [{**one, "name": f"m{index}"} for index in range(65)]

    refused(forge(tmp_path, manifest=multiply), BundleFormatError, "65 members", "", "copy it again")

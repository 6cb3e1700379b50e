from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.runtime import bundle as bundle_module
from edgeiqa.runtime.bundle import Bundle, decode_view, encode_view, write_bundle
from edgeiqa.runtime.errors import BundleError, BundleFormatError, BundleHashError, RecordError, UsageError
from edgeiqa.runtime.manifest import Manifest
from edgeiqa.runtime.preprocess import Crop, Preprocess, View

from .bundles import TWO_VIEWS, Ingredients, Recipe, bake, build, changed, encoded, graph, pixels
from .messages import require_message

TWO = Recipe(members=(Ingredients("one"), Ingredients("two", graph="two_views.onnx", preprocess=TWO_VIEWS)))


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_bundle_survives_the_round_trip(tmp_path: Path) -> None:
    manifest, parts = bake(TWO)
    made = write_bundle(tmp_path / "a.eiqa", manifest, parts)
    opened = Bundle.open(tmp_path / "a.eiqa")
    assert opened == made
    assert opened.manifest == manifest
    assert opened.path == tmp_path / "a.eiqa"
    assert opened.size_bytes == (tmp_path / "a.eiqa").stat().st_size
    assert {name: opened.read(name) for name in opened.manifest.parts} == parts
    assert Bundle.open(str(tmp_path / "a.eiqa")).manifest == manifest


def test_the_list_of_parts_is_written_from_the_parts(tmp_path: Path) -> None:
    manifest, parts = bake(Recipe())
    made = write_bundle(tmp_path / "a.eiqa", manifest, {**parts, "LICENCE": b"free"})
    assert made.manifest.parts["LICENCE"].sha256 == hashlib.sha256(b"free").hexdigest()
    assert made.manifest.parts["LICENCE"].size_bytes == 4
    assert made.read("LICENCE") == b"free"


def test_it_is_a_zip_of_stored_entries_that_any_tool_opens(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa")
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "manifest.json"
        assert set(archive.namelist()) == {"manifest.json", *made.manifest.parts}
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert json.loads(archive.read("manifest.json"))["name"] == "tiny"


def test_the_bytes_are_reproducible(tmp_path: Path) -> None:
    manifest, parts = bake(TWO)
    backwards = dict(reversed(parts.items()))
    assert list(backwards) != list(parts)
    one = write_bundle(tmp_path / "a.eiqa", manifest, parts)
    two = write_bundle(tmp_path / "folder" / "b.eiqa", manifest, backwards)
    assert one.path.read_bytes() == two.path.read_bytes()


def test_the_bytes_do_not_depend_on_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = build(tmp_path / "a.eiqa").path.read_bytes()
    with zipfile.ZipFile(tmp_path / "a.eiqa") as archive:
        assert {entry.create_system for entry in archive.infolist()} == {3}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    monkeypatch.setattr("sys.platform", "win32")
    assert build(tmp_path / "b.eiqa").path.read_bytes() == one


def test_others_may_read_it(tmp_path: Path) -> None:
    assert build(tmp_path / "a.eiqa").path.stat().st_mode & stat.S_IROTH


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.eiqa"
    path.write_bytes(b"dear")
    with pytest.raises(UsageError) as caught:
        build(path)
    require_message(caught, "a.eiqa", "a name that is free", "--overwrite")
    assert path.read_bytes() == b"dear"
    made = build(path, overwrite=True)
    assert Bundle.open(path) == made
    assert names_in(tmp_path) == ["a.eiqa"]


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.eiqa").mkdir()
    for overwrite in (False, True):
        with pytest.raises(UsageError) as caught:
            build(tmp_path / "a.eiqa", overwrite=overwrite)
        require_message(caught, "a.eiqa", "", "another -o")


class Unlucky(dict[str, bytes]):
    """Parts of which one cannot be read."""

    def __getitem__(self, name: str) -> bytes:
        if name == "one.onnx" and self.armed:
            raise OSError("the disk is full")
        return super().__getitem__(name)

    armed = False

    def items(self) -> Any:
        self.armed = True
        return super().items()


@pytest.mark.parametrize("old", [None, b"the old bundle"])
def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "a.eiqa"
    if old is not None:
        path.write_bytes(old)
    manifest, parts = bake(Recipe())
    with pytest.raises(OSError, match="the disk is full"):
        write_bundle(path, manifest, Unlucky(parts), overwrite=True)
    assert names_in(tmp_path) == ([] if old is None else ["a.eiqa"])
    assert old is None or path.read_bytes() == old


def test_a_failure_while_it_is_put_in_place_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.eiqa"
    path.write_bytes(b"the old bundle")

    def fail(self: Path, target: Path) -> Path:
        raise PermissionError("not here")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PermissionError):
        build(path, overwrite=True)
    assert names_in(tmp_path) == ["a.eiqa"]
    assert path.read_bytes() == b"the old bundle"


@pytest.mark.parametrize("name", ["../out.onnx", "/out.onnx", "a\\b.onnx", ".hidden", "a//b", "a b", "ü", "a/"])
def test_a_part_that_a_reader_would_refuse_is_not_written(tmp_path: Path, name: str) -> None:
    manifest, parts = bake(Recipe())
    with pytest.raises(BundleFormatError) as caught:
        write_bundle(tmp_path / "a.eiqa", manifest, {**parts, name: b""})
    require_message(caught, repr(name), "a relative path")
    assert names_in(tmp_path) == []


def test_a_manifest_that_names_other_parts_is_refused(tmp_path: Path) -> None:
    manifest, parts = bake(Recipe())
    del parts["one.onnx"]
    with pytest.raises(RecordError) as caught:
        write_bundle(tmp_path / "a.eiqa", manifest, parts)
    require_message(caught, "one.onnx", "each part listed")
    assert names_in(tmp_path) == []


def test_a_score_that_is_nan_is_never_written(tmp_path: Path) -> None:
    manifest, parts = bake(Recipe())
    photo = changed(manifest.golden[0], score=float("nan"))
    with pytest.raises(BundleFormatError):
        write_bundle(tmp_path / "a.eiqa", changed(manifest, golden=(photo, manifest.golden[1])), parts)
    assert names_in(tmp_path) == []


# --- reading ----------------------------------------------------------------------------------------------------------


def test_there_is_no_such_part(tmp_path: Path) -> None:
    with pytest.raises(BundleFormatError) as caught:
        build(tmp_path / "a.eiqa").read("three.onnx")
    require_message(caught, "'three.onnx'", "one.onnx", "name one of these")


@pytest.mark.parametrize(
    "name", ["missing.eiqa", "folder", "missing/deeper.eiqa", "file/inside.eiqa", "a" * 5000, "n\0l"]
)
def test_a_path_without_a_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BundleFormatError) as caught:
        Bundle.open(tmp_path / name)
    got = "a folder" if name == "folder" else "not there"
    require_message(caught, f"{tmp_path / name}, which is {got}", "a bundle file", "correct the path")


def test_a_part_that_changes_after_the_bundle_was_opened_is_refused(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa")
    data = made.path.read_bytes()
    made.path.write_bytes(data.replace(graph("tiny.onnx"), graph("tiny.onnx")[::-1]))
    with pytest.raises(BundleHashError) as caught:
        made.read("one.onnx")
    require_message(caught, "one.onnx", "", "copy it again")
    made.path.unlink()
    with pytest.raises(BundleHashError):
        made.read("one.onnx")


def test_damage_anywhere_is_a_bundle_error_or_harms_nothing(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa", Recipe(photos={"p.png": encoded(pixels(4, 4))}))
    good = made.path.read_bytes()
    contents = {name: made.read(name) for name in made.manifest.parts}
    directory = good.index(b"PK\x01\x02")
    heads = [at for at in range(directory) if good[at : at + 4] == b"PK\x03\x04"]
    places = [place for head in heads for place in range(head, head + 44)] + list(range(directory, len(good)))
    damaged = tmp_path / "b.eiqa"
    for place in places:
        for value in (good[place] ^ 0x80, 0xFF):
            damaged.write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
            try:
                opened = Bundle.open(damaged)
                assert {name: opened.read(name) for name in opened.manifest.parts} == contents
            except BundleError:
                continue
    for length in range(0, len(good), 41):
        damaged.write_bytes(good[:length])
        with pytest.raises(BundleFormatError):
            Bundle.open(damaged)


# --- unpacking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True])
def test_unpack_writes_every_part_and_a_manifest_for_people(tmp_path: Path, there: bool) -> None:
    manifest, parts = bake(TWO)
    made = write_bundle(tmp_path / "a.eiqa", manifest, parts)
    folder = tmp_path / "deeper" / "out" if not there else tmp_path / "out"
    if there:
        folder.mkdir()
    written = made.unpack(folder)
    assert sorted(written) == sorted(folder / name for name in ["manifest.json", *parts])
    assert names_in(folder) == sorted(["manifest.json", *parts])
    assert all((folder / name).read_bytes() == data for name, data in parts.items())
    text = (folder / "manifest.json").read_text()
    assert msgspec.json.decode(text, type=Manifest) == manifest
    assert len(text.splitlines()) > 50
    # Nothing stays beside it.
    assert {path.name for path in tmp_path.iterdir()} == {"a.eiqa", "out" if there else "deeper"}


def test_unpack_into_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build(tmp_path / "a.eiqa")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made.unpack(".")
    assert (Path.cwd() / "one.onnx").read_bytes() == graph("tiny.onnx")
    assert (tmp_path / "here" / "manifest.json").is_file()


def test_unpack_touches_nothing_that_is_there(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for name in ("full", "file"):
        with pytest.raises(UsageError) as caught:
            made.unpack(tmp_path / name)
        require_message(caught, name, "a new or empty folder", "-o")
    assert names_in(tmp_path) == ["a.eiqa", "file", "full/letter.txt"]


def test_unpack_writes_nothing_when_a_part_is_wrong(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa")
    data = made.path.read_bytes()
    made.path.write_bytes(data.replace(graph("tiny.onnx"), graph("tiny.onnx")[::-1]))
    with pytest.raises(BundleHashError):
        made.unpack(tmp_path / "out")
    assert names_in(tmp_path) == ["a.eiqa"]


# --- golden views -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 8, 3), (5, 7, 3), (5, 4, 6, 3), (2, 1, 1, 3)])
def test_a_golden_view_survives_its_png(shape: tuple[int, ...]) -> None:
    view = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(decode_view(encode_view(view), shape), view)


def test_golden_views_are_those_of_the_bundle(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa", TWO)
    views = made.golden_views(made.manifest.golden[0], made.manifest.members[1])
    assert {name: view.shape for name, view in views.items()} == {"whole": (8, 8, 3), "five": (5, 4, 4, 3)}
    picture = pixels()
    assert np.array_equal(views["five"][0], picture[:4, :4])
    assert np.array_equal(views["five"][3], picture[-4:, -4:])


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (encoded(pixels(8, 9)), "RGB 8x9"),
        (encoded(pixels(9, 8)), "RGB 9x8"),
        (encoded(pixels(8, 8)[..., 0]), "L 8x8"),
        (encoded(pixels(8, 8), "JPEG"), "cannot be read"),
        (encoded(pixels(8, 8))[:60], "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=["tall", "wide", "grey", "jpeg", "cut off", "empty"],
)
def test_a_golden_view_of_another_kind_is_refused(data: bytes, got: str) -> None:
    with pytest.raises(BundleFormatError) as caught:
        decode_view(data, (8, 8, 3))
    require_message(caught, got, "an RGB PNG of 8x8")


def test_images_of_a_view_lie_below_each_other(tmp_path: Path) -> None:
    view = View(name="v", operations=(Crop(width=3, height=2, at="five"),))
    made = build(
        tmp_path / "a.eiqa",
        Recipe(members=(Ingredients(preprocess=Preprocess(views=(view,))),), photos={"p.png": encoded(pixels(6, 6))}),
    )
    from PIL import Image

    with Image.open(io.BytesIO(made.read("p.png.one.v.png"))) as image:
        assert image.size == (3, 10)


def test_the_limits_are_those_of_the_format() -> None:
    assert (bundle_module.MAX_MANIFEST_BYTES, bundle_module.MAX_PARTS) == (4 << 20, 4096)

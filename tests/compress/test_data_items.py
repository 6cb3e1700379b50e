from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.compress.data.crops import Crop, draw_crops
from edgeiqa.compress.data.distortions import KINDS, Distortion, distort
from edgeiqa.compress.data.items import (
    Item,
    Photograph,
    cut_item,
    cut_items,
    hash_files,
    list_photographs,
    read_photographs,
)
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.errors import DataError, PhotoError
from edgeiqa.runtime.preprocess import Crop as CropView
from edgeiqa.runtime.preprocess import DctDecode, Preprocess, Resize, View, single_view
from edgeiqa.runtime.views import cut_views
from numpy.typing import NDArray
from PIL import Image, ImageOps

FULL = single_view(48, 32)
DCT = single_view(48, 32, decode=DctDecode())
TWO_VIEWS = Preprocess(
    views=(
        View(name="whole", operations=(Resize(width=48, height=32),)),
        View(name="corners", operations=(CropView(width=40, height=40, at="five"),)),
    )
)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def item(path: Path, distortion: Distortion | None = None, crop: Crop | None = None) -> Item:
    return Item(path=path, sha256=sha256(path), distortion=distortion, crop=crop)


def same(one: dict[str, NDArray[np.uint8]], other: dict[str, NDArray[np.uint8]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def photograph(data_root: Path) -> Path:
    return min((data_root / "clive" / "images").glob("*.jpg"))


@pytest.fixture(scope="module")
def pixels(photograph: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(photograph).convert("RGB"))


@pytest.mark.parametrize("preprocess", [FULL, DCT, TWO_VIEWS, single_view(16, 16, decode=DctDecode(margin=2))])
def test_a_whole_photograph_goes_the_device_s_way(photograph: Path, preprocess: Preprocess) -> None:
    views = cut_item(item(photograph), preprocess)
    assert same(views, cut_views(open_photo(photograph, preprocess).image, preprocess))
    assert {name: array.shape for name, array in views.items()} == preprocess.shapes


def test_the_device_s_way_is_not_the_full_decode(photograph: Path) -> None:
    small = single_view(48, 32, decode=DctDecode())
    assert not same(cut_item(item(photograph), small), cut_item(item(photograph), FULL))


@pytest.mark.parametrize("preprocess", [FULL, DCT])
def test_a_crop_is_cut_from_the_full_decode(
    photograph: Path, pixels: NDArray[np.uint8], preprocess: Preprocess
) -> None:
    views = cut_item(item(photograph, crop=Crop(x=31, y=17, width=200, height=130)), preprocess)
    part = Image.fromarray(pixels[17:147, 31:231])
    assert same(views, cut_views(part, preprocess))


def test_a_flip_is_the_mirror_image_of_the_crop(photograph: Path, pixels: NDArray[np.uint8]) -> None:
    height, width = pixels.shape[:2]
    native = Preprocess(views=(View(name="image", operations=(CropView(width=90, height=80, small="refuse"),)),))
    crop = Crop(x=5, y=6, width=90, height=80)
    plain = cut_item(item(photograph, crop=crop), native)["image"]
    flipped = cut_item(item(photograph, crop=Crop(x=5, y=6, width=90, height=80, flip=True)), native)["image"]
    assert np.array_equal(plain, pixels[6:86, 5:95])
    assert np.array_equal(flipped, plain[:, ::-1])
    whole = cut_item(item(photograph, crop=Crop(x=0, y=0, width=width, height=height, flip=True)), TWO_VIEWS)
    assert same(whole, cut_views(Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])), TWO_VIEWS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_distortion_comes_before_the_crop(photograph: Path, pixels: NDArray[np.uint8], kind: str) -> None:
    distortion = Distortion(kind=kind, severity=0.6, seed=2)  # type: ignore[arg-type]
    crop = Crop(x=40, y=30, width=120, height=100, flip=True)
    whole = distort(Image.fromarray(pixels), distortion)
    assert same(cut_item(item(photograph, distortion), DCT), cut_views(whole, DCT))
    part = ImageOps.mirror(whole.crop((40, 30, 160, 130)))
    assert same(cut_item(item(photograph, distortion, crop), DCT), cut_views(part, DCT))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("exif", ["apply", "ignore"])
def test_crops_of_an_oriented_jpeg_are_those_of_the_upright_photograph(
    photograph: Path, tmp_path: Path, orientation: int, exif: str
) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    with Image.open(photograph) as image:
        image.resize((96, 64)).save(tmp_path / "stored.jpg", quality=90, exif=tag)
    with Image.open(tmp_path / "stored.jpg") as stored:
        upright = ImageOps.exif_transpose(stored)
        upright.save(tmp_path / "upright.png")
    assert upright.size == ((64, 96) if orientation >= 5 else (96, 64))
    preprocess = Preprocess(views=FULL.views, exif=exif)  # type: ignore[arg-type]
    noise = Distortion(kind="noise", severity=0.3, seed=1)
    for crop in draw_crops(*upright.size, 4, seed=0, key=sha256(photograph))[1:]:
        for distortion in (None, noise):
            views = [cut_item(item(tmp_path / name, distortion, crop), FULL) for name in ("stored.jpg", "upright.png")]
            assert same(*views)
            assert same(views[0], cut_item(item(tmp_path / "stored.jpg", distortion, crop), preprocess))


def test_a_crop_that_does_not_lie_in_the_photograph(photograph: Path, pixels: NDArray[np.uint8]) -> None:
    height, width = pixels.shape[:2]
    cut_item(item(photograph, crop=Crop(x=width - 9, y=height - 7, width=9, height=7)), FULL)
    for crop in (
        Crop(x=width - 9, y=0, width=10, height=7),
        Crop(x=0, y=height - 7, width=9, height=8),
        Crop(x=10**9, y=0, width=1, height=1),
    ):
        with pytest.raises(DataError, match=f"{photograph.name}, a photograph of {width}x{height}"):
            cut_item(item(photograph, crop=crop), DCT)


def test_items_in_a_row_are_those_one_by_one_and_share_a_decode(
    photograph: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sorted((data_root / "clive" / "images").glob("*.jpg"))[1]
    blur, noise = (Distortion(kind=kind, severity=0.5) for kind in ("blur", "noise"))
    crop = Crop(x=1, y=2, width=100, height=90)
    row = [
        *(item(photograph, distortion, part) for distortion in (None, blur, noise) for part in (None, crop)),
        item(photograph, blur),
        item(other, blur),
        item(other),
        item(photograph),
    ]
    one_by_one = [cut_item(each, DCT) for each in row]
    opened: list[tuple[str, str]] = []

    def counted(path: Path, preprocess: Preprocess) -> object:
        opened.append((path.name, type(preprocess.decode).__name__))
        return open_photo(path, preprocess)

    monkeypatch.setattr("edgeiqa.compress.data.items.open_photo", counted)
    together = list(cut_items(row, DCT))
    assert len(together) == len(row)
    assert all(same(*pair) for pair in zip(together, one_by_one, strict=True))
    first, second = photograph.name, other.name
    assert opened == [
        (first, "DctDecode"),
        (first, "FullDecode"),
        (second, "FullDecode"),
        (second, "DctDecode"),
        (first, "DctDecode"),
    ]
    opened.clear()
    list(cut_items(row[:7], FULL))
    assert opened == [(first, "FullDecode")]


def test_the_key_is_the_hash_of_canonical_json(photograph: Path) -> None:
    content = sha256(photograph)
    plain = f'{{"crop":null,"distortion":null,"sha256":"{content}"}}'
    assert item(photograph).key == hashlib.sha256(plain.encode()).hexdigest()
    full = item(photograph, Distortion(kind="jpeg", severity=1, seed=3), Crop(x=1, y=2, width=3, height=4))
    text = json.dumps(
        {
            "crop": {"flip": False, "height": 4, "width": 3, "x": 1, "y": 2},
            "distortion": {"kind": "jpeg", "seed": 3, "severity": 1.0},
            "sha256": content,
        },
        separators=(",", ":"),
    )
    assert full.key == hashlib.sha256(text.encode()).hexdigest()


def test_keys_differ_by_what_is_seen_and_not_by_where_it_lies(photograph: Path) -> None:
    blur, crop = Distortion(kind="blur", severity=0.5), Crop(x=0, y=0, width=9, height=9)
    items = [
        item(photograph),
        item(photograph, blur),
        item(photograph, Distortion(kind="blur", severity=0.51)),
        item(photograph, Distortion(kind="blur", severity=0.5, seed=1)),
        item(photograph, crop=crop),
        item(photograph, crop=Crop(x=0, y=0, width=9, height=9, flip=True)),
        item(photograph, blur, crop),
        replace(item(photograph), sha256="0" * 64),
    ]
    assert len({each.key for each in items}) == len(items)
    assert replace(items[6], path=Path("elsewhere.jpg")).key == items[6].key


@pytest.mark.parametrize("wrong", ["", "0" * 63, "G" * 64, "A" * 64])
def test_an_item_needs_a_sha256(wrong: str) -> None:
    with pytest.raises(DataError, match="64 lower-case hexadecimal digits"):
        Item(path=Path("a.jpg"), sha256=wrong)


def test_a_folder_is_walked_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deep/er/c.webp", "notes.txt", "d.jpg.partial"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in list_photographs(tmp_path)] == [
        "a.png",
        "b.JPG",
        "deep/er/c.webp",
    ]
    with pytest.raises(DataError, match="a folder without images"):
        list_photographs(tmp_path / "folder.png")
    with pytest.raises(DataError, match="no folder"):
        list_photographs(tmp_path / "none")


def test_readable_photographs_are_measured_and_others_told(photograph: Path, tmp_path: Path) -> None:
    data = photograph.read_bytes()
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "oriented.jpg", exif=tag)
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    paths = [
        tmp_path / "cut.jpg",
        photograph,
        tmp_path / "text.png",
        tmp_path / "none.jpg",
        tmp_path / "oriented.jpg",
        tmp_path / "empty.jpg",
    ]
    done: list[tuple[int, int]] = []
    readable, unreadable = read_photographs(paths, threads=2, on_photograph=lambda n, of: done.append((n, of)))
    with Image.open(photograph) as image:
        width, height = image.size
    assert readable == (
        Photograph(path=photograph, sha256=sha256(photograph), width=width, height=height),
        Photograph(path=paths[4], sha256=sha256(paths[4]), width=20, height=30),
    )
    assert [path for path, _ in unreadable] == [paths[0], paths[2], paths[3], paths[5]]
    for (_, reason), told in zip(unreadable, ["cut off", "no decoder", "no file", "0 bytes"], strict=True):
        assert told in reason
    assert done == [(n, 6) for n in range(1, 7)]


def test_files_are_hashed_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}" for index in range(50)]
    for index, path in enumerate(paths):
        path.write_bytes(bytes([index]) * index * 1000)
    assert hash_files(paths, threads=4) == tuple(sha256(path) for path in paths)
    with pytest.raises(DataError, match=r"none cannot be read \(No such file"):
        hash_files([paths[0], tmp_path / "none"])


def test_a_photograph_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(PhotoError, match=r"a\.jpg"):
        cut_item(item(tmp_path / "a.jpg"), FULL)

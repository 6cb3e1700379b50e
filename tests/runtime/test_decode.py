from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.decode import Photo, open_photo
from edgeiqa.runtime.errors import PhotoError
from edgeiqa.runtime.preprocess import Preprocess
from PIL import Image

from .bundles import encoded, pixels
from .messages import require_message
from .photographs import (
    ORIENTATIONS,
    P3_PROFILE,
    PLAIN,
    VIEWS,
    blocks,
    dct,
    decoded,
    oriented,
    paletted,
    saved,
    stored_as,
)

# --- orientation ------------------------------------------------------------------------------------------------------


def test_all_eight_orientations_of_a_jpeg_give_the_same_upright_pixels() -> None:
    upright = blocks(48, 32)
    results = []
    for orientation in ORIENTATIONS:
        data = encoded(stored_as(upright, orientation), "JPEG", quality=100, subsampling=0, exif=oriented(orientation))
        photo = open_photo(data, PLAIN)
        assert (photo.width, photo.height) == photo.image.size == (48, 32)
        results.append(np.asarray(photo.image))
    assert np.abs(results[0].astype(int) - upright).max() <= 2
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_other_files_are_turned_upright_too(kind: str, orientation: int) -> None:
    upright = pixels(9, 6)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encoded(stored_as(upright, orientation), kind, exif=oriented(orientation), **options)
    photo = open_photo(data, PLAIN)
    assert (photo.width, photo.height) == (9, 6)
    assert np.array_equal(np.asarray(photo.image), upright)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_orientation_that_is_ignored_leaves_the_stored_pixels(kind: str, orientation: int) -> None:
    stored = stored_as(pixels(9, 6), orientation)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encoded(stored, kind, exif=oriented(orientation), **options)
    photo = open_photo(data, Preprocess(views=VIEWS, exif="ignore"))
    assert (photo.height, photo.width) == stored.shape[:2]
    assert np.array_equal(np.asarray(photo.image), stored)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_pillow_image_that_carries_an_orientation_is_turned_upright(orientation: int) -> None:
    upright = pixels(9, 6)
    data = encoded(stored_as(upright, orientation), "PNG", exif=oriented(orientation))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(decoded(image), upright)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_upright(orientation: int) -> None:
    picture = pixels(9, 6)
    assert np.array_equal(decoded(encoded(picture, "PNG", exif=oriented(orientation))), picture)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0garbage that is no TIFF", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*"]
)
def test_a_broken_exif_block_says_nothing_about_the_pixels(block: bytes) -> None:
    picture = blocks(16, 8)
    with_block = decoded(encoded(picture, "JPEG", quality=100, exif=block))
    assert np.array_equal(with_block, decoded(encoded(picture, "JPEG", quality=100)))


# --- DCT scaled decode ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin", "denominator"),
    [(1.0, 8), (1.01, 4), (1.5, 4), (2.0, 4), (2.01, 2), (4.0, 2), (4.01, 1), (8.0, 1), (16.0, 1)],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_keeps_the_margin(margin: float, denominator: int) -> None:
    data = encoded(pixels(800, 600), "JPEG")
    photo = open_photo(data, dct(100, 75, margin))
    assert (photo.width, photo.height) == (800, 600)
    assert photo.image.size == (800 // denominator, 600 // denominator)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_scale_is_of_the_photograph_as_a_person_sees_it(orientation: int) -> None:
    # 800x160 as seen; a stretch to 200x20 needs a quarter across, an eighth down.
    data = encoded(stored_as(blocks(800, 160), orientation), "JPEG", exif=oriented(orientation))
    photo = open_photo(data, dct(200, 20))
    assert (photo.width, photo.height) == (800, 160)
    assert photo.image.size == (200, 40)
    ignored = open_photo(data, dct(200, 20, exif="ignore"))
    if orientation >= 5:
        assert (ignored.width, ignored.height) == (160, 800)
        assert ignored.image.size == (160, 800)
    else:
        assert ignored.image.size == (200, 40)


def test_a_swapped_view_sets_the_scale_after_the_turn() -> None:
    data = encoded(pixels(600, 800), "JPEG")
    assert open_photo(data, dct(200, 150, orient="swap")).image.size == (150, 200)
    # Stretched without a turn, 200 of 600 across need a half.
    assert open_photo(data, dct(200, 150)).image.size == (300, 400)


@pytest.mark.parametrize("fit", ["stretch", "cover", "letterbox"])
def test_the_scale_of_each_fit(fit: Any) -> None:
    photo = open_photo(encoded(pixels(800, 600), "JPEG"), dct(100, 100, fit=fit))
    assert photo.image.size == ((100, 75) if fit == "letterbox" else (200, 150))


@pytest.mark.parametrize(("size", "scaled"), [((801, 601), (101, 76)), ((807, 607), (101, 76)), ((9, 9), (2, 2))])
def test_odd_sizes_are_rounded_up(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    photo = open_photo(encoded(pixels(*size), "JPEG"), dct(1, 1))
    assert (photo.width, photo.height) == size
    assert photo.image.size == scaled


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (7, 5), (8, 1), (1, 4000)])
def test_tiny_photographs_are_decoded_whatever_their_scale(size: tuple[int, int]) -> None:
    photo = open_photo(encoded(pixels(*size), "JPEG"), dct(1, 1))
    assert (photo.width, photo.height) == size
    assert all(side >= 1 for side in photo.image.size)


def test_a_scaled_decode_is_the_photograph_reduced() -> None:
    smooth = np.asarray(Image.fromarray(pixels(20, 15)).resize((400, 304), Image.Resampling.BICUBIC))
    data = encoded(smooth, "JPEG", quality=95, subsampling=0)
    small = open_photo(data, dct(50, 38)).image
    assert small.size == (50, 38)
    reduced = Image.fromarray(smooth).resize((50, 38), Image.Resampling.BOX)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(reduced)).mean() < 2


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_other_jpegs_are_scaled_too(mode: str, progressive: bool) -> None:
    image = Image.fromarray(pixels(80, 64)).convert(mode)
    photo = open_photo(saved(image, "JPEG", progressive=progressive), dct(20, 16))
    assert (photo.image.size, photo.image.mode) == ((20, 16), "RGB")


def test_a_jpeg_of_several_pictures_is_scaled() -> None:
    data = encoded(pixels(80, 64), "MPO", save_all=True, append_images=[Image.fromarray(pixels(80, 64, seed=1))])
    photo = open_photo(data, dct(20, 16))
    assert ((photo.width, photo.height), photo.image.size) == ((80, 64), (20, 16))


@pytest.mark.parametrize("source", ["PNG", "image", "array"])
def test_what_is_no_jpeg_file_is_decoded_in_full(source: str) -> None:
    picture = pixels(80, 64)
    sources = {"PNG": encoded(picture), "image": Image.fromarray(picture), "array": picture}
    assert np.array_equal(decoded(sources[source], dct(8, 8)), picture)


def test_a_jpeg_that_pillow_has_opened_is_decoded_in_full() -> None:
    with Image.open(io.BytesIO(encoded(pixels(80, 64), "JPEG"))) as image:
        assert open_photo(image, dct(8, 8)).image.size == (80, 64)


# --- sources ----------------------------------------------------------------------------------------------------------


def same(one: Photo, other: Photo) -> bool:
    sizes = (one.width, one.height) == (other.width, other.height)
    return sizes and np.array_equal(np.asarray(one.image), np.asarray(other.image))


def test_every_source_gives_the_same_photograph(tmp_path: Path) -> None:
    picture = pixels(40, 30)
    data = encoded(picture)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    from_path = open_photo(path, PLAIN)
    assert np.array_equal(np.asarray(from_path.image), picture)
    assert from_path.size_bytes == len(data)
    with Image.open(path) as image:
        for source in (str(path), data, bytearray(data), memoryview(data), image, picture, picture[:, ::-1][:, ::-1]):
            assert same(open_photo(source, PLAIN), from_path)


def test_the_callers_image_is_not_changed() -> None:
    images = [
        Image.fromarray(pixels(9, 6)),
        Image.fromarray(np.dstack([pixels(9, 6), pixels(9, 6)[..., :1]])),
        paletted(),
        Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)),
    ]
    images[0].info["icc_profile"] = P3_PROFILE
    images[0].getexif()[0x0112] = 6
    images[2].info["transparency"] = 1
    for image in images:
        before = (image.mode, image.size, image.tobytes(), dict(image.info), dict(image.getexif()))
        photo = open_photo(image, PLAIN)
        assert photo.image.mode == "RGB"
        assert (image.mode, image.size, image.tobytes(), dict(image.info), dict(image.getexif())) == before


def test_the_callers_array_is_not_changed() -> None:
    picture = pixels(9, 6)
    open_photo(picture, PLAIN)
    assert np.array_equal(picture, pixels(9, 6))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((4, 4, 3), dtype=np.uint16),
        np.zeros((4, 4, 3), dtype=np.int8),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((3, 4, 4), dtype=np.uint8),
        np.zeros((1, 4, 4, 3), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
        np.zeros((4, 0, 3), dtype=np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_of_another_kind_is_refused(array: Any) -> None:
    with pytest.raises(PhotoError) as caught:
        open_photo(array, PLAIN)
    require_message(caught, f"{array.dtype} {array.shape}", "uint8 RGB of shape (H, W, 3)", "channels last")

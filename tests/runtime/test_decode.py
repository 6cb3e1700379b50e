from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from edgeiqa.runtime.decode import MAX_PIXELS, Photo, open_photo
from edgeiqa.runtime.errors import PhotoError
from edgeiqa.runtime.preprocess import DctDecode, Preprocess, Resize, View
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

from .bundles import encoded, pixels
from .icc import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    gamma_curve,
    in_srgb,
    matrix_profile,
    srgb_curve,
    srgb_to_linear,
)
from .messages import require_message

UInt8 = NDArray[np.uint8]
VIEWS = (View(name="image", operations=(Resize(width=8, height=8),)),)
PLAIN = Preprocess(views=VIEWS)
ORIENTATIONS = range(1, 9)
# How far two 8-bit roundings, one after the other, may be from one.
ROUNDING = 1


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(source: Any, preprocess: Preprocess = PLAIN) -> UInt8:
    photo = open_photo(source, preprocess)
    assert photo.image.mode == "RGB"
    return np.asarray(photo.image)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def stored_as(upright: UInt8, orientation: int) -> UInt8:
    """How a camera stores an upright picture: TIFF 6.0 says where its first row and column lie."""
    height, width = upright.shape[:2]
    i, j = np.mgrid[0:width, 0:height] if orientation >= 5 else np.mgrid[0:height, 0:width]
    places = {
        1: (i, j),  # the first row is the top, the first column the left side
        2: (i, width - 1 - j),  # top, right
        3: (height - 1 - i, width - 1 - j),  # bottom, right
        4: (height - 1 - i, j),  # bottom, left
        5: (j, i),  # left, top
        6: (j, width - 1 - i),  # right, top
        7: (height - 1 - j, width - 1 - i),  # right, bottom
        8: (height - 1 - j, i),  # left, bottom
    }
    stored: UInt8 = upright[places[orientation]]
    return stored


def blocks(width: int, height: int) -> UInt8:
    """A picture of 8x8 blocks of one colour each, which JPEG keeps nearly as it is, however it is turned."""
    return np.kron(pixels(width // 8, height // 8, seed=3), np.ones((8, 8, 1), dtype=np.uint8))


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


# --- kinds of pixels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_each_lossless_kind_of_file_is_read_as_it_is(kind: str) -> None:
    picture = pixels(33, 20)
    data = encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {}))
    photo = open_photo(data, PLAIN)
    assert np.array_equal(np.asarray(photo.image), picture)
    assert (photo.width, photo.height, photo.size_bytes) == (33, 20, len(data))


def test_the_lossy_kinds_are_read_too() -> None:
    picture = blocks(64, 48)
    for kind in ("JPEG", "AVIF") if features.check("avif") else ("JPEG",):
        result = decoded(encoded(picture, kind, quality=100, subsampling="4:4:4"))
        assert np.abs(result.astype(int) - picture).mean() < 2


def test_of_several_pictures_in_a_file_the_first_is_taken() -> None:
    first, second = blocks(32, 16), 255 - blocks(32, 16)
    kinds: dict[str, dict[str, Any]] = {
        "MPO": {"quality": 100, "subsampling": 0},
        "TIFF": {},
        "PNG": {},
        "WEBP": {"lossless": True},
    }
    for kind, options in kinds.items():
        data = encoded(first, kind, save_all=True, append_images=[Image.fromarray(second)], **options)
        assert np.abs(decoded(data).astype(int) - first).max() <= (2 if kind == "MPO" else 0)


def test_of_an_animated_gif_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decoded(data) == (250, 0, 0)).all()


def grey(values: Any) -> UInt8:
    """A grey picture as RGB."""
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=-1)


def test_grey_becomes_three_equal_channels() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decoded(encoded(levels)), grey(levels))
    photo = decoded(encoded(np.full((16, 16), 77, np.uint8), "JPEG"))
    assert (photo == 77).all()


def test_bilevel_becomes_black_and_white() -> None:
    bits = np.indices((8, 8)).sum(axis=0) % 2 == 1
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert np.array_equal(decoded(saved(Image.fromarray(bits), kind)), grey(np.where(bits, 255, 0)))


def paletted() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


def test_a_palette_is_looked_up() -> None:
    expected = [[[10, 20, 30], [200, 100, 50], [0, 0, 255]]]
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        assert decoded(saved(paletted(), kind)).tolist() == expected
    assert decoded(paletted()).tolist() == expected


def test_transparent_entries_of_a_palette_are_laid_on_the_ground() -> None:
    data = saved(paletted(), "PNG", transparency=1)
    assert decoded(data).tolist() == [[[10, 20, 30], [255, 255, 255], [0, 0, 255]]]
    black = Preprocess(views=VIEWS, alpha="black")
    assert decoded(data, black).tolist() == [[[10, 20, 30], [0, 0, 0], [0, 0, 255]]]
    drop = Preprocess(views=VIEWS, alpha="drop")
    assert decoded(data, drop).tolist() == [[[10, 20, 30], [200, 100, 50], [0, 0, 255]]]


def test_half_transparent_entries_of_a_palette() -> None:
    data = saved(paletted(), "PNG", transparency=bytes([255, 51, 0]))
    assert decoded(data).tolist() == [[[10, 20, 30], [244, 224, 214], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_one_transparent_colour_of_a_png(mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((1, 0), 1 if mode == "1" else (255 if mode == "L" else (9, 9, 9)))
    key: Any = (0, 0, 0) if mode == "RGB" else 0
    last = {"1": 255, "L": 255, "RGB": 9}[mode]
    assert decoded(saved(image, "PNG", transparency=key)).tolist() == [[[255, 255, 255], [last] * 3]]


ALPHA_MODES: list[tuple[Literal["white", "black", "drop"], float]] = [("white", 255.0), ("black", 0.0)]


@pytest.mark.parametrize(("ground", "level"), ALPHA_MODES)
def test_alpha_is_laid_on_its_ground(ground: Literal["white", "black"], level: float) -> None:
    colours = pixels(16, 16, seed=1)
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    share = alpha[..., None] / 255
    expected = colours * share + level * (1 - share)
    record = Preprocess(views=VIEWS, alpha=ground)
    for kind in ("PNG", "TIFF"):
        result = decoded(encoded(np.dstack([colours, alpha]), kind), record)
        assert np.abs(result - expected).max() <= ROUNDING


@pytest.mark.parametrize(("ground", "level"), ALPHA_MODES)
def test_grey_with_alpha_is_laid_on_its_ground(ground: Literal["white", "black"], level: float) -> None:
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = alpha.T.copy()
    image = Image.merge("LA", [Image.fromarray(values), Image.fromarray(alpha)])
    expected = values * (alpha / 255) + level * (1 - alpha / 255)
    result = decoded(saved(image, "PNG"), Preprocess(views=VIEWS, alpha=ground))
    assert np.abs(result - expected[..., None]).max() <= ROUNDING


def test_alpha_that_is_dropped_leaves_the_colours() -> None:
    colours = pixels(16, 16, seed=1)
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    record = Preprocess(views=VIEWS, alpha="drop")
    assert np.array_equal(decoded(encoded(np.dstack([colours, alpha])), record), colours)
    image = Image.merge("LA", [Image.fromarray(alpha), Image.fromarray(alpha)])
    assert np.array_equal(decoded(saved(image, "PNG"), record), grey(alpha))


@pytest.mark.parametrize("ground", ["white", "black", "drop"])
def test_an_opaque_alpha_changes_nothing(ground: Any) -> None:
    colours = pixels(16, 16)
    opaque = np.dstack([colours, np.full((16, 16), 255, np.uint8)])
    assert np.array_equal(decoded(encoded(opaque), Preprocess(views=VIEWS, alpha=ground)), colours)


def test_cmyk_becomes_rgb() -> None:
    inks = np.zeros((1, 5, 4), dtype=np.uint8)
    inks[0, 1:] = [[255, 0, 0, 0], [0, 0, 0, 255], [0, 128, 255, 0], [64, 64, 64, 128]]
    c, m, y, k = np.moveaxis(inks.astype(float), -1, 0)
    expected = np.stack([(255 - ink) * (255 - k) / 255 for ink in (c, m, y)], axis=-1)
    image = Image.frombytes("CMYK", (5, 1), inks.tobytes())
    for source in (image, saved(image, "TIFF")):
        assert np.abs(decoded(source) - expected).max() <= ROUNDING
    large = image.resize((40, 8), Image.Resampling.NEAREST)
    result = decoded(saved(large, "JPEG", quality=100, subsampling=0))[4, 4::8]
    assert np.abs(result - expected[0]).max() <= 3


def test_ycbcr_becomes_rgb() -> None:
    picture = pixels(16, 8)
    image = Image.fromarray(picture).convert("YCbCr")
    for source in (image, saved(image, "TIFF", compression="tiff_lzw")):
        assert np.abs(decoded(source).astype(int) - picture).max() <= 3


def test_lab_becomes_rgb() -> None:
    image = Image.merge("LAB", [Image.new("L", (2, 2), 128)] * 3)
    # In the middle of all three: grey of L* = 50, which is 119 in sRGB.
    assert np.abs(decoded(saved(image, "TIFF")).astype(int) - 119).max() <= 2


def test_16_bit_grey_is_divided_by_257_and_rounded() -> None:
    levels = np.array([[0, 128, 129, 257, 385, 386, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    expected = grey([[0, 0, 1, 1, 1, 2, 128, 254, 255, 255]])
    for source in (encoded_16(levels, "PNG"), encoded_16(levels, "TIFF"), Image.fromarray(levels)):
        assert np.array_equal(decoded(source), expected)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    result = decoded(encoded_16(every, "PNG"))[..., 0]
    assert np.abs(result - every / 257).max() <= 0.5


def encoded_16(levels: NDArray[np.uint16], kind: str) -> bytes:
    return saved(Image.fromarray(levels), kind)


def test_integer_pixels_of_16_bits_are_taken_and_wider_ones_refused() -> None:
    levels = np.array([[0, 257, 65535]], dtype=np.int32)
    image = Image.fromarray(levels)
    assert image.mode == "I"
    for source in (image, saved(image, "TIFF")):
        assert np.array_equal(decoded(source), grey([[0, 1, 255]]))
    for wide in (65536, -1):
        data = saved(Image.fromarray(np.array([[0, wide]], dtype=np.int32)), "TIFF")
        with pytest.raises(PhotoError) as caught:
            open_photo(data, PLAIN)
        require_message(caught, str(wide), "16-bit", "8 bits a channel")


def test_of_16_bit_colour_the_high_byte_is_taken() -> None:
    colours = np.array([[[0x0102, 0x80FF, 0xFFFF], [0x00FF, 0x7F00, 0x1234]]], dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    data = png(2, 1, zlib.compress(rows), bits=16)
    assert decoded(data).tolist() == [[[0x01, 0x80, 0xFF], [0x00, 0x7F, 0x12]]]


def test_float_pixels_are_refused() -> None:
    image = Image.fromarray(np.array([[0.5, 1.0]], dtype=np.float32))
    for source in (image, saved(image, "TIFF")):
        with pytest.raises(PhotoError) as caught:
            open_photo(source, PLAIN)
        require_message(caught, "float", "8- or 16-bit", "8 bits a channel")


@pytest.mark.parametrize(
    "mode",
    [
        "1",
        "L",
        "LA",
        "La",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "I;16",
        "I;16B",
    ],
)
def test_every_kind_of_pillow_image_becomes_rgb(mode: str) -> None:
    photo = open_photo(Image.new(mode, (5, 3)), PLAIN)
    assert (photo.image.mode, photo.image.size, photo.width, photo.height) == ("RGB", (5, 3), 5, 3)
    assert photo.size_bytes is None


# --- colour -----------------------------------------------------------------------------------------------------------

COLOURS = np.array([[[128, 128, 128], [200, 120, 90], [90, 160, 110], [60, 80, 170], [250, 240, 230], [20, 25, 30]]])
P3_PROFILE = matrix_profile("Display P3", DISPLAY_P3, srgb_curve())
ADOBE_PROFILE = matrix_profile("Adobe RGB (1998)", ADOBE_RGB, gamma_curve(ADOBE_GAMMA))


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (P3_PROFILE, in_srgb(srgb_to_linear(COLOURS / 255), DISPLAY_P3)),
        (ADOBE_PROFILE, in_srgb((COLOURS / 255) ** ADOBE_GAMMA, ADOBE_RGB)),
    ],
    ids=["Display P3", "Adobe RGB"],
)
def test_an_embedded_profile_is_converted_to_srgb(profile: bytes, expected: NDArray[np.float64]) -> None:
    picture = COLOURS.astype(np.uint8)
    # The colours are saturated enough to tell.
    assert np.abs(expected - COLOURS).max() > 8
    for kind in ("PNG", "TIFF", "WEBP"):
        data = encoded(picture, kind, icc_profile=profile, **({"lossless": True} if kind == "WEBP" else {}))
        assert np.abs(decoded(data) - expected).max() <= 2
        assert np.array_equal(decoded(data, Preprocess(views=VIEWS, colour="raw")), picture)


def test_a_pillow_image_with_a_profile_is_converted_too() -> None:
    image = Image.fromarray(COLOURS.astype(np.uint8))
    image.info["icc_profile"] = P3_PROFILE
    assert np.abs(decoded(image) - in_srgb(srgb_to_linear(COLOURS / 255), DISPLAY_P3)).max() <= 2


def test_colours_under_alpha_are_converted_before_they_are_laid_on_the_ground() -> None:
    picture = np.dstack([COLOURS, np.full(COLOURS.shape[:2], 128)]).astype(np.uint8)
    colours = in_srgb(srgb_to_linear(COLOURS / 255), DISPLAY_P3)
    expected = colours * (128 / 255) + 255 * (127 / 255)
    assert np.abs(decoded(encoded(picture, icc_profile=P3_PROFILE)) - expected).max() <= 2


def test_an_srgb_profile_leaves_the_pixels_untouched() -> None:
    picture = pixels(64, 64)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decoded(encoded(picture, icc_profile=profile)), picture)


def test_a_profile_that_calls_itself_srgb_is_taken_at_its_word() -> None:
    # Many such profiles round their curve or their primaries; conversion would only add that error.
    picture = pixels(64, 64)
    profile = matrix_profile("sRGB IEC61966-2.1", SRGB, gamma_curve(2.2))
    assert np.array_equal(decoded(encoded(picture, icc_profile=profile)), picture)
    unnamed = matrix_profile("a monitor", SRGB, gamma_curve(2.2))
    assert not np.array_equal(decoded(encoded(picture, icc_profile=unnamed)), picture)


def test_an_unnamed_profile_of_srgb_changes_no_pixel_by_more_than_rounding() -> None:
    picture = pixels(64, 64)
    profile = matrix_profile("a monitor", SRGB, srgb_curve())
    assert np.abs(decoded(encoded(picture, icc_profile=profile)).astype(int) - picture).max() <= 1


@pytest.mark.parametrize("broken", [b"no profile", P3_PROFILE[:200], P3_PROFILE[:128] + bytes(400), b"\xff" * 4000])
def test_a_broken_profile_is_passed_over(broken: bytes) -> None:
    picture = pixels(16, 8)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decoded(encoded(picture, kind, icc_profile=broken)), picture)


def test_a_profile_of_another_kind_of_colour_is_passed_over() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for image in (Image.fromarray(levels), Image.merge("LA", [Image.fromarray(levels), Image.new("L", (16, 16), 255)])):
        # A profile of RGB on grey pixels.
        assert np.abs(decoded(saved(image, "PNG", icc_profile=P3_PROFILE)).astype(int) - grey(levels)).max() <= 1


# --- DCT scaled decode ------------------------------------------------------------------------------------------------


def dct(width: int, height: int, margin: float = 1.0, **fields: Any) -> Preprocess:
    exif = fields.pop("exif", "apply")
    view = View(name="image", operations=(Resize(width=width, height=height, **fields),))
    return Preprocess(views=(view,), decode=DctDecode(margin=margin), exif=exif)


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


# --- what cannot be read ----------------------------------------------------------------------------------------------


def png(width: int, height: int, content: bytes, bits: int = 8) -> bytes:
    """A PNG of RGB, chunk by chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_file_that_is_cut_off_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = encoded(noise, kind)
    data = data[: int(len(data) * share)]
    path = tmp_path / "cut.img"
    path.write_bytes(data)
    for source, name in ((data, "bytes"), (path, "cut.img")):
        with pytest.raises(PhotoError) as caught:
            open_photo(source, PLAIN)
        require_message(caught, name)


def test_a_scaled_decode_of_a_jpeg_that_is_cut_off_is_refused() -> None:
    data = encoded(pixels(160, 120), "JPEG")
    with pytest.raises(PhotoError) as caught:
        open_photo(data[: len(data) // 2], dct(8, 8))
    require_message(caught, "cut off", "a whole image file", "copy the file again")


def test_a_pillow_image_of_a_cut_off_or_closed_file_is_refused() -> None:
    data = encoded(pixels(80, 60))
    with Image.open(io.BytesIO(data[: len(data) // 2])) as image, pytest.raises(PhotoError) as caught:
        open_photo(image, PLAIN)
    require_message(caught, "a Pillow image of mode RGB")
    closed = Image.open(io.BytesIO(data))
    closed.close()
    with pytest.raises(PhotoError) as caught:
        open_photo(closed, PLAIN)
    require_message(caught, "a Pillow image of mode RGB")


def test_files_that_are_no_photographs(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("a photograph of a cat")
    (tmp_path / "folder.jpg").mkdir()
    for name, got, mend in [
        ("empty.jpg", "0 bytes", "copy the file again"),
        ("text.jpg", "no decoder recognises", "convert it to JPEG or PNG"),
        ("folder.jpg", "a folder", "name a file in it"),
        ("missing.jpg", "no file", "correct the path"),
        ("text.jpg/inside.jpg", "text.jpg", "correct the path"),
        ("a" * 5000, "aaa", "correct the path"),
        ("nul\0.jpg", "nul", "correct the path"),
    ]:
        with pytest.raises(PhotoError) as caught:
            open_photo(tmp_path / name, PLAIN)
        require_message(caught, got, "", mend)
    with pytest.raises(PhotoError) as caught:
        open_photo(b"", PLAIN)
    require_message(caught, "0 bytes")


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "EPS"])
def test_only_decoders_of_photographs_are_tried(kind: str) -> None:
    with pytest.raises(PhotoError) as caught:
        open_photo(encoded(pixels(16, 16), kind), PLAIN)
    require_message(caught, "no decoder recognises", "JPEG, PNG")


def test_a_header_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(60_000, 60_000, b"")
    with pytest.raises(PhotoError) as caught:
        open_photo(data, PLAIN)
    require_message(caught, "3600000000", f"at most {MAX_PIXELS} pixels", "reduce")
    # Also where the caller has switched Pillow's own limit off.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(PhotoError) as caught:
        open_photo(data, PLAIN)
    require_message(caught, "60000x60000", f"at most {MAX_PIXELS} pixels", "reduce")


def test_an_array_of_too_many_pixels_is_refused() -> None:
    # One pixel, seen many times.
    array = np.broadcast_to(np.zeros(3, dtype=np.uint8), (60_000, 60_000, 3))
    with pytest.raises(PhotoError) as caught:
        open_photo(array, PLAIN)
    require_message(caught, "60000x60000", f"at most {MAX_PIXELS} pixels", "reduce")


def test_a_pillow_image_without_pixels_is_refused() -> None:
    with pytest.raises(PhotoError) as caught:
        open_photo(Image.new("RGB", (0, 5)), PLAIN)
    require_message(caught, "0x5")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "JPEG2000"])
def test_bytes_changed_anywhere_never_raise_anything_else(kind: str) -> None:
    good = encoded(pixels(24, 16), kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(good)
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(0, 256)
        try:
            assert open_photo(bytes(data), PLAIN).image.mode == "RGB"
        except PhotoError:
            continue

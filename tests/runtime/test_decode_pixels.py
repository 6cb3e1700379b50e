from __future__ import annotations

import zlib
from typing import Any, Literal

import numpy as np
import pytest
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.errors import PhotoError
from edgeiqa.runtime.preprocess import Preprocess
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
from .photographs import (
    P3_PROFILE,
    PLAIN,
    ROUNDING,
    VIEWS,
    UInt8,
    blocks,
    decoded,
    paletted,
    png,
    saved,
)

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

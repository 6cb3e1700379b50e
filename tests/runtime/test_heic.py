"""HEIC photographs, whose decoder is an extra; and AVIF ones, which Pillow reads by itself."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.decode import Photo, open_photo
from edgeiqa.runtime.errors import PhotoError
from edgeiqa.runtime.preprocess import Preprocess
from PIL import Image, features

from .bundles import encoded, pixels
from .messages import require_message
from .photographs import (
    ORIENTATIONS,
    P3_PROFILE,
    PLAIN,
    VIEWS,
    UInt8,
    blocks,
    dct,
    decoded,
    oriented,
    saved,
    stored_as,
)

# The beginning of a HEIC file of the brand that follows.
BEGINNING = b"\0\0\0\x18ftyp"
# How far the best quality of these encoders, of colour differences at full size, may be from the pixels.
ENCODER = 4
HAS_DECODER = find_spec("pillow_heif") is not None
BRANDS = [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]


def heic(picture: UInt8, **options: Any) -> bytes:
    """A picture as a HEIC file; where there is no encoder, the beginning of one."""
    if not HAS_DECODER:
        return BEGINNING + b"heic" + bytes(100)
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return encoded(picture, "HEIF", quality=100, chroma=444, **options)


def require_decoder(source: bytes | Path, preprocess: Preprocess = PLAIN) -> None:
    """The file is refused for want of a decoder, and the message says how to get it."""
    with pytest.raises(PhotoError) as caught:
        open_photo(source, preprocess)
    name = "bytes" if isinstance(source, bytes) else str(source)
    require_message(caught, f"{name}, a HEIC file", "its decoder", 'pip install "edgeiqa[heic]"')


def opened(data: bytes, preprocess: Preprocess = PLAIN) -> Photo | None:
    """The photograph; where its decoder is not installed, nothing: then it must say what helps."""
    if HAS_DECODER:
        return open_photo(data, preprocess)
    require_decoder(data, preprocess)
    return None


def apart(photo: Photo, picture: UInt8) -> int:
    """The largest difference of a photograph to the pixels that it was made of."""
    assert photo.image.size == picture.shape[1::-1]
    return int(np.abs(np.asarray(photo.image).astype(int) - picture).max())


# --- HEIC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_heic_is_upright_whatever_its_orientation(orientation: int) -> None:
    upright = blocks(96, 64)
    data = heic(stored_as(upright, orientation), exif=oriented(orientation).tobytes())
    # Its own transforms turn it, which are no EXIF.
    for preprocess in (PLAIN, Preprocess(views=VIEWS, exif="ignore")):
        photo = opened(data, preprocess)
        if photo is not None:
            assert (photo.width, photo.height) == (96, 64)
            assert photo.size_bytes == len(data)
            assert apart(photo, upright) <= ENCODER


def test_a_heic_is_never_decoded_at_a_scale() -> None:
    picture = blocks(96, 64)
    photo = opened(heic(picture), dct(8, 8))
    if photo is not None:
        assert (photo.width, photo.height) == photo.image.size == (96, 64)
        assert apart(photo, picture) <= ENCODER


def test_the_first_picture_of_a_heic_is_taken() -> None:
    first, second = blocks(96, 64), 255 - blocks(64, 96)
    photo = opened(heic(first, save_all=True, append_images=[Image.fromarray(second)]))
    if photo is not None:
        assert apart(photo, first) <= ENCODER


def test_colours_and_alpha_of_a_heic_are_those_of_other_files() -> None:
    picture = blocks(96, 64)
    photo = opened(heic(picture, icc_profile=P3_PROFILE))
    if photo is not None:
        assert apart(photo, decoded(encoded(picture, icc_profile=P3_PROFILE))) <= 2 * ENCODER
        assert apart(photo, picture) > 4 * ENCODER
    see_through = np.dstack([picture, np.full((64, 96), 51, dtype=np.uint8)])
    photo = opened(heic(see_through))
    if photo is not None:
        # A fifth of the picture, on white.
        assert apart(photo, (picture / 5 + 255 * 4 / 5).round().astype(np.uint8)) <= ENCODER


def test_ten_bits_become_eight() -> None:
    picture = blocks(96, 64)
    data = BEGINNING + b"heix" + bytes(100)
    if HAS_DECODER:
        from pillow_heif import encode, open_heif

        file = io.BytesIO()
        deep = picture.astype(np.uint16) * 257
        encode("RGB;16", (96, 64), deep.tobytes(), file, quality=100, chroma=444, format="HEIF")
        data = file.getvalue()
        assert open_heif(file, convert_hdr_to_8bit=False).info["bit_depth"] == 10
    photo = opened(data)
    if photo is not None:
        assert apart(photo, picture) <= ENCODER


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_heic_that_is_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    data = heic(noise)
    data = data[: max(12, int(len(data) * share))]
    (tmp_path / "cut.heic").write_bytes(data)
    sources: list[bytes | Path] = [data, tmp_path / "cut.heic"]
    for source in sources:
        if not HAS_DECODER:
            require_decoder(source)
            continue
        with pytest.raises(PhotoError) as caught:
            open_photo(source, PLAIN)
        require_message(caught, "cut.heic" if isinstance(source, Path) else "bytes")


@pytest.mark.parametrize("brand", BRANDS)
def test_without_its_decoder_a_heic_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, brand: bytes
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = BEGINNING + brand + bytes(100)
    require_decoder(data)
    (tmp_path / "photo.jpg").write_bytes(data)
    require_decoder(tmp_path / "photo.jpg")


def test_what_only_looks_like_a_heic_is_told_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    # Of a film, of no brand, and of a brand in another place.
    for data in (BEGINNING + b"isom" + bytes(100), BEGINNING, b"ftypheic" + bytes(100), b"\0heic" + bytes(100)):
        with pytest.raises(PhotoError) as caught:
            open_photo(data, PLAIN)
        require_message(caught, "no decoder recognises", "JPEG, PNG")


def test_other_photographs_need_no_decoder_of_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    picture = pixels(16, 12)
    for kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(decoded(encoded(picture, kind)), picture)


# --- AVIF -------------------------------------------------------------------------------------------------------------


def avif(picture: UInt8, **options: Any) -> bytes:
    assert features.check("avif"), "a Pillow without AVIF: install the one that PyPI has"
    return saved(Image.fromarray(picture), "AVIF", quality=100, subsampling="4:4:4", **options)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_avif_is_decoded_by_pillow_and_upright(monkeypatch: pytest.MonkeyPatch, orientation: int) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    upright = blocks(96, 64)
    photo = open_photo(avif(stored_as(upright, orientation), exif=oriented(orientation)), dct(8, 8))
    assert (photo.width, photo.height) == (96, 64)
    assert apart(photo, upright) <= ENCODER


def test_an_avif_of_the_common_brand_needs_no_decoder_of_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow tells by what is inside which codec a file of MIAF's own brand needs, and reads this one.
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    picture = blocks(96, 64)
    data = avif(picture).replace(b"ftypavif", b"ftypmif1", 1)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "AVIF"
    assert apart(open_photo(data, PLAIN), picture) <= ENCODER


def test_an_avif_of_the_common_brand_is_read_beside_the_decoder_of_heic() -> None:
    if not HAS_DECODER:
        require_decoder(BEGINNING + b"mif1" + bytes(100))
        return
    picture = blocks(96, 64)
    assert apart(open_photo(avif(picture).replace(b"ftypavif", b"ftypmif1", 1), PLAIN), picture) <= ENCODER


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_an_avif_that_is_cut_off_is_refused(share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    data = avif(noise)
    with pytest.raises(PhotoError) as caught:
        open_photo(data[: int(len(data) * share)], PLAIN)
    require_message(caught, "bytes")

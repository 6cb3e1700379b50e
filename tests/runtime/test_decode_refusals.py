from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.runtime.decode import MAX_BYTES, MAX_PIXELS, open_photo
from edgeiqa.runtime.errors import PhotoError
from PIL import Image

from .bundles import encoded, pixels
from .messages import require_message
from .photographs import (
    PLAIN,
    dct,
    png,
)

# --- what cannot be read ----------------------------------------------------------------------------------------------


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


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(pixels(24, 16))
    path = tmp_path / "photo.png"
    # A photograph, and then a hole that takes no place on the disk.
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES)
    assert open_photo(path, PLAIN).image.size == (24, 16)
    opened: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: opened.append(arguments))
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(PhotoError) as caught:
        open_photo(path, PLAIN)
    require_message(caught, f"{path}, {MAX_BYTES + 1} bytes", f"at most {MAX_BYTES}", "reduce")
    monkeypatch.setattr("edgeiqa.runtime.decode.MAX_BYTES", len(data) - 1)
    with pytest.raises(PhotoError) as caught:
        open_photo(data, PLAIN)
    require_message(caught, f"bytes, {len(data)} bytes", f"at most {len(data) - 1}", "reduce")
    assert opened == []
    # The most pixels, uncompressed in 32 bits each, are not too many.
    assert MAX_BYTES > 4 * MAX_PIXELS + 10_000


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

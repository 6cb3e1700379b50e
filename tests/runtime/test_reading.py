"""Reading a photograph for several Preprocesses: as few decodes as may be, and the views that each would get alone."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.errors import PhotoError
from edgeiqa.runtime.preprocess import Crop, DctDecode, Operation, Patches, Preprocess, Resize, View, single_view
from edgeiqa.runtime.reading import PhotoViews, read_views
from edgeiqa.runtime.views import cut_views
from PIL import Image

from .bundles import TWO_VIEWS, VIEW_8X8, encoded, pixels
from .messages import require_message
from .photographs import P3_PROFILE, blocks, oriented


def seen(*operations: Operation, name: str = "image", **policies: Any) -> Preprocess:
    return Preprocess(views=(View(name=name, operations=operations),), **policies)


SMALL, LARGE = Resize(width=16, height=16), Resize(width=40, height=40)
HALVES, CENTRE = Patches(rows=1, columns=2), Crop(width=8, height=8)
SCALED = DctDecode(margin=1.0)
WHITE, BLACK, RAW, IGNORED = (
    seen(SMALL),
    seen(SMALL, alpha="black"),
    seen(SMALL, colour="raw"),
    seen(SMALL, exif="ignore"),
)
DCT, DCT_4 = seen(SMALL, decode=SCALED), seen(SMALL, decode=DctDecode(margin=4.0))
ALL = (
    *(VIEW_8X8, TWO_VIEWS, WHITE, BLACK, RAW, IGNORED, DCT, DCT_4),
    *(seen(CENTRE, alpha="drop"), seen(SMALL, HALVES, decode=SCALED), seen(LARGE, decode=SCALED)),
)


def jpeg() -> bytes:
    """160x96 as a person sees it, stored on its side, in Display P3."""
    stored = np.rot90(blocks(160, 96), 1)
    return encoded(np.ascontiguousarray(stored), "JPEG", quality=95, exif=oriented(6), icc_profile=P3_PROFILE)


def translucent() -> bytes:
    picture = np.dstack([pixels(48, 32), pixels(48, 32, seed=5)[..., 0]])
    return encoded(picture, "PNG", exif=oriented(8))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Preprocess]:
    """The Preprocess of each decode, as they happen."""
    found: list[Preprocess] = []

    def note(source: Any, preprocess: Preprocess) -> Any:
        found.append(preprocess)
        return open_photo(source, preprocess)

    monkeypatch.setattr("edgeiqa.runtime.reading.open_photo", note)
    return found


def require_views(read: PhotoViews, source: Any, preprocesses: tuple[Preprocess, ...]) -> None:
    """Each has just the views that it would have alone, to the bit."""
    assert set(read.views) == set(preprocesses)
    for preprocess in preprocesses:
        alone = cut_views(open_photo(source, preprocess).image, preprocess)
        assert list(read.views[preprocess]) == list(alone)
        for name, view in alone.items():
            assert np.array_equal(read.views[preprocess][name], view)


@pytest.mark.parametrize("make", [jpeg, translucent])
@pytest.mark.parametrize("order", [1, -1])
def test_each_has_the_views_that_it_would_have_alone(make: Any, order: int, tmp_path: Path) -> None:
    data, preprocesses = make(), ALL[::order]
    (tmp_path / "photo").write_bytes(data)
    require_views(read_views(tmp_path / "photo", preprocesses), data, preprocesses)


def test_the_policies_make_a_difference_to_these_photographs() -> None:
    # Or the test above could not tell one decode from another.
    of_jpeg, of_png = read_views(jpeg(), ALL).views, read_views(translucent(), ALL).views
    for views, others in ((of_jpeg, (IGNORED, RAW, DCT)), (of_png, (IGNORED, BLACK))):
        for other in others:
            assert not np.array_equal(views[other]["image"], views[WHITE]["image"])
    assert not np.array_equal(of_jpeg[DCT]["image"], of_jpeg[DCT_4]["image"])


@pytest.mark.parametrize("source", ["array", "image"])
def test_pixels_are_read_as_files_are(source: str) -> None:
    picture = pixels(60, 50)
    given: Any = picture if source == "array" else Image.fromarray(picture)
    read = read_views(given, ALL)
    assert (read.width, read.height) == (60, 50)
    require_views(read, given, ALL)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (seen(SMALL), seen(SMALL)),
        (seen(SMALL), seen(LARGE)),
        (seen(SMALL), seen(CENTRE)),
        (seen(SMALL), TWO_VIEWS),
        (seen(SMALL, alpha="drop", exif="ignore"), seen(CENTRE, alpha="drop", exif="ignore")),
        (seen(SMALL, decode=SCALED), seen(SMALL, name="other", decode=SCALED)),
        (seen(SMALL, decode=SCALED), seen(SMALL, HALVES, decode=SCALED)),
        (seen(SMALL, CENTRE, decode=SCALED), seen(SMALL, HALVES, decode=SCALED)),
    ],
)
def test_one_decode_serves_those_that_want_the_same_pixels(
    opened: list[Preprocess], one: Preprocess, other: Preprocess
) -> None:
    data = jpeg()
    require_views(read_views(data, (one, other, one)), data, (one, other))
    assert opened == [one]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (seen(SMALL), seen(SMALL, exif="ignore")),
        (seen(SMALL), seen(SMALL, colour="raw")),
        (seen(SMALL), seen(SMALL, alpha="black")),
        (seen(SMALL), seen(SMALL, alpha="drop")),
        (seen(SMALL), seen(SMALL, decode=SCALED)),
        (seen(SMALL, decode=SCALED), seen(LARGE, decode=SCALED)),
        (seen(SMALL, decode=SCALED), seen(SMALL, decode=DctDecode(margin=4.0))),
        (seen(SMALL, decode=SCALED), seen(SMALL, decode=SCALED, exif="ignore")),
        (
            seen(SMALL, decode=SCALED),
            Preprocess(views=(View(name="a", operations=(SMALL,)), View(name="b", operations=(LARGE,))), decode=SCALED),
        ),
    ],
)
def test_others_are_decoded_again(opened: list[Preprocess], one: Preprocess, other: Preprocess) -> None:
    data = jpeg()
    require_views(read_views(data, (one, other, one, other)), data, (one, other))
    assert opened == [one, other]


def test_the_size_is_the_firsts() -> None:
    upright, stored = seen(SMALL), seen(SMALL, exif="ignore")
    sizes = [(read.width, read.height) for read in (read_views(jpeg(), p) for p in ([upright, stored], [stored]))]
    assert sizes == [(160, 96), (96, 160)]
    read = read_views(jpeg(), (stored, upright))
    assert (read.width, read.height) == (96, 160)
    # A scaled decode is told the whole photograph's size.
    read = read_views(jpeg(), (single_view(8, 8, decode=SCALED),))
    assert (read.width, read.height) == (160, 96)


def test_one_decoded_photograph_is_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[weakref.ref[Image.Image]] = []
    alive: list[int] = []

    def watch(source: Any, preprocess: Preprocess) -> Any:
        alive.append(sum(image() is not None for image in decoded))
        photo = open_photo(source, preprocess)
        decoded.append(weakref.ref(photo.image))
        return photo

    monkeypatch.setattr("edgeiqa.runtime.reading.open_photo", watch)
    read_views(jpeg(), (seen(SMALL), seen(SMALL, exif="ignore"), seen(SMALL, decode=SCALED)))
    assert alive == [0, 0, 0]


def test_what_one_of_them_refuses_is_refused() -> None:
    strict = seen(Crop(width=200, height=8, small="refuse"))
    with pytest.raises(PhotoError) as caught:
        read_views(jpeg(), (VIEW_8X8, strict))
    require_message(caught, "160x96", "at least 200x8")
    with pytest.raises(PhotoError) as caught:
        read_views(b"no photograph", (VIEW_8X8, strict))
    require_message(caught, "no decoder recognises")

"""``edgeiqa score --html``: a page of thumbnails that asks for nothing, and shows names as nothing but names."""

from __future__ import annotations

import base64
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.tools.contact_sheet import write_contact_sheet
from edgeiqa.tools.report.chromium import open_chromium
from edgeiqa.tools.thumbnails import JPEG_PREFIX
from PIL import Image

from ..runtime.bundles import Ingredients, Recipe, build
from ..runtime.photographs import blocks, oriented, saved
from .command import edgeiqa, files_in, require_refusal
from .grey import light_bundle, save_grey, score_of, scored, untouched
from .report_page import Page, read_page

HOSTILE = [
    "<script>alert(1)<!--.png",
    "\"><img src=x onerror='alert(1)'>.png",
    "<b>&lt;&amp;{0}{title}%s.png",
    "two\nlines\ttab.png",
    "a\x1b[31m\x01\u202e.png",
    os.fsdecode(b"caf\xe9.png"),
    "照片.png",
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_bundle(tmp_path_factory.mktemp("light"))


def shown(text: str) -> str:
    """A name as a page may show it: what is no text is replaced."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def read(path: Path) -> Page:
    return read_page(path.read_bytes().decode())


def cards(page: Page) -> list[str]:
    """What stands below each thumbnail."""
    return [text for text in page.texts("span") if text.startswith("/")]


def pictures(page: Page) -> list[Image.Image]:
    found: list[Image.Image] = []
    for image in page.all("img"):
        assert image["src"].startswith(JPEG_PREFIX)
        found.append(Image.open(io.BytesIO(base64.b64decode(image["src"].removeprefix(JPEG_PREFIX), validate=True))))
    return found


# --- what it shows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_stands_first_and_what_could_not_be_read_last(
    tmp_path: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory, higher: bool
) -> None:
    used = bundle if higher else light_bundle(tmp_path_factory.mktemp("dark"), higher_is_better=False)
    levels = (40, 250, 130, 250)
    paths = [save_grey(tmp_path / "in" / f"{i}.png", level, (30 + i, 20)) for i, level in enumerate(levels)]
    paths.insert(1, tmp_path / "in" / "broken.png")
    paths[1].write_bytes(b"no photograph")
    page = tmp_path / "page.html"
    ran = edgeiqa("score", *paths, "--bundle", used, "--html", page)
    assert ran.code == 1 and ran.err.splitlines()[0] == f"wrote {page}"
    found = read(page)
    order = [1, 3, 2, 0] if higher else [0, 2, 1, 3]
    assert cards(found) == [f"{paths[0].parent}/{index}.png{30 + index}x20" for index in order]
    assert found.texts("b") == [f"{score_of(levels[index]):.1f}" for index in order]
    for picture, index in zip(pictures(found), order, strict=True):
        assert picture.size == (30 + index, 20)
        assert np.abs(np.asarray(picture).astype(int) - levels[index]).max() <= 2
    (unread,) = found.texts("ul")
    assert "broken.png, which no decoder recognises" in unread and "to mend" in unread
    assert found.texts("h1") == ["5 photographs, scored by tiny"]
    (about,) = found.texts("p")
    assert about.startswith("0 to 100. 5 photographs: mean ") and about.endswith("; 1 could not be read")
    # The page is beside what else is printed, which is as ever.
    assert ran.out == edgeiqa("score", *paths, "--bundle", used).out


def test_all_are_on_the_page_whatever_is_printed(tmp_path: Path, bundle: Path) -> None:
    paths = [save_grey(tmp_path / "in" / f"{level}.png", level) for level in (10, 20, 30)]
    page = tmp_path / "page.html"
    ran = edgeiqa("score", *paths, "--bundle", bundle, "--html", page, "--json", "--best", 1)
    assert ran.code == 0 and ran.object["path"] == str(paths[2])
    assert len(cards(read(page))) == 3


def test_scores_of_an_earlier_run_are_on_the_page_too(tmp_path: Path, bundle: Path) -> None:
    paths = [save_grey(tmp_path / "in" / f"{level}.png", level) for level in (10, 20, 30)]
    arguments = ["--bundle", bundle, "--resume", tmp_path / "scores.jsonl"]
    assert edgeiqa("score", *paths[:2], *arguments).code == 0
    # One of them is gone; its score is not.
    paths[0].unlink()
    ran = edgeiqa("score", *paths[1:], *arguments, "--html", tmp_path / "page.html")
    assert ran.code == 0
    found = read(tmp_path / "page.html")
    assert found.texts("b") == [f"{score_of(level):.1f}" for level in (30, 20, 10)]
    assert len(found.all("img")) == 2
    assert f"no file {paths[0]}" in found.texts("li")[2]


def test_two_members_show_their_spread(tmp_path: Path) -> None:
    pair = build(tmp_path / "pair.eiqa", Recipe(members=(Ingredients("one"), Ingredients("two")))).path
    path = save_grey(tmp_path / "a.png", 51)
    assert edgeiqa("score", path, "--bundle", pair, "--html", tmp_path / "page.html").code == 0
    assert read(tmp_path / "page.html").texts("b") == ["20.0 ± 0.0"]


def test_thumbnails_are_small_and_upright_and_know_nothing_of_the_camera(tmp_path: Path) -> None:
    exif = oriented(6)
    exif[0x010F] = "a camera of mine"
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(blocks(960, 640))))
    (tmp_path / "large.jpg").write_bytes(saved(turned, "JPEG", quality=95, exif=exif, comment=b"a comment of mine"))
    page = tmp_path / "page.html"
    scores = [replace(score, path=str(tmp_path / "large.jpg"), width=960, height=640) for score in scored(50.0)]
    write_contact_sheet(page, scores, title="one", about="it")
    (picture,) = pictures(read(page))
    assert picture.size == (240, 160)
    expected = np.asarray(Image.fromarray(blocks(960, 640)).resize((240, 160), Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(picture) - expected).mean() < 8
    assert not picture.getexif() and "comment" not in picture.info
    assert page.stat().st_size < 40_000


def test_no_photographs_are_a_page_without_cards(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "page.html", [], title="none", about="nothing")
    page = read(tmp_path / "page.html")
    assert page.texts("li") == [] and page.all("ul") == [] and page.texts("h1") == ["none"]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    """A page of photographs with hostile names, of which each second one cannot be read."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = [save_grey(folder / "in" / name, 10 * index) for index, name in enumerate(HOSTILE)]
    broken = [folder / "in" / f"broken {name}" for name in HOSTILE]
    for path in broken:
        path.write_bytes(b"no photograph")
    ran = edgeiqa("score", *paths, *broken, "--bundle", bundle, "--html", folder / "page.html")
    assert ran.code == 1
    return folder / "page.html"


def test_hostile_names_are_names(hostile: Path) -> None:
    page = read(hostile)
    folder = hostile.parent / "in"
    assert cards(page) == [shown(f"{folder / name}12x8") for name in HOSTILE[::-1]]
    for name, item in zip(HOSTILE, page.texts("li")[len(HOSTILE) :], strict=True):
        assert item.startswith(shown(str(folder / f"broken {name}")))
    assert len(page.all("img")) == len(HOSTILE)
    assert {tag for tag, _, _ in page.elements} == {
        *("html", "meta", "title", "style", "h1", "h2", "p", "ol", "ul", "li", "img", "b", "span", "br"),
    }


def test_a_browser_asks_for_nothing_and_has_no_complaints(hostile: Path) -> None:
    with open_chromium() as browser:
        tab = browser.open(hostile)
        for width, height in ((1280, 900), (390, 844)):
            tab.show(width, height)
            wide = tab.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
            assert max(wide) <= width
        assert tab.evaluate("[...document.images].every(image => image.naturalWidth === 12)")
        assert tab.evaluate("document.scripts.length") == 0
        tab.close()
        assert tab.complaints == [] and tab.requests == []


def test_a_title_is_escaped(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "page.html", [], title="</title><script>", about="{0} & <i>")
    page = read(tmp_path / "page.html")
    assert page.texts("title") == page.texts("h1") == ["</title><script>"]
    assert page.texts("p") == ["{0} & <i>"]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_page_that_is_there_is_written_over_only_when_told(tmp_path: Path, bundle: Path) -> None:
    path, page = save_grey(tmp_path / "a.png", 100), tmp_path / "page.html"
    page.write_text("mine")
    with untouched(page):
        ran = edgeiqa("score", path, "--bundle", bundle, "--html", page)
        require_refusal(ran, str(page), "which is there", "--overwrite")
    assert edgeiqa("score", path, "--bundle", bundle, "--html", page, "--overwrite").code == 0
    assert len(cards(read(page))) == 1


@pytest.mark.parametrize("place", ["", "none/page.html", "a.png/page.html"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_scored(tmp_path: Path, place: str) -> None:
    path = save_grey(tmp_path / "a.png", 100)
    ran = edgeiqa("score", path, "--bundle", tmp_path / "missing.eiqa", "--html", tmp_path / place)
    require_refusal(ran, str(tmp_path / place), "a file in a folder that is there")
    assert files_in(tmp_path) == {"a.png"}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where there is room for one thumbnail."""
    from edgeiqa.tools import contact_sheet

    card, made = contact_sheet._card, 0

    def one(score: Any, read_one: Any) -> str:
        nonlocal made
        made += 1
        if made > 1:
            raise OSError(28, "No space left on device")
        return card(score, read_one)

    monkeypatch.setattr(contact_sheet, "_card", one)
    yield
    assert made > 1


def test_a_page_that_fails_is_not_there_and_the_old_one_still_is(tmp_path: Path, bundle: Path, full_disk: None) -> None:
    paths = [save_grey(tmp_path / f"{level}.png", level) for level in (10, 20, 30)]
    before = files_in(tmp_path)
    ran = edgeiqa("score", *paths, "--bundle", bundle, "--html", tmp_path / "page.html")
    assert ran.code == 2 and "No space left" in ran.err and "wrote" not in ran.err
    assert files_in(tmp_path) == before
    (tmp_path / "page.html").write_text("the old one")
    ran = edgeiqa("score", *paths, "--bundle", bundle, "--html", tmp_path / "page.html", "--overwrite")
    assert ran.code == 2
    assert files_in(tmp_path) == {*before, "page.html"}
    assert (tmp_path / "page.html").read_text() == "the old one"


def test_a_page_may_be_read_by_whom_other_new_files_may(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_contact_sheet(tmp_path / "page.html", [], title="a", about="b")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640


def test_only_a_page_can_be_written_over(tmp_path: Path, bundle: Path) -> None:
    path = save_grey(tmp_path / "a.png", 100)
    ran = edgeiqa("score", path, "--bundle", bundle, "--html", tmp_path, "--overwrite")
    require_refusal(ran, "which is a folder")
    with pytest.raises(OSError):
        write_contact_sheet(tmp_path / "none" / "page.html", [], title="a", about="b")
    assert files_in(tmp_path) == {"a.png"}

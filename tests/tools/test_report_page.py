"""The page: well-formed, alone, escaped, accessible, and written whole."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.profiles.metrics import Interval
from edgeiqa.runtime.errors import RecordError
from edgeiqa.tools.report.charts import loss_curves, scatter
from edgeiqa.tools.report.colours import DARK_GROUND, DARK_SERIES, LIGHT_SERIES
from edgeiqa.tools.report.page import Figure, Picture, Section, Table, render_page, write_page
from edgeiqa.tools.report.text import number, readable, sentence, shorten, term_words
from edgeiqa.tools.thumbnails import thumbnail
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from .report_page import HOSTILE, read_page

CURVE = loss_curves({"a": [(1, 2.0), (2, 1.0)]})


def photo(width: int = 640, height: int = 480) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def page_of(name: str) -> str:
    """A page with ``name`` in every place that text goes."""
    section = Section(
        name,
        f"{name}\n\n{name}",
        [Figure(scatter([1, 2], [1, 2], [name, "b"]), name), Figure(CURVE, name), Figure(CURVE, name)],
        [Table(name, (name, "n"), [(name, "1"), ("b", name)]), Table(name, ("a", "b", "c"), [])],
        [Picture(thumbnail(photo()), name, name)],
    )
    return render_page(name, [section, Section("Empty")], summary=name)


def test_a_page_holds_its_parts_in_order() -> None:
    table = Table("Figures.", ("of", "SRCC"), [("fold 0", "0.81"), ("fold 1", "0.79")])
    picture = Picture(thumbnail(photo()), "china.jpg\nteacher 70.1", "A pagoda")
    html = render_page(
        "Run 7",
        [Section("First", "One.\n\nTwo.", [Figure(CURVE, "Loss.")]), Section("Second", "", (), [table], [picture])],
        summary="It ended well.",
    )
    page = read_page(html)
    assert page.texts("h1") == page.texts("title") == ["Run 7"]
    assert page.texts("h2") == ["First", "Second"]
    assert page.texts("p")[:3] == ["It ended well.", "One.", "Two."]
    assert page.texts("caption") == ["Figures."]
    assert page.texts("th") == ["of", "SRCC", "fold 0", "fold 1"] and page.texts("td") == ["0.81", "0.79"]
    assert [head["scope"] for head in page.all("th")] == ["col", "col", "row", "row"]
    assert page.texts("figcaption") == ["Loss.", "china.jpg\nteacher 70.1"]
    assert page.all("img") == [{"src": picture.data_uri, "alt": "A pagoda"}]
    assert page.all("svg")[0]["aria-label"] == "loss over epoch. a: 1 at the end."


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_text_is_text_whatever_it_holds(name: str) -> None:
    page = read_page(page_of(name))
    shown = readable(name)
    assert page.texts("h1") == [shown] and page.texts("caption") == [shown, shown]
    assert page.texts("h2") == [shown, "Empty"] and shown in page.texts("td")
    assert page.all("img")[0]["alt"] == shown
    assert len(page.all("img")) == 1 and len(page.all("svg")) == 3


def test_the_page_follows_the_reader_into_the_dark_and_onto_paper() -> None:
    (style,) = read_page(page_of("x")).texts("style")
    dark = style.split("@media screen and (prefers-color-scheme: dark) {")[1].split("\n}\n")[0]
    assert f"--ground: {DARK_GROUND}" in dark
    for index, (light, colour) in enumerate(zip(LIGHT_SERIES, DARK_SERIES, strict=True), 1):
        assert f"--series-{index}: {colour};" in dark
        assert f"--series-{index}: {light};" in style.split("@media")[0]
    assert "@media print" in style
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in page_of("x")


def test_the_same_records_give_the_same_bytes() -> None:
    assert page_of("x") == page_of("x")


def test_drawings_on_one_page_keep_their_own_parts() -> None:
    """The same chart twice: each refers to its own clip and markers (`read_page` refuses an id that comes twice)."""
    html = page_of("x")
    ids = set(re.findall(r' id="(figure-\d+)-', html))
    assert ids == {"figure-1", "figure-2", "figure-3"}
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        (own,) = set(re.findall(r"#(figure-\d+)-", svg))
        assert set(re.findall(r' id="(figure-\d+)-', svg)) == {own}


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.jpg",
        "data:image/svg+xml;base64,AAAA",
        'data:image/jpeg;base64,AA" onerror="x',
        "data:image/jpeg;base64,",
        "data:image/jpeg;base64,AAAA\n",
    ],
)
def test_a_picture_is_data(uri: str) -> None:
    with pytest.raises(RecordError, match="thumbnail"):
        Picture(uri, "caption")


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(RecordError, match="a row of 1 cells under 2 columns"):
        Table("caption", ("a", "b"), [("1",)])


def test_a_table_that_sorts_brings_the_only_script(tmp_path: Path) -> None:
    """As the file holds it, byte for byte; what is beside it stays as it was."""
    table = Table("Figures.", ("of", "ms"), [("a", "1"), ("b", "")], sortable=True)
    html = render_page("t", [Section("s", tables=[table, Table("Others.", ("a", "b", "c"), [])])], summary="")
    page = read_page(html, sorts=True)
    assert [("data-sortable" in each) for each in page.all("table")] == [True, False]
    assert page.texts("td") == ["1", ""] and page.texts("th")[:2] == ["of", "ms"]
    write_page(tmp_path / "page.html", html)
    read_page((tmp_path / "page.html").read_bytes().decode(), sorts=True)


def test_tables_stand_beside_charts_where_the_section_says_so() -> None:
    tables = [Table("Figures.", ("of", "ms"), [("a", "1")])]
    plain, beside = (
        render_page("t", [Section("s", "", [Figure(CURVE, "c")], tables, beside=there)], summary="")
        for there in (False, True)
    )
    divisions = [attributes.get("class") for attributes in read_page(beside).all("div")]
    assert divisions == ["beside", "figures", None, "table words"]
    assert "beside" not in plain and len(read_page(plain).all("div")) == 2


@pytest.mark.parametrize("svg", ["<svg", "<p>text</p>", "<svg/><script/>"])
def test_a_figure_is_a_drawing(svg: str) -> None:
    with pytest.raises(RecordError, match="a figure"):
        render_page("t", [Section("s", figures=[Figure(svg, "caption")])], summary="")


def test_a_thumbnail_is_small_and_carries_no_metadata() -> None:
    image = photo(1200, 300)
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    image.info.update(exif=exif.tobytes(), icc_profile=b"profile", comment=b"secret")
    uri = thumbnail(image, 240)
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as small:
        assert (small.format, small.size, small.mode) == ("JPEG", (240, 60), "RGB")
        assert not {"exif", "icc_profile", "comment"} & set(small.info)
    assert image.size == (1200, 300) and "exif" in image.info
    assert Picture(thumbnail(image.convert("RGBA")), "caption").alt == ""


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(path, page_of("first"))
    write_page(path, page_of("照片"))
    assert path.read_text(encoding="utf-8") == page_of("照片")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(path, "older")
    with pytest.raises(UnicodeEncodeError):
        write_page(path, "half of it \udcff")
    assert path.read_text() == "older" and [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match="folder"):
        write_page(tmp_path / "no folder" / "report.html", "x")


@given(st.text(st.characters(codec=None)))
def test_readable_text_can_be_written(text: str) -> None:
    clean = readable(text)
    clean.encode()
    assert len(clean) == len(text) and readable(clean) == clean
    assert all(a == b for a, b in zip(text, clean, strict=True) if b != "\ufffd")


@given(st.text(max_size=40), st.integers(3, 30))
def test_a_shortened_name_keeps_its_ends(text: str, most: int) -> None:
    short = shorten(text, most)
    assert len(short) == min(len(text), most)
    assert text.startswith(short.split("…")[0]) or "…" in text
    if len(text) > most:
        assert short[0] == text[0] and short[-1] == text[-1]


def test_numbers_are_said_with_their_intervals() -> None:
    assert number(0.81234) == "0.812" and number(9.2, 2) == "9.20"
    assert number(Interval(value=0.8, low=0.75, high=0.85), 2) == "0.80\n0.75 to 0.85"
    assert number(None) == number(float("nan")) == "not known"
    assert term_words("heldout_srcc") == "held-out SRCC" and sentence("loss by epoch") == "Loss by epoch."

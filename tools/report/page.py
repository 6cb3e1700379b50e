"""A page that stands alone: one HTML file that asks for nothing from anywhere.

Styles are inside, charts are inline SVG, pictures are data; a content security policy forbids requests, and scripts
but for one: where a table sorts, that which sorts it, by its hash. All text is escaped. The page follows the reader's
choice of light or dark, reads on a phone, and prints on white.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import jinja2

from ...runtime.errors import RecordError, require_field
from ...runtime.version import __version__
from ..thumbnails import JPEG_PREFIX
from . import colours
from .text import readable

__all__ = ["Figure", "Picture", "Section", "Table", "render_page", "write_page"]

_TEMPLATE_NAME = "page.html.j2"
_SCRIPT_NAME = "sort_tables.js"
_SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart.

    Attributes:
        svg: one ``svg`` element, as `edgeiqa.tools.report.charts` draws it; its ``aria-label`` is its alternative text.
        caption: what it shows.
    """

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a caption.

    Attributes:
        caption: what it shows.
        columns: headings.
        rows: cells, as many as columns; the first names the row. A line end in a cell is kept.
        sortable: whether a click on a heading sorts the rows. By number where all cells of the column that are not
            empty are numbers (``~``, ``,`` and ``%`` aside), the greatest first at the first click; by text otherwise.
            Without a script, and on paper until then, the rows stand as they are given.

    Raises:
        RecordError: a row has more or fewer cells than there are columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sortable: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            require_field(
                len(row) == len(self.columns),
                f"a row of {len(row)} cells under {len(self.columns)} columns",
                "a cell for each column",
            )


@dataclass(frozen=True, slots=True)
class Picture:
    """A small photograph.

    Attributes:
        data_uri: a JPEG file as ``data:image/jpeg;base64,...``, as `thumbnails.thumbnail` makes it.
        caption: text under it; a line end is kept.
        alt: what stands for the picture where it is not seen; empty where the caption says as much.

    Raises:
        RecordError: ``data_uri`` is something else, such as an address.
    """

    data_uri: str
    caption: str
    alt: str = ""

    def __post_init__(self) -> None:
        inline = self.data_uri.startswith(JPEG_PREFIX)
        inline = inline and re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", self.data_uri[len(JPEG_PREFIX) :]) is not None
        require_field(inline, f"a picture {self.data_uri[:40]!r}", f"{JPEG_PREFIX} and base64", "make it by thumbnail")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: text, then charts, tables and pictures.

    Attributes:
        title: its heading.
        text: paragraphs, parted by an empty line.
        figures: charts, side by side where there is room.
        tables: below them.
        gallery: pictures, below those.
        beside: whether tables stand beside the charts where there is room, for tables of few columns.
    """

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    gallery: Sequence[Picture] = ()
    beside: bool = False


def render_page(title: str, sections: Sequence[Section], *, summary: str) -> str:
    """The page as HTML; the same arguments give the same text.

    Args:
        title: of the page, its only first heading.
        sections: in order.
        summary: paragraphs under the title, parted by an empty line.

    Returns:
        The whole document, to be written as UTF-8.

    Raises:
        RecordError: a figure's ``svg`` is not an SVG element.
    """
    # Charts drawn one by one repeat each other's ids, which a document may hold once.
    count = iter(range(sum(len(section.figures) for section in sections)))
    drawings = [[_with_own_ids(figure.svg, next(count)) for figure in section.figures] for section in sections]
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    sorts = any(table.sortable for section in sections for table in section.tables)
    script = _own_file(_SCRIPT_NAME) if sorts else ""
    html = environment.from_string(_own_file(_TEMPLATE_NAME)).render(
        title=title,
        script=script,
        beside=any(section.beside for section in sections),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        summary=_paragraphs(summary),
        parts=[
            {"section": section, "paragraphs": _paragraphs(section.text), "drawings": drawn}
            for section, drawn in zip(sections, drawings, strict=True)
        ],
        colours=colours,
        version=__version__,
    )
    return readable(html)


def write_page(path: Path, html: str) -> None:
    """Write a page: to ``NAME.partial``, then renamed, in the place of an older one.

    Raises:
        OSError: the folder cannot be written to; an older page is then as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(html, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _own_file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def _with_own_ids(svg: str, index: int) -> str:
    """The drawing with ids that no other figure of the page has."""
    try:
        root = ElementTree.fromstring(svg)  # noqa: S314 - drawn by this library
    except ElementTree.ParseError as error:
        raise RecordError(f"a figure that is not XML ({error})", expected="SVG", mend="draw it by charts") from error
    require_field(root.tag == f"{{{_SVG}}}svg", f"a figure whose element is {root.tag}", "svg", "draw it by charts")
    prefix = f"figure-{index + 1}-"
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                element.set(name, prefix + value)
            elif name == "href":
                element.set(name, value.replace("#", f"#{prefix}", 1))
            elif name in ("clip-path", "style"):
                element.set(name, value.replace("url(#", f"url(#{prefix}"))
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")

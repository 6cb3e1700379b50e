"""Reading a report page and its drawings as strictly as they are meant."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><h1>",
    "]]><!-- -->",
    "{{ 7 * 7 }}{% raw %}",
    r"$\frac{$ 5$",
    "_hidden",
    "a\udcff\x00\x1b[31m\ufffe.jpg",
    "照片\n照片.jpg",
    "x" * 300,
)
"""Names of files and members that a page must show and nothing else."""

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "report" / "sort_tables.js"

_VOID = {"meta", "img", "br", "link", "input", "hr"}
_SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Elements of a page in order, with what is inside them as text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {[self.elements[index][0] for index in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} with an attribute twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in _VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        opened = self.elements[self._open.pop()][0]
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def texts(self, tag: str) -> list[str]:
        return ["".join(text) for name, _, text in self.elements if name == tag]


def read_page(html: str, *, sorts: bool = False) -> Page:
    """The page, once it is known to be well-formed, to stand alone, and to be readable without eyes.

    Without a script; where a table ``sorts``, with the one that sorts it and no other.
    """
    page = Page(html)
    assert html.startswith("<!doctype html>\n")
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.texts("h1")) == len(page.texts("title")) == 1
    assert not {"link", "iframe", "object", "base", "form", "foreignobject"} & {e[0] for e in page.elements}
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            target = attributes.get(name, "data:")
            assert target.startswith("data:") or target.removeprefix("#") in ids, target
        for target in re.findall(r"url\(([^)]*)\)", " ".join(attributes.values())):
            assert target.removeprefix("#") in ids
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
    (style,) = page.texts("style")
    assert "url(" not in style and "@import" not in style
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    allowed = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if sorts:
        (script,) = page.texts("script")
        assert page.all("script") == [{}] and SCRIPT.read_text(encoding="utf-8") == script
        # Of the bytes in the file, as the browser takes it.
        (inside,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
        digest = hashlib.sha256(inside.encode()).digest()
        allowed += f"; script-src 'sha256-{base64.b64encode(digest).decode()}'"
    assert policy == allowed
    assert len(page.all("script")) == sorts == ("data-sortable" in html)
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("figcaption")) == len(page.all("figure"))
    assert all("alt" in image for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"].strip() for svg in page.all("svg"))
    return page


class Drawing:
    """A chart: its text, and what is drawn in the colour of each series, in drawing units (y upwards)."""

    def __init__(self, svg: str) -> None:
        self.root = ElementTree.fromstring(svg)
        assert self.root.tag == f"{_SVG}svg"
        self.alt = self.root.get("aria-label", "")
        self.text = [element.text or "" for element in self.root.iter(f"{_SVG}text")]

    def lines(self, colour: str) -> list[NDArray[np.float64]]:
        """Points ``[n, 2]`` of each line that stays inside the axes."""
        return [
            _flipped(np.array(re.findall(r"[ML] (\S+) (\S+)", path.get("d", "")), dtype=np.float64))
            for path in self.root.iter(f"{_SVG}path")
            if f"stroke: {colour}" in path.get("style", "") and path.get("clip-path")
        ]

    def marks(self, colour: str) -> NDArray[np.float64]:
        """Places ``[n, 2]`` of the markers that stand inside the axes."""
        places = [
            (float(use.get("x", "nan")), float(use.get("y", "nan")))
            for group in self.root.iter(f"{_SVG}g")
            if group.get("clip-path")
            for use in group.iter(f"{_SVG}use")
            if f"fill: {colour}" in use.get("style", "")
        ]
        return _flipped(np.array(places, dtype=np.float64).reshape(-1, 2))


def series(number: int) -> str:
    """The colour of a series as a drawing names it, without what stands in for it outside a page."""
    return f"var(--series-{number},"


def _flipped(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([points[:, 0], -points[:, 1]])


def is_affine(drawn: NDArray[np.float64], values: NDArray[np.float64] | list[float]) -> bool:
    """Whether drawn coordinates are a rising linear function of the values, to the thousandth of a unit."""
    slope, offset = np.polyfit(np.asarray(values, dtype=np.float64), drawn, 1)
    return bool(slope > 0 and np.abs(drawn - (slope * np.asarray(values) + offset)).max() < 2e-3)

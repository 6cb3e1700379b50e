"""A page of thumbnails with their scores, best first: one HTML file that asks for nothing from anywhere."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from ..runtime.engines.engine import available_threads
from ..runtime.errors import PhotoError
from ..runtime.in_order import in_order
from ..runtime.preprocess import DctDecode, single_view
from ..runtime.reading import PhotoViews, read_views
from ..runtime.scorer import Score
from .show import printable
from .thumbnails import thumbnail

__all__ = ["write_contact_sheet"]

_SIDE = 240
_GLANCE = single_view(_SIDE, _SIDE, decode=DctDecode(margin=1.0), fit="letterbox")

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem auto; max-width: 90rem; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; margin: 0; }}
p {{ margin: .2rem 0 1.2rem; overflow-wrap: anywhere; }}
ol {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); padding: 0; }}
ol > li {{ break-inside: avoid; display: flex; flex-direction: column; list-style: none; }}
img {{ aspect-ratio: 1; background: rgb(128 128 128 / 12%); object-fit: contain; width: 100%; }}
b {{ font-size: 1.15rem; font-variant-numeric: tabular-nums; margin-top: .3rem; }}
span {{ font-size: .8rem; opacity: .75; overflow-wrap: anywhere; }}
ul {{ overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
<p>{about}</p>
"""


def write_contact_sheet(
    path: Path, scores: Sequence[Score], *, title: str, about: str, isolate_s: float | None = None
) -> None:
    """Write the page; it is there whole or not at all.

    Photographs are decoded once more for their thumbnails, a few at a time.

    Args:
        path: of the page.
        scores: in the order in which they are shown; those without a score are listed at the end, with the reason.
        title: of the page.
        about: a line below it.
        isolate_s: decode in processes of their own, each photograph within so many seconds.

    Raises:
        OSError: it cannot be written.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".sheet-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(_HEAD.format(title=escape(title), about=escape(about)))
            file.write("<ol>\n")
            with ExitStack() as stack:
                read: Callable[[str], PhotoViews] = _read
                if isolate_s is not None:
                    from ..runtime.isolate import IsolatedReader

                    read = stack.enter_context(IsolatedReader((_GLANCE,), limit_s=isolate_s)).read
                file.writelines(_cards([score for score in scores if score.value is not None], read))
            file.write("</ol>\n")
            unread = [score for score in scores if score.value is None]
            if unread:
                file.write("<h2>Could not be read</h2>\n<ul>\n")
                file.writelines(f"<li>{_text(score.error)}</li>\n" for score in unread)
                file.write("</ul>\n")
            file.write("</html>\n")
        # The file that mkstemp makes is for its owner alone.
        Path(partial).chmod(0o666 & ~_umask())
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _read(path: str) -> PhotoViews:
    return read_views(path, (_GLANCE,))


def _cards(scores: Sequence[Score], read: Callable[[str], PhotoViews]) -> Iterator[str]:
    workers = available_threads()
    return in_order(lambda score: _card(score, read), scores, workers=workers, ahead=2 * workers)


def _card(score: Score, read: Callable[[str], PhotoViews]) -> str:
    assert score.path is not None and score.value is not None
    try:
        image = f'<img src="{_picture(read(score.path))}" alt="" loading="lazy" decoding="async">'
    # It has gone since it was scored, or is too large for what memory is left.
    except (PhotoError, MemoryError) as error:
        image = f"<span>{_text(str(error) or 'too large for the memory there is')}</span>"
    spread = "" if score.spread is None else f" &plusmn; {score.spread:.1f}"
    size = f"{score.width}x{score.height}"
    return f"<li>{image}<b>{score.value:.1f}{spread}</b><span>{_text(score.path)}<br>{size}</span></li>\n"


def _picture(read: PhotoViews) -> str:
    """The view without the bars that make it square."""
    (framed,) = read.views[_GLANCE].values()
    scale = min(_SIDE / read.width, _SIDE / read.height)
    width, height = (max(1, math.floor(side * scale + 0.5)) for side in (read.width, read.height))
    left, top = (_SIDE - width) // 2, (_SIDE - height) // 2
    seen = Image.fromarray(np.ascontiguousarray(framed[top : top + height, left : left + width]))
    # A photograph smaller than the view was enlarged to it.
    return thumbnail(seen, min(_SIDE, max(read.width, read.height)))


def _text(text: str | None) -> str:
    return escape(printable(text or ""))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

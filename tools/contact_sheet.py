"""A page of thumbnails with their scores, best first: one HTML file that asks for nothing from anywhere."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from itertools import islice
from pathlib import Path

from ..runtime.decode import open_photo
from ..runtime.engines.engine import available_threads
from ..runtime.errors import PhotoError
from ..runtime.preprocess import DctDecode, single_view
from ..runtime.scorer import Score
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


def write_contact_sheet(path: Path, scores: Sequence[Score], *, title: str, about: str) -> None:
    """Write the page; it is there whole or not at all.

    Photographs are decoded once more for their thumbnails, a few at a time.

    Args:
        path: of the page.
        scores: in the order in which they are shown; those without a score are listed at the end, with the reason.
        title: of the page.
        about: a line below it.

    Raises:
        OSError: it cannot be written.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(_HEAD.format(title=escape(title), about=escape(about)))
            file.write("<ol>\n")
            file.writelines(_cards([score for score in scores if score.value is not None]))
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


def _cards(scores: Sequence[Score]) -> Iterator[str]:
    workers = available_threads()
    todo = iter(scores)
    with ThreadPoolExecutor(workers) as pool:
        queue: deque[Future[str]] = deque(pool.submit(_card, score) for score in islice(todo, 2 * workers))
        while queue:
            card = queue.popleft().result()
            queue.extend(pool.submit(_card, score) for score in islice(todo, 1))
            yield card


def _card(score: Score) -> str:
    assert score.path is not None and score.value is not None
    try:
        picture = thumbnail(open_photo(score.path, _GLANCE).image, _SIDE)
        image = f'<img src="{picture}" alt="" loading="lazy" decoding="async">'
    # It has gone since it was scored.
    except PhotoError as error:
        image = f"<span>{_text(str(error))}</span>"
    spread = "" if score.spread is None else f" &plusmn; {score.spread:.1f}"
    size = f"{score.width}x{score.height}"
    return f"<li>{image}<b>{score.value:.1f}{spread}</b><span>{_text(score.path)}<br>{size}</span></li>\n"


def _text(text: str | None) -> str:
    # A file name that is not UTF-8 has lone surrogates, which no file of UTF-8 holds.
    return escape((text or "").encode(errors="surrogateescape").decode(errors="replace"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

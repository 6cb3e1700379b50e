"""Text for people: names that come from files, and numbers with their intervals."""

from __future__ import annotations

import math
import re

from ...profiles.metrics import Interval

__all__ = ["counted", "number", "on_one_line", "readable", "sentence", "shorten", "term_words"]

_NO_FIGURE = "not known"
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_WORDS = {"heldout": "held-out"} | {name: name.upper() for name in ("mos", "srcc", "plcc", "krcc", "rmse", "mae")}


def readable(text: str) -> str:
    """Text that UTF-8 and XML 1.0 can hold.

    Lone surrogates (Python's form of a file name that is not UTF-8), control characters, U+FFFE and U+FFFF become
    U+FFFD. Line ends and tabs stay.
    """
    return _NOT_TEXT.sub("\ufffd", text)


def on_one_line(text: str) -> str:
    """`readable` text with every run of white space made one space."""
    return " ".join(readable(text).split())


def shorten(text: str, most: int) -> str:
    """At most ``most`` characters, at least 3: the middle gives way, as names differ at their ends."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def number(value: float | Interval | None, decimals: int = 3) -> str:
    """A figure, with its interval on a second line where it has one; a figure that is missing or not finite says so."""
    if isinstance(value, Interval):
        low, high = (number(bound, decimals) for bound in (value.low, value.high))
        return f"{number(value.value, decimals)}\n{low} to {high}"
    if value is None or not math.isfinite(value):
        return _NO_FIGURE
    return f"{value:.{decimals}f}"


def sentence(words: str) -> str:
    """The words with a capital first letter and a full stop."""
    return f"{words[:1].upper()}{words[1:]}."


def term_words(term: str) -> str:
    """A name of a log in words: ``heldout_srcc`` is held-out SRCC."""
    return " ".join(_WORDS.get(word, word) for word in on_one_line(term.replace("_", " ")).split(" "))


def counted(count: int, what: str) -> str:
    """So many of something, such as ``1 run`` or ``3 runs``."""
    return f"{count} {what}{'' if count == 1 else 's'}"

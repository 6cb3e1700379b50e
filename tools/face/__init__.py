"""edgeiqa: no-reference image quality on the device.

    >>> import edgeiqa
    >>> scorer = edgeiqa.load()                 # the default bundle; or edgeiqa.load("mine.eiqa")
    >>> scorer.score("photo.jpg").value         # 0 to 100, higher is better

Importing this package imports nothing else; names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeiqa.runtime.version import __version__

if TYPE_CHECKING:
    from edgeiqa.runtime.bundle import Bundle
    from edgeiqa.runtime.errors import EdgeIQAError
    from edgeiqa.runtime.scorer import Score, Scorer, load

__all__ = ["Bundle", "EdgeIQAError", "Score", "Scorer", "__version__", "load"]

_HOMES = {
    "Bundle": "edgeiqa.runtime.bundle",
    "EdgeIQAError": "edgeiqa.runtime.errors",
    "Score": "edgeiqa.runtime.scorer",
    "Scorer": "edgeiqa.runtime.scorer",
    "load": "edgeiqa.runtime.scorer",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgeiqa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

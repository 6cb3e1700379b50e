"""Tests of every engine, wherever they run."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

import pytest
from edgeiqa.runtime.engines.engine import ENGINES
from edgeiqa.runtime.errors import EngineError, MissingExtraError

from .messages import require_message

ENGINE_NAMES = tuple(ENGINES)
T = TypeVar("T")


def load_or_require_mend(engine: str, load: Callable[[], T]) -> T | None:
    """What `load` gives; where the engine's library is not installed, nothing: then it must say how it is."""
    if find_spec(engine) is not None:
        return load()
    with pytest.raises(MissingExtraError) as caught:
        load()
    require_message(caught, f"no {engine}", engine, ENGINES[engine][3])
    return None


def refused_or_require_mend(engine: str, load: Callable[[], object], got: str, mend: str = "") -> None:
    """The engine refuses what `load` gives it, in these words; or its library is not installed, as above."""
    if find_spec(engine) is None:
        load_or_require_mend(engine, load)
        return
    with pytest.raises(EngineError) as caught:
        load()
    require_message(caught, got, "", mend)

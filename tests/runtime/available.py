"""Tests of every engine, wherever they run."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

import pytest
from edgeiqa.runtime.engines.cuda import find_gpu
from edgeiqa.runtime.engines.engine import ENGINES, installed_engines
from edgeiqa.runtime.engines.trt import why_no_tensorrt
from edgeiqa.runtime.errors import EngineError, MissingExtraError

from .messages import require_message

ENGINE_NAMES = tuple(ENGINES)
T = TypeVar("T")


def why_unable(engine: str) -> str:
    """Why this machine's hardware does not run an engine that is installed; empty where it does."""
    return why_no_tensorrt(find_gpu(), native=find_spec("tensorrt") is not None) if engine == "tensorrt" else ""


def load_or_require_mend(engine: str, load: Callable[[], T]) -> T | None:
    """What `load` gives; where the engine is not installed or has no hardware, nothing: then it must say what helps."""
    if installed_engines()[engine] is None:
        with pytest.raises(MissingExtraError) as missing:
            load()
        require_message(missing, f"no {engine}", engine, ENGINES[engine][3])
        return None
    if why_unable(engine):
        with pytest.raises(EngineError) as unable:
            load()
        require_message(unable, why_unable(engine), "a GPU", "--engine onnxruntime")
        return None
    return load()


def refused_or_require_mend(engine: str, load: Callable[[], object], got: str, mend: str = "") -> None:
    """The engine refuses what `load` gives it, in these words; or it does not run here, as above."""
    if installed_engines()[engine] is None or why_unable(engine):
        load_or_require_mend(engine, load)
        return
    with pytest.raises(EngineError) as caught:
        load()
    require_message(caught, got, "", mend)

"""TensorRT-RTX's libraries as its wheel lays them down, loaded where they lie.

The wheel holds them under their full versions (``libtensorrt_rtx.so.1.7.1``), while what needs them asks for the
soname (``libtensorrt_rtx.so.1``). A library that is loaded already answers to its soname, so loading each by its path
is enough: no links, no search path, nothing written.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

__all__ = ["PROVIDER_MODULE", "load_rtx_libraries", "rtx_folder"]

PROVIDER_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"

# Each needs those before it.
_STEMS = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")

_loaded: list[ctypes.CDLL] = []


def rtx_folder() -> Path | None:
    """The folder of the wheel; None where it is not installed. It is not imported: that would write links into it."""
    spec = find_spec(PROVIDER_MODULE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def load_rtx_libraries(folder: Path) -> None:
    """Load TensorRT-RTX and its ONNX parser into this process, once.

    Raises:
        OSError: one is not there, or does not load.
    """
    if _loaded:
        return
    found = []
    for stem in _STEMS:
        paths = sorted(folder.glob(f"{stem}.*"), key=lambda path: len(path.name))
        if not paths:
            raise OSError(f"no {stem} in {folder.name}")
        # The longest name is the full version; others, where something made them, are links to it.
        found.append(ctypes.CDLL(str(paths[-1])))
    _loaded.extend(found)

"""Which TensorRT builds engines on this machine: `tensorrt` for its own GPU, TensorRT-RTX for any it names, or none."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from ..runtime.engines.cuda import Gpu, find_gpu
from ..runtime.engines.trt_rtx_files import load_rtx_libraries, rtx_folder
from ..runtime.errors import UsageError

__all__ = [
    "DEFAULT_CAPABILITIES",
    "RTX_CAPABILITIES",
    "NoTensorRt",
    "TensorRtLibrary",
    "find_library",
    "parse_capabilities",
]

RTX_CAPABILITIES = (75, 80, 86, 89, 120, 121)
"""Compute capabilities that TensorRT-RTX 1.4 to 1.7 builds for without a GPU."""

DEFAULT_CAPABILITIES = (86, 89, 120, 121)
"""Those of them that onnxruntime's TensorRT-RTX provider runs on; each more costs an engine some kilobytes."""

_LEAST_TENSORRT = (10, 3)
_RTX_MODULE = "tensorrt_rtx_bindings"


@dataclass(frozen=True, slots=True)
class TensorRtLibrary:
    """A library that builds engines here.

    Attributes:
        kind: ``tensorrt``, which builds for this machine's GPU, or ``tensorrt-rtx``, which builds ahead of time.
        version: of the library.
        module: its Python API.
        gpu: of this machine; without one an engine is built and cannot be loaded.
        capabilities: compute capabilities that the engine will be for.
    """

    kind: Literal["tensorrt", "tensorrt-rtx"]
    version: str
    module: Any
    gpu: Gpu | None
    capabilities: tuple[int, ...]

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{'TensorRT' if self.kind == 'tensorrt' else 'TensorRT-RTX'} {self.version}"


@dataclass(frozen=True, slots=True)
class NoTensorRt:
    """No library builds here: why, and what would bring one."""

    reason: str
    mend: str


def parse_capabilities(text: str) -> tuple[int, ...]:
    """Read compute capabilities such as ``86,89``; ``8.6`` and ``sm86`` are the same.

    Raises:
        UsageError: one is no compute capability.
    """
    found: list[int] = []
    for word in text.split(","):
        digits = word.strip().lower().removeprefix("sm").replace(".", "", 1)
        if not digits.isascii() or not digits.isdigit() or not 50 <= int(digits) <= 999:
            raise UsageError(
                f"compute capability {word.strip()!r}",
                expected="numbers such as 86,89, with commas between",
                mend="look the GPU's up (8.6 is 86): nvidia-smi --query-gpu=compute_cap --format=csv",
            )
        found.append(int(digits))
    return tuple(sorted(set(found)))


def find_library(capabilities: Sequence[int] = ()) -> TensorRtLibrary | NoTensorRt:
    """Find what builds engines for compute capabilities.

    `tensorrt` is taken for this machine's own GPU: where no capability is named, or that GPU's alone. Everything else
    is TensorRT-RTX's, which needs no GPU.

    Args:
        capabilities: such as 86; none: this GPU's for `tensorrt`, else `DEFAULT_CAPABILITIES`.

    Raises:
        UsageError: TensorRT-RTX is here and does not build for one of them.
    """
    gpu = find_gpu()
    native = _find_native(gpu)
    if isinstance(native, TensorRtLibrary) and set(capabilities) <= set(native.capabilities):
        return native
    rtx = _find_rtx(gpu, tuple(capabilities) or DEFAULT_CAPABILITIES)
    if isinstance(rtx, TensorRtLibrary):
        unknown = sorted(set(rtx.capabilities) - set(RTX_CAPABILITIES))
        if unknown:
            raise UsageError(
                f"compute capability {', '.join(map(str, unknown))} for {rtx.title}",
                expected=f"some of {', '.join(map(str, RTX_CAPABILITIES))}",
                mend="leave it out, and let such a device build its engine from the ONNX graph in the bundle",
            )
        return rtx
    if isinstance(native, TensorRtLibrary):
        return NoTensorRt(
            f"{native.title} builds for the {native.gpu} of this machine alone, and {rtx.reason}", rtx.mend
        )
    return NoTensorRt(f"{native.reason}, and {rtx.reason}", rtx.mend)


def _find_native(gpu: Gpu | None) -> TensorRtLibrary | NoTensorRt:
    mend = "install tensorrt 10.3 or later on a machine with a GPU"
    if find_spec("tensorrt") is None:
        return NoTensorRt("tensorrt is not installed", mend)
    try:
        module = importlib.import_module("tensorrt")
    # A wheel without its libraries, or libraries without a driver.
    except (ImportError, OSError) as error:
        return NoTensorRt(f"tensorrt does not load ({error})", mend)
    version = str(module.__version__)
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_TENSORRT:
        return NoTensorRt(f"tensorrt is of version {version}, older than 10.3", mend)
    if gpu is None:
        return NoTensorRt("tensorrt is installed but there is no GPU", mend)
    return TensorRtLibrary("tensorrt", version, module, gpu, (gpu.capability,))


def _find_rtx(gpu: Gpu | None, capabilities: tuple[int, ...]) -> TensorRtLibrary | NoTensorRt:
    mend = 'pip install "edgeiqa[tensorrt]" (Linux on x86-64)'
    folder = rtx_folder()
    if folder is None or find_spec(_RTX_MODULE) is None:
        return NoTensorRt("TensorRT-RTX is not installed", mend)
    try:
        load_rtx_libraries(folder)
        module = importlib.import_module(_RTX_MODULE)
    except (ImportError, OSError) as error:
        return NoTensorRt(f"TensorRT-RTX does not load ({error})", mend)
    return TensorRtLibrary("tensorrt-rtx", str(module.__version__), module, gpu, capabilities)

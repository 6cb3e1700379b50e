"""Graphs on TensorRT-RTX, through onnxruntime's execution provider of that name."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..errors import EngineError
from .engine import GraphInput
from .ort import declared_inputs, session_options
from .trt import TensorRtGraph
from .trt_rtx_files import PROVIDER_MODULE

__all__ = ["ProviderGraph"]


class ProviderGraph(TensorRtGraph):
    """An ONNX graph that the provider compiles, whole, for a batch of one."""

    def __init__(self, graph: bytes, shapes: Mapping[str, tuple[int, ...]], threads: int) -> None:
        """Compile it.

        Args:
            graph: ONNX, in one file.
            shapes: of each input, without the batch.
            threads: for what onnxruntime does beside the GPU.

        Raises:
            EngineError: the provider does not load, finds no GPU, or leaves part of the graph to the CPU.
        """
        provider = importlib.import_module(PROVIDER_MODULE)
        self.version = str(provider.__version__)
        options = session_options(threads)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices(_devices(provider)[:1], _profile(shapes))
        self._session = onnxruntime.InferenceSession(graph, options)
        self.inputs: Mapping[str, GraphInput] = declared_inputs(self._session)
        self.outputs: Sequence[str] = [node.name for node in self._session.get_outputs()]

    def infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of one."""
        return dict(zip(outputs, self._session.run(list(outputs), dict(batch)), strict=True))


def _devices(provider: Any) -> list[Any]:
    """The GPUs that the provider finds; it is registered with onnxruntime the first time."""
    name = provider.get_ep_name()
    found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not found:
        library = provider.get_library_path()
        # It needs CUDA's runtime, which lies beside it and which nothing else loads.
        with contextlib.suppress(OSError):
            for path in Path(library).parent.glob("libcudart.so.*"):
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        onnxruntime.register_execution_provider_library(name, library)
        found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not found:
        raise EngineError(
            f"no GPU that {name} runs on",
            expected="a GPU of compute capability 8.6, 8.9 or 12.0 and above, with a driver for CUDA 13",
            mend="update the driver, or run on the CPU with --engine onnxruntime",
        )
    return found


def _profile(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The provider's options for a batch of one, so that it compiles for no other."""
    text = ",".join(f"{name}:{'x'.join(map(str, (1, *shape)))}" for name, shape in shapes.items())
    return {f"nv_profile_{bound}_shapes": text for bound in ("min", "opt", "max")}
